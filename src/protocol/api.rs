//! The list of APIs: each key, its versions and its request and response.

use std::ops::RangeInclusive;

use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};

use super::codec::decode_body;

/// A request and the response that answers it.
pub trait Api: 'static {
    const KEY: ApiKey;
    type Request: Serialize + DeserializeOwned + Send + 'static;
    type Response: Serialize + DeserializeOwned + Send + 'static;
}

macro_rules! apis {
    ($($(#[$attribute:meta])* $name:ident = $key:literal, $module:ident, $versions:expr;)*) => {
        /// An API's number. Those below 1000 are Kafka's; the others are our own.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $($(#[$attribute])* $name = $key,)*
        }

        impl ApiKey {
            /// Every API that this build answers, in the order of the keys.
            pub const ALL: &'static [ApiKey] = &[$($(#[$attribute])* ApiKey::$name,)*];

            pub fn from_code(code: i16) -> Option<ApiKey> {
                match code {
                    $($(#[$attribute])* $key => Some(ApiKey::$name),)*
                    _ => None,
                }
            }

            pub fn name(self) -> &'static str {
                match self { $($(#[$attribute])* ApiKey::$name => stringify!($name),)* }
            }

            /// The versions of its MessagePack form that this build speaks.
            pub fn versions(self) -> RangeInclusive<i16> {
                match self { $($(#[$attribute])* ApiKey::$name => $versions,)* }
            }
        }

        /// A decoded request of any API.
        #[derive(Debug, Clone)]
        pub enum Request {
            $($(#[$attribute])* $name(super::$module::Request),)*
        }

        impl Request {
            pub fn key(&self) -> ApiKey {
                match self { $($(#[$attribute])* Request::$name(_) => ApiKey::$name,)* }
            }
        }

        impl Request {
            /// Decodes a body; the error names the field.
            pub(super) fn decode(api: ApiKey, body: &[u8]) -> Result<Request, String> {
                match api {
                    $($(#[$attribute])* ApiKey::$name => decode_body(body).map(Request::$name),)*
                }
            }
        }

        /// Its body alone: the API's key stands in the header.
        impl Serialize for Request {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $($(#[$attribute])* Request::$name(body) => body.serialize(serializer),)* }
            }
        }

        /// A response of any API.
        #[derive(Debug, Clone)]
        pub enum Response {
            $($(#[$attribute])* $name(super::$module::Response),)*
        }

        impl Response {
            pub fn key(&self) -> ApiKey {
                match self { $($(#[$attribute])* Response::$name(_) => ApiKey::$name,)* }
            }
        }

        /// Its body alone: whose response it is says the correlation id.
        impl Serialize for Response {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $($(#[$attribute])* Response::$name(body) => body.serialize(serializer),)* }
            }
        }

        $(
            $(#[$attribute])*
            impl Api for super::$module::Api {
                const KEY: ApiKey = ApiKey::$name;
                type Request = super::$module::Request;
                type Response = super::$module::Response;
            }

            $(#[$attribute])*
            impl From<super::$module::Request> for Request {
                fn from(request: super::$module::Request) -> Request {
                    Request::$name(request)
                }
            }

            $(#[$attribute])*
            impl From<super::$module::Response> for Response {
                fn from(response: super::$module::Response) -> Response {
                    Response::$name(response)
                }
            }
        )*
    };
}

apis! {
    Produce = 0, produce, 0..=0;
    Fetch = 1, fetch, 0..=0;
    ListOffsets = 2, list_offsets, 0..=0;
    Metadata = 3, metadata, 0..=0;
    ApiVersions = 18, api_versions, 0..=0;
    CreateTopics = 19, create_topics, 0..=0;
    DeleteTopics = 20, delete_topics, 0..=0;
    DeleteRecords = 21, delete_records, 0..=0;
    InitProducerId = 22, init_producer_id, 0..=0;
    DescribeConfigs = 32, describe_configs, 0..=0;
    CreatePartitions = 37, create_partitions, 0..=0;
    IncrementalAlterConfigs = 44, incremental_alter_configs, 0..=0;
    DescribeCluster = 60, describe_cluster, 0..=0;
    DescribeActors = 1000, describe_actors, 0..=0;
    #[cfg(feature = "chaos")]
    InjectFault = 1001, inject_fault, 0..=0;
}
