//! A partition's replication: what its leader and its followers decide.
//!
//! [`LeaderReplica`] knows how far the log has been written and how far it is on disk, here and at each
//! follower, from which follows the high watermark; it holds everyone who waits for it, and says whom
//! to answer and whom to wake, what to push to whom, and which ISR to ask for. [`FollowerReplica`] says
//! what becomes of a push. Neither touches a log: the partition's actor does, and reports.
//!
//! # How two logs come together
//!
//! A [`Push`] carries records and the place that they continue: an offset, and the epoch of the record
//! before it. Within an epoch a leader gives each offset once, so two logs that have a record of the
//! same offset and epoch agree up to there (KIP-101). A follower that can't take a push says where its
//! log ends and where the epoch that it was asked for ends there ([`Mismatch`]); the leader looks in its
//! own log where that epoch ends, tries the smaller of the two, and so on until they agree (KIP-279).
//! What the follower has beyond is cut: never by the high watermark, always by epoch.
//!
//! Where they agree nowhere, because the leader has deleted all that the follower has, the follower begins
//! its log anew where the leader's begins. A leader that asks at the start of its log sends the first records
//! along: below there is nothing to agree on, and the batch that holds the start may begin before it.
//! Followers let go of what their leader has deleted.
//!
//! | rule | where |
//! |---|---|
//! | the high watermark is the smallest end of the in-sync replicas, and of those that are about to be | [`LeaderReplica`] |
//! | it stands still while fewer than `min.insync.replicas` are in sync, or others are eligible to lead (KIP-966) | [`LeaderReplica`] |
//! | only what a follower has acknowledged in this epoch counts | `progress` |
//! | a follower joins the ISR when it has reached the high watermark and the epoch's start, and the metadata say so | `progress` |
//! | a follower that catches up has few pushes on their way, and all of a node together | `progress`, [`CatchUpTurns`] |
//! | a log is begun anew only where the leader's begins, and when nothing in it can be told to agree | [`FollowerReplica`] |
//! | a push of an older epoch is refused, and one of an epoch that the metadata haven't told yet waits | [`FollowerReplica`] |

mod beyond_end;
mod follower;
mod leader;
mod nearest;
mod progress;
mod readers;
mod throttle;
mod turns;

use serde::{Deserialize, Serialize};

use crate::model::{BrokerId, ErrorCode, LeaderEpoch, Offset};

pub use beyond_end::{Beyond, BeyondEnd};
pub use follower::{FollowerReplica, Pushed, Taken};
pub use leader::{
    Acks, Commit, CommitRule, IsrProposal, LeaderReplica, LeaderStart, Pace, PushPlan, Released,
};
pub use nearest::{nearest, ReadableReplica, ReplicaSelector};
pub use readers::{Patience, Readers};
pub use throttle::{Throttle, ThrottleRates, Throttled, Toll};
pub use turns::{rest_after, CatchUpTurns, CATCH_UP_PUSHES_MAX, CATCH_UP_PUSH_BYTES_MAX};

/// What the metadata say of who replicates a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    pub replicas: Vec<BrokerId>,
    pub in_sync: Vec<BrokerId>,
    /// Rises with each change; a proposal says on which it was made (KIP-497).
    pub partition_epoch: i32,
    /// `min.insync.replicas`.
    pub min_in_sync: usize,
    /// Whether replicas outside of the ISR may be elected (KIP-966): then nothing is committed.
    pub has_eligible_leaders: bool,
}

/// What a log knows of its leader epochs.
pub trait Epochs {
    /// The epoch of the record at an offset, `None` where there is no record.
    fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch>;

    /// The largest epoch not above this one that the log knows, and the offset after its last record.
    /// `None` where the log knows nothing about it.
    fn end_of(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)>;

    /// Of the last record that was written, also where it is deleted by now; `None` where that isn't known.
    fn latest(&self) -> Option<LeaderEpoch>;

    fn start_offset(&self) -> Offset;

    fn end_offset(&self) -> Offset;
}

/// What goes with records to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    pub leader_epoch: LeaderEpoch,
    /// Where the records begin; without records it asks whether the logs agree up to there.
    pub offset: Offset,
    /// Of the record before `offset`; [`LeaderEpoch::NONE`] where the leader's log begins there, and has
    /// nothing left of it.
    pub previous_epoch: LeaderEpoch,
    pub high_watermark: Offset,
    /// Of the leader's log: what is below it may be deleted.
    pub log_start: Offset,
    /// Where the leader's log ends.
    pub log_end: Offset,
}

/// Where a log starts and ends, and up to where it is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnds {
    pub start: Offset,
    pub end: Offset,
    pub synced: Offset,
}

/// What a follower has, in all: one says no less than those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    pub leader_epoch: LeaderEpoch,
    /// The end of its log, up to which it agrees with the leader's.
    pub written: Offset,
    /// Up to where it is on disk.
    pub synced: Offset,
    /// Where its log starts: it may have deleted more than its leader.
    pub log_start: Offset,
}

/// A follower's log doesn't reach where a push begins, or has another record there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    pub leader_epoch: LeaderEpoch,
    /// Of the push.
    pub offset: Offset,
    /// The end of its log.
    pub end: Offset,
    /// The largest epoch not above the push's previous one that it has, and where that ends.
    pub epoch: LeaderEpoch,
    pub epoch_end: Offset,
}

/// Compares the leader epoch that a client believes in with the present one (KIP-320); -1 believes in any.
fn check_epoch(believed: LeaderEpoch, current: LeaderEpoch) -> Result<(), ErrorCode> {
    match believed {
        LeaderEpoch::NONE => Ok(()),
        epoch if epoch < current => Err(ErrorCode::FencedLeaderEpoch),
        epoch if epoch > current => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}
