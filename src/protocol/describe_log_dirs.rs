//! DescribeLogDirs: how large the logs are that this broker keeps, and where.

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use crate::model::ErrorCode;

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    /// Nil asks for all.
    pub topics: Option<Vec<DescribableLogDirTopic>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct DescribableLogDirTopic {
    pub topic: String,
    pub partitions: Vec<i32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    pub throttle_time_ms: i32,
    #[kafka("3+")]
    pub error_code: ErrorCode,
    /// A broker of Klamm has one directory.
    pub results: Vec<DescribeLogDirsResult>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct DescribeLogDirsResult {
    pub error_code: ErrorCode,
    /// Its absolute path.
    pub log_dir: String,
    pub topics: Vec<DescribeLogDirsTopic>,
    /// The size of its file system, or -1.
    #[kafka("4+", default = -1)]
    pub total_bytes: i64,
    /// What is free of it, or -1.
    #[kafka("4+", default = -1)]
    pub usable_bytes: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct DescribeLogDirsTopic {
    pub name: String,
    pub partitions: Vec<DescribeLogDirsPartition>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct DescribeLogDirsPartition {
    pub partition_index: i32,
    /// Of its segments, in bytes.
    pub partition_size: i64,
    /// How many records it lacks against the high watermark: 0 for a leader.
    pub offset_lag: i64,
    /// Whether it is being moved here from another directory.
    pub is_future_key: bool,
}
