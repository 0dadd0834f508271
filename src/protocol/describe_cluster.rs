//! DescribeCluster: the cluster's id, controller and brokers.

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use crate::model::{BrokerId, ErrorCode};

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    pub include_cluster_authorized_operations: bool,
    /// 1: brokers, which is all that this cluster tells of; 2: controllers.
    #[kafka("1+", default = 1)]
    pub endpoint_type: i8,
    #[kafka("2+")]
    pub include_fenced_brokers: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub error_message: Option<String>,
    #[kafka("1+", default = 1)]
    pub endpoint_type: i8,
    pub cluster_id: String,
    pub controller_id: BrokerId,
    pub brokers: Vec<DescribeClusterBroker>,
    /// Bits of Kafka's `AclOperation`; the smallest i32 if they weren't asked for.
    #[kafka(default = i32::MIN)]
    pub cluster_authorized_operations: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct DescribeClusterBroker {
    pub broker_id: BrokerId,
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
    #[kafka("2+")]
    pub is_fenced: bool,
    /// The broker's process and how long it has run, so that its memory and CPU can be looked up
    /// by whoever is on the same machine.
    #[kafka(none)]
    pub process_id: u32,
    #[kafka(none)]
    pub uptime_ms: i64,
    #[kafka(none)]
    pub software_version: String,
}
