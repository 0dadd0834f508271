//! SyncGroup: what a member is assigned in this generation. It is answered when the leader has said it,
//! and it is committed.

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use super::Opaque;
use crate::model::ErrorCode;

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    pub group_id: String,
    pub generation_id: i32,
    pub member_id: String,
    #[kafka("3+", nullable = "3+")]
    pub group_instance_id: Option<String>,
    /// If given, it must be the group's.
    #[kafka("5+", nullable = "5+")]
    pub protocol_type: Option<String>,
    /// If given, it must be the group's.
    #[kafka("5+", nullable = "5+")]
    pub protocol_name: Option<String>,
    /// Said by the leader only. Who isn't in it is assigned nothing.
    pub assignments: Vec<SyncGroupRequestAssignment>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct SyncGroupRequestAssignment {
    pub member_id: String,
    pub assignment: Opaque,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    #[kafka("1+")]
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[kafka("5+", nullable = "5+")]
    pub protocol_type: Option<String>,
    #[kafka("5+", nullable = "5+")]
    pub protocol_name: Option<String>,
    pub assignment: Opaque,
}
