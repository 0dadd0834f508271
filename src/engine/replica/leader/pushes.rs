//! What a leader sends its followers, and how fast.

use super::LeaderReplica;
use crate::engine::replica::progress::{epoch_before, Progress};
use crate::engine::replica::{Epochs, Membership, Patience, Push};
use crate::model::{BrokerId, LeaderEpoch, Offset, Timestamp};

/// How a follower goes along with the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// It has a part in what is committed now, or has been sent all that there is.
    Live,
    /// It lacks what others have had for long. It must not hold up those who are in sync: each of its pushes
    /// needs a turn ([`crate::engine::replica::CatchUpTurns`]).
    CatchUp,
}

/// Records to be read and pushed to a follower, or nothing but a question or news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushPlan {
    pub push: Push,
    /// Whether records from `push.offset` on go along.
    pub with_records: bool,
    pub pace: Pace,
}

impl<P, F: Patience> LeaderReplica<P, F> {
    /// What to send to a follower next, if anything may be sent now. Report [`Self::sent`].
    pub fn next_push(
        &mut self,
        to: BrokerId,
        epochs: &impl Epochs,
        now: Timestamp,
    ) -> Option<PushPlan> {
        let (epoch, log_end, high_watermark) = (self.epoch, self.log_end, self.high_watermark);
        let counts = self.membership.in_sync.contains(&to) || self.is_proposed(to);
        let follower = self.follower(to, epoch)?;
        let pace = match counts {
            true => Pace::Live,
            false => follower.pace(),
        };
        let log_start = epochs.start_offset();
        follower.start_at_least(log_start);
        let (offset, with_records) =
            follower.next((log_start, log_end), high_watermark, pace, now)?;
        Some(PushPlan {
            push: Push {
                leader_epoch: epoch,
                offset,
                previous_epoch: epoch_before(epochs, offset).unwrap_or(LeaderEpoch::NONE),
                high_watermark,
                log_start,
                log_end: epochs.end_offset(),
            },
            with_records,
            pace,
        })
    }

    /// How many of the pushes to a follower that are on their way have had a turn.
    pub fn turns_in_use(&self, by: BrokerId) -> usize {
        let mut followers = self.followers.iter();
        let follower = followers.find(|follower| follower.id == by);
        follower.map_or(0, Progress::turns_in_use)
    }

    /// A push was sent, with records up to `end`.
    pub fn sent(&mut self, to: BrokerId, end: Offset, bytes: usize, now: Timestamp) {
        let (log_end, high_watermark) = (self.log_end, self.high_watermark);
        let counts = self.membership.in_sync.contains(&to) || self.is_proposed(to);
        if let Some(follower) = self.follower(to, self.epoch) {
            let pace = match counts {
                true => Pace::Live,
                false => follower.pace(),
            };
            follower.sent((end, log_end), bytes, pace, high_watermark, now);
        }
    }

    /// Looks after followers that have said nothing for too long about what they were sent.
    pub fn tick(&mut self, now: Timestamp) {
        for follower in &mut self.followers {
            follower.tick(self.rule, now);
        }
    }

    /// Whether nothing is left to do: all are in sync, and nobody lacks anything, not even the news of what is
    /// committed. Whoever had everything when it couldn't join yet says nothing more when it can.
    pub fn is_at_rest(&self) -> bool {
        let Membership {
            in_sync, replicas, ..
        } = &self.membership;
        let mut followers = self.followers.iter();
        replicas.iter().all(|id| in_sync.contains(id))
            && followers.all(|follower| follower.has_everything(self.log_end, self.high_watermark))
    }
}
