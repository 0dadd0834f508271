//! ReadmitVoter, our own: a voter that has lost its copy of the metadata takes part with a new one.

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use crate::model::{BrokerId, ErrorCode};

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    pub voter: BrokerId,
    /// The new copy's id, as the node says it in its log: a UUID in text.
    pub directory: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    pub error_code: ErrorCode,
    pub error_message: Option<String>,
}
