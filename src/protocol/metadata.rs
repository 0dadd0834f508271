//! Metadata: which brokers there are, and who leads which partition.

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use super::kafka::Adapt;
use crate::model::{BrokerId, ErrorCode, LeaderEpoch, TopicId};

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
#[kafka(adapt)]
pub struct Request {
    /// The topics that are asked for; nil asks for all, an empty list for none.
    #[kafka("0+", nullable = "1+")]
    pub topics: Option<Vec<MetadataRequestTopic>>,
    #[kafka("4+", default = true)]
    pub allow_auto_topic_creation: bool,
    /// As DescribeCluster has it.
    #[serde(skip)]
    #[kafka("8-10")]
    pub include_cluster_authorized_operations: bool,
    #[kafka("8+")]
    pub include_topic_authorized_operations: bool,
}

impl Adapt for Request {
    /// Version 0 asks for all topics with an empty list.
    fn upgrade(&mut self, version: i16) {
        if version == 0 {
            self.topics = self.topics.take().filter(|topics| !topics.is_empty());
        }
    }

    fn downgrade(&mut self, _: i16) {}
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct MetadataRequestTopic {
    /// Asks by id if there is no name.
    #[kafka("10+")]
    pub topic_id: TopicId,
    #[kafka("0+", nullable = "10+")]
    pub name: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    #[kafka("3+")]
    pub throttle_time_ms: i32,
    pub brokers: Vec<MetadataResponseBroker>,
    #[kafka("2+")]
    pub cluster_id: String,
    #[kafka("1+")]
    pub controller_id: BrokerId,
    pub topics: Vec<MetadataResponseTopic>,
    /// As DescribeCluster has it.
    #[serde(skip)]
    #[kafka("8-10", default = i32::MIN)]
    pub cluster_authorized_operations: i32,
    #[kafka("13+")]
    pub error_code: ErrorCode,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct MetadataResponseBroker {
    pub node_id: BrokerId,
    pub host: String,
    pub port: i32,
    #[kafka("1+")]
    pub rack: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct MetadataResponseTopic {
    pub error_code: ErrorCode,
    /// Nil if the topic was asked for by an id that isn't known.
    #[kafka("0+", nullable = "12+")]
    pub name: Option<String>,
    #[kafka("10+")]
    pub topic_id: TopicId,
    #[kafka("1+")]
    pub is_internal: bool,
    pub partitions: Vec<MetadataResponsePartition>,
    /// Bits of Kafka's `AclOperation`; the smallest i32 if they weren't asked for.
    #[kafka("8+", default = i32::MIN)]
    pub topic_authorized_operations: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct MetadataResponsePartition {
    pub error_code: ErrorCode,
    pub partition_index: i32,
    /// -1 if the partition has no leader now.
    pub leader_id: BrokerId,
    #[kafka("7+", default = LeaderEpoch::NONE)]
    pub leader_epoch: LeaderEpoch,
    pub replica_nodes: Vec<BrokerId>,
    pub isr_nodes: Vec<BrokerId>,
    #[kafka("5+")]
    pub offline_replicas: Vec<BrokerId>,
}
