//! DescribeCluster: the cluster's id, controller and brokers.

use serde::{Deserialize, Serialize};

use crate::model::{BrokerId, ErrorCode};

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    pub error_code: ErrorCode,
    pub cluster_id: String,
    pub controller_id: BrokerId,
    pub brokers: Vec<DescribeClusterBroker>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DescribeClusterBroker {
    pub broker_id: BrokerId,
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
    /// The broker's process and how long it has run, so that its memory and CPU can be looked up
    /// by whoever is on the same machine.
    pub process_id: u32,
    pub uptime_ms: i64,
    pub software_version: String,
}
