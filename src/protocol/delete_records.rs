//! DeleteRecords: raise a partition's log start offset.

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use crate::model::{ErrorCode, Offset};

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    pub topics: Vec<DeleteRecordsTopic>,
    pub timeout_ms: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct DeleteRecordsTopic {
    pub name: String,
    pub partitions: Vec<DeleteRecordsPartition>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct DeleteRecordsPartition {
    pub partition_index: i32,
    /// Records below it are deleted; -1 means the high watermark.
    pub offset: Offset,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    #[kafka("0+")]
    pub throttle_time_ms: i32,
    pub topics: Vec<DeleteRecordsTopicResult>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct DeleteRecordsTopicResult {
    pub name: String,
    pub partitions: Vec<DeleteRecordsPartitionResult>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct DeleteRecordsPartitionResult {
    pub partition_index: i32,
    /// The log start offset afterwards.
    #[kafka(default = Offset::NONE)]
    pub low_watermark: Offset,
    pub error_code: ErrorCode,
}
