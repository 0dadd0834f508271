//! `range`: each topic's partitions in ranges, a range for each member, the first ones larger by one where
//! they don't come out even. The members' order is the same for all topics, so topics that have as many
//! partitions and the same readers are *co-partitioned*: who reads partition 3 of one reads 3 of the other.

use std::collections::BTreeMap;

use super::{GroupAssignment, GroupSpec};
use crate::engine::group::MemberId;
use crate::model::TopicId;

/// How the partitions of a topic are handed out.
struct Ranges {
    next: i32,
    smallest: i32,
    /// How many members get one more.
    larger: i32,
}

pub(super) fn assign(group: &GroupSpec<'_>) -> GroupAssignment {
    let mut readers: BTreeMap<TopicId, i32> = BTreeMap::new();
    for topic in group.members.values().flat_map(|member| &member.topics) {
        *readers.entry(*topic).or_default() += 1;
    }
    let mut ranges: BTreeMap<TopicId, Ranges> = BTreeMap::new();
    for (topic, partitions) in &group.topics {
        let count = i32::try_from(partitions.len()).unwrap_or(i32::MAX);
        let readers = readers.get(topic).copied().unwrap_or(1);
        let range = Ranges {
            next: 0,
            smallest: count / readers,
            larger: count % readers,
        };
        ranges.insert(*topic, range);
    }
    let mut assignment = GroupAssignment::new();
    for id in in_order(group) {
        let mine = assignment.entry(id.clone()).or_default();
        for topic in &group.members[id].topics {
            if let Some(range) = ranges.get_mut(topic) {
                mine.extend(range.take().map(|partition| (*topic, partition)));
            }
        }
    }
    assignment
}

impl Ranges {
    fn take(&mut self) -> std::ops::Range<i32> {
        let mut size = self.smallest;
        if self.larger > 0 {
            self.larger -= 1;
            size += 1;
        }
        let start = self.next;
        self.next += size;
        start..self.next
    }
}

/// Static members first, by their instances: so they keep their ranges when they come back under another id.
fn in_order<'a>(group: &GroupSpec<'a>) -> Vec<&'a MemberId> {
    let mut ids: Vec<&MemberId> = group.members.keys().copied().collect();
    ids.sort_by_key(|id| {
        let instance = group.members[id].instance;
        (instance.is_none(), instance, *id)
    });
    ids
}
