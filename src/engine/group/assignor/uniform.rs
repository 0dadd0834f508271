//! `uniform`: the members' shares are as even as their subscriptions allow, and who has a partition keeps it
//! unless that is in the way. Among the shares that are as even, partitions go to members in the rack of one
//! of their replicas.
//!
//! It begins with what each member has, hands out what nobody has to whoever has least, and then moves
//! partitions along chains of members, from those that have most to those that have at least two fewer,
//! until there is no such chain: then no assignment is more even. With racks it does so twice: the first time
//! tells how many partitions each member gets, the second time they are chosen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{GroupAssignment, GroupSpec};
use crate::engine::group::consumer::Partitions;
use crate::engine::group::MemberId;
use crate::model::TopicId;

/// By a member's place in the order of ids.
type Index = usize;

pub(super) fn assign(group: &GroupSpec<'_>) -> GroupAssignment {
    let mut plan = Plan::new(group);
    let (kept, homeless) = plan.kept();
    plan.take(kept.clone());
    plan.hand_out(&homeless);
    plan.even_out();
    if plan.knows_racks() {
        let shares = plan.loads.clone();
        plan.clear();
        let given_up = plan.keep_nearest(kept, &shares);
        plan.hand_out_near(homeless.into_iter().chain(given_up).collect(), &shares);
        plan.even_out();
    }
    plan.finish()
}

struct Plan<'a> {
    group: &'a GroupSpec<'a>,
    ids: Vec<&'a MemberId>,
    /// Who subscribes to a topic.
    readers: BTreeMap<TopicId, Vec<Index>>,
    owned: Vec<BTreeMap<TopicId, BTreeSet<i32>>>,
    loads: Vec<usize>,
}

/// A partition and who has it.
type Owned = (TopicId, i32, Index);

impl<'a> Plan<'a> {
    fn new(group: &'a GroupSpec<'a>) -> Plan<'a> {
        let ids: Vec<&MemberId> = group.members.keys().copied().collect();
        let mut readers: BTreeMap<TopicId, Vec<Index>> = BTreeMap::new();
        for (index, member) in group.members.values().enumerate() {
            for topic in &member.topics {
                readers.entry(*topic).or_default().push(index);
            }
        }
        Plan {
            group,
            readers,
            owned: vec![BTreeMap::new(); ids.len()],
            loads: vec![0; ids.len()],
            ids,
        }
    }

    /// Who can keep what it has, and which partitions nobody has. Topics with few readers come first: their
    /// partitions have the least choice.
    fn kept(&self) -> (Vec<Owned>, Vec<(TopicId, i32)>) {
        let mut owners: BTreeMap<(TopicId, i32), Index> = BTreeMap::new();
        for (index, member) in self.group.members.values().enumerate() {
            for (topic, partition) in member.before.iter() {
                let is_there = (self.group.topics.get(&topic))
                    .is_some_and(|partitions| (partition as usize) < partitions.len());
                if is_there && member.topics.contains(&topic) {
                    owners.entry((topic, partition)).or_insert(index);
                }
            }
        }
        let mut topics: Vec<&TopicId> = self.readers.keys().collect();
        topics.sort_by_key(|topic| (self.readers[topic].len(), **topic));
        let (mut kept, mut homeless) = (Vec::new(), Vec::new());
        for topic in topics {
            let count = self.group.topics.get(topic).map_or(0, Vec::len);
            for partition in 0..i32::try_from(count).unwrap_or(i32::MAX) {
                match owners.get(&(*topic, partition)) {
                    Some(owner) => kept.push((*topic, partition, *owner)),
                    None => homeless.push((*topic, partition)),
                }
            }
        }
        (kept, homeless)
    }

    fn take(&mut self, owned: Vec<Owned>) {
        for (topic, partition, owner) in owned {
            self.give(topic, partition, owner);
        }
    }

    fn give(&mut self, topic: TopicId, partition: i32, to: Index) {
        self.owned[to].entry(topic).or_default().insert(partition);
        self.loads[to] += 1;
    }

    fn clear(&mut self) {
        self.owned.iter_mut().for_each(BTreeMap::clear);
        self.loads.fill(0);
    }

    /// To whoever has least of those who may.
    fn hand_out(&mut self, partitions: &[(TopicId, i32)]) {
        for (topic, partition) in partitions {
            let least = self.readers[topic].iter().copied();
            if let Some(least) = least.min_by_key(|index| self.loads[*index]) {
                self.give(*topic, *partition, least);
            }
        }
    }

    /// Moves partitions until the shares are as even as can be. A chain ends at the member that has least of
    /// those that can be reached; whoever reaches nobody with two fewer can give away nothing more, since
    /// nothing that happens later changes what it reaches.
    fn even_out(&mut self) {
        let mut settled = vec![false; self.ids.len()];
        loop {
            let open = (0..self.ids.len()).filter(|index| !settled[*index]);
            let Some(most) = open.max_by_key(|index| (self.loads[*index], usize::MAX - index))
            else {
                return;
            };
            match self.chain_from(most) {
                Some(chain) => chain.into_iter().for_each(|step| self.shift(step)),
                None => settled[most] = true,
            }
        }
    }

    /// Breadth first, so that as few partitions as possible move.
    fn chain_from(&self, start: Index) -> Option<Vec<(Index, TopicId, Index)>> {
        let limit = self.loads[start].checked_sub(2)?;
        let mut came_from: BTreeMap<Index, (Index, TopicId)> = BTreeMap::new();
        let mut seen_topics: BTreeSet<TopicId> = BTreeSet::new();
        let mut queue = VecDeque::from([start]);
        let mut end: Option<Index> = None;
        while let (None, Some(from)) = (end, queue.pop_front()) {
            for topic in self.owned[from].keys() {
                if !seen_topics.insert(*topic) {
                    continue;
                }
                for to in self.readers[topic].iter().copied() {
                    if to == start || came_from.contains_key(&to) {
                        continue;
                    }
                    came_from.insert(to, (from, *topic));
                    queue.push_back(to);
                    let is_better = end.is_none_or(|end| self.loads[to] < self.loads[end]);
                    if self.loads[to] <= limit && is_better {
                        end = Some(to);
                    }
                }
            }
        }
        let mut chain = Vec::new();
        let mut to = end?;
        while to != start {
            let (from, topic) = came_from[&to];
            chain.push((from, topic, to));
            to = from;
        }
        Some(chain)
    }

    /// Rather a partition that it hasn't had before, or one that is far from it.
    fn shift(&mut self, (from, topic, to): (Index, TopicId, Index)) {
        let Some(owned) = self.owned[from].get(&topic) else {
            return;
        };
        let before = &self.group.members[self.ids[from]].before;
        let chosen = owned.iter().copied().max_by_key(|partition| {
            let is_new = !before.contains(topic, *partition);
            let moves_near = self.is_near(topic, *partition, to);
            let is_far = !self.is_near(topic, *partition, from);
            (is_new, moves_near && is_far, is_far, *partition)
        });
        let Some(partition) = chosen else {
            return;
        };
        if let Some(owned) = self.owned[from].get_mut(&topic) {
            owned.remove(&partition);
            if owned.is_empty() {
                self.owned[from].remove(&topic);
            }
        }
        self.loads[from] -= 1;
        self.give(topic, partition, to);
    }

    /// Whether anybody's rack is that of a replica.
    fn knows_racks(&self) -> bool {
        let racks = self.group.topics.values().flatten().flatten();
        let racks: BTreeSet<&str> = racks.copied().collect();
        let mut members = self.group.members.values();
        members.any(|member| member.rack.is_some_and(|rack| racks.contains(rack)))
    }

    fn is_near(&self, topic: TopicId, partition: i32, index: Index) -> bool {
        let racks = self.group.topics.get(&topic);
        let racks = racks.and_then(|partitions| partitions.get(partition as usize));
        let rack = self.group.members[self.ids[index]].rack;
        rack.zip(racks)
            .is_some_and(|(rack, racks)| racks.contains(rack))
    }

    /// Everyone keeps as much as its share, the nearest first. Returns what is left over.
    fn keep_nearest(&mut self, kept: Vec<Owned>, shares: &[usize]) -> Vec<(TopicId, i32)> {
        let (near, far): (Vec<Owned>, Vec<Owned>) = (kept.into_iter())
            .partition(|(topic, partition, owner)| self.is_near(*topic, *partition, *owner));
        let mut left = Vec::new();
        for (topic, partition, owner) in near.into_iter().chain(far) {
            match self.loads[owner] < shares[owner] {
                true => self.give(topic, partition, owner),
                false => left.push((topic, partition)),
            }
        }
        left
    }

    /// To members that are near and whose shares aren't full, as far as there are any; what is left, to
    /// whoever lacks most of its share.
    fn hand_out_near(&mut self, partitions: Vec<(TopicId, i32)>, shares: &[usize]) {
        let mut left = Vec::new();
        for (topic, partition) in partitions {
            let readers = self.readers[&topic].iter().copied();
            let near = readers.filter(|index| {
                self.loads[*index] < shares[*index] && self.is_near(topic, partition, *index)
            });
            match near.max_by_key(|index| (shares[*index] - self.loads[*index], usize::MAX - index))
            {
                Some(index) => self.give(topic, partition, index),
                None => left.push((topic, partition)),
            }
        }
        for (topic, partition) in left {
            let readers = self.readers[&topic].iter().copied();
            let lacks = |index: &Index| self.loads[*index] as i64 - shares[*index] as i64;
            if let Some(index) = readers.min_by_key(lacks) {
                self.give(topic, partition, index);
            }
        }
    }

    fn finish(self) -> GroupAssignment {
        let owned = self.owned.into_iter().map(|owned| {
            let topics = owned.into_iter();
            let all = topics.flat_map(|(topic, numbers)| {
                numbers.into_iter().map(move |number| (topic, number))
            });
            all.collect::<Partitions>()
        });
        self.ids.into_iter().cloned().zip(owned).collect()
    }
}
