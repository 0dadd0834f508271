//! The bytes of every command, pinned: a log that an earlier build wrote must read the same.

use std::fmt::Write;

use super::*;
use crate::model::{DirectoryId, LeaderEpoch, PartitionId};

fn every_command() -> Vec<(&'static str, MetadataCommand)> {
    use MetadataCommand as C;
    vec![
        (
            "BootstrapCluster",
            C::BootstrapCluster {
                cluster_id: ClusterId("c".into()),
                metadata_version: 1,
            },
        ),
        ("RegisterBroker", register(1, 2, Some("r"))),
        (
            "RegisterBrokerThatSaysWhatItKnows",
            C::RegisterBroker {
                id: BrokerId(1),
                incarnation: Incarnation(Uuid::from_u128(2)),
                endpoints: Vec::new(),
                rack: None,
                state: BrokerState::Fenced,
                metadata_version_max: Some(5),
            },
        ),
        ("CreateTopic", create("t", 3, &[&[1, 2]])),
        ("DeleteTopic", C::DeleteTopic { id: topic_id(3) }),
        (
            "AddPartitions",
            C::AddPartitions {
                id: topic_id(3),
                first: 1,
                partitions: vec![brokers(&[1])],
            },
        ),
        (
            "SetTopicConfigs",
            C::SetTopicConfigs {
                id: topic_id(3),
                set: BTreeMap::from([("a".into(), "b".into())]),
                removed: ["c".into()].into(),
            },
        ),
        (
            "ChangePartitionLeader",
            C::ChangePartitionLeader {
                partition: PartitionId {
                    topic_id: topic_id(3),
                    partition: 0,
                },
                leader: BrokerId(1),
                leader_epoch: LeaderEpoch(4),
            },
        ),
        (
            "AllocateProducerIds",
            C::AllocateProducerIds {
                broker: BrokerId(1),
                broker_epoch: BrokerEpoch(5),
                up_to: 1_000,
            },
        ),
        (
            "ReadmitVoter",
            C::ReadmitVoter {
                voter: BrokerId(2),
                directory: DirectoryId(uuid::Uuid::from_u128(7)),
            },
        ),
        (
            "SetBrokerConfigs",
            C::SetBrokerConfigs {
                broker: Some(BrokerId(2)),
                set: BTreeMap::from([("a".into(), "b".into())]),
                removed: ["c".into()].into(),
            },
        ),
        (
            "UnregisterBroker",
            C::UnregisterBroker {
                id: BrokerId(2),
                epoch: BrokerEpoch(5),
            },
        ),
    ]
}

#[test]
fn the_bytes_of_every_command_are_as_they_were() {
    let mut written = String::new();
    for (name, command) in every_command() {
        let bytes = rmp_serde::to_vec_named(&command).unwrap();
        assert_eq!(
            rmp_serde::from_slice::<MetadataCommand>(&bytes).unwrap(),
            command
        );
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(written, "{name} {hex}").unwrap();
    }
    assert_eq!(written, include_str!("commands.golden"));
}

#[test]
fn the_latest_version_is_the_one_that_brought_the_latest_command() {
    let needed = every_command()
        .into_iter()
        .map(|(_, command)| command.needs());
    assert_eq!(needed.max(), Some(METADATA_VERSION));
}

/// As builds of before registrations said what brokers know.
#[test]
fn a_registration_is_read_by_builds_that_do_not_know_all_its_fields() {
    #[derive(serde::Deserialize)]
    enum Earlier {
        RegisterBroker { id: BrokerId, state: BrokerState },
    }
    let (_, command) = &every_command()[2];
    let bytes = rmp_serde::to_vec_named(command).unwrap();
    let Earlier::RegisterBroker { id, state } = rmp_serde::from_slice(&bytes).unwrap();
    assert_eq!((id, state), (BrokerId(1), BrokerState::Fenced));
}

#[test]
fn a_command_that_this_build_does_not_know_is_not_read() {
    let unknown = std::collections::BTreeMap::from([("PaintTheTown", ("red",))]);
    let bytes = rmp_serde::to_vec_named(&unknown).unwrap();
    assert!(rmp_serde::from_slice::<MetadataCommand>(&bytes).is_err());
}
