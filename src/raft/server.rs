//! What other voters ask, answered one at a time: what the guard has read of the log must still be
//! so when async-raft gets the message.

use std::collections::HashSet;
use std::sync::Arc;

use async_raft::NodeId;
use tokio::sync::{mpsc, oneshot};

use super::codec::{decode, encode};
use super::guard::{receive, vote};
use super::handle::Core;
use super::rpc::{node_id, Append, Appended, Envelope, Reply, Request};
use super::storage::Storage;
use super::{RaftError, RaftReply, RaftRpc};
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
    /// The voters but this one.
    pub others: HashSet<NodeId>,
    pub asked: mpsc::Receiver<Asked>,
}

impl Server {
    /// Runs until all who could ask are gone.
    pub async fn run(mut self) {
        while let Some(Asked { from, rpc, answer }) = self.asked.recv().await {
            if answer.is_closed() {
                // Who asked has given up meanwhile, and asks again.
                continue;
            }
            let answered = self.answer(from, &rpc).await;
            let encoded = answered.and_then(|reply| encode(&reply));
            // It may give up at any time.
            let _ = answer.send(encoded.map(|bytes| RaftReply(bytes.into())));
        }
    }

    async fn answer(&self, sender: BrokerId, rpc: &RaftRpc) -> Result<Reply, RaftError> {
        let Envelope { from, message } = decode("a voter's message", &rpc.0)
            .map_err(|error| RaftError::BadMessage(error.to_string()))?;
        let is_itself = node_id(sender)? == from && message.sender() == from;
        if !self.others.contains(&from) || !is_itself {
            let what = format!("node {sender} isn't another voter, or speaks for one");
            return Err(RaftError::BadMessage(what));
        }
        self.storage.check().map_err(|_| RaftError::Stopped)?;
        match message {
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
        }
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
