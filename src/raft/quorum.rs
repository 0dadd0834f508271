//! The voters as the one that leads sees them: how far each has the log, and when it was heard.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_raft::NodeId;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::directory::Directory;
use super::followers::{Follower, Followers};
use super::rpc::broker_id;
use super::storage::Storage;
use crate::model::{BrokerId, DirectoryId};

/// All voters. Ends are counted as Kafka does: the index after the last entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quorum {
    pub leader: BrokerId,
    pub term: u64,
    /// Up to where the leader knows the log to be committed.
    pub high_watermark: u64,
    /// By ascending id, the leader included.
    pub voters: Vec<Voter>,
}

/// One voter. What isn't known of it in this term is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voter {
    pub id: BrokerId,
    /// The copy of the metadata that it is known with.
    pub directory: Option<DirectoryId>,
    pub log_end: Option<u64>,
    /// How long ago that was sent which it has answered last.
    pub heard_ms_ago: Option<u64>,
    /// How long ago that was sent after which it had all of the log.
    pub caught_up_ms_ago: Option<u64>,
}

/// What the handle looks at. It keeps nothing open: the store is released when Raft stops.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub node: BrokerId,
    pub followers: Arc<Followers>,
    pub storage: Weak<Storage>,
    pub directory: Weak<Directory>,
}

impl View {
    /// `None` once Raft has stopped.
    pub fn quorum(&self, term: u64) -> Option<Quorum> {
        let (storage, directory) = (self.storage.upgrade()?, self.directory.upgrade()?);
        let now = Instant::now();
        let own = Voter {
            id: self.node,
            directory: Some(directory.id()),
            log_end: Some(storage.log().last().index + 1),
            heard_ms_ago: Some(0),
            caught_up_ms_ago: Some(0),
        };
        let other = |(voter, known): (NodeId, Follower)| {
            let ago = |at: Option<Instant>| Some(millis(now.saturating_duration_since(at?)));
            Some(Voter {
                id: broker_id(voter)?,
                directory: storage.readmitted(voter).or(directory.known(voter)),
                log_end: known.acknowledged.map(|index| index + 1),
                heard_ms_ago: ago(known.heard),
                caught_up_ms_ago: ago(known.caught_up),
            })
        };
        let others = self.followers.all(term).into_iter().filter_map(other);
        let mut voters: Vec<Voter> = others.chain([own]).collect();
        voters.sort_by_key(|voter| voter.id);
        Some(Quorum {
            leader: self.node,
            term,
            high_watermark: storage.state().applied() + 1,
            voters,
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
