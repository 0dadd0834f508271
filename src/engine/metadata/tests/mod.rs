//! The metadata's promises, decision by decision.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::*;
use crate::engine::metadata::register_broker::{BrokerRegistration, Past};
use crate::model::{BrokerId, ClusterId, Incarnation, TopicId};

mod broker_configs;
mod configs;
mod decisions;
mod encoding;
mod give_up_log;
mod histories;
mod metadata_version;
mod properties;
mod replay;
mod sweeps;
mod topics;

fn topic_id(number: u128) -> TopicId {
    TopicId(Uuid::from_u128(number))
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint {
        listener: "native".into(),
        host: "127.0.0.1".into(),
        port,
    }
}

fn register(id: i32, incarnation: u128, rack: Option<&str>) -> MetadataCommand {
    MetadataCommand::RegisterBroker {
        id: BrokerId(id),
        incarnation: Incarnation(Uuid::from_u128(incarnation)),
        endpoints: vec![endpoint(7070)],
        rack: rack.map(Into::into),
        state: BrokerState::Unfenced,
        metadata_version_max: None,
    }
}

fn registration(id: i32, incarnation: u128) -> BrokerRegistration {
    BrokerRegistration {
        cluster_id: None,
        id: BrokerId(id),
        incarnation: Incarnation(Uuid::from_u128(incarnation)),
        endpoints: vec![endpoint(7070)],
        rack: None,
        past: Past::Unknown,
        lost: Default::default(),
        metadata_version_max: None,
    }
}

fn create(name: &str, id: u128, partitions: &[&[i32]]) -> MetadataCommand {
    MetadataCommand::CreateTopic {
        name: name.parse().unwrap(),
        id: topic_id(id),
        partitions: partitions
            .iter()
            .map(|replicas| brokers(replicas))
            .collect(),
        configs: BTreeMap::new(),
    }
}

fn brokers(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}

fn image(commands: &[MetadataCommand]) -> MetadataImage {
    let mut image = MetadataImage::default();
    commands.iter().for_each(|command| image.replay(command));
    image
}

/// A cluster of so many brokers, without topics.
fn cluster(size: i32) -> MetadataImage {
    let bootstrap = MetadataCommand::BootstrapCluster {
        cluster_id: ClusterId("klamm-1".into()),
        metadata_version: METADATA_VERSION,
    };
    let registered = (1..=size).map(|id| register(id, 100 + id as u128, None));
    image(
        &[bootstrap]
            .into_iter()
            .chain(registered)
            .collect::<Vec<_>>(),
    )
}
