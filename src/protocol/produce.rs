//! Produce: append record batches to partitions.

use serde::{Deserialize, Serialize};

use super::Records;
use crate::model::{ErrorCode, Offset, Timestamp};

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// 0: no response is sent; 1: answered when the leader has appended; -1 ("all"): answered when
    /// every in-sync replica has it on disk.
    pub acks: i16,
    /// How long the leader may wait for the in-sync replicas, in milliseconds.
    pub timeout_ms: i32,
    pub topic_data: Vec<TopicProduceData>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopicProduceData {
    pub name: String,
    pub partition_data: Vec<PartitionProduceData>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionProduceData {
    pub index: i32,
    /// Exactly one record batch of format 2.
    pub records: Records,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    pub responses: Vec<TopicProduceResponse>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopicProduceResponse {
    pub name: String,
    pub partition_responses: Vec<PartitionProduceResponse>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionProduceResponse {
    pub index: i32,
    pub error_code: ErrorCode,
    /// The offset of the batch's first record, or -1 with an error.
    pub base_offset: Offset,
    /// The broker's time of the append where the topic uses `LogAppendTime`, else -1.
    pub log_append_time_ms: Timestamp,
    pub log_start_offset: Offset,
    pub error_message: Option<String>,
}
