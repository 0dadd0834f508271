//! Sets of partitions of several topics.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::TopicId;

/// No topic in it is without partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partitions(BTreeMap<TopicId, BTreeSet<i32>>);

impl Partitions {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many partitions.
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    pub fn contains(&self, topic: TopicId, partition: i32) -> bool {
        let numbers = self.0.get(&topic);
        numbers.is_some_and(|numbers| numbers.contains(&partition))
    }

    pub fn insert(&mut self, topic: TopicId, partition: i32) {
        self.0.entry(topic).or_default().insert(partition);
    }

    pub fn remove(&mut self, topic: TopicId, partition: i32) {
        if let Some(numbers) = self.0.get_mut(&topic) {
            numbers.remove(&partition);
            if numbers.is_empty() {
                self.0.remove(&topic);
            }
        }
    }

    pub fn by_topic(&self) -> impl ExactSizeIterator<Item = (TopicId, &BTreeSet<i32>)> {
        self.0.iter().map(|(topic, numbers)| (*topic, numbers))
    }

    pub fn iter(&self) -> impl Iterator<Item = (TopicId, i32)> + '_ {
        let topics = self.0.iter();
        topics.flat_map(|(topic, numbers)| numbers.iter().map(|number| (*topic, *number)))
    }

    /// Those that `other` has too.
    pub fn intersection(&self, other: &Partitions) -> Partitions {
        let both = self.iter().filter(|(t, p)| other.contains(*t, *p));
        both.collect()
    }

    /// Those that `other` hasn't.
    pub fn difference(&self, other: &Partitions) -> Partitions {
        let only = self.iter().filter(|(t, p)| !other.contains(*t, *p));
        only.collect()
    }

    pub fn is_disjoint(&self, other: &Partitions) -> bool {
        !self.iter().any(|(t, p)| other.contains(t, p))
    }

    pub fn is_subset(&self, other: &Partitions) -> bool {
        self.iter().all(|(t, p)| other.contains(t, p))
    }
}

impl Extend<(TopicId, i32)> for Partitions {
    fn extend<I: IntoIterator<Item = (TopicId, i32)>>(&mut self, partitions: I) {
        for (topic, partition) in partitions {
            self.insert(topic, partition);
        }
    }
}

impl FromIterator<(TopicId, i32)> for Partitions {
    fn from_iter<I: IntoIterator<Item = (TopicId, i32)>>(partitions: I) -> Partitions {
        let mut set = Partitions::default();
        set.extend(partitions);
        set
    }
}
