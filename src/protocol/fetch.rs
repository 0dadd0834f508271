//! Fetch: read record batches from partitions, and wait for them (long poll).

use serde::{Deserialize, Serialize};

use super::Records;
use crate::model::{ErrorCode, LeaderEpoch, Offset, TopicId};

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// How long to wait for `min_bytes`, in milliseconds.
    pub max_wait_ms: i32,
    /// Answer as soon as this many bytes are there, all partitions together.
    pub min_bytes: i32,
    /// Answer with at most this many bytes, all partitions together. The first batch is answered
    /// whole even if it is larger, so that a reader can always go on.
    pub max_bytes: i32,
    pub topics: Vec<FetchTopic>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FetchTopic {
    /// The topic's name. If empty, `topic_id` says which.
    pub topic: String,
    /// With a name too, the topic must have this id unless it is nil.
    pub topic_id: TopicId,
    pub partitions: Vec<FetchPartition>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FetchPartition {
    pub partition: i32,
    /// The leader epoch that the client knows, or -1: another one is answered with an error.
    pub current_leader_epoch: LeaderEpoch,
    pub fetch_offset: Offset,
    /// At most this many bytes from this partition.
    pub partition_max_bytes: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    pub error_code: ErrorCode,
    pub responses: Vec<FetchableTopicResponse>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FetchableTopicResponse {
    pub topic: String,
    pub topic_id: TopicId,
    pub partitions: Vec<PartitionData>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionData {
    pub partition_index: i32,
    pub error_code: ErrorCode,
    /// Records below it are on every in-sync replica, and only they are read.
    pub high_watermark: Offset,
    pub log_start_offset: Offset,
    /// Whole batches; the first holds `fetch_offset`, and may start before it.
    pub records: Records,
}
