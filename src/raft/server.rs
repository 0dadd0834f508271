//! What other voters ask, answered one at a time: what the guard has read of the log must still be
//! so when async-raft gets the message.

use std::collections::HashSet;
use std::sync::Arc;

use async_raft::NodeId;
use tokio::sync::{mpsc, oneshot, watch};

use super::codec::{decode, encode};
use super::directory::Directory;
use super::forming::Copying;
use super::guard::{receive, vote};
use super::handle::Core;
use super::rpc::{node_id, Answered, Append, Appended, Envelope, Greeted, Reply, Request};
use super::storage::Storage;
use super::{Leadership, RaftError, RaftReply, RaftRpc};
use crate::model::BrokerId;

/// How many messages of others wait at most. Each voter has one or two on the way.
pub(super) const ASKED_MAX: usize = 64;

/// A message on its way in.
pub(super) struct Asked {
    /// Who has proved to be at the other end.
    pub from: BrokerId,
    pub rpc: RaftRpc,
    pub answer: oneshot::Sender<Result<RaftReply, RaftError>>,
}

pub(super) struct Server {
    pub core: Core,
    pub storage: Arc<Storage>,
    pub directory: Arc<Directory>,
    pub leadership: watch::Receiver<Leadership>,
    /// The voters but this one.
    pub others: HashSet<NodeId>,
    pub asked: mpsc::Receiver<Asked>,
}

impl Server {
    /// Runs until all who could ask are gone.
    pub async fn run(mut self) {
        let mut copying = None;
        while let Some(Asked { from, rpc, answer }) = self.asked.recv().await {
            if answer.is_closed() {
                // Who asked has given up meanwhile, and asks again.
                continue;
            }
            let answered = self.answer(from, &rpc, &mut copying).await;
            let reply = answered.and_then(|reply| reply_bytes(&self.directory, reply));
            // It may give up at any time.
            let _ = answer.send(reply);
        }
    }

    async fn answer(
        &self,
        sender: BrokerId,
        rpc: &RaftRpc,
        copying: &mut Option<Copying>,
    ) -> Result<Reply, RaftError> {
        let envelope = open_envelope(sender, rpc, &self.others)?;
        self.storage.check().map_err(|_| RaftError::Stopped)?;
        if let Request::Greet = envelope.message {
            return greet(&self.directory, &self.storage, &envelope);
        }
        if !recognises(&self.directory, &self.storage, &envelope)? {
            return Ok(Reply::Stranger);
        }
        match envelope.message {
            Request::Append { request, trim_to } => {
                let answer = self.append(request).await?;
                if answer.success {
                    self.storage.learn_everywhere(trim_to);
                }
                Ok(Reply::Appended(answer))
            }
            Request::Vote(request) => {
                let request = vote::check(self.storage.log().last(), request);
                let answer = self.core.vote(request).await;
                Ok(Reply::Voted(answer.map_err(|_| RaftError::Stopped)?))
            }
            Request::Copy { offset } => self.copy(envelope.from, offset, copying).await,
            Request::Greet => Ok(Reply::NotNow),
        }
    }

    /// A part of what this voter has, if it leads. All parts of one copy are of the same moment.
    async fn copy(
        &self,
        to: NodeId,
        offset: u64,
        copying: &mut Option<Copying>,
    ) -> Result<Reply, RaftError> {
        if !matches!(*self.leadership.borrow(), Leadership::Leader { .. }) {
            return Ok(Reply::NotNow);
        }
        if offset == 0 {
            let copy = self.storage.copy().await;
            let copy = copy.map_err(|_| RaftError::Stopped)?;
            *copying = Some(Copying::new(to, &copy)?);
        }
        let Some(current) = copying.as_ref().filter(|copying| copying.to == to) else {
            return Ok(Reply::NotNow);
        };
        let part = current.part(offset);
        if current.is_over(offset) {
            *copying = None;
        }
        Ok(part)
    }

    async fn append(&self, request: Append) -> Result<Appended, RaftError> {
        let term = request.term;
        let applied = self.storage.state().applied();
        match receive::check(self.storage.log(), applied, request) {
            receive::Checked::Fits { request, commit } => {
                let answer = self.pass(request).await?;
                if answer.success && answer.term == term {
                    // async-raft applies too, but forgets some of it when the leader changes.
                    let applied = self.storage.apply_up_to(commit);
                    applied.map_err(|_| RaftError::Stopped)?;
                }
                Ok(answer)
            }
            receive::Checked::Differs { heartbeat, resume } => {
                let answer = self.pass(heartbeat).await?;
                Ok(if answer.success { resume } else { answer })
            }
        }
    }

    async fn pass(&self, request: Append) -> Result<Appended, RaftError> {
        let answer = self.core.append_entries(request).await;
        answer.map_err(|_| RaftError::Stopped)
    }
}

/// Reads a message of another voter, which must be the one at the other end.
pub(super) fn open_envelope(
    sender: BrokerId,
    rpc: &RaftRpc,
    others: &HashSet<NodeId>,
) -> Result<Envelope, RaftError> {
    let envelope: Envelope = decode("a voter's message", &rpc.0)
        .map_err(|error| RaftError::BadMessage(error.to_string()))?;
    let from = envelope.from;
    let is_itself = node_id(sender)? == from;
    let speaks_for_itself = envelope.message.sender().is_none_or(|who| who == from);
    if !others.contains(&from) || !is_itself || !speaks_for_itself {
        let what = format!("node {sender} isn't another voter, or speaks for one");
        return Err(RaftError::BadMessage(what));
    }
    Ok(envelope)
}

pub(super) fn reply_bytes(directory: &Directory, reply: Reply) -> Result<RaftReply, RaftError> {
    let answered = Answered {
        directory: directory.id(),
        reply,
    };
    encode(&answered).map(|bytes| RaftReply(bytes.into()))
}

/// Whether the message is of the copy that its voter is known with.
fn recognises(
    directory: &Directory,
    storage: &Storage,
    envelope: &Envelope,
) -> Result<bool, RaftError> {
    let readmitted = storage.readmitted(envelope.from);
    directory.recognises(envelope.from, envelope.directory, readmitted)
}

/// The answer to a new copy. What it says of this voter's term stays true: the vote that an earlier copy may
/// have given in a later one was given to somebody who says so.
pub(super) fn greet(
    directory: &Directory,
    storage: &Storage,
    envelope: &Envelope,
) -> Result<Reply, RaftError> {
    Ok(Reply::Greeted(Greeted {
        is_recognised: recognises(directory, storage, envelope)?,
        has_entries: storage.log().last().index > 0,
        term: storage.log().hard_state().current_term,
    }))
}
