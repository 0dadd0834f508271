//! InjectFault, our own, in builds for chaos tests only: break an actor by name.

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use crate::model::ErrorCode;

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    /// As [`super::describe_actors`] lists it.
    pub kind: String,
    pub name: String,
    /// `stop`, `panic` or `stall`.
    pub fault: String,
    /// How long to stall, in milliseconds.
    pub stall_ms: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    pub error_code: ErrorCode,
    pub error_message: Option<String>,
}
