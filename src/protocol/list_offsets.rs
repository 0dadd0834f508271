//! ListOffsets: where a partition starts and ends, and where a time lies in it.

use serde::{Deserialize, Serialize};

use crate::model::{ErrorCode, LeaderEpoch, Offset, Timestamp};

pub struct Api;

/// Asks for the high watermark.
pub const LATEST_TIMESTAMP: Timestamp = Timestamp(-1);
/// Asks for the log start offset.
pub const EARLIEST_TIMESTAMP: Timestamp = Timestamp(-2);
/// Asks for the record with the largest timestamp (KIP-734).
pub const MAX_TIMESTAMP: Timestamp = Timestamp(-3);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub topics: Vec<ListOffsetsTopic>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListOffsetsTopic {
    pub name: String,
    pub partitions: Vec<ListOffsetsPartition>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListOffsetsPartition {
    pub partition_index: i32,
    pub current_leader_epoch: LeaderEpoch,
    /// The first record at or after this time is asked for; or one of the constants above.
    pub timestamp: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    pub topics: Vec<ListOffsetsTopicResponse>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListOffsetsTopicResponse {
    pub name: String,
    pub partitions: Vec<ListOffsetsPartitionResponse>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListOffsetsPartitionResponse {
    pub partition_index: i32,
    pub error_code: ErrorCode,
    /// The record's timestamp; -1 if there is no such record, or for start and end.
    pub timestamp: Timestamp,
    /// -1 if there is no such record.
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
}
