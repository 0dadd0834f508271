//! ElectLeaders: partitions are led by their preferred replicas, or by anybody rather than by nobody (KIP-460).

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use crate::model::ErrorCode;

pub struct Api;

/// `election_type`: the first of the replicas shall lead, where it is in sync.
pub const ELECTION_PREFERRED: i8 = 0;
/// `election_type`: where nobody leads, a replica shall that may lack committed records.
pub const ELECTION_UNCLEAN: i8 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    /// 0: the preferred replica shall lead. 1: where nobody leads, a replica shall that may lack committed
    /// records; they are lost then.
    #[kafka("1+")]
    pub election_type: i8,
    /// Nil asks for all partitions that need it.
    pub topic_partitions: Option<Vec<TopicPartitions>>,
    #[kafka(default = 60_000)]
    pub timeout_ms: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct TopicPartitions {
    pub topic: String,
    pub partitions: Vec<i32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    pub throttle_time_ms: i32,
    #[kafka("1+")]
    pub error_code: ErrorCode,
    /// Where all partitions were asked for, those that needed no election aren't told.
    pub replica_election_results: Vec<ReplicaElectionResult>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct ReplicaElectionResult {
    pub topic: String,
    pub partition_result: Vec<PartitionResult>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct PartitionResult {
    pub partition_id: i32,
    pub error_code: ErrorCode,
    pub error_message: Option<String>,
}
