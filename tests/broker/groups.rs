//! What groups answer to clients of different versions, and what becomes of the topics behind them.

use klamm::model::{ErrorCode, LeaderEpoch, Offset};
use klamm::protocol::create_partitions::CreatePartitionsTopic;
use klamm::protocol::delete_topics::DeleteTopicState;
use klamm::protocol::find_coordinator::KEY_GROUP;
use klamm::protocol::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use klamm::protocol::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopic};
use klamm::protocol::{
    consumer_group_heartbeat, create_partitions, delete_topics, find_coordinator, offset_commit,
    offset_fetch,
};

use crate::harness::{Broker, Home, BOTH};
use crate::kafka_apis::ask;
use crate::wire::Wire;

const GROUP: &str = "g";
const TOPIC: &str = "t";
/// The last version that has topics by name.
const BY_NAME: i16 = 9;

/// A broker that coordinates the group and has the topic.
fn start() -> (Broker, Wire) {
    let home = Home::new().with("groups.offsets_topic_num_partitions", 2);
    let broker = home.start();
    let mut wire = broker.connect_kafka();
    wire.create_topic(TOPIC, 1, &[]);
    find_coordinator(&mut wire);
    (broker, wire)
}

fn find_coordinator(wire: &mut Wire) {
    let request = find_coordinator::Request {
        coordinator_keys: vec![GROUP.into()],
        key_type: KEY_GROUP,
        ..Default::default()
    };
    let found = wire.call::<find_coordinator::Api>(&request);
    assert_eq!(found.coordinators[0].error_code, ErrorCode::None);
}

/// Until the coordinator has begun.
fn join(wire: &mut Wire, member: &str) -> i32 {
    let request = consumer_group_heartbeat::Request {
        group_id: GROUP.into(),
        member_id: member.into(),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec![TOPIC.into()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    loop {
        let joined = wire.call::<consumer_group_heartbeat::Api>(&request);
        match joined.error_code {
            ErrorCode::None => return joined.member_epoch,
            ErrorCode::CoordinatorLoadInProgress | ErrorCode::NotCoordinator => {}
            code => panic!("{code}: {:?}", joined.error_message),
        }
    }
}

fn commit(wire: &mut Wire, version: i16, member: &str, epoch: i32, offset: i64) -> ErrorCode {
    let request = offset_commit::Request {
        group_id: GROUP.into(),
        member_id: member.into(),
        generation_id_or_member_epoch: epoch,
        topics: vec![OffsetCommitRequestTopic {
            name: TOPIC.into(),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: Offset(offset),
                committed_leader_epoch: LeaderEpoch::NONE,
                committed_metadata: None,
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    loop {
        let answer = ask::<offset_commit::Api>(wire, version, &request);
        match answer.topics[0].partitions[0].error_code {
            ErrorCode::CoordinatorLoadInProgress | ErrorCode::NotCoordinator => {}
            code => return code,
        }
    }
}

/// By naming the partition, and by asking for all that there is.
fn committed(wire: &mut Wire) -> (Offset, Vec<Offset>) {
    let mut fetch = |topics| {
        let request = offset_fetch::Request {
            groups: vec![OffsetFetchRequestGroup {
                group_id: GROUP.into(),
                member_epoch: -1,
                topics,
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = ask::<offset_fetch::Api>(wire, BY_NAME, &request);
        let told = answer.groups[0].topics.iter();
        let told = told.flat_map(|topic| &topic.partitions);
        told.map(|partition| partition.committed_offset).collect()
    };
    let named: Vec<Offset> = fetch(Some(vec![OffsetFetchRequestTopic {
        name: TOPIC.into(),
        partition_indexes: vec![0],
        ..Default::default()
    }]));
    (named[0], fetch(None))
}

/// As Apache Kafka 4.3.1 does.
#[test]
fn a_client_that_knows_no_member_epochs_does_not_commit_for_a_consumer() {
    let (_broker, mut wire) = start();
    let epoch = join(&mut wire, "a");
    for version in 2..=8 {
        let refused = commit(&mut wire, version, "a", epoch, 5);
        assert_eq!(refused, ErrorCode::UnsupportedVersion, "{version}");
        let refused = commit(&mut wire, version, "x", epoch, 5);
        assert_eq!(refused, ErrorCode::UnknownMemberId, "{version}");
    }
    assert_eq!(committed(&mut wire), (Offset::NONE, vec![]));
    let stale = commit(&mut wire, BY_NAME, "a", epoch + 1, 5);
    assert_eq!(stale, ErrorCode::StaleMemberEpoch);
    assert_eq!(commit(&mut wire, BY_NAME, "a", epoch, 5), ErrorCode::None);
    assert_eq!(committed(&mut wire), (Offset(5), vec![Offset(5)]));
}

/// As Apache Kafka 4.3.1 does.
#[test]
fn a_member_of_a_group_that_is_not_there_is_told_so_if_it_understands() {
    let (_broker, mut wire) = start();
    let old = commit(&mut wire, 8, "a", 1, 5);
    assert_eq!(old, ErrorCode::IllegalGeneration);
    let new = commit(&mut wire, BY_NAME, "a", 1, 5);
    assert_eq!(new, ErrorCode::GroupIdNotFound);
}

#[test]
fn an_offset_is_not_told_of_a_later_topic_of_the_same_name() {
    let (_broker, mut wire) = start();
    assert_eq!(commit(&mut wire, BY_NAME, "", -1, 5), ErrorCode::None);
    assert_eq!(committed(&mut wire), (Offset(5), vec![Offset(5)]));
    let delete = delete_topics::Request {
        topics: vec![DeleteTopicState {
            name: Some(TOPIC.into()),
            ..Default::default()
        }],
        ..Default::default()
    };
    let deleted = wire.call::<delete_topics::Api>(&delete);
    assert_eq!(deleted.responses[0].error_code, ErrorCode::None);
    wire.create_topic(TOPIC, 1, &[]);
    assert_eq!(committed(&mut wire), (Offset::NONE, vec![]));
    assert_eq!(commit(&mut wire, BY_NAME, "", -1, 1), ErrorCode::None);
    assert_eq!(committed(&mut wire), (Offset(1), vec![Offset(1)]));
}

/// Groups would be looked for in other partitions than they lie in.
#[test]
fn the_topic_of_offsets_keeps_its_number_of_partitions() {
    let (broker, mut wire) = start();
    assert_eq!(commit(&mut wire, BY_NAME, "", -1, 5), ErrorCode::None);
    for encoding in BOTH {
        let more = |name: &str| CreatePartitionsTopic {
            name: name.into(),
            count: 3,
            assignments: None,
        };
        let request = create_partitions::Request {
            topics: vec![more("__consumer_offsets"), more("unknown")],
            timeout_ms: 1_000,
            ..Default::default()
        };
        let mut wire = broker.connect_as(encoding);
        let answer = wire.call::<create_partitions::Api>(&request);
        let codes: Vec<_> = answer.results.iter().map(|it| it.error_code).collect();
        let expected = [
            ErrorCode::InvalidPartitions,
            ErrorCode::UnknownTopicOrPartition,
        ];
        assert_eq!(codes, expected);
        assert!(answer.results[0].error_message.is_some());
        assert_eq!(wire.topic("__consumer_offsets").partitions.len(), 2);
    }
    assert_eq!(committed(&mut wire), (Offset(5), vec![Offset(5)]));
}
