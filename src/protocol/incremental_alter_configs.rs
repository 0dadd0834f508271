//! IncrementalAlterConfigs: change some settings of a topic, and leave the others (KIP-339).

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use crate::model::ErrorCode;

pub struct Api;

/// What is done with the value, as Kafka numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum AlterConfigOp {
    Set = 0,
    Delete = 1,
    /// Adds to a list.
    Append = 2,
    /// Takes from a list.
    Subtract = 3,
}

impl AlterConfigOp {
    /// `None` if there is no such operation.
    pub fn from_code(code: i8) -> Option<AlterConfigOp> {
        use AlterConfigOp::{Append, Delete, Set, Subtract};
        [Set, Delete, Append, Subtract]
            .into_iter()
            .find(|op| *op as i8 == code)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    pub resources: Vec<AlterConfigsResource>,
    pub validate_only: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct AlterConfigsResource {
    /// See [`super::describe_configs::RESOURCE_TOPIC`].
    pub resource_type: i8,
    pub resource_name: String,
    pub configs: Vec<AlterableConfig>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct AlterableConfig {
    pub name: String,
    /// See [`AlterConfigOp`].
    pub config_operation: i8,
    pub value: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    #[kafka("0+")]
    pub throttle_time_ms: i32,
    pub responses: Vec<AlterConfigsResourceResponse>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct AlterConfigsResourceResponse {
    pub error_code: ErrorCode,
    pub error_message: Option<String>,
    pub resource_type: i8,
    pub resource_name: String,
}
