//! Heartbeat: the member is still there; the answer says whether its group rebalances.

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use crate::model::ErrorCode;

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    pub group_id: String,
    pub generation_id: i32,
    pub member_id: String,
    #[kafka("3+", nullable = "3+")]
    pub group_instance_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    #[kafka("1+")]
    pub throttle_time_ms: i32,
    /// REBALANCE_IN_PROGRESS: join again.
    pub error_code: ErrorCode,
}
