//! Who leads a partition, and who could: the rules that every change of a partition obeys.
//!
//! A decision says what it wants of a partition (a smaller ISR, other replicas, the preferred
//! leader), and [`settle`] works out what follows from that: whether a reassignment is complete,
//! who is an eligible leader (KIP-966), and who leads.
//!
//! The order of an election, in which the first who is there wins:
//!
//! 1. The present leader, while it may lead; or, if asked for, the preferred one before it.
//! 2. An in-sync replica, in the order of the replicas.
//! 3. With an empty ISR, an eligible leader: it has every committed record.
//! 4. With neither, the last known leader: of those that restarted without a proof that they kept
//!    everything, it can lack the least.
//! 5. If an unclean election is allowed, any replica. Committed records may be lost.
//! 6. Nobody: the partition waits.

use super::fence_broker::HasKept;
use super::{Partition, PartitionChange};
use crate::model::BrokerId;

/// Which election is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Election {
    /// Only if the present leader may not lead any more.
    IfNeeded,
    /// In favour of the first replica.
    Preferred,
    /// As [`Election::IfNeeded`], and a replica that may lack committed records is better than none.
    Unclean,
}

/// What counts in a change of a partition beside the partition itself.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    pub election: Election,
    /// Which brokers may lead, as of after the change.
    pub may_lead: &'a dyn Fn(BrokerId) -> bool,
    /// As configured for the topic.
    pub min_insync_replicas: usize,
    /// A broker that may have lost what it had acknowledged, and what it has kept of this partition.
    pub has_lost: Option<(BrokerId, HasKept)>,
}

impl Terms<'_> {
    fn has_lost(&self, broker: BrokerId) -> bool {
        let is_lost = |(id, kept)| id == broker && kept != HasKept::Everything;
        self.has_lost.is_some_and(is_lost)
    }
}

/// The change that makes of `now` what is `wanted`, with all that follows from it; `None` if that
/// is nothing. Of `wanted`, the ISR and the three lists of replicas count, and the last known
/// leader, which may be forgotten.
pub(super) fn settle(
    number: i32,
    now: &Partition,
    wanted: Partition,
    terms: &Terms<'_>,
) -> Option<PartitionChange> {
    let mut next = wanted;
    complete_reassignment(&mut next, terms);
    next.eligible_leaders = eligible_leaders(now, &next, terms);
    elect(now, &mut next, terms);
    let is_led = next.leader != BrokerId::NONE;
    next.last_known_leader = match (is_led, now.leader) {
        (true, _) => BrokerId::NONE,
        (false, BrokerId::NONE) => next.last_known_leader,
        (false, last) if terms.has_lost == Some((last, HasKept::Nothing)) => BrokerId::NONE,
        (false, last) => last,
    };
    // A replica that goes must not be mistaken for one of the same epoch.
    let loses_replica = now.replicas.iter().any(|id| !next.replicas.contains(id));
    let new_epoch = next.leader != now.leader || loses_replica;
    difference(number, now, &next, new_epoch)
}

/// Once those that it brings are in sync, the others go (KIP-455); but not before as many of those that stay
/// are in sync as a write needs.
fn complete_reassignment(partition: &mut Partition, terms: &Terms<'_>) {
    if !partition.is_reassigning() {
        return;
    }
    let replicas = partition.replicas_to_be();
    let brings = |id: &&BrokerId| replicas.contains(id);
    let mut brought = partition.adding_replicas.iter().filter(brings);
    if replicas.is_empty() || !brought.all(|id| partition.isr.contains(id)) {
        return;
    }
    let mut complete = partition.clone();
    complete.isr.retain(|id| replicas.contains(id));
    complete.replicas = replicas;
    complete.adding_replicas.clear();
    complete.removing_replicas.clear();
    if complete.isr.len() >= complete.min_in_sync(terms.min_insync_replicas) {
        *partition = complete;
    }
}

/// Who has every committed record without being in sync: those who were in sync when the ISR fell
/// below the minimum, below which nothing is committed.
fn eligible_leaders(now: &Partition, next: &Partition, terms: &Terms<'_>) -> Vec<BrokerId> {
    if next.isr.len() >= next.min_in_sync(terms.min_insync_replicas) {
        return Vec::new();
    }
    let is_eligible = |id: &BrokerId| {
        (now.isr.contains(id) || now.eligible_leaders.contains(id))
            && !next.isr.contains(id)
            && !terms.has_lost(*id)
    };
    next.replicas.iter().copied().filter(is_eligible).collect()
}

/// Gives `next` its leader, and the ISR that comes with a leader from outside of it.
fn elect(now: &Partition, next: &mut Partition, terms: &Terms<'_>) {
    let may_lead = |id: &BrokerId| *id != BrokerId::NONE && (terms.may_lead)(*id);
    let has_all = |id: &BrokerId| match next.isr.is_empty() {
        true => next.eligible_leaders.contains(id),
        false => next.isr.contains(id),
    };
    let is_hopeless = next.isr.is_empty() && next.eligible_leaders.is_empty();
    let is_last_hope = |id: &BrokerId| {
        is_hopeless && *id == now.last_known_leader && *id == next.last_known_leader
    };

    let in_order = &next.replicas;
    let present = [now.leader];
    let mut first_choice = match terms.election {
        Election::Preferred => in_order.iter().take(1).chain(&present),
        Election::IfNeeded | Election::Unclean => in_order.iter().take(0).chain(&present),
    };
    let clean = first_choice
        .find(|id| may_lead(id) && has_all(id))
        .or_else(|| in_order.iter().find(|id| may_lead(id) && has_all(id)));
    let last_hope = || in_order.iter().find(|id| may_lead(id) && is_last_hope(id));
    let unclean = || match terms.election {
        Election::Unclean => in_order.iter().find(|id| may_lead(id)),
        Election::IfNeeded | Election::Preferred => None,
    };
    if let Some(leader) = clean.copied() {
        next.leader = leader;
        if next.isr.is_empty() {
            next.isr = vec![leader];
            match next.isr.len() >= next.min_in_sync(terms.min_insync_replicas) {
                true => next.eligible_leaders.clear(),
                false => next.eligible_leaders.retain(|id| *id != leader),
            }
        }
    } else if let Some(leader) = last_hope().or_else(unclean).copied() {
        next.leader = leader;
        next.isr = vec![leader];
        next.eligible_leaders.clear();
    } else {
        next.leader = BrokerId::NONE;
    }
}

fn difference(
    number: i32,
    now: &Partition,
    next: &Partition,
    new_epoch: bool,
) -> Option<PartitionChange> {
    let list = |now: &Vec<BrokerId>, next: &Vec<BrokerId>| (now != next).then(|| next.clone());
    let last = next.last_known_leader;
    let nothing = PartitionChange {
        partition: number,
        seen: now.partition_epoch,
        ..PartitionChange::default()
    };
    let change = PartitionChange {
        leader: new_epoch.then_some(next.leader),
        isr: list(&now.isr, &next.isr),
        eligible_leaders: list(&now.eligible_leaders, &next.eligible_leaders),
        last_known_leader: (last != now.last_known_leader).then_some(last),
        replicas: list(&now.replicas, &next.replicas),
        adding_replicas: list(&now.adding_replicas, &next.adding_replicas),
        removing_replicas: list(&now.removing_replicas, &next.removing_replicas),
        ..nothing.clone()
    };
    (change != nothing).then_some(change)
}
