//! UnregisterBroker: the cluster forgets a broker that is gone for good (KIP-631).

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use crate::model::{BrokerId, ErrorCode};

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    pub broker_id: BrokerId,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub error_message: Option<String>,
}
