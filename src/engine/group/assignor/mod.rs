//! Assignors: who of a consumer group reads which partition. Pure functions: the same group is assigned the
//! same partitions, each of them to one member that subscribes to its topic, if there is any.

mod range;
#[cfg(test)]
mod tests;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};

use super::consumer::Partitions;
use super::MemberId;
use crate::model::TopicId;

/// A group, as its assignor sees it.
#[derive(Clone, Debug, Default)]
pub struct GroupSpec<'a> {
    pub members: BTreeMap<&'a MemberId, MemberSpec<'a>>,
    /// All topics that a member subscribes to: of each partition, the racks that have a replica of it.
    pub topics: BTreeMap<TopicId, Vec<BTreeSet<&'a str>>>,
}

#[derive(Clone, Debug, Default)]
pub struct MemberSpec<'a> {
    pub instance: Option<&'a str>,
    pub rack: Option<&'a str>,
    /// Topics of [`GroupSpec::topics`].
    pub topics: BTreeSet<TopicId>,
    /// What it was to own until now.
    pub before: Partitions,
}

/// What each member is to own; all members are in it.
pub type GroupAssignment = BTreeMap<MemberId, Partitions>;

/// Kafka's server-side assignors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    /// As many partitions for each as for the others, and as few moves as possible.
    Uniform,
    /// A range of each topic's partitions for each, the same one of all topics that have as many.
    Range,
}

impl Assignor {
    pub const ALL: [Assignor; 2] = [Assignor::Uniform, Assignor::Range];

    /// As clients and the config name it.
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    pub fn from_name(name: &str) -> Option<Assignor> {
        let mut all = Assignor::ALL.into_iter();
        all.find(|assignor| assignor.name() == name)
    }

    pub fn assign(self, group: &GroupSpec<'_>) -> GroupAssignment {
        match self {
            Assignor::Uniform => uniform::assign(group),
            Assignor::Range => range::assign(group),
        }
    }
}
