//! OffsetFetch: how far groups have come.

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use super::kafka::Adapt;
use crate::model::{ErrorCode, LeaderEpoch, Offset, TopicId};

pub struct Api;

/// The first version that asks for several groups (KIP-709).
const VERSION_OF_GROUPS: i16 = 8;
/// The first version that tells the error of a group.
const VERSION_OF_GROUP_ERROR: i16 = 2;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
#[kafka(adapt)]
pub struct Request {
    /// The only group, in older versions; never used in memory, as the topics.
    #[serde(skip)]
    #[kafka("0-7")]
    pub group_id: String,
    #[serde(skip)]
    #[kafka("0-7", nullable = "2-7")]
    pub topics: Option<Vec<OffsetFetchRequestTopic>>,
    #[kafka("8+")]
    pub groups: Vec<OffsetFetchRequestGroup>,
    /// Don't tell an offset that a transaction may still change.
    #[kafka("7+")]
    pub require_stable: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct OffsetFetchRequestGroup {
    pub group_id: String,
    #[kafka("9+", nullable = "9+")]
    pub member_id: Option<String>,
    #[kafka("9+", default = -1)]
    pub member_epoch: i32,
    /// Null: all that the group has committed.
    pub topics: Option<Vec<OffsetFetchRequestTopic>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct OffsetFetchRequestTopic {
    /// If empty, `topic_id` says which.
    #[kafka("0-9")]
    pub name: String,
    #[kafka("10+")]
    pub topic_id: TopicId,
    pub partition_indexes: Vec<i32>,
}

impl Adapt for Request {
    fn upgrade(&mut self, version: i16) {
        if version < VERSION_OF_GROUPS {
            self.groups = vec![OffsetFetchRequestGroup {
                group_id: std::mem::take(&mut self.group_id),
                topics: self.topics.take(),
                ..Default::default()
            }];
        }
    }

    fn downgrade(&mut self, version: i16) {
        if version < VERSION_OF_GROUPS {
            let only = self.groups.drain(..).next().unwrap_or_default();
            self.group_id = only.group_id;
            self.topics = only.topics;
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
#[kafka(adapt)]
pub struct Response {
    #[kafka("3+")]
    pub throttle_time_ms: i32,
    /// In older versions these two tell of the only group; in memory they are never used.
    #[serde(skip)]
    #[kafka("0-7")]
    pub topics: Vec<OffsetFetchResponseTopic>,
    #[serde(skip)]
    #[kafka("2-7")]
    pub error_code: ErrorCode,
    /// One for each group, in their order.
    #[kafka("8+")]
    pub groups: Vec<OffsetFetchResponseGroup>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct OffsetFetchResponseGroup {
    pub group_id: String,
    pub topics: Vec<OffsetFetchResponseTopic>,
    pub error_code: ErrorCode,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct OffsetFetchResponseTopic {
    #[kafka("0-9")]
    pub name: String,
    #[kafka("10+")]
    pub topic_id: TopicId,
    pub partitions: Vec<OffsetFetchResponsePartition>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct OffsetFetchResponsePartition {
    pub partition_index: i32,
    /// -1: the group has committed none.
    pub committed_offset: Offset,
    #[kafka("5+", default = LeaderEpoch::NONE)]
    pub committed_leader_epoch: LeaderEpoch,
    pub metadata: Option<String>,
    pub error_code: ErrorCode,
}

impl Adapt for Response {
    fn upgrade(&mut self, version: i16) {
        if version < VERSION_OF_GROUPS {
            self.groups = vec![OffsetFetchResponseGroup {
                group_id: String::new(),
                topics: std::mem::take(&mut self.topics),
                error_code: self.error_code,
            }];
        }
    }

    fn downgrade(&mut self, version: i16) {
        if version < VERSION_OF_GROUPS {
            let only = self.groups.drain(..).next().unwrap_or_default();
            self.topics = only.topics;
            self.error_code = only.error_code;
        }
        if version < VERSION_OF_GROUP_ERROR && !self.error_code.is_ok() {
            for partition in self.topics.iter_mut().flat_map(|t| &mut t.partitions) {
                partition.error_code = self.error_code;
            }
        }
    }
}
