//! What an assignor promises, for any group.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const RACKS: [&str; 3] = ["a", "b", "c"];

/// A group without borrows: each member's topics and rack, each topic's partitions.
#[derive(Clone, Debug)]
struct Group {
    members: BTreeMap<MemberId, Member>,
    /// Of each partition, the racks of its replicas.
    topics: Vec<Vec<BTreeSet<usize>>>,
}

#[derive(Clone, Debug)]
struct Member {
    topics: BTreeSet<usize>,
    rack: Option<usize>,
    is_static: bool,
}

fn topic_id(number: usize) -> TopicId {
    TopicId(Uuid::from_u128(number as u128 + 1))
}

impl Group {
    fn assign(&self, assignor: Assignor, before: &GroupAssignment) -> GroupAssignment {
        let members = self.members.iter().map(|(id, member)| {
            let spec = MemberSpec {
                instance: member.is_static.then(|| id.as_str()),
                rack: member.rack.map(|rack| RACKS[rack]),
                topics: member.topics.iter().map(|topic| topic_id(*topic)).collect(),
                before: before.get(id).cloned().unwrap_or_default(),
            };
            (id, spec)
        });
        let members: BTreeMap<_, _> = members.collect();
        let read: BTreeSet<TopicId> = members.values().flat_map(|m| m.topics.clone()).collect();
        let topics = self.topics.iter().enumerate().map(|(number, partitions)| {
            let racks = partitions
                .iter()
                .map(|racks| racks.iter().map(|rack| RACKS[*rack]).collect());
            (topic_id(number), racks.collect())
        });
        let topics = topics.filter(|(id, _)| read.contains(id)).collect();
        assignor.assign(&GroupSpec { members, topics })
    }

    fn fresh(&self, assignor: Assignor) -> GroupAssignment {
        self.assign(assignor, &GroupAssignment::new())
    }

    /// Whether the member subscribes to the topic.
    fn reads(&self, id: &MemberId, topic: TopicId) -> bool {
        let mut topics = self.members[id].topics.iter();
        topics.any(|number| topic_id(*number) == topic)
    }

    /// All partitions that somebody subscribes to.
    fn all(&self) -> Partitions {
        let read: BTreeSet<usize> = (self.members.values())
            .flat_map(|m| m.topics.clone())
            .collect();
        let numbers = read.into_iter().flat_map(|topic| {
            (0..self.topics[topic].len() as i32).map(move |number| (topic_id(topic), number))
        });
        numbers.collect()
    }

    /// Each partition once, and only to subscribers.
    fn assert_assigned(&self, assignment: &GroupAssignment) {
        assert!(assignment.keys().eq(self.members.keys()));
        let mut assigned = Partitions::default();
        for (id, partitions) in assignment {
            for (topic, partition) in partitions.iter() {
                assert!(!assigned.contains(topic, partition), "assigned twice");
                assert!(self.reads(id, topic), "{id} doesn't read {topic}");
                assigned.insert(topic, partition);
            }
        }
        assert_eq!(assigned, self.all());
    }

    /// No partition could move to somebody who has at least two fewer.
    fn assert_even(&self, assignment: &GroupAssignment) {
        for (id, partitions) in assignment {
            for (topic, _) in partitions.iter() {
                for (other, others) in assignment {
                    let could_take = self.reads(other, topic);
                    assert!(
                        !could_take || others.len() + 1 >= partitions.len(),
                        "{id} has {} and {other} only {}",
                        partitions.len(),
                        others.len()
                    );
                }
            }
        }
    }

    /// How many partitions are read by a member in the rack of a replica.
    fn near(&self, assignment: &GroupAssignment) -> usize {
        let near = assignment.iter().map(|(id, partitions)| {
            let rack = self.members[id].rack;
            let of_rack = |(topic, partition): &(TopicId, i32)| {
                let number = topic.0.as_u128() as usize - 1;
                let racks = &self.topics[number][*partition as usize];
                rack.is_some_and(|rack| racks.contains(&rack))
            };
            partitions.iter().filter(of_rack).count()
        });
        near.sum()
    }
}

fn moves(before: &GroupAssignment, after: &GroupAssignment) -> usize {
    let lost = before.iter().map(|(id, partitions)| {
        let kept = after.get(id).cloned().unwrap_or_default();
        partitions.difference(&kept).len()
    });
    lost.sum()
}

fn group(members: usize, topics: usize) -> impl Strategy<Value = Group> {
    let racks = proptest::collection::btree_set(0..RACKS.len(), 0..3);
    let partitions = proptest::collection::vec(racks, 0..12);
    let subscribed = proptest::collection::btree_set(0..topics, 0..=topics);
    let member = (
        subscribed,
        proptest::option::of(0..RACKS.len()),
        any::<bool>(),
    );
    let members = proptest::collection::btree_map(0..20usize, member, 0..members);
    let topics = proptest::collection::vec(partitions, topics);
    (members, topics).prop_map(|(members, topics)| Group {
        members: members
            .into_iter()
            .map(|(number, (topics, rack, is_static))| {
                let member = Member {
                    topics,
                    rack,
                    is_static,
                };
                (format!("m{number:02}").into(), member)
            })
            .collect(),
        topics,
    })
}

/// All members subscribe to all topics.
fn alike(mut group: Group) -> Group {
    let all: BTreeSet<usize> = (0..group.topics.len()).collect();
    for member in group.members.values_mut() {
        member.topics = all.clone();
    }
    group
}

fn without_racks(mut group: Group) -> Group {
    for member in group.members.values_mut() {
        member.rack = None;
    }
    group
}

proptest! {
    #[test]
    fn each_partition_has_one_owner_that_subscribes_to_it(group in group(9, 4)) {
        for assignor in Assignor::ALL {
            let assignment = group.fresh(assignor);
            group.assert_assigned(&assignment);
            prop_assert_eq!(&assignment, &group.fresh(assignor), "the same for the same group");
        }
    }

    /// Whatever was before.
    #[test]
    fn uniform_shares_are_as_even_as_can_be(was in group(9, 4), is in group(9, 4)) {
        let before = was.fresh(Assignor::Range);
        let after = is.assign(Assignor::Uniform, &before);
        is.assert_assigned(&after);
        is.assert_even(&after);
        prop_assert_eq!(&is.assign(Assignor::Uniform, &after), &after, "nothing moves without need");
        let alike = alike(is);
        let sizes = alike.assign(Assignor::Uniform, &before);
        let sizes: BTreeSet<usize> = sizes.values().map(Partitions::len).collect();
        let spread = sizes.last().zip(sizes.first()).map_or(0, |(most, least)| most - least);
        prop_assert!(spread <= 1, "{sizes:?}");
    }

    #[test]
    fn who_stays_keeps_all_when_a_member_leaves(group in group(9, 3)) {
        let mut group = without_racks(alike(group));
        let before = group.fresh(Assignor::Uniform);
        if let Some((gone, _)) = group.members.pop_first() {
            let after = group.assign(Assignor::Uniform, &before);
            prop_assert_eq!(moves(&before, &after), before[&gone].len());
        }
    }

    #[test]
    fn only_what_a_new_member_gets_moves(group in group(9, 3)) {
        let mut group = without_racks(alike(group));
        let before = group.fresh(Assignor::Uniform);
        let new = MemberId::from("new");
        let topics = (0..group.topics.len()).collect();
        group.members.insert(new.clone(), Member { topics, rack: None, is_static: false });
        let after = group.assign(Assignor::Uniform, &before);
        if group.members.len() > 1 {
            prop_assert_eq!(moves(&before, &after), after[&new].len());
        }
    }

    /// Racks don't cost evenness, and are better than chance.
    #[test]
    fn partitions_are_read_nearby_where_they_can_be(group in group(9, 3)) {
        let with = group.fresh(Assignor::Uniform);
        group.assert_even(&with);
        let without = without_racks(group.clone()).fresh(Assignor::Uniform);
        let lengths = |assignment: &GroupAssignment| -> Vec<usize> {
            let mut lengths: Vec<_> = assignment.values().map(Partitions::len).collect();
            lengths.sort_unstable();
            lengths
        };
        prop_assert_eq!(lengths(&with), lengths(&without));
    }

    #[test]
    fn ranges_are_ranges_and_topics_alike_are_co_partitioned(group in group(9, 3)) {
        let mut group = alike(group);
        if let Some(first) = group.topics.first().cloned() {
            group.topics.fill(first);
        }
        let assignment = group.fresh(Assignor::Range);
        for partitions in assignment.values() {
            let mut topics = partitions.by_topic().map(|(_, numbers)| numbers);
            if let Some(first) = topics.next() {
                prop_assert!(topics.all(|numbers| numbers == first), "co-partitioned");
                let (least, most) = (first.first().unwrap(), first.last().unwrap());
                prop_assert_eq!(first.len() as i32, most - least + 1, "without a gap");
            }
        }
    }
}

/// Members, by name and rack; topics, by the racks of each partition.
fn simple(members: &[(&str, Option<usize>)], partitions: &[&[usize]]) -> Group {
    let members = members.iter().map(|(name, rack)| {
        let member = Member {
            topics: [0].into(),
            rack: *rack,
            is_static: false,
        };
        ((*name).into(), member)
    });
    let partitions = partitions
        .iter()
        .map(|racks| racks.iter().copied().collect());
    Group {
        members: members.collect(),
        topics: vec![partitions.collect()],
    }
}

#[test]
fn everyone_reads_in_its_own_rack_if_that_is_even() {
    let group = simple(
        &[("x", Some(0)), ("y", Some(1))],
        &[&[1], &[1], &[0], &[0], &[0, 1], &[2]],
    );
    let assignment = group.fresh(Assignor::Uniform);
    assert_eq!(assignment[&MemberId::from("x")].len(), 3);
    assert_eq!(group.near(&assignment), 5);
}

/// Chains: what x could give away only y may take, and y can give to z.
#[test]
fn shares_even_out_along_chains() {
    let mut group = simple(&[("x", None), ("y", None), ("z", None)], &[&[], &[], &[]]);
    group.topics.push(vec![BTreeSet::new(); 3]);
    let topics: [&[usize]; 3] = [&[0], &[0, 1], &[1]];
    for (member, topics) in group.members.values_mut().zip(topics) {
        member.topics = topics.iter().copied().collect();
    }
    let all_of = |topic: usize| -> Partitions { (0..3).map(|p| (topic_id(topic), p)).collect() };
    let before = [
        ("x", all_of(0)),
        ("y", all_of(1)),
        ("z", Partitions::default()),
    ];
    let before = before.map(|(name, partitions)| (MemberId::from(name), partitions));
    let after = group.assign(Assignor::Uniform, &before.into());
    let sizes: Vec<usize> = after.values().map(Partitions::len).collect();
    assert_eq!(sizes, [2, 2, 2]);
    group.assert_assigned(&after);
}

#[test]
fn ranges_keep_to_the_instances_order() {
    let mut group = simple(&[("m1", None), ("m2", None)], &[&[], &[], &[]]);
    let mut renamed = group.clone();
    group.members.values_mut().for_each(|m| m.is_static = true);
    let assignment = group.fresh(Assignor::Range);
    assert_eq!(assignment[&MemberId::from("m1")].len(), 2);
    // A dynamic member stands behind the static one, whatever their ids are.
    if let Some(member) = renamed.members.get_mut(&MemberId::from("m2")) {
        member.is_static = true;
    }
    let assignment = renamed.fresh(Assignor::Range);
    assert_eq!(assignment[&MemberId::from("m2")].len(), 2);
}
