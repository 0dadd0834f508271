//! The follower's replica: what becomes of a push.

use super::{Ack, Epochs, Mismatch, Push};
use crate::model::{LeaderEpoch, Offset};

/// A batch of a push, as its header says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    pub base_offset: Offset,
    pub next_offset: Offset,
    pub leader_epoch: LeaderEpoch,
}

/// What is to be done about a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// First begin the log anew at `anew`, or cut it at `cut`, where they are told. Then append the
    /// batches from number `from` on, and acknowledge.
    Append {
        anew: Option<Offset>,
        cut: Option<Offset>,
        from: usize,
    },
    /// Tell the leader.
    Mismatched(Mismatch),
    /// Of an earlier leader, who will hear of it from the metadata.
    Stale,
    /// Of a leader that the metadata haven't told here yet. It asks again.
    TooEarly,
    /// The batches don't begin at the push's offset, or don't continue each other.
    Broken,
}

/// The state of a partition's follower.
#[derive(Debug)]
pub struct FollowerReplica {
    epoch: LeaderEpoch,
    /// Up to where the log agrees with this epoch's leader, as far as is known.
    agreed: Option<Offset>,
    high_watermark: Offset,
    last_ack: Option<Ack>,
}

impl FollowerReplica {
    /// `high_watermark` is what the log knows of it.
    pub fn new(epoch: LeaderEpoch, high_watermark: Offset) -> FollowerReplica {
        FollowerReplica {
            epoch,
            agreed: None,
            high_watermark,
            last_ack: None,
        }
    }

    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Never above the leader's, nor above what is known to agree with its log.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The metadata say that there is a leader in this epoch.
    pub fn assign(&mut self, epoch: LeaderEpoch) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.agreed = None;
            self.last_ack = None;
        }
    }

    /// Decides what becomes of a push and its batches, on the log as it is now.
    pub fn take(&mut self, push: &Push, batches: &[Pushed], epochs: &impl Epochs) -> Taken {
        if push.leader_epoch < self.epoch {
            return Taken::Stale;
        }
        if push.leader_epoch > self.epoch {
            return Taken::TooEarly;
        }
        let mut next = push.offset;
        for batch in batches {
            if batch.base_offset != next || batch.next_offset <= next {
                return Taken::Broken;
            }
            next = batch.next_offset;
        }
        let end = epochs.end_offset();
        let is_start = push.offset == push.log_start && push.previous_epoch == LeaderEpoch::NONE;
        let mut anew = None;
        if push.offset > end {
            if !is_start {
                return Taken::Mismatched(mismatch(push, epochs));
            }
            // All that is here was deleted there.
            anew = Some(push.offset);
        } else if !is_start && push.offset > epochs.start_offset() {
            let ours = epochs.epoch_of(push.offset + -1);
            if ours != Some(push.previous_epoch) {
                return Taken::Mismatched(mismatch(push, epochs));
            }
        }
        let (cut, from) = match anew {
            Some(_) => (None, 0),
            None => parting(batches, epochs),
        };
        let cut = cut.or_else(|| stray_tail(push, epochs));
        self.agreed = Some(self.agreed.unwrap_or(next).max(next));
        let end = self.agreed.unwrap_or(next);
        self.high_watermark = self.high_watermark.max(push.high_watermark.min(end));
        Taken::Append { anew, cut, from }
    }

    /// A push could not be carried out: nothing is known any more of how the logs go together.
    pub fn failed(&mut self) {
        self.agreed = None;
    }

    /// What to acknowledge after a push was carried out.
    pub fn ack(&mut self, log_end: Offset, synced: Offset) -> Option<Ack> {
        let agreed = self.agreed?.min(log_end);
        let ack = Ack {
            leader_epoch: self.epoch,
            written: agreed,
            synced: synced.min(agreed),
        };
        self.last_ack = Some(ack);
        Some(ack)
    }

    /// What to acknowledge after a sync, if that is news.
    pub fn synced(&mut self, log_end: Offset, synced: Offset) -> Option<Ack> {
        let before = self.last_ack;
        self.ack(log_end, synced).filter(|ack| Some(*ack) != before)
    }
}

/// Where the log and the batches part: what is to be cut, and the first batch that isn't there.
fn parting(batches: &[Pushed], epochs: &impl Epochs) -> (Option<Offset>, usize) {
    let end = epochs.end_offset();
    for (at, batch) in batches.iter().enumerate() {
        if batch.base_offset >= end {
            return (None, at);
        }
        // What lies below the log's start was here, and was deleted.
        let is_gone = batch.next_offset <= epochs.start_offset();
        let is_here = batch.next_offset <= end
            && epochs.epoch_of(batch.base_offset) == Some(batch.leader_epoch);
        if !is_gone && !is_here {
            return (Some(batch.base_offset), at);
        }
    }
    (None, batches.len())
}

/// What an earlier leader has written beyond the end of this one's log: it never comes back.
fn stray_tail(push: &Push, epochs: &impl Epochs) -> Option<Offset> {
    let epoch = epochs.epoch_of(push.log_end)?;
    (epoch < push.leader_epoch).then_some(push.log_end)
}

fn mismatch(push: &Push, epochs: &impl Epochs) -> Mismatch {
    let end = epochs.end_offset();
    let (epoch, epoch_end) = epochs.end_of(push.previous_epoch).unwrap_or_else(|| {
        // Newer than all that is here.
        let latest = epochs.epoch_of(end + -1);
        (latest.unwrap_or(LeaderEpoch::NONE), end)
    });
    Mismatch {
        leader_epoch: push.leader_epoch,
        offset: push.offset,
        end,
        epoch,
        epoch_end,
    }
}
