//! What a client knows of the cluster: brokers, topics, and who leads which partition.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use crate::model::{BrokerId, ErrorCode, LeaderEpoch, TopicId};
use crate::protocol::metadata::{MetadataResponseTopic, Response};

/// A broker, and where clients reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerAddress {
    pub id: BrokerId,
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
}

impl std::fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // An IPv6 address needs brackets before a port.
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// A topic and its partitions, by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMetadata {
    pub name: Arc<str>,
    pub id: TopicId,
    pub is_internal: bool,
    pub partitions: Vec<PartitionMetadata>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMetadata {
    pub index: i32,
    /// `None` while the partition has no leader.
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    pub replicas: Vec<BrokerId>,
    pub in_sync: Vec<BrokerId>,
    pub offline: Vec<BrokerId>,
    pub error_code: ErrorCode,
}

impl TopicMetadata {
    /// From a response's topic that has a name and no error.
    pub(super) fn from_wire(name: &str, topic: &MetadataResponseTopic) -> TopicMetadata {
        let mut partitions: Vec<_> = topic
            .partitions
            .iter()
            .map(|partition| PartitionMetadata {
                index: partition.partition_index,
                leader: Some(partition.leader_id).filter(|id| *id != BrokerId::NONE),
                leader_epoch: partition.leader_epoch,
                replicas: partition.replica_nodes.clone(),
                in_sync: partition.isr_nodes.clone(),
                offline: partition.offline_replicas.clone(),
                error_code: partition.error_code,
            })
            .collect();
        partitions.sort_by_key(|partition| partition.index);
        TopicMetadata {
            name: name.into(),
            id: topic.topic_id,
            is_internal: topic.is_internal,
            partitions,
        }
    }

    pub fn partition(&self, index: i32) -> Option<&PartitionMetadata> {
        self.partitions
            .iter()
            .find(|partition| partition.index == index)
    }
}

/// What the last Metadata responses said.
#[derive(Debug, Default)]
pub(super) struct Cache {
    pub brokers: HashMap<BrokerId, BrokerAddress>,
    pub controller: Option<BrokerId>,
    pub topics: HashMap<String, KnownTopic>,
}

/// A topic's metadata, and how old they are.
#[derive(Clone, Debug)]
pub(super) struct KnownTopic {
    pub metadata: Arc<TopicMetadata>,
    pub learnt_at: Instant,
}

impl Cache {
    /// Takes over a response; topics that it doesn't mention stay as they were.
    pub(super) fn update(&mut self, response: &Response) {
        self.brokers = response
            .brokers
            .iter()
            .map(|broker| {
                let address = BrokerAddress {
                    id: broker.node_id,
                    host: broker.host.clone(),
                    port: u16::try_from(broker.port).unwrap_or(0),
                    rack: broker.rack.clone(),
                };
                (broker.node_id, address)
            })
            .collect();
        self.controller = Some(response.controller_id).filter(|id| *id != BrokerId::NONE);
        for topic in &response.topics {
            let Some(name) = &topic.name else { continue };
            if topic.error_code.is_ok() {
                let metadata = TopicMetadata::from_wire(name, topic);
                let known = KnownTopic {
                    metadata: Arc::new(metadata),
                    learnt_at: Instant::now(),
                };
                self.topics.insert(name.clone(), known);
            } else {
                self.topics.remove(name);
            }
        }
    }
}
