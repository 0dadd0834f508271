//! DeleteGroups: forget groups that have no members.

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use crate::model::ErrorCode;

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    pub groups_names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    #[kafka("0+")]
    pub throttle_time_ms: i32,
    /// One for each group, in their order.
    pub results: Vec<DeletableGroupResult>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct DeletableGroupResult {
    pub group_id: String,
    /// NON_EMPTY_GROUP: it has members.
    pub error_code: ErrorCode,
}
