//! What voters say to each other: async-raft's own messages in an envelope, in MessagePack.

use async_raft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, Entry, VoteRequest, VoteResponse,
};
use async_raft::NodeId;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::codec::LogBatch;
use super::{RaftError, RaftSettings};
use crate::model::{BrokerId, DirectoryId};

pub(super) type Append = AppendEntriesRequest<LogBatch>;
pub(super) type Appended = AppendEntriesResponse;
pub(super) type LogEntry = Entry<LogBatch>;

/// What a voter asks another one.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Envelope {
    pub from: NodeId,
    /// The copy of the metadata that it has.
    pub directory: DirectoryId,
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
    /// A new copy asks whether it is known.
    Greet,
    /// A new copy wants the leader's state, from this byte on.
    Copy {
        offset: u64,
    },
}

impl Request {
    /// On whose behalf it is, if it says that; async-raft believes it.
    pub fn sender(&self) -> Option<NodeId> {
        match self {
            Request::Append { request, .. } => Some(request.leader_id),
            Request::Vote(request) => Some(request.candidate_id),
            Request::Greet | Request::Copy { .. } => None,
        }
    }
}

/// An answer, and the copy of the metadata that whoever gives it has.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answered {
    pub directory: DirectoryId,
    pub reply: Reply,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Appended(Appended),
    Voted(VoteResponse),
    Greeted(Greeted),
    /// A part of the leader's state, and how many bytes there are in all.
    Copied {
        total: u64,
        chunk: Bytes,
    },
    /// It doesn't lead, or can't say what it has just now.
    NotNow,
    /// The voter is known with another copy of the metadata.
    Stranger,
}

/// What a voter says to a new copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Greeted {
    /// It knows no other copy of that voter.
    pub is_recognised: bool,
    /// Whether it has entries itself: then the cluster is there already.
    pub has_entries: bool,
    /// The latest that it knows.
    pub term: u64,
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
