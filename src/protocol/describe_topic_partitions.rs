//! DescribeTopicPartitions: topics and their partitions, page by page (KIP-966).

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use crate::model::{BrokerId, ErrorCode, LeaderEpoch, TopicId};

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    /// An empty list asks for all.
    pub topics: Vec<TopicRequest>,
    /// The most partitions that an answer has.
    #[kafka(default = 2000)]
    pub response_partition_limit: i32,
    /// Where to go on: the `next_cursor` of the answer before.
    pub cursor: Option<Cursor>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct TopicRequest {
    pub name: String,
}

/// The first partition that wasn't told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Cursor {
    pub topic_name: String,
    pub partition_index: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    pub throttle_time_ms: i32,
    /// In the order of their names.
    pub topics: Vec<DescribeTopicPartitionsResponseTopic>,
    /// Nil if all is told.
    pub next_cursor: Option<Cursor>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct DescribeTopicPartitionsResponseTopic {
    pub error_code: ErrorCode,
    pub name: Option<String>,
    pub topic_id: TopicId,
    pub is_internal: bool,
    pub partitions: Vec<DescribeTopicPartitionsResponsePartition>,
    /// Bits of Kafka's `AclOperation`.
    #[kafka(default = i32::MIN)]
    pub topic_authorized_operations: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct DescribeTopicPartitionsResponsePartition {
    pub error_code: ErrorCode,
    pub partition_index: i32,
    /// -1 if the partition has no leader now.
    pub leader_id: BrokerId,
    #[kafka(default = LeaderEpoch::NONE)]
    pub leader_epoch: LeaderEpoch,
    pub replica_nodes: Vec<BrokerId>,
    pub isr_nodes: Vec<BrokerId>,
    /// Replicas that may lead without loss although they aren't in sync.
    pub eligible_leader_replicas: Option<Vec<BrokerId>>,
    /// The last eligible replicas that are known, where there are none now.
    pub last_known_elr: Option<Vec<BrokerId>>,
    pub offline_replicas: Vec<BrokerId>,
}
