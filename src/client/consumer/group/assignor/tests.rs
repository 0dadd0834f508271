//! What holds for any members and topics, and Kafka's own examples.

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::client::consumer_protocol::NO_GENERATION;

const TOPICS: [&str; 4] = ["a", "b", "c", "d"];

fn member(id: &str, topics: &[&str]) -> Member {
    Member {
        id: id.to_owned(),
        instance_id: None,
        subscription: Subscription {
            topics: topics.iter().map(|topic| (*topic).into()).collect(),
            owned: BTreeSet::new(),
            generation: NO_GENERATION,
        },
    }
}

fn counts(of: &[(&str, i32)]) -> PartitionCounts {
    of.iter().map(|(t, count)| ((*t).into(), *count)).collect()
}

/// As `member: a0 a1, …`.
fn text(assignments: &Assignments) -> Vec<String> {
    let all = assignments.iter().map(|(member, partitions)| {
        let partitions: Vec<String> = partitions.iter().map(|(t, p)| format!("{t}{p}")).collect();
        format!("{member}: {}", partitions.join(" "))
    });
    all.collect()
}

#[test]
fn range_and_round_robin_assign_as_the_examples_in_kafkas_docs() {
    let both = [member("C0", &["t", "u"]), member("C1", &["t", "u"])];
    let three = counts(&[("t", 3), ("u", 3)]);
    assert_eq!(
        text(&Assignor::Range.assign(&three, &both)),
        ["C0: t0 t1 u0 u1", "C1: t2 u2"]
    );
    assert_eq!(
        text(&Assignor::RoundRobin.assign(&three, &both)),
        ["C0: t0 t2 u1", "C1: t1 u0 u2"]
    );
    let different = [
        member("C0", &["t"]),
        member("C1", &["t", "u"]),
        member("C2", &["t", "u", "v"]),
    ];
    let growing = counts(&[("t", 1), ("u", 2), ("v", 3)]);
    assert_eq!(
        text(&Assignor::RoundRobin.assign(&growing, &different)),
        ["C0: t0", "C1: u0", "C2: u1 v0 v1 v2"]
    );
    assert_eq!(
        text(&Assignor::CooperativeSticky.assign(&growing, &different)),
        ["C0: t0", "C1: u0 u1", "C2: v0 v1 v2"]
    );
}

#[test]
fn static_members_keep_their_places_whatever_their_ids() {
    let mut members = [member("z-1", &["t"]), member("a-2", &["t"])];
    members[0].instance_id = Some("first".into());
    members[1].instance_id = Some("second".into());
    let assigned = Assignor::Range.assign(&counts(&[("t", 2)]), &members);
    assert_eq!(text(&assigned), ["a-2: t1", "z-1: t0"]);
}

#[test]
fn a_claim_of_a_later_generation_counts_more_and_of_two_in_one_neither() {
    let claim = |id, generation, partitions: &[i32]| {
        let mut member = member(id, &["t"]);
        member.subscription.generation = generation;
        member.subscription.owned = partitions.iter().map(|p| ("t".into(), *p)).collect();
        member
    };
    let members = [claim("old", 3, &[0, 1]), claim("new", 4, &[1, 0])];
    let all: Vec<&Member> = members.iter().collect();
    let balanced = sticky::balance(&counts(&[("t", 4)]), &all);
    assert_eq!(text(&balanced), ["new: t0 t1", "old: t2 t3"]);
    let members = [claim("one", 4, &[0, 1, 2]), claim("two", 4, &[2])];
    let all: Vec<&Member> = members.iter().collect();
    let balanced = sticky::balance(&counts(&[("t", 4)]), &all);
    assert_eq!(text(&balanced), ["one: t0 t1", "two: t2 t3"]);
    // What another claims too isn't assigned before it has been given up.
    let assigned = Assignor::CooperativeSticky.assign(&counts(&[("t", 4)]), &members);
    assert_eq!(text(&assigned), ["one: t0 t1", "two: t2 t3"]);
    let members = [claim("one", 4, &[0, 1, 2]), member("three", &["t"])];
    let assigned = Assignor::CooperativeSticky.assign(&counts(&[("t", 4)]), &members);
    assert_eq!(text(&assigned), ["one: t0 t1", "three: t3"]);
}

#[test]
fn partitions_pass_through_members_in_between() {
    // Only `mid` reads both topics; `low` can have something of b alone.
    let mut members = [
        member("high", &["a"]),
        member("low", &["b"]),
        member("mid", &["a", "b"]),
    ];
    members[0].subscription.owned = (0..4).map(|p| ("a".into(), p)).collect();
    members[2].subscription.owned = (0..3).map(|p| ("b".into(), p)).collect();
    let all: Vec<&Member> = members.iter().collect();
    let balanced = sticky::balance(&counts(&[("a", 4), ("b", 3)]), &all);
    let loads: Vec<usize> = balanced.values().map(BTreeSet::len).collect();
    assert_eq!(loads.iter().max(), Some(&3), "{balanced:?}");
    assert_eq!(loads.iter().min(), Some(&2), "{balanced:?}");
}

fn any_counts() -> impl Strategy<Value = PartitionCounts> {
    let topic = prop::sample::select(TOPICS.to_vec()).prop_map(Arc::from);
    btree_map(topic, 0..12i32, 1..=TOPICS.len())
}

/// Members that read some topics each.
fn any_members() -> impl Strategy<Value = Vec<Member>> {
    let topics = btree_set(prop::sample::select(TOPICS.to_vec()), 1..=TOPICS.len());
    vec(topics, 1..8).prop_map(|members| {
        let named = (0..).zip(members);
        let named = named.map(|(number, topics): (usize, BTreeSet<&str>)| {
            member(
                &format!("m{number}"),
                &topics.into_iter().collect::<Vec<_>>(),
            )
        });
        named.collect()
    })
}

/// Members that all read everything.
fn equal_members() -> impl Strategy<Value = Vec<Member>> {
    (1..12usize).prop_map(|count| {
        let members = 0..count;
        members
            .map(|n| member(&format!("m{n:02}"), &TOPICS))
            .collect()
    })
}

/// Each partition that anybody reads is with one who reads it, and all others are with nobody.
fn check_complete(counts: &PartitionCounts, members: &[Member], assignments: &Assignments) {
    let mut owners: BTreeMap<&TopicPartition, &str> = BTreeMap::new();
    for (id, partitions) in assignments {
        let member = members.iter().find(|m| m.id == *id).expect("a member");
        for partition in partitions {
            assert!(
                member.reads(&partition.0),
                "{id} doesn't read {partition:?}"
            );
            let other = owners.insert(partition, id);
            assert_eq!(other, None, "{partition:?} twice");
        }
    }
    let read = counts.iter().filter(|(topic, _)| {
        let mut members = members.iter();
        members.any(|member| member.reads(topic))
    });
    let expected: i32 = read.map(|(_, count)| *count).sum();
    assert_eq!(owners.len() as i32, expected);
}

/// What the members would say when they join again.
fn rejoin(members: &mut [Member], assignments: &Assignments, generation: i32) {
    for member in members {
        let assigned = assignments.get(&member.id).cloned();
        member.subscription.owned = assigned.unwrap_or_default();
        member.subscription.generation = generation;
    }
}

fn loads(members: &[Member], assignments: &Assignments) -> Vec<usize> {
    let loads = members.iter().map(|member| assignments.get(&member.id));
    loads.map(|held| held.map_or(0, BTreeSet::len)).collect()
}

/// Lets the group rebalance until nothing changes, and answers how often it had to.
fn settle(counts: &PartitionCounts, members: &mut [Member], first: i32) -> (Assignments, usize) {
    let mut rounds = 0;
    loop {
        let assigned = Assignor::CooperativeSticky.assign(counts, members);
        rounds += 1;
        // Nobody is given what another has.
        for member in members.iter() {
            for (other, partitions) in &assigned {
                let mut owned = member.subscription.owned.iter();
                assert!(*other == member.id || !owned.any(|p| partitions.contains(p)));
            }
        }
        let gives_up = members.iter().any(|member| {
            let assigned = assigned.get(&member.id);
            let mut owned = member.subscription.owned.iter();
            owned.any(|p| assigned.is_none_or(|assigned| !assigned.contains(p)))
        });
        rejoin(members, &assigned, first + rounds as i32);
        if !gives_up {
            return (assigned, rounds);
        }
    }
}

proptest! {
    #[test]
    fn every_partition_is_assigned_once_to_one_who_reads_it(
        counts in any_counts(), mut members in any_members(),
    ) {
        for assignor in Assignor::ALL {
            let assigned = assignor.assign(&counts, &members);
            check_complete(&counts, &members, &assigned);
        }
        let (settled, _) = settle(&counts, &mut members, 0);
        check_complete(&counts, &members, &settled);
    }

    #[test]
    fn all_who_read_the_same_have_the_same_up_to_one(
        counts in any_counts(), members in equal_members(),
    ) {
        for assignor in [Assignor::CooperativeSticky, Assignor::RoundRobin] {
            let loads = loads(&members, &assignor.assign(&counts, &members));
            let most = loads.iter().max().unwrap();
            prop_assert!(most - loads.iter().min().unwrap() <= 1, "{loads:?}");
        }
    }

    /// By brute force: nobody can give anything to one that has two fewer.
    #[test]
    fn nobody_could_have_less_for_another_to_have_more(
        counts in any_counts(), members in any_members(),
    ) {
        let assigned = Assignor::CooperativeSticky.assign(&counts, &members);
        for (giver, partitions) in &assigned {
            for to in &members {
                let load = assigned.get(&to.id).map_or(0, BTreeSet::len);
                let can_give = partitions.iter().any(|(topic, _)| to.reads(topic));
                prop_assert!(!can_give || load + 2 > partitions.len(), "{giver} to {}", to.id);
            }
        }
    }

    #[test]
    fn nothing_moves_without_a_reason(counts in any_counts(), mut members in any_members()) {
        let (settled, _) = settle(&counts, &mut members, 0);
        let (again, rounds) = settle(&counts, &mut members, 10);
        prop_assert_eq!((settled, 1), (again, rounds));
    }

    #[test]
    fn those_who_stay_keep_all_that_they_have_and_one_who_comes_gets_its_share_in_two_rounds(
        counts in any_counts(), mut members in equal_members(), leaving in any::<prop::sample::Index>(),
    ) {
        let (before, _) = settle(&counts, &mut members, 0);
        let gone = members.remove(leaving.index(members.len()));
        if !members.is_empty() {
            let (after, rounds) = settle(&counts, &mut members, 10);
            prop_assert_eq!(rounds, 1);
            for member in &members {
                prop_assert!(after[&member.id].is_superset(&before[&member.id]));
            }
        }
        let comes = Member { id: "new".into(), ..member("", &TOPICS) };
        prop_assert!(gone.id != comes.id);
        members.push(comes);
        let before: Vec<_> = members.iter().map(|m| m.subscription.owned.clone()).collect();
        let (after, rounds) = settle(&counts, &mut members, 20);
        prop_assert!(rounds <= 2, "{rounds}");
        let loads = loads(&members, &after);
        prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1);
        // Only what the new one got has moved.
        for (member, before) in members.iter().zip(&before).filter(|(m, _)| m.id != "new") {
            prop_assert!(before.is_superset(&after[&member.id]));
        }
    }
}
