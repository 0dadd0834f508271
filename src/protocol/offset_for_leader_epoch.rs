//! OffsetForLeaderEpoch: where a leader epoch ends in the log, so that a consumer notices that what
//! it has read was cut off (KIP-320).

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use crate::model::{BrokerId, ErrorCode, LeaderEpoch, Offset};

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    /// A follower's id; -2 for a consumer.
    #[serde(skip)]
    #[kafka("3+", default = BrokerId(-2))]
    pub replica_id: BrokerId,
    pub topics: Vec<OffsetForLeaderTopic>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct OffsetForLeaderTopic {
    pub topic: String,
    pub partitions: Vec<OffsetForLeaderPartition>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct OffsetForLeaderPartition {
    pub partition: i32,
    /// The leader epoch that the client knows, or -1: another one is answered with an error.
    #[kafka("2+", default = LeaderEpoch::NONE)]
    pub current_leader_epoch: LeaderEpoch,
    /// The epoch whose end is asked for.
    pub leader_epoch: LeaderEpoch,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    #[kafka("2+")]
    pub throttle_time_ms: i32,
    pub topics: Vec<OffsetForLeaderTopicResult>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct OffsetForLeaderTopicResult {
    pub topic: String,
    pub partitions: Vec<EpochEndOffset>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct EpochEndOffset {
    pub error_code: ErrorCode,
    pub partition: i32,
    /// The largest epoch of the log that isn't above the one that was asked for; -1 if there is
    /// none.
    #[kafka("1+", default = LeaderEpoch::NONE)]
    pub leader_epoch: LeaderEpoch,
    /// The offset after its last record, or -1.
    #[kafka(default = Offset::NONE)]
    pub end_offset: Offset,
}
