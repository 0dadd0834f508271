//! ApiVersions: what the broker speaks. The first request of a connection.

use serde::{Deserialize, Serialize};

use super::ApiKey;
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

impl Response {
    /// What this build answers.
    pub fn supported(cluster_id: String, error_code: ErrorCode) -> Response {
        let api_keys = ApiKey::ALL.iter().map(|api| ApiVersion {
            api_key: *api as i16,
            min_version: *api.versions().start(),
            max_version: *api.versions().end(),
        });
        Response {
            error_code,
            api_keys: api_keys.collect(),
            cluster_id,
            server_software_version: env!("CARGO_PKG_VERSION").to_string(),
        }
    }
}

/// A client speaks, for each API, the highest version that lies in its own range and in this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApiVersion {
    pub api_key: i16,
    pub min_version: i16,
    pub max_version: i16,
}
