//! InjectFault, our own, in builds for chaos tests only: break an actor by name, or fill the disk.

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use crate::model::ErrorCode;

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    /// As [`super::describe_actors`] lists it, or `disk`.
    pub kind: String,
    /// Empty for the disk.
    pub name: String,
    /// `stop`, `panic` or `stall`; for the disk `fill` or `free`.
    pub fault: String,
    /// How long to stall, in milliseconds; how many bytes still fit the disk that is filled.
    pub amount: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    pub error_code: ErrorCode,
    pub error_message: Option<String>,
}
