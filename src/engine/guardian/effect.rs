//! What the guardian's core is told, and what it has done.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::metadata::{Partition, TopicConfig};
use crate::model::{BrokerId, LeaderEpoch, PartitionId};

/// What becomes of the data of a partition that has no replica here any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its topic is deleted, or other brokers have it by now (`docs/adr/0013-a-partition-moves.md`).
    Removed,
    /// The metadata don't prove that nobody needs it.
    Kept,
}

/// Who has used a log last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastUser {
    /// The broker's last run, which has left a mark if it ended well.
    LastRun,
    /// A replica of this run, which has closed it.
    Replica,
    /// A replica of this run, which died.
    DeadReplica,
    /// A replica of this run that was told that its log is corrupt: it is put aside, and an empty one made.
    CorruptReplica,
}

/// What becomes of a log that should be there, and isn't or is corrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfLost {
    /// It is an error: [`Unopened::Missing`], [`Unopened::Corrupt`].
    Refuse,
    /// What there is is put aside, and an empty one is made in its place.
    BeginEmpty,
}

/// Why a log could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unopened {
    /// It should be there, and isn't.
    Missing(String),
    /// What was once on disk isn't any more what it was.
    Corrupt(String),
    /// The disk is full: it can be opened when there is room again.
    NoRoom(String),
    Broken(String),
}

/// What a replica is to its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Leader,
    Follower,
}

/// What the metadata say of a replica's partition.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    pub partition: Arc<Partition>,
    pub config: Arc<TopicConfig>,
}

impl Assignment {
    pub fn epoch(&self) -> LeaderEpoch {
        self.partition.leader_epoch
    }

    pub(super) fn role(&self, node: BrokerId) -> Role {
        match self.partition.leader == node {
            true => Role::Leader,
            false => Role::Follower,
        }
    }
}

/// What a guardian finds of a partition that it has not known so far. `life` is how often its
/// replica here has been rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Nothing,
    /// A replica of the guardian before this one.
    AtWork {
        role: Role,
        life: u64,
    },
    /// The guardian before could not open the log.
    Offline {
        life: u64,
    },
    /// There is a place for a replica, and none in it, `age` after the last one has started.
    Dead {
        life: u64,
        age: Duration,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Open the log after a while, and report [`Guardianship::opened`](super::Guardianship::opened) with this life.
    Open {
        id: PartitionId,
        life: u64,
        config: Arc<TopicConfig>,
        last_user: LastUser,
        if_lost: IfLost,
        after: Duration,
    },
    /// Start a replica on the log that was opened.
    Start {
        id: PartitionId,
        role: Role,
        life: u64,
        assignment: Assignment,
    },
    /// End the replica in good order, and report [`Guardianship::released`](super::Guardianship::released) with
    /// this life.
    Release { id: PartitionId, life: u64 },
    /// Tell the replica what the metadata say of its partition by now.
    Update {
        id: PartitionId,
        assignment: Assignment,
    },
    /// Say that the partition can't be had.
    TakeOffline { id: PartitionId, reason: String },
    /// Say that the replica is lost, and another one on its way.
    Mourn { id: PartitionId },
    /// Ask the controller, after a while, for the epoch that follows `seen`. Report
    /// [`Guardianship::epoch_refused`](super::Guardianship::epoch_refused) if that fails, unless the metadata have moved on.
    RaiseEpoch {
        id: PartitionId,
        seen: LeaderEpoch,
        after: Duration,
    },
    /// Ask the controller, after a while, that nobody counts on the log of this partition any more. Report
    /// [`Guardianship::log_kept`](super::Guardianship::log_kept) if that isn't to be.
    GiveUpLog { id: PartitionId, after: Duration },
    /// End the replica, if there is one, then settle the data, and forget the partition.
    Close { id: PartitionId, fate: Fate },
    /// Do to the data of a log that is closed what its fate says. If it is removed, report
    /// [`Guardianship::settled`](super::Guardianship::settled).
    Settle { id: PartitionId, fate: Fate },
    /// Publish [`Guardianship::published`](super::Guardianship::published).
    Publish,
    /// Tell those who wait for a replica to look again.
    Touch,
    /// Say that all logs are closed, or that some are not closed well.
    AllClosed { well: bool },
}
