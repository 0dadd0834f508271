//! ListOffsets: where a partition starts and ends, and where a time lies in it.

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use crate::model::{BrokerId, ErrorCode, LeaderEpoch, Offset, Timestamp};

pub struct Api;

/// Asks for the high watermark.
pub const LATEST_TIMESTAMP: Timestamp = Timestamp(-1);
/// Asks for the log start offset.
pub const EARLIEST_TIMESTAMP: Timestamp = Timestamp(-2);
/// Asks for the record with the largest timestamp (KIP-734).
pub const MAX_TIMESTAMP: Timestamp = Timestamp(-3);
/// Asks for the first record on this broker's own disks (KIP-405): the log start offset, since no
/// other storage holds records of it.
pub const EARLIEST_LOCAL_TIMESTAMP: Timestamp = Timestamp(-4);
/// Asks for the last record in remote storage (KIP-1005): there is none.
pub const LATEST_TIERED_TIMESTAMP: Timestamp = Timestamp(-5);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    /// -1 for a client.
    #[serde(skip)]
    pub replica_id: BrokerId,
    /// With 1, the end is the last stable offset.
    #[kafka("2+")]
    pub isolation_level: i8,
    pub topics: Vec<ListOffsetsTopic>,
    #[kafka("10+")]
    pub timeout_ms: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct ListOffsetsTopic {
    pub name: String,
    pub partitions: Vec<ListOffsetsPartition>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct ListOffsetsPartition {
    pub partition_index: i32,
    #[kafka("4+", default = LeaderEpoch::NONE)]
    pub current_leader_epoch: LeaderEpoch,
    /// The first record at or after this time is asked for; or one of the constants above.
    pub timestamp: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    #[kafka("2+")]
    pub throttle_time_ms: i32,
    pub topics: Vec<ListOffsetsTopicResponse>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct ListOffsetsTopicResponse {
    pub name: String,
    pub partitions: Vec<ListOffsetsPartitionResponse>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct ListOffsetsPartitionResponse {
    pub partition_index: i32,
    pub error_code: ErrorCode,
    /// The record's timestamp; -1 if there is no such record, or for start and end.
    #[kafka(default = Timestamp::NONE)]
    pub timestamp: Timestamp,
    /// -1 if there is no such record.
    #[kafka(default = Offset::NONE)]
    pub offset: Offset,
    #[kafka("4+", default = LeaderEpoch::NONE)]
    pub leader_epoch: LeaderEpoch,
}
