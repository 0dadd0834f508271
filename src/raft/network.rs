//! What goes to other voters.

use std::sync::Arc;

use anyhow::{anyhow, Result};
use async_raft::async_trait::async_trait;
use async_raft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, ConflictOpt, InstallSnapshotRequest,
    InstallSnapshotResponse, VoteRequest, VoteResponse,
};
use async_raft::{NodeId, RaftNetwork};
use tokio::time::{sleep, timeout, Duration};

use super::codec::{decode, encode, Envelope, LogBatch, RaftAnswer, RaftMessage};
use super::guard::{answer_append, prepare_append, Quorum};
use super::storage::Storage;
use super::transport::RaftTransport;
use super::{RaftReply, RaftRpc};
use crate::model::BrokerId;

/// Entries of one message end here, unless a single one is larger: a link carries no endless message.
const ENTRY_BYTES_MAX: usize = 1 << 20;

pub(super) struct Network {
    pub transport: Arc<dyn RaftTransport>,
    pub storage: Arc<Storage>,
    pub quorum: Arc<Quorum>,
    pub node: BrokerId,
    pub heartbeat: Duration,
    pub vote_timeout: Duration,
}

#[async_trait]
impl RaftNetwork<LogBatch> for Network {
    async fn append_entries(
        &self,
        target: NodeId,
        mut request: AppendEntriesRequest<LogBatch>,
    ) -> Result<AppendEntriesResponse> {
        if let Some(answer) = prepare_append(&self.storage, &mut request) {
            return Ok(answer);
        }
        let left_out = shorten(&mut request.entries);
        let (term, previous) = (request.term, request.prev_log_index);
        let last = request.entries.last().map(|last| (last.index, last.term));
        let is_heartbeat = last.is_none();
        let mut answer = match self.call(target, RaftMessage::Append(request)).await? {
            RaftAnswer::Append(answer) => answer,
            RaftAnswer::Vote(_) => return Err(anyhow!("voter {target} answers something else")),
        };
        answer_append(&self.storage, &mut answer);
        if answer.term == term {
            let matched = match (answer.success, is_heartbeat) {
                (true, false) => last.map_or(0, |(index, _)| index),
                // async-raft begins with a place that may not agree, and the guard of the other side
                // says no if it doesn't.
                (true, true) => previous,
                (false, _) => 0,
            };
            self.quorum.acknowledged(target, term, matched);
        }
        match (answer.success && left_out, last) {
            // The others come next: from the last one on that was sent.
            (true, Some((index, term))) => Ok(AppendEntriesResponse {
                term: answer.term,
                success: false,
                conflict_opt: Some(ConflictOpt { term, index }),
            }),
            _ => Ok(answer),
        }
    }

    async fn install_snapshot(
        &self,
        target: NodeId,
        _: InstallSnapshotRequest,
    ) -> Result<InstallSnapshotResponse> {
        Err(anyhow!(
            "async-raft's snapshots are not used, and voter {target} gets none"
        ))
    }

    /// async-raft sets no limit itself.
    async fn vote(&self, target: NodeId, request: VoteRequest) -> Result<VoteResponse> {
        let asked = self.call(target, RaftMessage::Vote(request));
        match timeout(self.vote_timeout, asked).await?? {
            RaftAnswer::Vote(answer) => Ok(answer),
            RaftAnswer::Append(_) => Err(anyhow!("voter {target} answers something else")),
        }
    }
}

impl Network {
    async fn call(&self, target: NodeId, message: RaftMessage) -> Result<RaftAnswer> {
        let voter = BrokerId(i32::try_from(target)?);
        let envelope = Envelope {
            from: self.node,
            cut_up_to: self.quorum.matched_by_all(),
            message,
        };
        let rpc = RaftRpc(encode(&envelope)?.into());
        match self.transport.call(voter, rpc).await {
            Ok(RaftReply(answer)) => Ok(decode("a voter's answer", &answer)?),
            Err(error) => {
                // async-raft asks again at once, and would do nothing else.
                sleep(self.heartbeat).await;
                Err(error.into())
            }
        }
    }
}

/// Leaves out what is too much for one message; whether anything was.
fn shorten(entries: &mut Vec<async_raft::raft::Entry<LogBatch>>) -> bool {
    let mut bytes = 0;
    let kept = entries.iter().take_while(|entry| {
        let before = bytes;
        bytes += super::codec::size(entry);
        before == 0 || bytes <= ENTRY_BYTES_MAX
    });
    let kept = kept.count();
    let left_out = kept < entries.len();
    entries.truncate(kept);
    left_out
}
