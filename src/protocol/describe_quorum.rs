//! DescribeQuorum: who keeps the metadata, and how far each of them is (KIP-595, KIP-836).

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use crate::model::{BrokerId, DirectoryId, ErrorCode, Timestamp};

pub struct Api;

/// How Kafka names the log of the metadata, whose only partition is 0.
pub const METADATA_TOPIC: &str = "__cluster_metadata";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    /// Only partition 0 of `__cluster_metadata` has a quorum.
    pub topics: Vec<TopicData>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct TopicData {
    pub topic_name: String,
    pub partitions: Vec<PartitionData>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct PartitionData {
    pub partition_index: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    pub error_code: ErrorCode,
    #[kafka("2+")]
    pub error_message: Option<String>,
    pub topics: Vec<DescribedTopic>,
    #[kafka("2+")]
    pub nodes: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct DescribedTopic {
    pub topic_name: String,
    pub partitions: Vec<DescribedPartition>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct DescribedPartition {
    pub partition_index: i32,
    pub error_code: ErrorCode,
    #[kafka("2+")]
    pub error_message: Option<String>,
    pub leader_id: BrokerId,
    /// Raft's term.
    pub leader_epoch: i32,
    pub high_watermark: i64,
    pub current_voters: Vec<ReplicaState>,
    /// Nodes that follow without a vote, and have asked the leader lately.
    pub observers: Vec<ReplicaState>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct ReplicaState {
    pub replica_id: BrokerId,
    /// Of the copy of the metadata that the node is known with.
    #[kafka("2+")]
    pub replica_directory_id: DirectoryId,
    /// -1: the leader doesn't know it yet.
    pub log_end_offset: i64,
    /// When that was sent to a voter which it has answered last, or when an observer has asked last, by the
    /// leader's clock; -1: never yet.
    #[kafka("1+", default = Timestamp(-1))]
    pub last_fetch_timestamp: Timestamp,
    /// When that was with which it had all that the leader had then; -1: never yet.
    #[kafka("1+", default = Timestamp(-1))]
    pub last_caught_up_timestamp: Timestamp,
}

/// Where a voter can be reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Node {
    pub node_id: BrokerId,
    pub listeners: Vec<Listener>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Listener {
    pub name: String,
    pub host: String,
    pub port: u16,
}
