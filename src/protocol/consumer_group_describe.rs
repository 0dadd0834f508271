//! ConsumerGroupDescribe: the epochs and the members of consumer groups (KIP-848).

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use crate::model::{ErrorCode, TopicId};

pub struct Api;

/// The types of members, as `member_type` tells them.
pub const CLASSIC_MEMBER: i8 = 0;
pub const CONSUMER_MEMBER: i8 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    pub group_ids: Vec<String>,
    pub include_authorized_operations: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    pub throttle_time_ms: i32,
    /// One for each group, in their order.
    pub groups: Vec<DescribedGroup>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct DescribedGroup {
    pub error_code: ErrorCode,
    pub error_message: Option<String>,
    pub group_id: String,
    /// `Empty`, `Assigning`, `Reconciling`, `Stable` or `Dead`.
    pub group_state: String,
    /// Rises with each change of members, of what they subscribe to, or of these topics.
    pub group_epoch: i32,
    /// The group epoch that the target assignment was made in.
    pub assignment_epoch: i32,
    pub assignor_name: String,
    pub members: Vec<Member>,
    /// Bits of Kafka's `AclOperation`; the smallest i32 if they weren't asked for.
    #[kafka(default = i32::MIN)]
    pub authorized_operations: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Member {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    /// The assignment epoch that it has reached; -2 if it is a static member that has left for a while.
    pub member_epoch: i32,
    pub client_id: String,
    pub client_host: String,
    pub subscribed_topic_names: Vec<String>,
    pub subscribed_topic_regex: Option<String>,
    /// What it owns.
    pub assignment: Assignment,
    /// What it is to own.
    pub target_assignment: Assignment,
    /// -1: not known; 0: it speaks the classic protocol; 1: the consumer protocol.
    #[kafka("1+", default = -1)]
    pub member_type: i8,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Assignment {
    pub topic_partitions: Vec<TopicPartitions>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct TopicPartitions {
    pub topic_id: TopicId,
    pub topic_name: String,
    pub partitions: Vec<i32>,
}
