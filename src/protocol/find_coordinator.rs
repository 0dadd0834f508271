//! FindCoordinator: which broker coordinates a group or a transaction.

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use super::kafka::Adapt;
use crate::model::{BrokerId, ErrorCode};

pub struct Api;

/// `key_type` of a consumer group.
pub const KEY_GROUP: i8 = 0;
/// `key_type` of a transactional id.
pub const KEY_TRANSACTION: i8 = 1;
/// `key_type` of a share group's partition.
pub const KEY_SHARE: i8 = 2;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
#[kafka(adapt)]
pub struct Request {
    /// How older versions name the only one; always empty in memory.
    #[serde(skip)]
    #[kafka("0-3")]
    pub key: String,
    /// 0: groups; 1: transactional ids; 2: partitions of share groups.
    #[kafka("1+")]
    pub key_type: i8,
    #[kafka("4+")]
    pub coordinator_keys: Vec<String>,
}

impl Adapt for Request {
    fn upgrade(&mut self, version: i16) {
        if version < 4 {
            self.coordinator_keys = vec![std::mem::take(&mut self.key)];
        }
    }

    fn downgrade(&mut self, version: i16) {
        if version < 4 {
            self.key = self.coordinator_keys.drain(..).next().unwrap_or_default();
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
#[kafka(adapt)]
pub struct Response {
    #[kafka("1+")]
    pub throttle_time_ms: i32,
    /// In older versions these five tell the only coordinator; in memory they are never used.
    #[serde(skip)]
    #[kafka("0-3")]
    pub error_code: ErrorCode,
    #[serde(skip)]
    #[kafka("1-3")]
    pub error_message: Option<String>,
    #[serde(skip)]
    #[kafka("0-3")]
    pub node_id: BrokerId,
    #[serde(skip)]
    #[kafka("0-3")]
    pub host: String,
    #[serde(skip)]
    #[kafka("0-3")]
    pub port: i32,
    /// One for each key, in their order.
    #[kafka("4+")]
    pub coordinators: Vec<Coordinator>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Coordinator {
    pub key: String,
    pub node_id: BrokerId,
    pub host: String,
    #[kafka(default = -1)]
    pub port: i32,
    pub error_code: ErrorCode,
    pub error_message: Option<String>,
}

impl Adapt for Response {
    fn upgrade(&mut self, version: i16) {
        if version < 4 {
            self.coordinators = vec![Coordinator {
                key: String::new(),
                node_id: self.node_id,
                host: std::mem::take(&mut self.host),
                port: self.port,
                error_code: self.error_code,
                error_message: self.error_message.take(),
            }];
        }
    }

    fn downgrade(&mut self, version: i16) {
        if version < 4 {
            let only = self.coordinators.drain(..).next().unwrap_or_default();
            self.error_code = only.error_code;
            self.error_message = only.error_message;
            self.node_id = only.node_id;
            self.host = only.host;
            self.port = only.port;
        }
    }
}
