//! ConsumerGroupHeartbeat: join a consumer group, stay in it, say what was given up, and leave (KIP-848).
//! The coordinator assigns; the answer says what is assigned when that has changed.

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use super::kafka::Adapt;
use crate::model::{ErrorCode, TopicId};

pub struct Api;

/// The first version whose members make their own ids (KIP-1082).
const VERSION_OF_OWN_IDS: i16 = 1;

/// Null and -1 say that nothing has changed since the last request. The first one, with epoch 0, says all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
#[kafka(adapt)]
pub struct Request {
    pub group_id: String,
    /// Made by the member, which keeps it as long as it lives. In version 0 of Kafka's encoding it may be
    /// empty when the member joins: the answer tells it.
    pub member_id: String,
    /// 0: join; -1: leave; -2: a static member leaves for a while.
    pub member_epoch: i32,
    /// Makes it a static member, which keeps its place through a restart.
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    /// How long the member may take to give up partitions.
    #[kafka(default = -1)]
    pub rebalance_timeout_ms: i32,
    pub subscribed_topic_names: Option<Vec<String>>,
    /// RE2 syntax, and the whole name must match.
    #[kafka("1+", nullable = "1+")]
    pub subscribed_topic_regex: Option<String>,
    /// `uniform` or `range`: what most members of the group want is done.
    pub server_assignor: Option<String>,
    /// What the member owns now.
    pub topic_partitions: Option<Vec<TopicPartitions>>,
    /// An old client, which is told its id.
    #[serde(skip)]
    #[kafka(none)]
    pub may_lack_an_id: bool,
}

impl Adapt for Request {
    fn upgrade(&mut self, version: i16) {
        self.may_lack_an_id = version < VERSION_OF_OWN_IDS;
    }

    fn downgrade(&mut self, _: i16) {}
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct TopicPartitions {
    pub topic_id: TopicId,
    pub partitions: Vec<i32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    pub throttle_time_ms: i32,
    /// FENCED_MEMBER_EPOCH, UNKNOWN_MEMBER_ID: give up all partitions, and join with epoch 0.
    pub error_code: ErrorCode,
    pub error_message: Option<String>,
    pub member_id: Option<String>,
    pub member_epoch: i32,
    pub heartbeat_interval_ms: i32,
    /// Null: it is as it was told last.
    pub assignment: Option<Assignment>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Assignment {
    /// What the member owns from now on. What it owned and isn't among them it is to give up.
    pub topic_partitions: Vec<TopicPartitions>,
}
