//! Which brokers partitions shall be on: plans that move as little as they can.
//!
//! A replica stays where it is if that broker may have it. What has to go elsewhere goes where it keeps the
//! partition's replicas in different racks, then where the topic has the fewest, then where there are the
//! fewest in all. So do the first replicas, which lead.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::model::BrokerId;

/// A partition, and the brokers that have it, the preferred leader first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub topic: String,
    pub partition: i32,
    pub replicas: Vec<BrokerId>,
}

impl Placed {
    pub fn key(&self) -> (String, i32) {
        (self.topic.clone(), self.partition)
    }
}

impl fmt::Display for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A broker that replicas may be given to, and its rack.
pub type Brokers = BTreeMap<BrokerId, Option<String>>;

/// How many replicas, and first replicas, the brokers have: in all, and of each topic.
#[derive(Default)]
struct Counts {
    all: BTreeMap<BrokerId, usize>,
    of_topic: BTreeMap<(String, BrokerId), usize>,
}

impl Counts {
    fn add(&mut self, topic: &str, broker: BrokerId) {
        *self.all.entry(broker).or_default() += 1;
        *self.of_topic.entry((topic.to_owned(), broker)).or_default() += 1;
    }

    fn remove(&mut self, topic: &str, broker: BrokerId) {
        let all = self.all.entry(broker).or_default();
        *all = all.saturating_sub(1);
        let of_topic = self.of_topic.entry((topic.to_owned(), broker)).or_default();
        *of_topic = of_topic.saturating_sub(1);
    }

    fn of(&self, topic: &str, broker: BrokerId) -> (usize, usize) {
        let of_topic = self.of_topic.get(&(topic.to_owned(), broker));
        let all = self.all.get(&broker);
        (of_topic.copied().unwrap_or(0), all.copied().unwrap_or(0))
    }
}

/// Where all partitions shall be so that only these brokers have any. Errs if a partition has more replicas than
/// there are brokers.
pub fn confine(placed: &[Placed], brokers: &Brokers) -> Result<Vec<Placed>, String> {
    replace(placed, &|id| !brokers.contains_key(&id), brokers)
}

/// Where all partitions shall be so that one broker has none; the replicas of others stay where they are, also
/// of those that can't be given any now.
pub fn leave(placed: &[Placed], broker: BrokerId, others: &Brokers) -> Result<Vec<Placed>, String> {
    replace(placed, &|id| id == broker, others)
}

/// Gives to `brokers` the replicas of those that go.
fn replace(
    placed: &[Placed],
    goes: &dyn Fn(BrokerId) -> bool,
    brokers: &Brokers,
) -> Result<Vec<Placed>, String> {
    let mut replicas = Counts::default();
    let mut leaders = Counts::default();
    let mut kept = placed.to_vec();
    for partition in &mut kept {
        let first = partition.replicas.first().copied();
        partition.replicas.retain(|id| !goes(*id));
        for id in &partition.replicas {
            replicas.add(&partition.topic, *id);
        }
        if let Some(first) = first.filter(|id| !goes(*id)) {
            leaders.add(&partition.topic, first);
        }
    }
    for (before, now) in placed.iter().zip(&mut kept) {
        while now.replicas.len() < before.replicas.len() {
            let free = brokers.keys().filter(|id| !now.replicas.contains(id));
            let best = free.min_by_key(|id| {
                let in_rack = in_same_rack(brokers, **id, &now.replicas);
                (in_rack, replicas.of(&now.topic, **id), **id)
            });
            let Some(best) = best.copied() else {
                let count = before.replicas.len();
                return Err(format!(
                    "partition {now} has {count} replicas, and no broker is left for one of them"
                ));
            };
            now.replicas.push(best);
            replicas.add(&now.topic, best);
        }
        if before.replicas.first() != now.replicas.first() {
            lead_evenly(now, &mut leaders);
        }
    }
    Ok(kept)
}

/// As [`confine`], and no broker has two replicas more than another one that could have one of them.
pub fn spread(placed: &[Placed], brokers: &Brokers) -> Result<Vec<Placed>, String> {
    let mut planned = confine(placed, brokers)?;
    let mut replicas = Counts::default();
    for partition in &planned {
        (partition.replicas.iter()).for_each(|id| replicas.add(&partition.topic, *id));
    }
    while move_one(&mut planned, brokers, &mut replicas) {}
    // Leaders anew, with a preference for those of now.
    let mut leaders = Counts::default();
    for partition in &mut planned {
        lead_evenly(partition, &mut leaders);
    }
    Ok(planned)
}

/// Gives one replica of the broker that has the most to one that has fewer by two; whether there was one.
fn move_one(planned: &mut [Placed], brokers: &Brokers, replicas: &mut Counts) -> bool {
    let count = |id: &BrokerId| replicas.all.get(id).copied().unwrap_or(0);
    let mut by_count: Vec<BrokerId> = brokers.keys().copied().collect();
    by_count.sort_by_key(|id| (count(id), *id));
    for from in by_count.iter().rev() {
        for to in by_count.iter().filter(|to| count(to) + 2 <= count(from)) {
            let may_move = |partition: &&mut Placed| {
                let others = partition.replicas.iter().copied().filter(|id| id != from);
                let others: Vec<BrokerId> = others.collect();
                partition.replicas.contains(from)
                    && !others.contains(to)
                    && in_same_rack(brokers, *to, &others) <= in_same_rack(brokers, *from, &others)
            };
            let Some(partition) = planned.iter_mut().find(may_move) else {
                continue;
            };
            let moved = partition.replicas.iter_mut().find(|id| *id == from);
            if let Some(moved) = moved {
                *moved = *to;
            }
            replicas.remove(&partition.topic, *from);
            replicas.add(&partition.topic, *to);
            return true;
        }
    }
    false
}

/// Puts the replica first that leads the least, which is the present one among equals.
fn lead_evenly(partition: &mut Placed, leaders: &mut Counts) {
    let topic = partition.topic.clone();
    let positions = partition.replicas.iter().enumerate();
    let best = positions.min_by_key(|(at, id)| (leaders.of(&topic, **id), *at));
    if let Some((at, _)) = best {
        let leader = partition.replicas.remove(at);
        partition.replicas.insert(0, leader);
        leaders.add(&topic, leader);
    }
}

/// How many of these replicas are in the broker's rack.
fn in_same_rack(brokers: &Brokers, broker: BrokerId, replicas: &[BrokerId]) -> usize {
    let rack = |id: &BrokerId| brokers.get(id).and_then(Option::as_deref);
    match rack(&broker) {
        Some(own) => replicas.iter().filter(|id| rack(id) == Some(own)).count(),
        None => 0,
    }
}

/// Those whose replicas, or their order, become others.
pub fn changes(placed: &[Placed], planned: Vec<Placed>) -> Vec<Placed> {
    let before: BTreeSet<(&str, i32, &[BrokerId])> = placed
        .iter()
        .map(|p| (&*p.topic, p.partition, &*p.replicas))
        .collect();
    let mut planned = planned;
    planned.retain(|p| !before.contains(&(&*p.topic, p.partition, &*p.replicas)));
    planned
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn brokers(racks: &[Option<&str>]) -> Brokers {
        let numbered = (1..).zip(racks);
        let named = numbered.map(|(id, rack)| (BrokerId(id), rack.map(str::to_owned)));
        named.collect()
    }

    fn placed(partitions: &[&[i32]]) -> Vec<Placed> {
        let numbered = (0..).zip(partitions);
        let placed = numbered.map(|(partition, replicas)| Placed {
            topic: "t".into(),
            partition,
            replicas: replicas.iter().copied().map(BrokerId).collect(),
        });
        placed.collect()
    }

    fn replicas(planned: &[Placed]) -> Vec<Vec<i32>> {
        let of = |p: &Placed| p.replicas.iter().map(|id| id.0).collect();
        planned.iter().map(of).collect()
    }

    #[test]
    fn only_what_has_to_move_moves() {
        let now = placed(&[&[1, 2], &[2, 3], &[3, 1]]);
        let mut left = brokers(&[None; 3]);
        left.remove(&BrokerId(1));
        let planned = confine(&now, &left).unwrap();
        assert_eq!(replicas(&planned), [vec![2, 3], vec![2, 3], vec![3, 2]]);
        assert_eq!(replicas(&changes(&now, planned)), [vec![2, 3], vec![3, 2]]);
        left.remove(&BrokerId(2));
        let refused = confine(&now, &left).unwrap_err();
        assert!(refused.contains("t-0 has 2 replicas"), "{refused}");
        // Of those that stay, 3 isn't there, and is none of those that get something.
        let mut left = brokers(&[None; 4]);
        left.remove(&BrokerId(1));
        left.remove(&BrokerId(3));
        let planned = leave(&now, BrokerId(1), &left).unwrap();
        assert_eq!(replicas(&planned), [vec![4, 2], vec![2, 3], vec![3, 4]]);
    }

    #[test]
    fn racks_come_first() {
        let racks = [Some("a"), Some("a"), Some("b"), Some("b")];
        let mut left = brokers(&racks);
        left.remove(&BrokerId(3));
        // Broker 2 has less than 4, and is in the rack of 1.
        let now = placed(&[&[4, 1], &[1, 3]]);
        assert_eq!(replicas(&confine(&now, &left).unwrap())[1], [1, 4]);
        let spread = spread(&placed(&[&[1, 3], &[1, 3], &[1, 3]]), &brokers(&racks)).unwrap();
        for partition in &spread {
            let in_a = partition.replicas.iter().filter(|id| id.0 <= 2).count();
            assert_eq!(in_a, 1, "{spread:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_plan_is_even_and_keeps_the_number_of_replicas(
            partitions in prop::collection::vec(
                prop::sample::subsequence(vec![1, 2, 3, 4, 5], 1..=3), 1..40),
            size in 3..8i32,
        ) {
            let now: Vec<&[i32]> = partitions.iter().map(Vec::as_slice).collect();
            let now = placed(&now);
            let brokers = brokers(&vec![None; size as usize]);
            let planned = spread(&now, &brokers).unwrap();
            let mut counts = BTreeMap::new();
            brokers.keys().for_each(|id| { counts.insert(*id, 0); });
            for (before, after) in now.iter().zip(&planned) {
                let distinct: BTreeSet<_> = after.replicas.iter().collect();
                prop_assert_eq!(distinct.len(), before.replicas.len());
                for id in &after.replicas {
                    prop_assert!(brokers.contains_key(id));
                    *counts.get_mut(id).unwrap() += 1;
                }
            }
            let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", counts);
        }

        #[test]
        fn to_confine_moves_only_what_was_elsewhere(
            partitions in prop::collection::vec(
                prop::sample::subsequence(vec![1, 2, 3, 4, 5], 1..=3), 1..40),
        ) {
            let now: Vec<&[i32]> = partitions.iter().map(Vec::as_slice).collect();
            let now = placed(&now);
            let mut left = brokers(&[None; 5]);
            left.remove(&BrokerId(5));
            for (before, after) in now.iter().zip(confine(&now, &left).unwrap()) {
                prop_assert_eq!(after.replicas.len(), before.replicas.len());
                prop_assert!(!after.replicas.contains(&BrokerId(5)));
                match before.replicas.contains(&BrokerId(5)) {
                    false => prop_assert_eq!(&after, before),
                    true => for id in before.replicas.iter().filter(|id| id.0 != 5) {
                        prop_assert!(after.replicas.contains(id));
                    },
                }
            }
        }
    }
}
