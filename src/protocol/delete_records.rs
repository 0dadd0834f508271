//! DeleteRecords: raise a partition's log start offset.

use serde::{Deserialize, Serialize};

use crate::model::{ErrorCode, Offset};

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub topics: Vec<DeleteRecordsTopic>,
    pub timeout_ms: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeleteRecordsTopic {
    pub name: String,
    pub partitions: Vec<DeleteRecordsPartition>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeleteRecordsPartition {
    pub partition_index: i32,
    /// Records below it are deleted; -1 means the high watermark.
    pub offset: Offset,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    pub topics: Vec<DeleteRecordsTopicResult>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeleteRecordsTopicResult {
    pub name: String,
    pub partitions: Vec<DeleteRecordsPartitionResult>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeleteRecordsPartitionResult {
    pub partition_index: i32,
    /// The log start offset afterwards.
    pub low_watermark: Offset,
    pub error_code: ErrorCode,
}
