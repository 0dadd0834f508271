//! Which replica a consumer shall read from (KIP-392).
//!
//! A consumer says in which rack it runs. If its leader is elsewhere, and a replica in that rack is in sync
//! and has what the consumer wants, the leader sends it there. Kafka has this as a plug-in
//! (`replica.selector.class`), of which it brings one that goes by racks; here it is a choice of two.

use crate::model::{BrokerId, Offset, Timestamp};

/// `replica.selector.class`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplicaSelector {
    /// Everybody reads from the leader.
    #[default]
    Leader,
    /// Kafka's `RackAwareReplicaSelector`.
    RackAware,
}

/// An in-sync follower that has what a consumer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadableReplica {
    pub id: BrokerId,
    pub log_end: Offset,
    /// When it last had everything that its leader had.
    pub caught_up: Timestamp,
}

/// The replica in the consumer's rack that has most, and was behind last; `None` for the leader, who is
/// preferred to all others of its rack.
pub fn nearest<'a>(
    consumers_rack: &str,
    leader: BrokerId,
    followers: impl Iterator<Item = ReadableReplica>,
    rack_of: impl Fn(BrokerId) -> Option<&'a str>,
) -> Option<BrokerId> {
    let is_near = |id: BrokerId| !consumers_rack.is_empty() && rack_of(id) == Some(consumers_rack);
    if is_near(leader) {
        return None;
    }
    let near = followers.filter(|follower| is_near(follower.id));
    let best = near.max_by_key(|follower| (follower.log_end, follower.caught_up, follower.id));
    best.map(|follower| follower.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follower(id: i32, log_end: i64, caught_up: i64) -> ReadableReplica {
        ReadableReplica {
            id: BrokerId(id),
            log_end: Offset(log_end),
            caught_up: Timestamp(caught_up),
        }
    }

    /// Broker 1 leads in rack a; 2 and 3 are in b, 4 in c, and 5 nowhere.
    fn chosen(rack: &str, followers: &[ReadableReplica]) -> Option<i32> {
        let rack_of = |id: BrokerId| match id.0 {
            1 => Some("a"),
            2 | 3 => Some("b"),
            4 => Some("c"),
            _ => None,
        };
        nearest(rack, BrokerId(1), followers.iter().copied(), rack_of).map(|id| id.0)
    }

    #[test]
    fn a_consumer_reads_in_its_own_rack_and_else_from_the_leader() {
        let all = [
            follower(2, 10, 5),
            follower(3, 10, 4),
            follower(4, 9, 5),
            follower(5, 10, 5),
        ];
        assert_eq!(chosen("b", &all), Some(2));
        assert_eq!(chosen("c", &all), Some(4));
        assert_eq!(chosen("a", &[all[0], follower(1, 9, 9)]), None);
        assert_eq!(chosen("d", &all), None);
        assert_eq!(chosen("", &all), None);
        assert_eq!(chosen("b", &all[2..]), None);
    }

    #[test]
    fn of_several_the_one_with_most_is_chosen_then_the_one_that_was_behind_last() {
        assert_eq!(
            chosen("b", &[follower(2, 9, 9), follower(3, 10, 1)]),
            Some(3)
        );
        assert_eq!(
            chosen("b", &[follower(2, 10, 7), follower(3, 10, 6)]),
            Some(2)
        );
        assert_eq!(
            chosen("b", &[follower(2, 10, 7), follower(3, 10, 7)]),
            Some(3)
        );
    }
}
