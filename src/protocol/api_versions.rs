//! ApiVersions: what the broker speaks. The first request of a connection.

use serde::{Deserialize, Serialize};

use crate::model::ErrorCode;

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub client_software_name: String,
    pub client_software_version: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    pub error_code: ErrorCode,
    /// Sorted by key.
    pub api_keys: Vec<ApiVersion>,
    /// The cluster that this broker belongs to, so that a client notices a foreign one.
    pub cluster_id: String,
    pub server_software_version: String,
}

/// A client speaks, for each API, the highest version that lies in its own range and in this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApiVersion {
    pub api_key: i16,
    pub min_version: i16,
    pub max_version: i16,
}
