//! `cooperative-sticky`: everyone keeps what it has, what nobody has goes to those with the least, and then
//! members with too much give to those with too little, also through others in between where not everybody reads
//! every topic. When nobody can give any more, no assignment is more even.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::{Assignments, Member, PartitionCounts};
use crate::client::TopicPartition;

pub(super) fn assign(counts: &PartitionCounts, members: &[&Member]) -> Assignments {
    let balanced = balance(counts, members);
    leave_to_their_owners(balanced, members)
}

/// A partition that another member still has is assigned to nobody: that member sees that it is to give it up,
/// and joins again when it has.
fn leave_to_their_owners(mut assignments: Assignments, members: &[&Member]) -> Assignments {
    let mut owners: BTreeMap<&TopicPartition, Vec<&str>> = BTreeMap::new();
    for member in members {
        for partition in &member.subscription.owned {
            owners.entry(partition).or_default().push(&member.id);
        }
    }
    for (member, partitions) in &mut assignments {
        partitions.retain(|partition| {
            let owners = owners.get(partition);
            owners.is_none_or(|owners| owners.contains(&member.as_str()))
        });
    }
    assignments
}

/// What each would have if nothing had to be given up before.
pub(super) fn balance(counts: &PartitionCounts, members: &[&Member]) -> Assignments {
    let mut balance = Balance::new(counts, members);
    balance.deal(counts);
    while balance.even_out() {}
    let held = balance.held.into_iter().zip(members);
    held.map(|(held, member)| {
        let partitions = held.into_iter().flat_map(|(topic, partitions)| {
            let of_topic = partitions.into_iter();
            of_topic.map(move |partition| (topic.clone(), partition))
        });
        (member.id.clone(), partitions.collect())
    })
    .collect()
}

/// Members are their places in the list.
struct Balance {
    readers: BTreeMap<Arc<str>, Vec<usize>>,
    /// Who had each partition, as far as that counts.
    owners: BTreeMap<TopicPartition, usize>,
    held: Vec<BTreeMap<Arc<str>, BTreeSet<i32>>>,
    loads: Vec<usize>,
}

impl Balance {
    /// Everyone has what it had.
    fn new(counts: &PartitionCounts, members: &[&Member]) -> Balance {
        let mut readers: BTreeMap<Arc<str>, Vec<usize>> = BTreeMap::new();
        for topic in counts.keys() {
            let places = members.iter().enumerate();
            let places = places.filter(|(_, member)| member.reads(topic));
            readers.insert(topic.clone(), places.map(|(place, _)| place).collect());
        }
        let mut balance = Balance {
            readers,
            owners: owners(counts, members),
            held: vec![BTreeMap::new(); members.len()],
            loads: vec![0; members.len()],
        };
        for ((topic, partition), owner) in balance.owners.clone() {
            balance.give(owner, &topic, partition);
        }
        balance
    }

    fn give(&mut self, to: usize, topic: &Arc<str>, partition: i32) {
        let of_topic = self.held[to].entry(topic.clone()).or_default();
        of_topic.insert(partition);
        self.loads[to] += 1;
    }

    /// Gives what nobody has to those who have the least.
    fn deal(&mut self, counts: &PartitionCounts) {
        for (topic, count) in counts {
            for partition in 0..*count {
                if self.owners.contains_key(&(topic.clone(), partition)) {
                    continue;
                }
                let readers = self.readers[topic].iter().copied();
                if let Some(least) = readers.min_by_key(|reader| self.loads[*reader]) {
                    self.give(least, topic, partition);
                }
            }
        }
    }

    /// Moves a partition from a member to one that has at least two fewer, if there are such two.
    fn even_out(&mut self) -> bool {
        let least = self.loads.iter().min().copied().unwrap_or(0);
        let mut givers: Vec<usize> = (0..self.loads.len()).collect();
        givers.retain(|giver| self.loads[*giver] >= least + 2);
        givers.sort_by_key(|giver| std::cmp::Reverse(self.loads[*giver]));
        givers.into_iter().any(|giver| self.relieve(giver))
    }

    /// Finds who can be given something, by one who holds a partition of a topic that the other reads, or by
    /// several in a row; and gives it to the one of them that has the least.
    fn relieve(&mut self, giver: usize) -> bool {
        let mut from: BTreeMap<usize, (usize, Arc<str>)> = BTreeMap::new();
        let mut passed: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut reached = VecDeque::from([giver]);
        let mut best = giver;
        while let Some(member) = reached.pop_front() {
            if self.loads[member] < self.loads[best] {
                best = member;
            }
            for (topic, partitions) in &self.held[member] {
                if partitions.is_empty() || !passed.insert(topic.clone()) {
                    continue;
                }
                for reader in &self.readers[topic] {
                    if *reader != giver && !from.contains_key(reader) {
                        from.insert(*reader, (member, topic.clone()));
                        reached.push_back(*reader);
                    }
                }
            }
        }
        if self.loads[best] + 2 > self.loads[giver] {
            return false;
        }
        let mut to = best;
        while let Some((giver, topic)) = from.get(&to) {
            self.pass(*giver, to, topic);
            to = *giver;
        }
        true
    }

    /// One partition of the topic, rather one that the receiver had before or the giver hadn't.
    fn pass(&mut self, giver: usize, to: usize, topic: &Arc<str>) {
        let Some(held) = self.held[giver].get_mut(topic) else {
            return;
        };
        let owners = &self.owners;
        let owner = |partition: &i32| owners.get(&(topic.clone(), *partition)).copied();
        let is_the_receivers = held.iter().find(|partition| owner(partition) == Some(to));
        let is_new = held
            .iter()
            .rfind(|partition| owner(partition) != Some(giver));
        let chosen = is_the_receivers.or(is_new).or(held.last()).copied();
        if let Some(partition) = chosen {
            held.remove(&partition);
            self.loads[giver] -= 1;
            self.give(to, topic, partition);
        }
    }
}

/// Who has each partition that is there and that it reads. A claim of a later generation counts more: its member
/// knows what has happened since. Of two in the same generation one must be wrong, and neither counts.
fn owners(counts: &PartitionCounts, members: &[&Member]) -> BTreeMap<TopicPartition, usize> {
    let mut claims: BTreeMap<&TopicPartition, (i32, Option<usize>)> = BTreeMap::new();
    for (place, member) in members.iter().enumerate() {
        let Member { subscription, .. } = member;
        let is_there = |(topic, partition): &&TopicPartition| {
            let count = counts.get(topic).copied().unwrap_or(0);
            (0..count).contains(partition) && member.reads(topic)
        };
        for partition in subscription.owned.iter().filter(is_there) {
            let claim = (subscription.generation, Some(place));
            let known = claims.entry(partition).or_insert(claim);
            if subscription.generation > known.0 {
                *known = claim;
            } else if subscription.generation == known.0 && known.1 != Some(place) {
                known.1 = None;
            }
        }
    }
    let owned = claims.into_iter();
    owned
        .filter_map(|(partition, (_, owner))| Some((partition.clone(), owner?)))
        .collect()
}
