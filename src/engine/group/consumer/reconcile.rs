//! How a member gets from what it owns to its target: it first gives up what it is not to own any more, then
//! it enters the new epoch, and gets the rest as soon as others have given it up. So no partition ever has
//! two owners, and nobody who needn't stops reading.
//!
//! | state | means | goes on when |
//! |---|---|---|
//! | Stable | it owns what its epoch assigns it | there is a newer target |
//! | UnrevokedPartitions | it is to give up partitions, still in its former epoch | it says that it has |
//! | UnreleasedPartitions | it is in the new epoch, and others own partitions of its target | they have given some up |

use super::stored::{AssignmentEpochs, CurrentAssignment, MemberState};
use super::Partitions;
use crate::model::TopicId;

/// A target, and the group epoch that it was made in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub epoch: i32,
    pub partitions: &'a Partitions,
}

/// What a member says that it owns.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owned<'a> {
    Unsaid,
    /// It may have said so before it took what it was given last: librdkafka does, when it looks for its coordinator
    /// anew meanwhile. So it counts only for what the member had been told to give up before. Kafka's coordinator
    /// believes it for all.
    Says(&'a Partitions),
    /// It joins, and owns nothing else.
    Begins(&'a Partitions),
}

impl Owned<'_> {
    fn lacks(self, partitions: &Partitions) -> bool {
        match self {
            Owned::Unsaid => false,
            Owned::Says(owned) | Owned::Begins(owned) => owned.is_disjoint(partitions),
        }
    }
}

/// The next step of a member.
pub(super) fn reconcile(
    current: &CurrentAssignment,
    target: Target<'_>,
    owned: Owned<'_>,
    is_free: impl Fn(TopicId, i32) -> bool,
) -> CurrentAssignment {
    match current.state {
        MemberState::Stable if current.epoch == target.epoch => return current.clone(),
        MemberState::UnrevokedPartitions if !owned.lacks(&current.revoking) => {
            return current.clone();
        }
        _ => {}
    }
    let mut assigned = current.assigned.intersection(target.partitions);
    let revoking = current.assigned.difference(target.partitions);
    let since = |partitions: &Partitions| -> AssignmentEpochs {
        let all = partitions.iter();
        all.filter_map(|place| Some((place, *current.since.get(&place)?)))
            .collect()
    };
    let never_took_them = matches!(owned, Owned::Begins(_)) && owned.lacks(&revoking);
    if !revoking.is_empty() && !never_took_them {
        return CurrentAssignment {
            epoch: current.epoch,
            previous_epoch: current.epoch,
            state: MemberState::UnrevokedPartitions,
            since: since(&current.assigned),
            assigned,
            revoking,
        };
    }
    let mut since = since(&assigned);
    let missing = target.partitions.difference(&assigned);
    let free: Vec<_> = missing.iter().filter(|(t, p)| is_free(*t, *p)).collect();
    let state = match free.len() == missing.len() {
        true => MemberState::Stable,
        false => MemberState::UnreleasedPartitions,
    };
    since.extend(free.iter().map(|place| (*place, target.epoch)));
    assigned.extend(free);
    let previous_epoch = current.epoch;
    let next = CurrentAssignment {
        epoch: target.epoch,
        previous_epoch,
        state,
        assigned,
        revoking: Partitions::default(),
        since,
    };
    // Who still waits for the same as before hasn't gone a step.
    let is_the_same = (next.epoch, next.state) == (current.epoch, current.state)
        && next.assigned == current.assigned;
    match is_the_same {
        true => current.clone(),
        false => next,
    }
}
