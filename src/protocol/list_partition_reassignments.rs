//! ListPartitionReassignments: which partitions are on their way to other replicas (KIP-455).

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use crate::model::{BrokerId, ErrorCode};

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    #[kafka(default = 60_000)]
    pub timeout_ms: i32,
    /// Nil asks for all.
    pub topics: Option<Vec<ListPartitionReassignmentsTopics>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct ListPartitionReassignmentsTopics {
    pub name: String,
    pub partition_indexes: Vec<i32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub error_message: Option<String>,
    pub topics: Vec<OngoingTopicReassignment>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct OngoingTopicReassignment {
    pub name: String,
    pub partitions: Vec<OngoingPartitionReassignment>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct OngoingPartitionReassignment {
    pub partition_index: i32,
    /// Those that shall be, then those that shall go.
    pub replicas: Vec<BrokerId>,
    pub adding_replicas: Vec<BrokerId>,
    /// They go once those that are added are in sync.
    pub removing_replicas: Vec<BrokerId>,
}
