//! OffsetCommit: how far a group has come in some partitions.

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use super::kafka::Adapt;
use crate::model::{ErrorCode, LeaderEpoch, Offset, TopicId};

pub struct Api;

/// The first version whose clients know the consumer protocol (KIP-848).
const VERSION_OF_MEMBER_EPOCHS: i16 = 9;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
#[kafka(adapt)]
pub struct Request {
    pub group_id: String,
    /// The member's generation; -1 for a consumer that assigns partitions to itself.
    #[kafka(default = -1)]
    pub generation_id_or_member_epoch: i32,
    pub member_id: String,
    #[kafka("7+", nullable = "7+")]
    pub group_instance_id: Option<String>,
    /// Older clients' wish, which Kafka doesn't fulfil any more either.
    #[serde(skip)]
    #[kafka("2-4", default = -1)]
    pub retention_time_ms: i64,
    pub topics: Vec<OffsetCommitRequestTopic>,
    /// An old client, which knows generations only.
    #[serde(skip)]
    #[kafka(none)]
    pub predates_member_epochs: bool,
}

impl Adapt for Request {
    fn upgrade(&mut self, version: i16) {
        self.predates_member_epochs = version < VERSION_OF_MEMBER_EPOCHS;
    }

    fn downgrade(&mut self, _: i16) {}
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct OffsetCommitRequestTopic {
    /// If empty, `topic_id` says which.
    #[kafka("0-9")]
    pub name: String,
    #[kafka("10+")]
    pub topic_id: TopicId,
    pub partitions: Vec<OffsetCommitRequestPartition>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct OffsetCommitRequestPartition {
    pub partition_index: i32,
    /// That of the next record to be read.
    pub committed_offset: Offset,
    /// Of the last record that was read, or -1.
    #[kafka("6+", default = LeaderEpoch::NONE)]
    pub committed_leader_epoch: LeaderEpoch,
    /// Whatever the consumer wants to find again beside the offset.
    pub committed_metadata: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    #[kafka("3+")]
    pub throttle_time_ms: i32,
    pub topics: Vec<OffsetCommitResponseTopic>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct OffsetCommitResponseTopic {
    #[kafka("0-9")]
    pub name: String,
    #[kafka("10+")]
    pub topic_id: TopicId,
    pub partitions: Vec<OffsetCommitResponsePartition>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct OffsetCommitResponsePartition {
    pub partition_index: i32,
    pub error_code: ErrorCode,
}
