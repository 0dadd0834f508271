//! Fetch: read record batches from partitions, and wait for them (long poll).

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::leader::{LeaderIdAndEpoch, NodeEndpoint};
use super::Records;
use crate::model::{BrokerId, ErrorCode, LeaderEpoch, Offset, TopicId};

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    /// If given, the cluster must have this id (brokers that replicate say it).
    #[serde(skip)]
    #[kafka("12+", nullable = "12+", tag = 0)]
    pub cluster_id: Option<String>,
    /// -1 for a consumer. Followers of this cluster are pushed to, and don't fetch.
    #[serde(skip)]
    #[kafka("0-14")]
    pub replica_id: BrokerId,
    /// The same, since version 15.
    #[serde(skip)]
    #[kafka("15+", tag = 1)]
    pub replica_state: ReplicaState,
    /// How long to wait for `min_bytes`, in milliseconds.
    pub max_wait_ms: i32,
    /// Answer as soon as this many bytes are there, all partitions together.
    pub min_bytes: i32,
    /// Answer with at most this many bytes, all partitions together. The first batch is answered
    /// whole even if it is larger, so that a reader can always go on.
    #[kafka("3+", default = i32::MAX)]
    pub max_bytes: i32,
    /// 0: all records up to the high watermark; 1: those of committed transactions only.
    #[kafka("4+")]
    pub isolation_level: i8,
    /// 0: a new session is asked for, or none (KIP-227).
    #[kafka("7+")]
    pub session_id: i32,
    /// The number of this request in its session: 0 opens one, -1 asks outside of any.
    #[kafka("7+", default = -1)]
    pub session_epoch: i32,
    /// Outside of a session all that is wanted; in one, what has changed since the last request.
    pub topics: Vec<FetchTopic>,
    /// What is no longer wanted in the session.
    #[kafka("7+")]
    pub forgotten_topics_data: Vec<ForgottenTopic>,
    /// Where the consumer runs, so that it can be sent to a replica nearby (KIP-392).
    #[kafka("11+")]
    pub rack_id: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct ReplicaState {
    pub replica_id: BrokerId,
    #[kafka(default = -1)]
    pub replica_epoch: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct FetchTopic {
    /// The topic's name. If empty, `topic_id` says which.
    #[kafka("0-12")]
    pub topic: String,
    /// With a name too, the topic must have this id unless it is nil.
    #[kafka("13+")]
    pub topic_id: TopicId,
    pub partitions: Vec<FetchPartition>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct FetchPartition {
    pub partition: i32,
    /// The leader epoch that the client knows, or -1: another one is answered with an error.
    #[kafka("9+", default = LeaderEpoch::NONE)]
    pub current_leader_epoch: LeaderEpoch,
    pub fetch_offset: Offset,
    /// The epoch of the last record that was fetched, or -1: the broker tells where the logs part,
    /// if they do (KIP-595).
    #[kafka("12+", default = LeaderEpoch::NONE)]
    pub last_fetched_epoch: LeaderEpoch,
    /// A follower's own; -1 for a consumer.
    #[serde(skip)]
    #[kafka("5+", default = Offset::NONE)]
    pub log_start_offset: Offset,
    /// At most this many bytes from this partition.
    pub partition_max_bytes: i32,
    /// A follower's own; nil for a consumer.
    #[serde(skip)]
    #[kafka("17+", tag = 0)]
    pub replica_directory_id: Uuid,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct ForgottenTopic {
    #[kafka("0-12")]
    pub topic: String,
    #[kafka("13+")]
    pub topic_id: TopicId,
    pub partitions: Vec<i32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    #[kafka("1+")]
    pub throttle_time_ms: i32,
    #[kafka("7+")]
    pub error_code: ErrorCode,
    /// 0: there is no session.
    #[kafka("7+")]
    pub session_id: i32,
    pub responses: Vec<FetchableTopicResponse>,
    /// Where the leaders that are named above can be reached (KIP-951).
    #[kafka("16+", tag = 0)]
    pub node_endpoints: Vec<NodeEndpoint>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct FetchableTopicResponse {
    #[kafka("0-12")]
    pub topic: String,
    #[kafka("13+")]
    pub topic_id: TopicId,
    pub partitions: Vec<PartitionData>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct PartitionData {
    pub partition_index: i32,
    pub error_code: ErrorCode,
    /// Records below it are on every in-sync replica, and only they are read.
    pub high_watermark: Offset,
    /// Records below it belong to no open transaction.
    #[kafka("4+", default = Offset::NONE)]
    pub last_stable_offset: Offset,
    #[kafka("5+", default = Offset::NONE)]
    pub log_start_offset: Offset,
    /// Where the asker's log parts from the leader's, if it does.
    #[kafka("12+", tag = 0)]
    pub diverging_epoch: Option<EpochEndOffset>,
    /// Who leads the partition, if it isn't the broker that was asked.
    #[kafka("12+", tag = 1)]
    pub current_leader: Option<LeaderIdAndEpoch>,
    /// Transactions in these records that were aborted, for readers of committed ones.
    #[kafka("4+", nullable = "4+")]
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// A replica nearer to the consumer, or -1 (KIP-392).
    #[kafka("11+")]
    pub preferred_read_replica: BrokerId,
    /// Whole batches; the first holds `fetch_offset`, and may start before it.
    pub records: Records,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct EpochEndOffset {
    #[kafka(default = LeaderEpoch::NONE)]
    pub epoch: LeaderEpoch,
    #[kafka(default = Offset::NONE)]
    pub end_offset: Offset,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: Offset,
}
