//! Raft: how the voters agree on the metadata, and how one node keeps it.
//!
//! Everything that knows the crate async-raft is in here, behind [`Raft`]: propose, barrier,
//! leadership, the image that results, and `handle` for what other voters send. So it can be
//! replaced, and a newcomer never has to know what is wrong with it. Much is
//! (`docs/adr/0002-metadata-by-async-raft.md`), so it is used only in a narrow way: fixed voters,
//! none of its snapshots, none of its reads, and never trusted about what is applied.
//!
//! | File | What is there |
//! |---|---|
//! | `handle` | [`Raft`]: start, propose, stop; the thread that all of it runs on |
//! | `voter` | what a voter does on it |
//! | `observer` | what a node does on it that has no vote |
//! | `proposer` | one write at a time, of all proposals that wait |
//! | `leadership` | a leader is announced only after a write of its own |
//! | `log` | hard state and entries on disk; flushed before they count |
//! | `snapshot` | the image on disk, so that the log can be cut |
//! | `state` | the image in memory, applied from the node's own log and from nothing else |
//! | `storage` | these three as async-raft wants them |
//! | `network` | what goes to other voters |
//! | `server` | what they ask |
//! | `feed` | what any node asks: what is committed |
//! | `copying` | all of it at once, in parts |
//! | `rpc` | how all of these are written |
//! | `directory` | which copies of the metadata the voters have |
//! | `forming` | how a new copy begins to take part |
//! | `catch_up` | how a voter goes on that was away for too long |
//! | `sources` | which voter a node without a vote follows |
//! | `guard` | what is put right in messages, in both directions |
//! | `followers` | what a leader knows of the other voters |
//! | `observers` | what a voter knows of those who have no vote |
//! | `quorum` | what is told of it |
//! | `transport` | how messages get there; somebody else provides it |
//!
//! One, three or five voters, never a change of them while the cluster lives, and any number of nodes that follow
//! without a vote.

use std::time::Duration;

use thiserror::Error;

use crate::engine::metadata::METADATA_VERSION;
use crate::model::BrokerId;
use crate::storage::meta::MetaError;

mod catch_up;
mod codec;
mod copying;
mod directory;
mod feed;
mod followers;
mod forming;
mod guard;
mod handle;
mod leadership;
mod log;
mod network;
mod observer;
mod observers;
mod proposer;
mod quorum;
mod rpc;
mod server;
mod snapshot;
mod sources;
mod state;
mod storage;
mod transport;
mod voter;

#[cfg(test)]
mod tests;

pub use handle::{Raft, RaftReply, RaftRpc};
pub use quorum::{Quorum, QuorumReplica};
pub use transport::{Alone, RaftTransport, RaftTransportError};

/// Who takes part, and how patient they are with each other.
#[derive(Clone, Debug)]
pub struct RaftSettings {
    /// This node: one of the voters, or one that follows them.
    pub node: BrokerId,
    /// Fixed for the life of the cluster.
    pub voters: Vec<BrokerId>,
    pub heartbeat: Duration,
    /// An election starts after a random time between these two without a leader.
    pub election_timeout_min: Duration,
    pub election_timeout_max: Duration,
    /// A snapshot is written, and the log cut, when the log has grown by this many bytes, or by
    /// the size of the last snapshot if that is more.
    pub snapshot_every_bytes: u64,
    /// The latest metadata version that this node knows. It stops where the cluster speaks a later one.
    pub metadata_version_max: u16,
}

impl RaftSettings {
    /// The settings that are used unless the config says otherwise.
    pub fn new(node: BrokerId, voters: Vec<BrokerId>) -> RaftSettings {
        RaftSettings {
            node,
            voters,
            heartbeat: Duration::from_millis(150),
            election_timeout_min: Duration::from_millis(500),
            election_timeout_max: Duration::from_millis(1_000),
            snapshot_every_bytes: 1 << 20,
            metadata_version_max: METADATA_VERSION,
        }
    }
}

/// Whether this node leads the metadata, which makes it the active controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// It leads, and its image holds everything that earlier leaders have committed.
    Leader { term: u64 },
    /// Another node leads, or nobody is known to.
    Follower { leader: Option<BrokerId> },
}

/// Why Raft doesn't run.
#[derive(Debug, Error)]
pub enum RaftError {
    /// Nobody asks a node anything that follows itself.
    #[error("this node has no vote: is cluster.voters the same on all nodes?")]
    NoVote,
    #[error("the metadata are kept by 1, 3 or 5 different voters, and {count} are configured")]
    NumberOfVoters { count: usize },
    #[error("a voter's id is 0 or above, and not {0}")]
    BadVoterId(BrokerId),
    #[error(
        "the metadata here were begun with the voters {stored}, and the config names {configured}: the voters \
         of a cluster stay the same while it lives; cluster.voters names them"
    )]
    OtherVoters { stored: String, configured: String },
    /// This voter's copy of the metadata is new, and hasn't joined yet.
    #[error("this voter hasn't joined yet")]
    Forming,
    /// Whatever it brought is as it was, for a later build to read.
    #[error(
        "the cluster speaks metadata version {spoken}, and this node knows none above {known}: start it with a \
         later build"
    )]
    LaterVersion { spoken: u16, known: u16 },
    #[error("the settings of Raft: {0}")]
    BadSettings(String),
    #[error("a message that isn't one of a node's: {0}")]
    BadMessage(String),
    #[error("the metadata is stopped")]
    Stopped,
    #[error("too many messages of other nodes wait already")]
    Busy,
    #[error(transparent)]
    Store(#[from] MetaError),
    /// What is on disk can be read but makes no sense.
    #[error(
        "the metadata log is damaged ({0}): this node's copy of the cluster's metadata can't be \
         trusted; restore it from a backup, or let the node copy the metadata of the other voters"
    )]
    Damaged(String),
    #[error("the thread for Raft: {0}")]
    Thread(#[from] std::io::Error),
}

/// Why a proposal wasn't answered with an image.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// Nothing has happened; the leader can be asked, if it is known.
    #[error("this node doesn't lead the metadata")]
    NotLeader { leader: Option<BrokerId> },
    /// It may or may not be committed, now or later. The image will tell.
    #[error("it is not known whether the change of the metadata is committed")]
    Unknown,
    /// Nothing has happened, and nothing will: Raft is stopped.
    #[error("the metadata is stopped")]
    Stopped,
    /// Nothing has happened.
    #[error("a proposal of {bytes} bytes is larger than the metadata log takes")]
    TooLarge { bytes: usize },
}
