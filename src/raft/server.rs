//! What other nodes ask. What voters send for async-raft is answered one at a time: what the guard has read of the
//! log must still be so when async-raft gets the message. The rest is the feed's.

use std::collections::HashSet;
use std::sync::Arc;

use async_raft::NodeId;
use tokio::sync::{mpsc, oneshot, watch};

use super::codec::{decode, encode};
use super::directory::Directory;
use super::feed::Feed;
use super::guard::{receive, vote};
use super::handle::Core;
use super::rpc::{node_id, Answered, Append, Appended, Envelope, Greeted, Reply, Request};
use super::storage::Storage;
use super::{RaftError, RaftReply, RaftRpc};
use crate::model::BrokerId;

/// How many messages of others wait at most. Each node has one or two on the way.
pub(super) const ASKED_MAX: usize = 256;

/// A message on its way in.
pub(super) struct Asked {
    /// Who has proved to be at the other end.
    pub from: BrokerId,
    pub rpc: RaftRpc,
    pub answer: oneshot::Sender<Result<RaftReply, RaftError>>,
}

pub(super) struct Server<'a> {
    pub core: Core,
    pub storage: Arc<Storage>,
    pub directory: Arc<Directory>,
    pub feed: Feed,
    /// The voters but this one.
    pub others: &'a HashSet<NodeId>,
    pub asked: &'a mut mpsc::Receiver<Asked>,
    /// Who leads, each time that its log turns out to begin above the end of this one.
    pub behind: &'a watch::Sender<Option<NodeId>>,
}

impl Server<'_> {
    /// Runs until all who could ask are gone.
    pub async fn run(mut self) {
        while let Some(Asked { from, rpc, answer }) = self.asked.recv().await {
            if answer.is_closed() {
                // Who asked has given up meanwhile, and asks again.
                continue;
            }
            let reply = match self.open(from, &rpc) {
                Ok(envelope) if Feed::serves(&envelope.message) => {
                    self.feed.serve(envelope, answer);
                    continue;
                }
                Ok(envelope) => self.answer(envelope).await,
                Err(NotOpened::Stranger) => Ok(Reply::Stranger),
                Err(NotOpened::Error(error)) => Err(error),
            };
            let reply = reply.and_then(|reply| reply_bytes(&self.directory, reply));
            // It may give up at any time.
            let _ = answer.send(reply);
        }
    }

    /// Reads a message, of whose sender the copy must be known if it is a voter's. To greet is how it becomes so.
    fn open(&self, sender: BrokerId, rpc: &RaftRpc) -> Result<Envelope, NotOpened> {
        let envelope = open_envelope(sender, rpc, self.others)?;
        self.storage.check().map_err(|_| RaftError::Stopped)?;
        let is_voter = self.others.contains(&envelope.from);
        let is_greeting = matches!(envelope.message, Request::Greet);
        if is_voter && !is_greeting && !recognises(&self.directory, &self.storage, &envelope)? {
            return Err(NotOpened::Stranger);
        }
        Ok(envelope)
    }

    async fn answer(&self, envelope: Envelope) -> Result<Reply, RaftError> {
        match envelope.message {
            Request::Append {
                request, log_start, ..
            } => Ok(Reply::Appended(self.append(request, log_start).await?)),
            Request::Vote(request) => {
                let request = vote::check(self.storage.log().last(), request);
                let answer = self.core.vote(request).await;
                Ok(Reply::Voted(answer.map_err(|_| RaftError::Stopped)?))
            }
            Request::Greet => greet(&self.directory, &self.storage, &envelope),
            _ => Ok(Reply::NotNow),
        }
    }

    async fn append(&self, request: Append, log_start: u64) -> Result<Appended, RaftError> {
        let (term, leader) = (request.term, request.leader_id);
        let asked_from = request.prev_log_index;
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
                if !answer.success {
                    return Ok(answer);
                }
                let resume_at = resume.conflict_opt.as_ref().map(|place| place.index);
                if resume_at < Some(log_start) && asked_from <= log_start {
                    self.behind.send_replace(Some(leader));
                }
                Ok(resume)
            }
        }
    }

    async fn pass(&self, request: Append) -> Result<Appended, RaftError> {
        let answer = self.core.append_entries(request).await;
        answer.map_err(|_| RaftError::Stopped)
    }
}

/// On a node that isn't asked anything: says so.
pub(super) async fn decline_all(asked: &mut mpsc::Receiver<Asked>) {
    while let Some(Asked { answer, .. }) = asked.recv().await {
        // Who asked may have gone.
        let _ = answer.send(Err(RaftError::NoVote));
    }
}

/// Why a message isn't answered as it wants.
enum NotOpened {
    /// Its voter is known with another copy.
    Stranger,
    Error(RaftError),
}

impl From<RaftError> for NotOpened {
    fn from(error: RaftError) -> NotOpened {
        NotOpened::Error(error)
    }
}

/// Reads a message, which must be of the node at the other end: of another voter, unless it is one that all may
/// send.
pub(super) fn open_envelope(
    sender: BrokerId,
    rpc: &RaftRpc,
    others: &HashSet<NodeId>,
) -> Result<Envelope, RaftError> {
    let envelope: Envelope = decode("a node's message", &rpc.0)
        .map_err(|error| RaftError::BadMessage(error.to_string()))?;
    let from = envelope.from;
    let is_itself = node_id(sender)? == from;
    let speaks_for_itself = envelope.message.sender().is_none_or(|who| who == from);
    let may_ask = others.contains(&from) || envelope.message.is_for_all();
    if !may_ask || !is_itself || !speaks_for_itself {
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
