//! What voters say to each other: async-raft's own messages in an envelope, in MessagePack.

use async_raft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, Entry, VoteRequest, VoteResponse,
};
use async_raft::NodeId;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::codec::LogBatch;
use super::log::LogPosition;
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
        /// Always 0. Voters of before cut their logs up to here.
        trim_to: u64,
        /// The first entry that the leader still has, if it has cut any: whoever lacks it needs a copy of all.
        #[serde(default)]
        log_start: u64,
    },
    Vote(VoteRequest),
    /// A new copy asks whether it is known.
    Greet,
    /// A new copy wants the leader's state.
    Copy(Part),
    /// Whoever is far behind wants what is committed.
    State(Part),
    /// A node without a vote wants what was committed since.
    Follow(Follow),
}

/// A part of a copy of all that a voter has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    /// From this byte on.
    pub offset: u64,
    /// Of which copy; `None` with the first part.
    #[serde(default)]
    pub of: Option<u64>,
}

/// What a node without a vote says when it asks for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Follow {
    /// The last entry that it has.
    pub after: LogPosition,
    /// Who leads, as far as it knows. That this has changed is news too.
    pub leader: Option<NodeId>,
    /// How long it waits for news.
    pub wait_ms: u32,
}

impl Request {
    /// On whose behalf it is, if it says that; async-raft believes it.
    pub fn sender(&self) -> Option<NodeId> {
        match self {
            Request::Append { request, .. } => Some(request.leader_id),
            Request::Vote(request) => Some(request.candidate_id),
            Request::Greet | Request::Copy(_) | Request::State(_) | Request::Follow(_) => None,
        }
    }

    /// Whether a node without a vote may ask it.
    pub fn is_for_all(&self) -> bool {
        matches!(self, Request::State(_) | Request::Follow(_))
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
    /// A part of a copy, how many bytes there are in all, and which copy it is.
    Copied {
        total: u64,
        chunk: Bytes,
        #[serde(default)]
        of: u64,
    },
    Followed(Followed),
    /// The entries that come next are cut: all of the state has to be copied.
    Cut,
    /// What the node says that it has isn't what is committed.
    Differs,
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

/// What is new to a node without a vote.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Followed {
    /// Those that come next, without a gap. All of them are committed.
    pub entries: Vec<LogEntry>,
    /// Who leads, as far as this voter knows.
    pub leader: Option<NodeId>,
}

pub(super) fn node_id(broker: BrokerId) -> Result<NodeId, RaftError> {
    NodeId::try_from(broker.0).map_err(|_| RaftError::BadVoterId(broker))
}

pub(super) fn broker_id(node: NodeId) -> Option<BrokerId> {
    i32::try_from(node).ok().map(BrokerId)
}

/// The configured voters, of which there must be 1, 3 or 5.
pub(super) fn voters(settings: &RaftSettings) -> Result<Vec<NodeId>, RaftError> {
    let voters = &settings.voters;
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
