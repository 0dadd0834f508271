//! ApiVersions: what the broker speaks. The first request of a connection.

use std::ops::RangeInclusive;

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use super::ApiKey;
use crate::model::ErrorCode;

pub struct Api;

/// The feature of Kafka that says whether there is the consumer group protocol: its name and its level
/// (KIP-848). It can't be turned off here, so this is the only level there is.
const GROUP_VERSION: (&str, i16) = ("group.version", 1);

/// The feature that says which metadata version the cluster speaks. Kafka's own `metadata.version` counts Kafka's.
const METADATA_VERSION: &str = "klamm.metadata.version";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    #[kafka("3+")]
    pub client_software_name: String,
    #[kafka("3+")]
    pub client_software_version: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    pub error_code: ErrorCode,
    /// Sorted by key.
    pub api_keys: Vec<ApiVersion>,
    #[kafka("1+")]
    pub throttle_time_ms: i32,
    /// What the cluster could be upgraded to (KIP-584).
    #[kafka("3+", tag = 0)]
    pub supported_features: Vec<SupportedFeatureKey>,
    /// The metadata's offset that `finalized_features` is of, or -1.
    #[kafka("3+", tag = 1, default = -1)]
    pub finalized_features_epoch: i64,
    /// What is in force.
    #[kafka("3+", tag = 2)]
    pub finalized_features: Vec<FinalizedFeatureKey>,
    /// The cluster that this broker belongs to, so that a client notices a foreign one.
    #[kafka(none)]
    pub cluster_id: String,
    #[kafka(none)]
    pub server_software_version: String,
}

impl Response {
    /// What this build answers in MessagePack.
    pub fn of_message_pack(cluster_id: String, error_code: ErrorCode) -> Response {
        Response {
            error_code,
            api_keys: list(|api| Some(api.versions())),
            cluster_id,
            server_software_version: env!("CARGO_PKG_VERSION").to_string(),
            ..Response::default()
        }
    }

    /// What this build answers in Kafka's encoding.
    pub fn of_kafka(error_code: ErrorCode) -> Response {
        let (name, level) = GROUP_VERSION;
        Response {
            error_code,
            api_keys: list(ApiKey::kafka_versions_advertised),
            supported_features: vec![SupportedFeatureKey {
                name: name.to_owned(),
                min_version: level,
                max_version: level,
            }],
            // They are in force from the cluster's beginning.
            finalized_features_epoch: 0,
            finalized_features: vec![FinalizedFeatureKey {
                name: name.to_owned(),
                max_version_level: level,
                min_version_level: level,
            }],
            ..Response::default()
        }
    }

    /// Tells also which metadata version the cluster speaks, since which of its changes at the latest, and the latest
    /// one that the broker knows.
    pub fn with_metadata_version(mut self, spoken: i16, epoch: i64, known: i16) -> Response {
        self.supported_features.push(SupportedFeatureKey {
            name: METADATA_VERSION.to_owned(),
            min_version: 1,
            max_version: known,
        });
        self.finalized_features_epoch = epoch;
        self.finalized_features.push(FinalizedFeatureKey {
            name: METADATA_VERSION.to_owned(),
            max_version_level: spoken,
            min_version_level: spoken,
        });
        self
    }
}

fn list(versions: impl Fn(ApiKey) -> Option<RangeInclusive<i16>>) -> Vec<ApiVersion> {
    let offered = |api: &ApiKey| {
        let versions = versions(*api)?;
        Some(ApiVersion {
            api_key: *api as i16,
            min_version: *versions.start(),
            max_version: *versions.end(),
        })
    };
    ApiKey::ALL.iter().filter_map(offered).collect()
}

/// A client speaks, for each API, the highest version that lies in its own range and in this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct ApiVersion {
    pub api_key: i16,
    pub min_version: i16,
    pub max_version: i16,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct SupportedFeatureKey {
    pub name: String,
    pub min_version: i16,
    pub max_version: i16,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct FinalizedFeatureKey {
    pub name: String,
    pub max_version_level: i16,
    pub min_version_level: i16,
}
