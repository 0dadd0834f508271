//! How the leader of a group spreads partitions over its members: pure functions, the same for the same input.

mod range;
mod round_robin;
mod sticky;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::TopicPartition;
use crate::client::consumer_protocol::Subscription;

/// A strategy, by the name that Kafka's clients know it by (`partition.assignment.strategy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// Spreads as evenly as can be, leaves partitions where they are as far as that allows, and lets members go
    /// on with what they keep while the group rebalances (KIP-429): a partition that moves is given up by one
    /// member in one generation, and taken by the other in the next.
    CooperativeSticky,
    /// Gives each member a range of each topic, so that the same partitions of several topics meet at one member.
    /// Members give up everything before each rebalance.
    Range,
    /// Deals the partitions of all topics out one by one. Members give up everything before each rebalance.
    RoundRobin,
}

/// How many partitions each topic has.
pub(super) type PartitionCounts = BTreeMap<Arc<str>, i32>;

/// What each member is assigned, by its id; nothing for those that aren't in it.
pub(super) type Assignments = BTreeMap<String, BTreeSet<TopicPartition>>;

/// A member, as its leader is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub id: String,
    pub instance_id: Option<String>,
    pub subscription: Subscription,
}

impl Member {
    /// Static members come first, in an order that outlives their restarts.
    fn rank(&self) -> (bool, &str) {
        match &self.instance_id {
            Some(instance) => (false, instance),
            None => (true, &self.id),
        }
    }

    fn reads(&self, topic: &str) -> bool {
        self.subscription.topics.contains(topic)
    }
}

impl Assignor {
    pub const ALL: [Assignor; 3] = [
        Assignor::CooperativeSticky,
        Assignor::Range,
        Assignor::RoundRobin,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Assignor::CooperativeSticky => "cooperative-sticky",
            Assignor::Range => "range",
            Assignor::RoundRobin => "roundrobin",
        }
    }

    pub(super) fn named(name: &str) -> Option<Assignor> {
        let mut all = Assignor::ALL.into_iter();
        all.find(|assignor| assignor.name() == name)
    }

    pub(super) fn is_cooperative(self) -> bool {
        matches!(self, Assignor::CooperativeSticky)
    }

    /// Assigns each partition of the topics that somebody reads to one who reads it; cooperatively, none that
    /// another member still has.
    pub(super) fn assign(self, counts: &PartitionCounts, members: &[Member]) -> Assignments {
        let mut members: Vec<&Member> = members.iter().collect();
        members.sort_by(|a, b| a.rank().cmp(&b.rank()));
        match self {
            Assignor::CooperativeSticky => sticky::assign(counts, &members),
            Assignor::Range => range::assign(counts, &members),
            Assignor::RoundRobin => round_robin::assign(counts, &members),
        }
    }
}
