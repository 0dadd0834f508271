//! CreatePartitions: raise a topic's number of partitions.

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use crate::model::{BrokerId, ErrorCode};

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    pub topics: Vec<CreatePartitionsTopic>,
    pub timeout_ms: i32,
    pub validate_only: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct CreatePartitionsTopic {
    pub name: String,
    /// How many partitions the topic shall have in all.
    pub count: i32,
    /// Where the new partitions' replicas shall live; nil lets the controller place them.
    pub assignments: Option<Vec<CreatePartitionsAssignment>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct CreatePartitionsAssignment {
    pub broker_ids: Vec<BrokerId>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    #[kafka("0+")]
    pub throttle_time_ms: i32,
    pub results: Vec<CreatePartitionsTopicResult>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct CreatePartitionsTopicResult {
    pub name: String,
    pub error_code: ErrorCode,
    pub error_message: Option<String>,
}
