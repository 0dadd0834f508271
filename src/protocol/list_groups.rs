//! ListGroups: the groups that this broker coordinates.

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use crate::model::ErrorCode;

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    /// Only groups in one of these states; empty: in any.
    #[kafka("4+")]
    pub states_filter: Vec<String>,
    /// Only groups of one of these types, `classic` and `consumer`; empty: of any.
    #[kafka("5+")]
    pub types_filter: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    #[kafka("1+")]
    pub throttle_time_ms: i32,
    /// COORDINATOR_LOAD_IN_PROGRESS: there may be more groups than are listed.
    pub error_code: ErrorCode,
    pub groups: Vec<ListedGroup>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct ListedGroup {
    pub group_id: String,
    pub protocol_type: String,
    #[kafka("4+")]
    pub group_state: String,
    #[kafka("5+")]
    pub group_type: String,
}
