//! The ISR that a leader finds.

use super::LeaderReplica;
use crate::engine::replica::{Patience, Released};
use crate::model::{BrokerId, LeaderEpoch, Timestamp};

/// The ISR that the leader wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrProposal {
    pub leader_epoch: LeaderEpoch,
    /// On which it was decided.
    pub partition_epoch: i32,
    /// This leader included.
    pub isr: Vec<BrokerId>,
}

impl<P, F: Patience> LeaderReplica<P, F> {
    /// The ISR that is to be asked for, if it is another one than the metadata's and none was asked for
    /// yet: without those who lag for too long, and with those who have caught up, if `may_join` them: whoever
    /// is asked for counts from then on, and one that is about to go would hold everybody up.
    pub fn propose_isr(
        &mut self,
        lag_max_ms: i64,
        now: Timestamp,
        may_join: impl Fn(BrokerId) -> bool,
    ) -> Option<IsrProposal> {
        if self.proposed.is_some() {
            return None;
        }
        let in_sync = &self.membership.in_sync;
        let belongs = |id: &BrokerId| {
            if *id == self.node {
                return true;
            }
            let Some(follower) = self.followers.iter().find(|follower| follower.id == *id) else {
                return false;
            };
            match in_sync.contains(id) {
                true => !follower.lags(self.log_end, lag_max_ms, now),
                false => {
                    may_join(*id)
                        && !follower.lags(self.log_end, lag_max_ms, now)
                        && follower.may_join(self.rule, self.high_watermark, self.epoch_start)
                }
            }
        };
        let isr: Vec<BrokerId> = (self.membership.replicas.iter().copied())
            .filter(belongs)
            .collect();
        let is_same = isr.len() == in_sync.len() && isr.iter().all(|id| in_sync.contains(id));
        if is_same {
            return None;
        }
        let proposal = IsrProposal {
            leader_epoch: self.epoch,
            partition_epoch: self.membership.partition_epoch,
            isr,
        };
        self.proposed = Some(proposal.clone());
        Some(proposal)
    }

    /// The ISR as it is: who is granted it leads.
    pub fn unchanged_isr(&self) -> IsrProposal {
        IsrProposal {
            leader_epoch: self.epoch,
            partition_epoch: self.membership.partition_epoch,
            isr: self.membership.in_sync.clone(),
        }
    }

    pub fn proposed(&self) -> Option<&IsrProposal> {
        self.proposed.as_ref()
    }

    /// The controller won't have the ISR that was proposed, for certain; what is unknown stays
    /// proposed, and is proposed again as it is.
    pub fn isr_refused(&mut self) -> Released<P, F> {
        self.proposed = None;
        self.advance()
    }
}
