//! InitProducerId: an identity for an idempotent producer (KIP-98).

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use crate::model::ErrorCode;

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    /// Must be nil: this broker has no transactions yet.
    pub transactional_id: Option<String>,
    pub transaction_timeout_ms: i32,
    /// The identity that the producer has, if it only wants a new epoch; else -1 (KIP-360).
    #[kafka("3+", default = -1)]
    pub producer_id: i64,
    #[kafka("3+", default = -1)]
    pub producer_epoch: i16,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    #[kafka("0+")]
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[kafka(default = -1)]
    pub producer_id: i64,
    pub producer_epoch: i16,
}
