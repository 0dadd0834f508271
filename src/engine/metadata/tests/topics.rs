//! Creating, deleting and growing topics.

use std::collections::BTreeMap;

use super::*;
use crate::engine::metadata::change::{Change, ChangeSettings, Intent};
use crate::engine::metadata::change_batch::ChangeBatch;
use crate::engine::metadata::create_partitions::{create_partitions, MorePartitions};
use crate::engine::metadata::create_topics::{create_topics, NewTopic, NewTopicDefaults};
use crate::engine::metadata::delete_topics::{delete_topics, TopicRef};
use crate::model::{ErrorCode as E, PartitionEpoch};

const DEFAULTS: NewTopicDefaults = NewTopicDefaults {
    partitions: 2,
    replication_factor: 1,
};

fn new_topic(name: &str) -> NewTopic {
    NewTopic {
        name: name.into(),
        id: topic_id(name.len() as u128 + 1_000),
        partitions: -1,
        replication_factor: -1,
        assignments: Vec::new(),
        configs: Vec::new(),
    }
}

fn decide(image: &MetadataImage, topic: NewTopic) -> Result<MetadataImage, Refusal> {
    let limits = MetadataLimits::default();
    let mut decided = create_topics(image, &[topic], DEFAULTS, &limits);
    let commands = decided.remove(0)?;
    let mut image = image.clone();
    commands.iter().for_each(|command| image.replay(command));
    Ok(image)
}

#[test]
fn a_topic_gets_the_defaults_and_its_replicas_are_in_sync() {
    let image = decide(&cluster(1), new_topic("orders")).unwrap();
    let topic = image.topic_by_name("orders").unwrap();
    assert_eq!(topic.partitions.len(), 2);
    let expected = Partition {
        replicas: brokers(&[1]),
        leader: BrokerId(1),
        leader_epoch: crate::model::LeaderEpoch(0),
        isr: brokers(&[1]),
        eligible_leaders: vec![],
        partition_epoch: PartitionEpoch(0),
        last_known_leader: BrokerId::NONE,
        adding_replicas: vec![],
        removing_replicas: vec![],
    };
    assert_eq!(topic.partition(1), Some(&expected));
    assert_eq!(topic.partition(2), None);
    assert_eq!(topic.partition(-1), None);
}

#[test]
fn a_topic_that_cannot_be_is_refused_with_kafkas_code() {
    let image = {
        let mut image = cluster(3);
        image.replay(&create("my.topic_1", 1, &[&[1]]));
        image
    };
    type Change = fn(&mut NewTopic);
    let cases: &[(&str, Change, E, &str)] = &[
        (
            "empty name",
            |t| t.name = "".into(),
            E::InvalidTopicException,
            "empty",
        ),
        (
            "path",
            |t| t.name = "../x".into(),
            E::InvalidTopicException,
            "'/'",
        ),
        (
            "dot",
            |t| t.name = ".".into(),
            E::InvalidTopicException,
            "\".\"",
        ),
        (
            "long",
            |t| t.name = "x".repeat(250),
            E::InvalidTopicException,
            "249",
        ),
        (
            "exists",
            |t| t.name = "my.topic_1".into(),
            E::TopicAlreadyExists,
            "already exists",
        ),
        (
            "collides",
            |t| t.name = "my_topic.1".into(),
            E::InvalidTopicException,
            "collides",
        ),
        (
            "no partition",
            |t| t.partitions = 0,
            E::InvalidPartitions,
            "non-positive",
        ),
        (
            "negative",
            |t| t.partitions = -2,
            E::InvalidPartitions,
            "non-positive",
        ),
        (
            "a million",
            |t| t.partitions = 1_000_000,
            E::PolicyViolation,
            "10000",
        ),
        (
            "most of all",
            |t| t.partitions = i32::MAX,
            E::PolicyViolation,
            "10000",
        ),
        (
            "factor 0",
            |t| t.replication_factor = 0,
            E::InvalidReplicationFactor,
            "larger than 0",
        ),
        (
            "factor 4",
            |t| t.replication_factor = 4,
            E::InvalidReplicationFactor,
            "3 broker(s)",
        ),
        (
            "factor most",
            |t| t.replication_factor = i16::MAX,
            E::InvalidReplicationFactor,
            "3",
        ),
        (
            "unknown config",
            |t| t.configs = vec![("no.such".into(), Some("1".into()))],
            E::InvalidConfig,
            "no.such",
        ),
        (
            "config without value",
            |t| t.configs = vec![("retention.ms".into(), None)],
            E::InvalidConfig,
            "retention.ms",
        ),
        (
            "config twice",
            |t| t.configs = vec![("retention.ms".into(), Some("1".into())); 2],
            E::InvalidRequest,
            "twice",
        ),
        (
            "assignment and factor",
            |t| (t.assignments, t.replication_factor) = (vec![(0, brokers(&[1]))], 1),
            E::InvalidRequest,
            "replication factor",
        ),
        (
            "assignment and partitions",
            |t| (t.assignments, t.partitions) = (vec![(0, brokers(&[1]))], 1),
            E::InvalidRequest,
            "numPartitions",
        ),
        (
            "assignment with a gap",
            |t| t.assignments = vec![(0, brokers(&[1])), (2, brokers(&[1]))],
            E::InvalidReplicaAssignment,
            "consecutive",
        ),
        (
            "assignment twice",
            |t| t.assignments = vec![(0, brokers(&[1])), (0, brokers(&[2]))],
            E::InvalidReplicaAssignment,
            "multiple",
        ),
        (
            "empty assignment",
            |t| t.assignments = vec![(0, vec![])],
            E::InvalidReplicaAssignment,
            "empty",
        ),
        (
            "broker twice",
            |t| t.assignments = vec![(0, brokers(&[1, 1]))],
            E::InvalidReplicaAssignment,
            "more than once",
        ),
        (
            "unknown broker",
            |t| t.assignments = vec![(0, brokers(&[9]))],
            E::InvalidReplicaAssignment,
            "no such broker",
        ),
        (
            "uneven",
            |t| t.assignments = vec![(0, brokers(&[1, 2])), (1, brokers(&[1]))],
            E::InvalidReplicaAssignment,
            "not consistent",
        ),
    ];
    for (case, change, code, words) in cases {
        let mut topic = new_topic("fine");
        change(&mut topic);
        let refusal = decide(&image, topic).expect_err(case);
        assert_eq!(refusal.code, *code, "{case}: {refusal}");
        assert!(refusal.message.contains(words), "{case}: {refusal}");
    }
    assert!(decide(&image, new_topic("fine")).is_ok());
    assert!(decide(&image, new_topic("my-topic-1")).is_ok());
}

#[test]
fn an_assignment_is_taken_as_it_is() {
    let topic = NewTopic {
        assignments: vec![(1, brokers(&[2, 3])), (0, brokers(&[3, 1]))],
        ..new_topic("t")
    };
    let image = decide(&cluster(3), topic).unwrap();
    let topic = image.topic_by_name("t").unwrap();
    assert_eq!(topic.partition(0).unwrap().replicas, brokers(&[3, 1]));
    assert_eq!(topic.partition(1).unwrap().leader, BrokerId(2));
}

#[test]
fn a_request_counts_its_earlier_topics_and_refuses_a_name_twice() {
    let limits = MetadataLimits {
        partitions_per_request_max: 5,
        ..MetadataLimits::default()
    };
    let sized = |name: &str, partitions| NewTopic {
        partitions,
        id: topic_id(u128::from(name.as_bytes()[0])),
        ..new_topic(name)
    };
    let request = [
        sized("a_b", 3),
        sized("b", 3),
        sized("a.b", 1),
        sized("c", 1),
        sized("c", 1),
        sized("d", 2),
    ];
    let decided = create_topics(&cluster(1), &request, DEFAULTS, &limits);
    let codes: Vec<_> = decided
        .iter()
        .map(|d| d.as_ref().err().map(|e| e.code))
        .collect();
    let expected = [
        None,
        Some(E::PolicyViolation),
        Some(E::InvalidTopicException),
        Some(E::InvalidRequest),
        Some(E::InvalidRequest),
        None,
    ];
    assert_eq!(codes, expected);
}

#[test]
fn the_cluster_has_limits_of_its_own() {
    let limits = MetadataLimits {
        partitions_per_cluster_max: 3,
        topics_max: 2,
        ..MetadataLimits::default()
    };
    let image = image(&[register(1, 1, None), create("a", 1, &[&[1], &[1]])]);
    let code = |image: &MetadataImage, name| {
        let decided = create_topics(image, &[new_topic(name)], DEFAULTS, &limits);
        decided[0].as_ref().map_err(|refusal| refusal.code).err()
    };
    assert_eq!(code(&image, "b"), Some(E::PolicyViolation));
    let small = NewTopic {
        partitions: 1,
        ..new_topic("b")
    };
    let decided = create_topics(&image, &[small], DEFAULTS, &limits);
    let mut image = image;
    image.replay(&decided[0].as_ref().unwrap()[0]);
    assert_eq!(code(&image, "c"), Some(E::PolicyViolation));
}

/// How many partitions each broker leads, and how many replicas it holds.
fn spread(image: &MetadataImage, name: &str) -> (BTreeMap<i32, usize>, BTreeMap<i32, usize>) {
    let (mut leaders, mut replicas) = (BTreeMap::new(), BTreeMap::new());
    for partition in &image.topic_by_name(name).unwrap().partitions {
        *leaders.entry(partition.leader.0).or_default() += 1;
        for replica in &partition.replicas {
            *replicas.entry(replica.0).or_default() += 1;
        }
    }
    (leaders, replicas)
}

#[test]
fn replicas_are_placed_evenly_within_the_topic_and_then_over_the_cluster() {
    let sized = |name: &str, partitions, replication_factor| NewTopic {
        partitions,
        replication_factor,
        ..new_topic(name)
    };
    let image = decide(&cluster(3), sized("large", 9, 2)).unwrap();
    let even = |n| BTreeMap::from([(1, n), (2, n), (3, n)]);
    assert_eq!(spread(&image, "large"), (even(3), even(6)));
    // One partition each: the topics themselves spread.
    let mut image = decide(&image, sized("a", 1, 1)).unwrap();
    for name in ["bb", "ccc"] {
        image = decide(&image, sized(name, 1, 1)).unwrap();
    }
    let leader = |name| {
        image
            .topic_by_name(name)
            .unwrap()
            .partition(0)
            .unwrap()
            .leader
            .0
    };
    assert_eq!([leader("a"), leader("bb"), leader("ccc")], [1, 2, 3]);
}

#[test]
fn replicas_of_a_partition_are_in_racks_of_their_own() {
    let registered = [
        register(1, 1, Some("a")),
        register(2, 2, Some("a")),
        register(3, 3, Some("b")),
        register(4, 4, Some("b")),
    ];
    let topic = NewTopic {
        partitions: 8,
        replication_factor: 2,
        ..new_topic("t")
    };
    let image = decide(&image(&registered), topic).unwrap();
    for partition in &image.topic_by_name("t").unwrap().partitions {
        let racks = partition
            .replicas
            .iter()
            .map(|id| &image.broker(*id).unwrap().rack);
        let racks: std::collections::BTreeSet<_> = racks.collect();
        assert_eq!(racks.len(), 2, "{partition:?}");
    }
    assert_eq!(spread(&image, "t").0.values().max(), Some(&2));
}

#[test]
fn topics_are_deleted_by_name_or_id_and_each_once() {
    let image = image(&[create("a", 1, &[&[1]]), create("b", 2, &[&[1]])]);
    let request = [
        TopicRef::Name("a".into()),
        TopicRef::Id(topic_id(2)),
        TopicRef::Id(topic_id(1)),
        TopicRef::Name("no such".into()),
        TopicRef::Id(topic_id(9)),
    ];
    let delete = |id| Ok(vec![MetadataCommand::DeleteTopic { id: topic_id(id) }]);
    let decided = delete_topics(&image, &request);
    let decided: Vec<_> = decided.into_iter().map(|d| d.map_err(|e| e.code)).collect();
    let expected = [
        delete(1),
        delete(2),
        Err(E::InvalidRequest),
        Err(E::UnknownTopicOrPartition),
        Err(E::UnknownTopicId),
    ];
    assert_eq!(decided, expected);
}

#[test]
fn partitions_are_added_and_never_taken_away() {
    let mut image = cluster(2);
    image.replay(&create("t", 1, &[&[1], &[2]]));
    let more = |count, assignments: Option<&[&[i32]]>| MorePartitions {
        topic: "t".into(),
        count,
        assignments: assignments.map(|a| a.iter().map(|replicas| brokers(replicas)).collect()),
    };
    let decide = |more| {
        let decided = create_partitions(&image, &[more], &MetadataLimits::default());
        decided.into_iter().next().unwrap()
    };
    let cases: &[(MorePartitions, E, &str)] = &[
        (more(2, None), E::InvalidPartitions, "already has 2"),
        (
            more(1, None),
            E::InvalidPartitions,
            "would not be an increase",
        ),
        (
            more(-1, None),
            E::InvalidPartitions,
            "would not be an increase",
        ),
        (more(1_000_000, None), E::PolicyViolation, "10000"),
        (
            more(4, Some(&[&[1]])),
            E::InvalidReplicaAssignment,
            "only 1",
        ),
        (
            more(3, Some(&[&[1, 2]])),
            E::InvalidReplicaAssignment,
            "not consistent",
        ),
        (
            more(3, Some(&[&[7]])),
            E::InvalidReplicaAssignment,
            "no such broker",
        ),
        (
            MorePartitions {
                topic: "x".into(),
                ..more(3, None)
            },
            E::UnknownTopicOrPartition,
            "does not host",
        ),
    ];
    for (more, code, words) in cases {
        let refusal = decide(more.clone()).unwrap_err();
        assert_eq!(refusal.code, *code, "{refusal}");
        assert!(refusal.message.contains(words), "{refusal}");
    }
    let added = |partitions: &[&[i32]]| {
        vec![MetadataCommand::AddPartitions {
            id: topic_id(1),
            first: 2,
            partitions: partitions
                .iter()
                .map(|replicas| brokers(replicas))
                .collect(),
        }]
    };
    assert_eq!(decide(more(4, None)), Ok(added(&[&[1], &[2]])));
    assert_eq!(decide(more(3, Some(&[&[2]]))), Ok(added(&[&[2]])));
    let twice = create_partitions(
        &image,
        &[more(3, None), more(4, None)],
        &MetadataLimits::default(),
    );
    assert!(twice
        .iter()
        .all(|d| d.as_ref().unwrap_err().code == E::InvalidRequest));
}

#[test]
fn changes_of_a_batch_are_each_decided_on_what_those_before_come_to() {
    let settings = ChangeSettings {
        new_topics: DEFAULTS,
        defaults: BrokerDefaults::default(),
        limits: MetadataLimits::default(),
        voters: Vec::new(),
    };
    let create = |id: u128| {
        Change::CreateTopics(vec![NewTopic {
            id: topic_id(id),
            ..new_topic("orders")
        }])
    };
    let delete = Change::DeleteTopics(vec![TopicRef::Name("orders".into())]);
    let changes = [
        (create(1), Intent::ValidateOnly),
        (create(2), Intent::Apply),
        (create(3), Intent::Apply),
        (delete, Intent::Apply),
        (create(4), Intent::Apply),
    ];
    let changes = changes.iter().map(|(change, intent)| (change, *intent));
    let mut image = cluster(1);
    let batch = ChangeBatch::decide(changes, &image, &settings);
    let codes = batch.decided.iter().map(|parts| match &parts[0] {
        Ok(_) => E::None,
        Err(refusal) => refusal.code,
    });
    let exists = E::TopicAlreadyExists;
    assert!(codes.eq([E::None, E::None, exists, E::None, E::None]));
    batch
        .commands
        .iter()
        .for_each(|command| image.replay(command));
    assert_eq!(image.topic_by_name("orders").unwrap().id, topic_id(4));
}
