//! Produce: append record batches to partitions.

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use super::leader::{LeaderIdAndEpoch, NodeEndpoint};
use super::Records;
use crate::model::{ErrorCode, Offset, Timestamp, TopicId};

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    /// Must be nil: this broker has no transactions yet.
    pub transactional_id: Option<String>,
    /// 0: no response is sent; 1: answered when the leader has appended; -1 ("all"): answered when
    /// every in-sync replica has it on disk.
    pub acks: i16,
    /// How long the leader may wait for the in-sync replicas, in milliseconds.
    pub timeout_ms: i32,
    pub topic_data: Vec<TopicProduceData>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct TopicProduceData {
    /// The topic's name. If empty, `topic_id` says which.
    #[kafka("0-12")]
    pub name: String,
    #[kafka("13+")]
    pub topic_id: TopicId,
    pub partition_data: Vec<PartitionProduceData>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct PartitionProduceData {
    pub index: i32,
    /// Exactly one record batch of format 2.
    pub records: Records,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    pub responses: Vec<TopicProduceResponse>,
    #[kafka("1+")]
    pub throttle_time_ms: i32,
    /// Where the leaders that are named above can be reached (KIP-951).
    #[kafka("10+", tag = 0)]
    pub node_endpoints: Vec<NodeEndpoint>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct TopicProduceResponse {
    /// As the request named it.
    #[kafka("0-12")]
    pub name: String,
    #[kafka("13+")]
    pub topic_id: TopicId,
    pub partition_responses: Vec<PartitionProduceResponse>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct PartitionProduceResponse {
    pub index: i32,
    pub error_code: ErrorCode,
    /// The offset of the batch's first record, or -1 with an error.
    #[kafka(default = Offset::NONE)]
    pub base_offset: Offset,
    /// The broker's time of the append where the topic uses `LogAppendTime`, else -1.
    #[kafka("2+", default = Timestamp::NONE)]
    pub log_append_time_ms: Timestamp,
    #[kafka("5+", default = Offset::NONE)]
    pub log_start_offset: Offset,
    /// Which records of the batch were refused, where that is known.
    #[kafka("8+")]
    pub record_errors: Vec<BatchIndexAndErrorMessage>,
    #[kafka("8+")]
    pub error_message: Option<String>,
    /// Who leads the partition, if it isn't the broker that was asked.
    #[kafka("10+", tag = 0)]
    pub current_leader: Option<LeaderIdAndEpoch>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct BatchIndexAndErrorMessage {
    /// The record's number in its batch, from 0.
    pub batch_index: i32,
    pub batch_index_error_message: Option<String>,
}
