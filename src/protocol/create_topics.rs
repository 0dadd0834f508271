//! CreateTopics.

use serde::{Deserialize, Serialize};

use crate::model::{BrokerId, ErrorCode, TopicId};

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub topics: Vec<CreatableTopic>,
    pub timeout_ms: i32,
    /// Check everything, and create nothing.
    pub validate_only: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreatableTopic {
    pub name: String,
    /// -1: the broker's default, `num.partitions`.
    pub num_partitions: i32,
    /// -1: the broker's default, `default.replication.factor`.
    pub replication_factor: i16,
    /// Where each partition's replicas shall live; empty lets the controller place them. With
    /// assignments, partitions and replication factor must be -1.
    pub assignments: Vec<CreatableReplicaAssignment>,
    pub configs: Vec<CreatableTopicConfig>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreatableReplicaAssignment {
    pub partition_index: i32,
    pub broker_ids: Vec<BrokerId>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreatableTopicConfig {
    pub name: String,
    pub value: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    pub topics: Vec<CreatableTopicResult>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreatableTopicResult {
    pub name: String,
    pub topic_id: TopicId,
    pub error_code: ErrorCode,
    pub error_message: Option<String>,
    pub num_partitions: i32,
    pub replication_factor: i16,
    pub configs: Vec<CreatableTopicConfigs>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreatableTopicConfigs {
    pub name: String,
    pub value: Option<String>,
    pub read_only: bool,
    /// See [`super::describe_configs::ConfigSource`].
    pub config_source: i8,
    pub is_sensitive: bool,
}
