//! What goes to other voters, for async-raft: through the guard, into an envelope, and out by the
//! transport.

use std::sync::Arc;

use anyhow::{anyhow, Result};
use async_raft::async_trait::async_trait;
use async_raft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use async_raft::{NodeId, RaftNetwork};
use tokio::time::{sleep, timeout, Duration, Instant};

use super::codec::{decode, encode, LogBatch};
use super::directory::Directory;
use super::followers::Followers;
use super::guard::send::{self, Answer, Checked, Ours, Sent};
use super::rpc::{broker_id, Answered, Envelope, Reply, Request};
use super::storage::Storage;
use super::transport::RaftTransport;
use super::RaftRpc;

/// How this voter speaks to others: in its own name, of its own copy, and to the copies that it knows.
pub(super) struct Speaker {
    pub id: NodeId,
    pub directory: Arc<Directory>,
    pub transport: Arc<dyn RaftTransport>,
    pub storage: Arc<Storage>,
}

impl Speaker {
    pub async fn call(&self, target: NodeId, message: Request) -> Result<Reply> {
        // A node whose store has failed must not speak: what it has in memory may not be on disk.
        self.storage.check()?;
        let envelope = Envelope {
            from: self.id,
            directory: self.directory.id(),
            message,
        };
        let voter = broker_id(target).ok_or_else(|| anyhow!("{target} is no broker's id"))?;
        let rpc = RaftRpc(encode(&envelope)?.into());
        let reply = self.transport.call(voter, rpc).await?;
        let answered: Answered = decode("a voter's answer", &reply.0)?;
        let readmitted = self.storage.readmitted(target);
        let is_known = (self.directory).recognises(target, answered.directory, readmitted)?;
        match answered.reply {
            _ if !is_known => Err(anyhow!("voter {target} has another copy of the metadata")),
            Reply::Stranger => Err(anyhow!(
                "voter {target} knows another copy of this voter's metadata"
            )),
            reply => Ok(reply),
        }
    }
}

pub(super) struct Network {
    pub speaker: Arc<Speaker>,
    pub storage: Arc<Storage>,
    pub followers: Arc<Followers>,
    pub heartbeat: Duration,
    /// async-raft itself waits for ever for a vote.
    pub vote_timeout: Duration,
}

impl Network {
    async fn append(
        &self,
        target: NodeId,
        request: AppendEntriesRequest<LogBatch>,
    ) -> Result<AppendEntriesResponse> {
        let ours = Ours {
            log: self.storage.log(),
            applied: self.storage.state().applied(),
            term: self.storage.log().hard_state().current_term,
            floor: self.storage.log().floor(),
        };
        let (request, rest) = match send::check(ours, request) {
            Checked::Send { request, rest } => (request, rest),
            Checked::Over(answer) => return Ok(answer),
        };
        let (term, sent) = (request.term, Sent::new(&request, rest));
        let (begin, end) = (Instant::now(), self.storage.log().last().index);
        let message = Request::Append {
            request,
            trim_to: 0,
            log_start: ours.floor.index,
        };
        let Reply::Appended(answer) = self.speaker.call(target, message).await? else {
            return Err(anyhow!("voter {target} has answered something else"));
        };
        if answer.term == term {
            self.followers.heard(term, target, begin);
        }
        // As it is now, and not as it was then: async-raft is about to read the entry, and by now
        // the log may be cut further. It isn't between here and there, on the one thread of all.
        match send::answer(self.storage.log().floor(), &sent, answer) {
            Answer::Pass(answer, acknowledged) => {
                if let Some(index) = acknowledged {
                    self.followers.acknowledged(term, target, index);
                    if index >= end {
                        self.followers.caught_up(term, target, begin);
                    }
                }
                Ok(answer)
            }
            Answer::NeedsCopy => Err(anyhow!(
                "voter {target} has to copy the metadata: the log here begins above its own"
            )),
        }
    }

    async fn ask_for_vote(&self, target: NodeId, request: VoteRequest) -> Result<VoteResponse> {
        match self.speaker.call(target, Request::Vote(request)).await? {
            Reply::Voted(answer) => Ok(answer),
            _ => Err(anyhow!("voter {target} has answered something else")),
        }
    }
}

#[async_trait]
impl RaftNetwork<LogBatch> for Network {
    async fn append_entries(
        &self,
        target: NodeId,
        request: AppendEntriesRequest<LogBatch>,
    ) -> Result<AppendEntriesResponse> {
        let answer = self.append(target, request).await;
        if answer.is_err() {
            // async-raft tries again at once, as fast as the network can refuse.
            sleep(self.heartbeat).await;
        }
        answer
    }

    async fn install_snapshot(
        &self,
        target: NodeId,
        _: InstallSnapshotRequest,
    ) -> Result<InstallSnapshotResponse> {
        sleep(self.heartbeat).await;
        Err(anyhow!(
            "voter {target} would get a snapshot of async-raft's, which aren't used"
        ))
    }

    async fn vote(&self, target: NodeId, request: VoteRequest) -> Result<VoteResponse> {
        let asked = self.ask_for_vote(target, request);
        timeout(self.vote_timeout, asked).await?
    }
}
