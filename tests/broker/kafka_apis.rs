//! The APIs that Kafka's tools and clients ask for beside the usual ones, on the Kafka listener.

use klamm::model::{BrokerId, DirectoryId, ErrorCode, LeaderEpoch, Offset, TopicId};
use klamm::protocol::alter_configs::{AlterConfigsResource, AlterableConfig};
use klamm::protocol::describe_configs::{DescribeConfigsResource, RESOURCE_TOPIC};
use klamm::protocol::describe_log_dirs::DescribableLogDirTopic;
use klamm::protocol::describe_topic_partitions::TopicRequest;
use klamm::protocol::find_coordinator::{KEY_GROUP, KEY_TRANSACTION};
use klamm::protocol::offset_for_leader_epoch::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use klamm::protocol::{
    alter_configs, describe_cluster, describe_configs, describe_log_dirs, describe_quorum,
    describe_topic_partitions, elect_leaders, fetch, find_coordinator, incremental_alter_configs,
    metadata, offset_for_leader_epoch, produce,
};

use crate::batches::batch;
use crate::calls::{fetch_request, produce_request, ACKS_ALL};
use crate::harness::Home;
use crate::wire::{kafka_frame, kafka_response, Heard, Wire};

/// Asks in a version of its own.
pub fn ask<A: klamm::protocol::Api>(
    wire: &mut Wire,
    version: i16,
    request: &A::Request,
) -> A::Response {
    wire.send_bytes(&kafka_frame::<A>(version, 1, request))
        .unwrap();
    match wire.hear().unwrap() {
        Heard::Frame(frame) => kafka_response::<A>(version, &frame).unwrap().1,
        Heard::Closed => panic!("{} {version}: closed", A::KEY.name()),
    }
}

#[test]
fn topics_are_written_to_and_read_by_their_id() {
    let broker = Home::new().start();
    let mut wire = broker.connect_kafka();
    wire.create_topic("t", 1, &[]);
    let id = wire.topic("t").topic_id;
    let unknown = TopicId::random();
    for (topic_id, code) in [(id, ErrorCode::None), (unknown, ErrorCode::UnknownTopicId)] {
        let mut request = produce_request("", 0, ACKS_ALL, batch(&["a"]));
        request.topic_data[0].topic_id = topic_id;
        let response = ask::<produce::Api>(&mut wire, 13, &request);
        let topic = &response.responses[0];
        assert_eq!(
            topic.topic_id, topic_id,
            "a response names topics as its request did"
        );
        assert_eq!(topic.partition_responses[0].error_code, code);

        let mut request = fetch_request("", 0, 0);
        request.topics[0].topic_id = topic_id;
        let response = ask::<fetch::Api>(&mut wire, 17, &request);
        let topic = &response.responses[0];
        assert_eq!(topic.topic_id, topic_id);
        assert_eq!(topic.partitions[0].error_code, code);
        assert_eq!(
            topic.partitions[0].records.0.is_empty(),
            topic_id == unknown
        );
    }
}

#[test]
fn each_of_several_ids_that_are_unknown_is_said_to_be_unknown() {
    let broker = Home::new().start();
    let mut wire = broker.connect_kafka();
    let mut request = fetch_request("", 0, 0);
    request.topics[0].topic_id = TopicId::random();
    let mut other = request.topics[0].clone();
    other.topic_id = TopicId::random();
    request.topics.push(other);
    let response = ask::<fetch::Api>(&mut wire, 17, &request);
    let topics = response.responses.iter();
    let codes: Vec<_> = topics.map(|topic| topic.partitions[0].error_code).collect();
    assert_eq!(codes, [ErrorCode::UnknownTopicId; 2]);
}

#[test]
fn a_group_has_a_coordinator_and_a_transaction_has_none_in_each_version() {
    let broker = Home::new().start();
    let mut wire = broker.connect_kafka();
    for version in 0..=6 {
        let mut ask = |key_type| {
            let request = find_coordinator::Request {
                coordinator_keys: vec!["group".into()],
                key_type,
                ..Default::default()
            };
            let response = ask::<find_coordinator::Api>(&mut wire, version, &request);
            assert_eq!(response.coordinators.len(), 1);
            response.coordinators[0].clone()
        };
        let told = ask(KEY_GROUP);
        assert_eq!(
            (told.error_code, told.node_id),
            (ErrorCode::None, BrokerId(1))
        );
        assert_eq!(told.error_message, None);
        if version >= 1 {
            let told = ask(KEY_TRANSACTION);
            assert_eq!(told.error_code, ErrorCode::InvalidRequest);
            assert!(told.error_message.is_some(), "version {version}");
        }
    }
    // The topic of offsets is there by now, and is the broker's own.
    let request = metadata::Request {
        topics: None,
        ..Default::default()
    };
    let response = ask::<metadata::Api>(&mut wire, 9, &request);
    let topic = &response.topics[0];
    assert_eq!(topic.name.as_deref(), Some("__consumer_offsets"));
    assert_eq!((topic.is_internal, topic.partitions.len()), (true, 50));
    let request = describe_configs::Request {
        resources: vec![DescribeConfigsResource {
            resource_type: RESOURCE_TOPIC,
            resource_name: "__consumer_offsets".into(),
            configuration_keys: Some(vec!["cleanup.policy".into()]),
        }],
        ..Default::default()
    };
    let described = wire.call::<describe_configs::Api>(&request);
    let policy = described.results[0].configs[0].value.as_deref();
    assert_eq!(policy, Some("compact"));
    let to_it = produce_request("__consumer_offsets", 0, ACKS_ALL, batch(&["a"]));
    let produced = wire.call::<produce::Api>(&to_it);
    let refused = produced.responses[0].partition_responses[0].error_code;
    assert_eq!(refused, ErrorCode::InvalidTopicException);
}

#[test]
fn alter_configs_replaces_all_that_was_set() {
    let broker = Home::new().start();
    let mut wire = broker.connect_kafka();
    wire.create_topic("t", 1, &[("retention.ms", "1000"), ("segment.ms", "5000")]);
    let mut alter = |configs: &[(&str, Option<&str>)]| {
        let configs = configs.iter().map(|(name, value)| AlterableConfig {
            name: (*name).into(),
            value: value.map(str::to_owned),
        });
        let request = alter_configs::Request {
            resources: vec![AlterConfigsResource {
                resource_type: RESOURCE_TOPIC,
                resource_name: "t".into(),
                configs: configs.collect(),
            }],
            validate_only: false,
        };
        let response = wire.call::<alter_configs::Api>(&request);
        response.responses[0].error_code
    };
    assert_eq!(alter(&[("retention.ms", Some("2000"))]), ErrorCode::None);
    assert_eq!(alter(&[("retention.ms", None)]), ErrorCode::InvalidConfig);
    assert_eq!(
        alter(&[("no.such.config", Some("1"))]),
        ErrorCode::InvalidConfig
    );
    let twice = [("segment.ms", Some("1")), ("segment.ms", Some("2"))];
    assert_eq!(alter(&twice), ErrorCode::InvalidRequest);

    let request = describe_configs::Request {
        resources: vec![DescribeConfigsResource {
            resource_type: RESOURCE_TOPIC,
            resource_name: "t".into(),
            configuration_keys: Some(vec!["retention.ms".into(), "segment.ms".into()]),
        }],
        include_synonyms: false,
        include_documentation: false,
    };
    let described = wire.call::<describe_configs::Api>(&request);
    let configs = described.results[0].configs.iter();
    let values: Vec<_> = configs
        .map(|c| (c.name.as_str(), c.value.as_deref().unwrap()))
        .collect();
    assert_eq!(
        values,
        [("retention.ms", "2000"), ("segment.ms", "604800000")]
    );
}

#[test]
fn topic_partitions_are_told_page_by_page() {
    let broker = Home::new().start();
    let mut wire = broker.connect_kafka();
    wire.create_topic("a", 3, &[]);
    wire.create_topic("b", 4, &[]);
    let mut told = Vec::new();
    let mut request = describe_topic_partitions::Request {
        response_partition_limit: 2,
        ..Default::default()
    };
    for _ in 0..10 {
        let response = wire.call::<describe_topic_partitions::Api>(&request);
        let mut page = 0;
        for topic in &response.topics {
            assert_eq!(topic.error_code, ErrorCode::None);
            page += topic.partitions.len();
            let name = topic.name.clone().unwrap();
            let partitions = topic.partitions.iter();
            told.extend(partitions.map(|p| (name.clone(), p.partition_index)));
        }
        assert!(page <= 2, "{page} partitions in one answer");
        request.cursor = response.next_cursor;
        if request.cursor.is_none() {
            break;
        }
    }
    let all = (0..3)
        .map(|p| ("a".to_owned(), p))
        .chain((0..4).map(|p| ("b".to_owned(), p)));
    assert_eq!(told, all.collect::<Vec<_>>());

    let missing = describe_topic_partitions::Request {
        topics: ["b", "no-such-topic", "a/b"]
            .map(|name| TopicRequest { name: name.into() })
            .into(),
        ..Default::default()
    };
    let response = wire.call::<describe_topic_partitions::Api>(&missing);
    let codes: Vec<ErrorCode> = response.topics.iter().map(|t| t.error_code).collect();
    let (invalid, none) = (ErrorCode::InvalidTopicException, ErrorCode::None);
    assert_eq!(codes, [invalid, none, ErrorCode::UnknownTopicOrPartition]);
}

#[test]
fn log_dirs_tell_the_size_of_each_log() {
    let home = Home::new();
    let broker = home.start();
    let mut wire = broker.connect_kafka();
    wire.create_topic("t", 2, &[]);
    wire.append("t", &["a value of some bytes"]);
    let mut sizes = |topics| {
        let request = describe_log_dirs::Request { topics };
        let mut response = wire.call::<describe_log_dirs::Api>(&request);
        let dir = response.results.remove(0);
        assert_eq!(dir.error_code, ErrorCode::None);
        assert!(dir.log_dir.starts_with('/'), "{}", dir.log_dir);
        assert!(dir.total_bytes > dir.usable_bytes && dir.usable_bytes > 0);
        let topics = dir.topics.into_iter();
        let sizes = topics.flat_map(|topic| {
            topic
                .partitions
                .into_iter()
                .map(move |p| (topic.name.clone(), p.partition_index, p.partition_size > 0))
        });
        sizes.collect::<Vec<_>>()
    };
    assert_eq!(
        sizes(None),
        [("t".to_owned(), 0, true), ("t".to_owned(), 1, false)]
    );
    let one = DescribableLogDirTopic {
        topic: "t".into(),
        partitions: vec![1, 7],
    };
    assert_eq!(sizes(Some(vec![one])), [("t".to_owned(), 1, false)]);
}

#[test]
fn a_leader_epoch_ends_where_the_next_one_began() {
    let home = Home::new();
    let broker = home.start();
    let mut wire = broker.connect_kafka();
    wire.create_topic("t", 1, &[]);
    wire.append("t", &["a", "b"]);
    let mut end = |current: i32, asked: i32| {
        let request = offset_for_leader_epoch::Request {
            topics: vec![OffsetForLeaderTopic {
                topic: "t".into(),
                partitions: vec![OffsetForLeaderPartition {
                    partition: 0,
                    current_leader_epoch: LeaderEpoch(current),
                    leader_epoch: LeaderEpoch(asked),
                }],
            }],
            ..Default::default()
        };
        let response = wire.call::<offset_for_leader_epoch::Api>(&request);
        let end = &response.topics[0].partitions[0];
        (end.error_code, end.leader_epoch.0, end.end_offset)
    };
    assert_eq!(end(-1, 0), (ErrorCode::None, 0, Offset(2)));
    assert_eq!(
        end(-1, 5),
        (ErrorCode::None, -1, Offset::NONE),
        "nobody knows it"
    );
    assert_eq!(end(-1, -1), (ErrorCode::None, -1, Offset::NONE));
    assert_eq!(end(9, 0).0, ErrorCode::UnknownLeaderEpoch);
}

#[test]
fn who_asks_what_may_be_done_is_told_everything() {
    let broker = Home::new().start();
    let mut wire = broker.connect_kafka();
    wire.create_topic("t", 1, &[]);
    // What Kafka 4.3.1 answers without an authorizer.
    const ALL_OF_A_TOPIC: i32 = 3576;
    const ALL_OF_A_CLUSTER: i32 = 8096;
    let request = metadata::Request {
        topics: None,
        include_topic_authorized_operations: true,
        include_cluster_authorized_operations: true,
        ..Default::default()
    };
    let response = ask::<metadata::Api>(&mut wire, 10, &request);
    assert_eq!(
        response.topics[0].topic_authorized_operations,
        ALL_OF_A_TOPIC
    );
    assert_eq!(response.cluster_authorized_operations, ALL_OF_A_CLUSTER);
    let unasked = wire.call::<metadata::Api>(&metadata::Request::default());
    assert_eq!(unasked.cluster_authorized_operations, i32::MIN);

    let request = describe_cluster::Request {
        include_cluster_authorized_operations: true,
        ..Default::default()
    };
    let cluster = wire.call::<describe_cluster::Api>(&request);
    assert_eq!(cluster.cluster_authorized_operations, ALL_OF_A_CLUSTER);
    assert_eq!(cluster.controller_id, BrokerId(1));
    let controllers = describe_cluster::Request {
        endpoint_type: 2,
        ..Default::default()
    };
    let cluster = wire.call::<describe_cluster::Api>(&controllers);
    assert_eq!(cluster.error_code, ErrorCode::MismatchedEndpointType);
}

#[test]
fn elections_are_answered_for_each_partition_as_kafka_does_in_each_version() {
    let broker = Home::new().start();
    let mut wire = broker.connect_kafka();
    wire.create_topic("t", 2, &[]);
    let request = |election_type, topics: Option<&[(&str, &[i32])]>| elect_leaders::Request {
        election_type,
        topic_partitions: topics.map(|topics| {
            let topics = topics.iter();
            let topics = topics.map(|(topic, partitions)| elect_leaders::TopicPartitions {
                topic: (*topic).into(),
                partitions: partitions.to_vec(),
            });
            topics.collect()
        }),
        timeout_ms: 1_000,
    };
    type Told = Vec<(String, i32, ErrorCode)>;
    let told = |response: &elect_leaders::Response| -> Told {
        let topics = response.replica_election_results.iter();
        let told = topics.flat_map(|topic| {
            let of = |p: &elect_leaders::PartitionResult| {
                (topic.topic.clone(), p.partition_id, p.error_code)
            };
            topic.partition_result.iter().map(of)
        });
        told.collect()
    };
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let asked: &[(&str, &[i32])] = &[("t", &[0, 1, 2]), ("u", &[0]), ("no topic", &[0])];
    for version in 0..=2 {
        for election in [
            elect_leaders::ELECTION_PREFERRED,
            elect_leaders::ELECTION_UNCLEAN,
        ] {
            let request = request(election, Some(asked));
            let response = ask::<elect_leaders::Api>(&mut wire, version, &request);
            assert_eq!(response.error_code, ErrorCode::None);
            let expected: Told = vec![
                ("t".into(), 0, ErrorCode::ElectionNotNeeded),
                ("t".into(), 1, ErrorCode::ElectionNotNeeded),
                ("t".into(), 2, unknown),
                ("u".into(), 0, unknown),
                ("no topic".into(), 0, unknown),
            ];
            assert_eq!(told(&response), expected, "version {version}");
        }
        let all = ask::<elect_leaders::Api>(&mut wire, version, &request(0, None));
        assert_eq!(told(&all), []);
    }
    let strange = ask::<elect_leaders::Api>(&mut wire, 2, &request(7, Some(&[("t", &[0])])));
    assert_eq!(strange.error_code, ErrorCode::InvalidRequest);
    assert_eq!(
        told(&strange),
        [("t".to_owned(), 0, ErrorCode::InvalidRequest)]
    );
    let many = vec![0; 100_001];
    let many = ask::<elect_leaders::Api>(&mut wire, 2, &request(0, Some(&[("t", &many)])));
    assert_eq!(
        (many.error_code, told(&many)),
        (ErrorCode::InvalidRequest, vec![])
    );
}

#[test]
fn the_quorum_of_the_metadata_is_described_and_no_other_in_each_version() {
    let broker = Home::new().start();
    let mut wire = broker.connect_kafka();
    let request = |topic: &str, partitions: &[i32]| {
        let partitions = partitions.iter().copied();
        let partitions =
            partitions.map(|partition_index| describe_quorum::PartitionData { partition_index });
        describe_quorum::Request {
            topics: vec![describe_quorum::TopicData {
                topic_name: topic.into(),
                partitions: partitions.collect(),
            }],
        }
    };
    let metadata = request(describe_quorum::METADATA_TOPIC, &[0]);
    for version in 0..=2 {
        let response = ask::<describe_quorum::Api>(&mut wire, version, &metadata);
        assert_eq!(response.error_code, ErrorCode::None);
        let quorum = &response.topics[0].partitions[0];
        assert_eq!(
            (quorum.error_code, quorum.leader_id),
            (ErrorCode::None, BrokerId(1))
        );
        assert!(
            quorum.leader_epoch > 0 && quorum.high_watermark > 0,
            "{quorum:?}"
        );
        let [voter] = &quorum.current_voters[..] else {
            panic!("{quorum:?}");
        };
        assert_eq!(voter.replica_id, BrokerId(1));
        assert!(voter.log_end_offset >= quorum.high_watermark);
        assert_eq!(voter.last_caught_up_timestamp.0 > 0, version >= 1);
        assert_eq!(
            voter.replica_directory_id != DirectoryId::NONE,
            version >= 2
        );
        let listeners = response.nodes.iter().flat_map(|node| &node.listeners);
        let ports: Vec<u16> = listeners.map(|listener| listener.port).collect();
        assert_eq!(
            ports,
            if version >= 2 {
                vec![broker.kafka.port()]
            } else {
                vec![]
            }
        );
    }
    let others = [
        request("t", &[0]),
        request(describe_quorum::METADATA_TOPIC, &[1]),
        request(describe_quorum::METADATA_TOPIC, &[0, 1]),
    ];
    for other in others {
        let response = ask::<describe_quorum::Api>(&mut wire, 2, &other);
        let partitions = response.topics[0].partitions.iter();
        let codes: Vec<ErrorCode> = partitions.map(|p| p.error_code).collect();
        let asked = other.topics[0].partitions.len();
        assert_eq!(codes, vec![ErrorCode::UnknownTopicOrPartition; asked]);
    }
}

#[test]
fn throttles_are_set_for_topics_brokers_and_all_brokers_and_what_is_wrong_is_refused() {
    let broker = Home::new().start();
    let mut wire = broker.connect_kafka();
    wire.create_topic("t", 1, &[]);
    let mut alter =
        |resource_type: i8, resource_name: &str, name: &str, op, value: Option<&str>| {
            let request = incremental_alter_configs::Request {
                resources: vec![incremental_alter_configs::AlterConfigsResource {
                    resource_type,
                    resource_name: resource_name.into(),
                    configs: vec![incremental_alter_configs::AlterableConfig {
                        name: name.into(),
                        config_operation: op as i8,
                        value: value.map(str::to_owned),
                    }],
                }],
                validate_only: false,
            };
            let response = ask::<incremental_alter_configs::Api>(&mut wire, 1, &request);
            assert_eq!(response.responses[0].resource_name, resource_name);
            response.responses[0].error_code
        };
    use incremental_alter_configs::AlterConfigOp::{Delete, Set};
    let replicas = "leader.replication.throttled.replicas";
    let rate = "leader.replication.throttled.rate";
    let (topic, of_broker) = (RESOURCE_TOPIC, describe_configs::RESOURCE_BROKER);
    let invalid = ErrorCode::InvalidConfig;
    assert_eq!(alter(topic, "t", replicas, Set, Some("*")), ErrorCode::None);
    assert_eq!(alter(topic, "t", replicas, Set, Some("1")), invalid);
    assert_eq!(alter(of_broker, "1", rate, Set, Some("9")), ErrorCode::None);
    assert_eq!(alter(of_broker, "", rate, Set, Some("9")), ErrorCode::None);
    assert_eq!(alter(of_broker, "1", rate, Set, Some("-9")), invalid);
    assert_eq!(
        alter(of_broker, "7", rate, Set, Some("9")),
        ErrorCode::BrokerIdNotRegistered
    );
    assert_eq!(
        alter(of_broker, "me", rate, Set, Some("9")),
        ErrorCode::InvalidRequest
    );
    assert_eq!(alter(topic, "t", replicas, Delete, None), ErrorCode::None);
    assert_eq!(alter(of_broker, "1", rate, Delete, None), ErrorCode::None);
    assert_eq!(alter(of_broker, "1", "log.dirs", Delete, None), invalid);
    let unknown = ErrorCode::UnknownTopicOrPartition;
    assert_eq!(alter(topic, "u", replicas, Delete, None), unknown);
}
