//! Topics, configs, actors and the cluster, as they are asked for and changed while the broker
//! runs; and that they are still so in its next life.

use klamm::model::{BrokerId, ErrorCode};
use klamm::protocol::create_partitions::{self, CreatePartitionsTopic};
use klamm::protocol::describe_configs::{self, DescribeConfigsResource, RESOURCE_TOPIC};
use klamm::protocol::incremental_alter_configs::{
    self, AlterConfigOp, AlterConfigsResource, AlterableConfig,
};
use klamm::protocol::{api_versions, create_topics, describe_cluster, metadata, ApiKey};
use rustix::process::Signal;

use crate::calls::create_request;
use crate::harness::{Home, BOTH};
use crate::load::until;
use crate::wire::{greeting, Wire};

fn alter(
    wire: &mut Wire,
    topic: &str,
    name: &str,
    op: AlterConfigOp,
    value: Option<&str>,
) -> ErrorCode {
    let request = incremental_alter_configs::Request {
        resources: vec![AlterConfigsResource {
            resource_type: RESOURCE_TOPIC,
            resource_name: topic.into(),
            configs: vec![AlterableConfig {
                name: name.into(),
                config_operation: op as i8,
                value: value.map(str::to_owned),
            }],
        }],
        validate_only: false,
    };
    let response = wire.call::<incremental_alter_configs::Api>(&request);
    response.responses[0].error_code
}

fn config(wire: &mut Wire, topic: &str, name: &str) -> Option<String> {
    let request = describe_configs::Request {
        resources: vec![DescribeConfigsResource {
            resource_type: RESOURCE_TOPIC,
            resource_name: topic.into(),
            configuration_keys: Some(vec![name.into()]),
        }],
        include_synonyms: false,
        include_documentation: false,
    };
    let response = wire.call::<describe_configs::Api>(&request);
    let result = &response.results[0];
    assert_eq!(result.error_code, ErrorCode::None, "{result:?}");
    result.configs[0].value.clone()
}

fn partition_count(wire: &mut Wire, topic: &str, count: i32) -> ErrorCode {
    let request = create_partitions::Request {
        topics: vec![CreatePartitionsTopic {
            name: topic.into(),
            count,
            assignments: None,
        }],
        timeout_ms: 10_000,
        validate_only: false,
    };
    wire.call::<create_partitions::Api>(&request).results[0].error_code
}

#[test]
fn a_greeting_is_answered_with_every_api_and_the_cluster() {
    let broker = Home::new().start();
    let mut wire = broker.connect();
    let response = wire.call::<api_versions::Api>(&greeting());
    let keys: Vec<_> = response.api_keys.iter().map(|v| v.api_key).collect();
    let expected: Vec<_> = ApiKey::ALL.iter().map(|api| *api as i16).collect();
    assert_eq!(keys, expected);
    let cluster = wire.call::<describe_cluster::Api>(&describe_cluster::Request::default());
    assert_eq!(cluster.cluster_id, response.cluster_id);
    assert_eq!(cluster.brokers[0].port, i32::from(broker.address.port()));
}

#[test]
fn topics_are_created_described_and_deleted_and_outlive_the_process() {
    for encoding in BOTH {
        let home = Home::new();
        let broker = home.start();
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 3, &[("retention.ms", "5000")]);
        wire.create_topic("others", 1, &[]);
        let again = wire.try_create_topic("orders", 1, &[]);
        assert_eq!(again.error_code, ErrorCode::TopicAlreadyExists);
        let id = wire.topic("orders").topic_id;
        broker.stop();

        let broker = home.start();
        let mut wire = broker.connect_as(encoding);
        let topic = wire.topic("orders");
        assert_eq!((topic.topic_id, topic.partitions.len()), (id, 3));
        assert!(topic.partitions.iter().all(|p| p.leader_id == BrokerId(1)));
        assert_eq!(
            config(&mut wire, "orders", "retention.ms").as_deref(),
            Some("5000")
        );
        assert_eq!(wire.delete_topic("orders"), ErrorCode::None);
        assert_eq!(
            wire.delete_topic("orders"),
            ErrorCode::UnknownTopicOrPartition
        );
        broker.kill();

        let broker = home.start();
        let mut wire = broker.connect_as(encoding);
        assert_eq!(
            wire.topic("orders").error_code,
            ErrorCode::UnknownTopicOrPartition
        );
        assert_eq!(wire.topic("others").error_code, ErrorCode::None);
    }
}

#[test]
fn the_data_of_a_topic_goes_with_it_and_no_other() {
    for encoding in BOTH {
        let home = Home::new();
        let mut broker = home.start();
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 5, &[]);
        wire.create_topic("others", 2, &[]);
        wire.append("orders", &["a"]);
        wire.append("others", &["b"]);
        let kept = wire.topic("others").topic_id.to_string();
        let dirs = || -> Vec<String> {
            let entries = std::fs::read_dir(home.data().join("logs")).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.collect()
        };
        assert_eq!(dirs().len(), 7);
        assert_eq!(wire.delete_topic("orders"), ErrorCode::None);
        until("the data of the topic is gone", || dirs().len() == 2);
        assert!(dirs().iter().all(|name| name.starts_with(&kept)));
        assert_eq!(wire.read_all("others", 0), [(0, b"b".to_vec())]);
        // Nothing went wrong in the eyes of the broker either.
        broker.signal(Signal::TERM);
        broker.wait();
        let log = broker.log();
        assert!(!log.contains("ERROR"), "{log}");
    }
}

#[test]
fn validate_only_checks_and_changes_nothing() {
    for encoding in BOTH {
        let broker = Home::new().start();
        let mut wire = broker.connect_as(encoding);
        let request = create_topics::Request {
            validate_only: true,
            ..create_request("orders", 1, &[])
        };
        let response = wire.call::<create_topics::Api>(&request);
        assert_eq!(response.topics[0].error_code, ErrorCode::None);
        assert_eq!(
            wire.topic("orders").error_code,
            ErrorCode::UnknownTopicOrPartition
        );
    }
}

#[test]
fn asking_for_a_topic_creates_it_only_where_asker_and_config_want_it() {
    for encoding in BOTH {
        let home = Home::new().with("topics.num_partitions", 2);
        let broker = home.start();
        let mut wire = broker.connect_as(encoding);
        let ask = |wire: &mut Wire, name: &str| {
            let request = metadata::Request {
                topics: Some(vec![metadata::MetadataRequestTopic {
                    topic_id: Default::default(),
                    name: Some(name.into()),
                }]),
                allow_auto_topic_creation: true,
                ..Default::default()
            };
            wire.call::<metadata::Api>(&request).topics[0].clone()
        };
        let topic = ask(&mut wire, "orders");
        assert_eq!(
            (topic.error_code, topic.partitions.len()),
            (ErrorCode::None, 2)
        );
        wire.append("orders", &["at once"]);
        assert_eq!(
            ask(&mut wire, "no/name").error_code,
            ErrorCode::InvalidTopicException
        );
        broker.stop();
        let broker = home.with("topics.auto_create_topics_enable", false).start();
        let unknown = ask(&mut broker.connect_as(encoding), "others");
        assert_eq!(unknown.error_code, ErrorCode::UnknownTopicOrPartition);
    }
}

#[test]
fn a_changed_config_acts_at_once() {
    for encoding in BOTH {
        let broker = Home::new().start();
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 1, &[]);
        wire.append("orders", &[[0; 200]]);
        let set = |wire: &mut Wire, value| {
            alter(
                wire,
                "orders",
                "max.message.bytes",
                AlterConfigOp::Set,
                Some(value),
            )
        };
        assert_eq!(set(&mut wire, "100"), ErrorCode::None);
        assert_eq!(
            config(&mut wire, "orders", "max.message.bytes").as_deref(),
            Some("100")
        );
        let refused = wire.produce("orders", 0, 1, crate::batches::batch(&[[0; 200]]));
        assert_eq!(refused.error_code, ErrorCode::MessageTooLarge);
        assert_eq!(set(&mut wire, "many"), ErrorCode::InvalidConfig);
        let deleted = alter(
            &mut wire,
            "orders",
            "max.message.bytes",
            AlterConfigOp::Delete,
            None,
        );
        assert_eq!(deleted, ErrorCode::None);
        wire.append("orders", &[[0; 200]]);
    }
}

#[test]
fn partitions_are_added_and_never_taken_away() {
    for encoding in BOTH {
        let broker = Home::new().start();
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 2, &[]);
        assert_eq!(partition_count(&mut wire, "orders", 4), ErrorCode::None);
        assert_eq!(wire.topic("orders").partitions.len(), 4);
        assert_eq!(
            partition_count(&mut wire, "orders", 3),
            ErrorCode::InvalidPartitions
        );
        let unknown = partition_count(&mut wire, "others", 3);
        assert_eq!(unknown, ErrorCode::UnknownTopicOrPartition);
    }
}

#[test]
fn every_actor_can_be_seen() {
    let broker = Home::new().start();
    let mut wire = broker.connect();
    wire.create_topic("orders", 2, &[]);
    wire.append("orders", &["a", "b"]);
    let actors = wire.actors(None);
    let me = wire.local_address().to_string();
    for (kind, name) in [
        ("connection", me.as_str()),
        ("controller", "controller"),
        ("guardian", "guardian"),
        ("partition_leader", "orders-0"),
        ("partition_leader", "orders-1"),
    ] {
        let found = actors.iter().find(|a| a.kind == kind && a.name == name);
        let found = found.unwrap_or_else(|| panic!("no {kind} {name} in {actors:?}"));
        assert_eq!((found.state.as_str(), found.restarts), ("running", 0));
        assert!(found.mailbox_depth < 100, "{found:?}");
    }
    let partitions = wire.actors(Some("partition_leader"));
    assert_eq!(partitions.len(), 2);
    assert!(
        partitions[0].detail.contains("high watermark 2"),
        "{partitions:?}"
    );
    assert!(partitions[0].messages_handled > 0);
}

#[test]
fn a_connection_that_is_gone_is_no_longer_listed() {
    let broker = Home::new().start();
    let mut wire = broker.connect();
    let leaving = broker.connect();
    let name = leaving.local_address().to_string();
    let listed = |wire: &mut Wire| {
        wire.actors(Some("connection"))
            .iter()
            .any(|a| a.name == name)
    };
    assert!(listed(&mut wire));
    drop(leaving);
    until("it is no longer listed", || !listed(&mut wire));
}
