//! CreateTopics.

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use crate::model::{BrokerId, ErrorCode, TopicId};

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    pub topics: Vec<CreatableTopic>,
    pub timeout_ms: i32,
    /// Check everything, and create nothing.
    #[kafka("1+")]
    pub validate_only: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct CreatableTopic {
    pub name: String,
    /// -1: the broker's default, `num.partitions`.
    #[kafka(default = -1)]
    pub num_partitions: i32,
    /// -1: the broker's default, `default.replication.factor`.
    #[kafka(default = -1)]
    pub replication_factor: i16,
    /// Where each partition's replicas shall live; empty lets the controller place them. With
    /// assignments, partitions and replication factor must be -1.
    pub assignments: Vec<CreatableReplicaAssignment>,
    pub configs: Vec<CreatableTopicConfig>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct CreatableReplicaAssignment {
    pub partition_index: i32,
    pub broker_ids: Vec<BrokerId>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct CreatableTopicConfig {
    pub name: String,
    pub value: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    #[kafka("2+")]
    pub throttle_time_ms: i32,
    pub topics: Vec<CreatableTopicResult>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct CreatableTopicResult {
    pub name: String,
    #[kafka("7+")]
    pub topic_id: TopicId,
    pub error_code: ErrorCode,
    #[kafka("1+")]
    pub error_message: Option<String>,
    #[kafka("5+", default = -1)]
    pub num_partitions: i32,
    #[kafka("5+", default = -1)]
    pub replication_factor: i16,
    #[kafka("5+")]
    pub configs: Vec<CreatableTopicConfigs>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct CreatableTopicConfigs {
    pub name: String,
    pub value: Option<String>,
    pub read_only: bool,
    /// See [`super::describe_configs::ConfigSource`].
    pub config_source: i8,
    pub is_sensitive: bool,
}
