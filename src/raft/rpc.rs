//! What voters say to each other: async-raft's own messages in an envelope, in MessagePack.

use async_raft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, Entry, VoteRequest, VoteResponse,
};
use async_raft::NodeId;
use serde::{Deserialize, Serialize};

use super::codec::LogBatch;
use super::{RaftError, RaftSettings};
use crate::model::BrokerId;

pub(super) type Append = AppendEntriesRequest<LogBatch>;
pub(super) type Appended = AppendEntriesResponse;
pub(super) type LogEntry = Entry<LogBatch>;

/// What a voter asks another one.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Envelope {
    pub from: NodeId,
    pub message: Request,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    Append {
        request: Append,
        /// Every voter has the log up to this index, so it may be cut there.
        trim_to: u64,
    },
    Vote(VoteRequest),
}

impl Request {
    /// On whose behalf it is; async-raft believes it.
    pub fn sender(&self) -> NodeId {
        match self {
            Request::Append { request, .. } => request.leader_id,
            Request::Vote(request) => request.candidate_id,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Appended(Appended),
    Voted(VoteResponse),
}

pub(super) fn node_id(broker: BrokerId) -> Result<NodeId, RaftError> {
    NodeId::try_from(broker.0).map_err(|_| RaftError::BadVoterId(broker))
}

pub(super) fn broker_id(node: NodeId) -> Option<BrokerId> {
    i32::try_from(node).ok().map(BrokerId)
}

/// The configured voters, of which there must be 1, 3 or 5, and this node among them.
pub(super) fn voters(settings: &RaftSettings) -> Result<Vec<NodeId>, RaftError> {
    let RaftSettings { node, voters, .. } = settings;
    if !voters.contains(node) {
        return Err(RaftError::NotAVoter {
            node: *node,
            voters: voters.clone(),
        });
    }
    let mut ids = voters
        .iter()
        .map(|voter| node_id(*voter))
        .collect::<Result<Vec<_>, _>>()?;
    ids.sort_unstable();
    ids.dedup();
    match ids.len() {
        1 | 3 | 5 if ids.len() == voters.len() => Ok(ids),
        _ => Err(RaftError::NumberOfVoters {
            count: voters.len(),
        }),
    }
}
