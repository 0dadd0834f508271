//! The voters as the one that leads sees them, and who follows it: how far each has the log, and when it was heard.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_raft::NodeId;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::directory::Directory;
use super::followers::{Follower, Followers};
use super::observers::{Observer, Observers};
use super::rpc::broker_id;
use super::storage::Storage;
use crate::model::{BrokerId, DirectoryId};

/// All voters, and who follows them without a vote. Ends are counted as Kafka does: the index after the last entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quorum {
    pub leader: BrokerId,
    pub term: u64,
    /// Up to where the leader knows the log to be committed.
    pub high_watermark: u64,
    /// By ascending id, the leader included.
    pub voters: Vec<QuorumReplica>,
    /// Nodes without a vote that have asked the leader lately, by ascending id.
    #[serde(default)]
    pub observers: Vec<QuorumReplica>,
}

/// One node's copy of the log. What isn't known of it in this term is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumReplica {
    pub id: BrokerId,
    /// The copy of the metadata that it is known with.
    pub directory: Option<DirectoryId>,
    pub log_end: Option<u64>,
    /// How long ago that was sent which a voter has answered last, or that an observer has asked.
    pub heard_ms_ago: Option<u64>,
    /// How long ago that was with which it had all of the log.
    pub caught_up_ms_ago: Option<u64>,
}

/// What the handle looks at. It keeps nothing open: the store is released when Raft stops.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub node: BrokerId,
    pub followers: Arc<Followers>,
    pub observers: Arc<Observers>,
    pub storage: Weak<Storage>,
    pub directory: Weak<Directory>,
}

impl View {
    /// `None` once Raft has stopped.
    pub fn quorum(&self, term: u64) -> Option<Quorum> {
        let (storage, directory) = (self.storage.upgrade()?, self.directory.upgrade()?);
        let now = Instant::now();
        let ago = |at: Option<Instant>| Some(millis(now.saturating_duration_since(at?)));
        let own = QuorumReplica {
            id: self.node,
            directory: Some(directory.id()),
            log_end: Some(storage.log().last().index + 1),
            heard_ms_ago: Some(0),
            caught_up_ms_ago: Some(0),
        };
        let other = |(voter, known): (NodeId, Follower)| {
            Some(QuorumReplica {
                id: broker_id(voter)?,
                directory: storage.readmitted(voter).or(directory.known(voter)),
                log_end: known.acknowledged.map(|index| index + 1),
                heard_ms_ago: ago(known.heard),
                caught_up_ms_ago: ago(known.caught_up),
            })
        };
        let others = self.followers.all(term).into_iter().filter_map(other);
        let mut voters: Vec<QuorumReplica> = others.chain([own]).collect();
        voters.sort_by_key(|voter| voter.id);
        let observer = |(node, known): (NodeId, Observer)| {
            Some(QuorumReplica {
                id: broker_id(node)?,
                directory: Some(known.directory),
                log_end: Some(known.last + 1),
                heard_ms_ago: ago(Some(known.heard)),
                caught_up_ms_ago: ago(known.caught_up),
            })
        };
        let observers = self.observers.recent(now).into_iter().filter_map(observer);
        Some(Quorum {
            leader: self.node,
            term,
            high_watermark: storage.state().applied() + 1,
            voters,
            observers: observers.collect(),
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
