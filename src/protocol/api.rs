//! The list of APIs: each key, its versions and its request and response.

use std::fmt::Debug;
use std::ops::RangeInclusive;

use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};

use super::codec::decode_body;
use super::kafka::{DecodeError, Decoder, Encoder, Field};

/// A request and the response that answers it, each with its two encodings.
pub trait Api: 'static {
    const KEY: ApiKey;
    type Request: Message + Into<Request>;
    type Response: Message + Into<Response>;
}

/// What has both encodings.
pub trait Message:
    Serialize + DeserializeOwned + Field + Clone + Debug + PartialEq + Send + 'static
{
}

impl<M> Message for M where
    M: Serialize + DeserializeOwned + Field + Clone + Debug + PartialEq + Send + 'static
{
}

/// Something to be done for every API.
#[cfg(test)]
pub trait ForEachApi {
    fn visit<A: Api>(&mut self);
}

/// What of Kafka's encoding of an API this build speaks.
#[derive(Debug)]
struct KafkaVersions {
    served: RangeInclusive<i16>,
    /// What ApiVersions says, where that is more.
    advertised_from: i16,
    /// The first that has compact lengths and tagged fields (KIP-482).
    flexible_from: i16,
}

macro_rules! apis {
    ($(
        $(#[$attribute:meta])*
        $name:ident = $key:literal, $module:ident, message_pack $versions:expr
        $(, kafka $served:expr, advertised from $advertised:literal, flexible from $flexible:literal)?;
    )*) => {
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

            fn kafka(self) -> Option<KafkaVersions> {
                match self {
                    $($(#[$attribute])* ApiKey::$name => {
                        None$(.or(Some(KafkaVersions {
                            served: $served,
                            advertised_from: $advertised,
                            flexible_from: $flexible,
                        })))?
                    })*
                }
            }
        }

        /// Visits every API of [`ApiKey::ALL`].
        #[cfg(test)]
        pub fn for_each_api(visitor: &mut impl ForEachApi) {
            $($(#[$attribute])* visitor.visit::<super::$module::Api>();)*
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

            /// Decodes a body in Kafka's encoding, in the version that `input` is set to.
            pub(super) fn decode_kafka(
                api: ApiKey,
                input: &mut Decoder<'_>,
            ) -> Result<Request, DecodeError> {
                match api {
                    $($(#[$attribute])* ApiKey::$name => Field::decode(input).map(Request::$name),)*
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

            /// Encodes the body in Kafka's encoding, in the version that `out` is set to.
            pub(super) fn encode_kafka(&self, out: &mut Encoder) {
                match self { $($(#[$attribute])* Response::$name(body) => body.encode(out),)* }
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

impl ApiKey {
    /// The versions of Kafka's encoding that this build speaks; `None` for an API that the Kafka
    /// listener doesn't have.
    pub fn kafka_versions(self) -> Option<RangeInclusive<i16>> {
        self.kafka().map(|kafka| kafka.served)
    }

    /// The versions that the Kafka listener's ApiVersions says.
    pub fn kafka_versions_advertised(self) -> Option<RangeInclusive<i16>> {
        let kafka = self.kafka()?;
        Some(kafka.advertised_from..=*kafka.served.end())
    }

    /// Whether Kafka's encoding of this version has compact lengths and tagged fields (KIP-482).
    pub fn is_flexible(self, version: i16) -> bool {
        self.kafka()
            .is_some_and(|kafka| version >= kafka.flexible_from)
    }
}

// Produce is advertised from 0: librdkafka 2.8 and older look for versions 0 to 2 to tell which
// codecs a broker can take, and would silently send everything uncompressed (KAFKA-18659).
apis! {
    Produce = 0, produce, message_pack 0..=0, kafka 3..=13, advertised from 0, flexible from 9;
    Fetch = 1, fetch, message_pack 0..=0, kafka 4..=17, advertised from 4, flexible from 12;
    ListOffsets = 2, list_offsets, message_pack 0..=0, kafka 1..=10, advertised from 1, flexible from 6;
    Metadata = 3, metadata, message_pack 0..=0, kafka 0..=13, advertised from 0, flexible from 9;
    OffsetCommit = 8, offset_commit, message_pack 0..=0, kafka 2..=10, advertised from 2, flexible from 8;
    OffsetFetch = 9, offset_fetch, message_pack 0..=0, kafka 1..=10, advertised from 1, flexible from 6;
    FindCoordinator = 10, find_coordinator, message_pack 0..=0, kafka 0..=6, advertised from 0, flexible from 3;
    JoinGroup = 11, join_group, message_pack 0..=0, kafka 0..=9, advertised from 0, flexible from 6;
    Heartbeat = 12, heartbeat, message_pack 0..=0, kafka 0..=4, advertised from 0, flexible from 4;
    LeaveGroup = 13, leave_group, message_pack 0..=0, kafka 0..=5, advertised from 0, flexible from 4;
    SyncGroup = 14, sync_group, message_pack 0..=0, kafka 0..=5, advertised from 0, flexible from 4;
    DescribeGroups = 15, describe_groups, message_pack 0..=0, kafka 0..=6, advertised from 0, flexible from 5;
    ListGroups = 16, list_groups, message_pack 0..=0, kafka 0..=5, advertised from 0, flexible from 3;
    ApiVersions = 18, api_versions, message_pack 0..=0, kafka 0..=4, advertised from 0, flexible from 3;
    CreateTopics = 19, create_topics, message_pack 0..=0, kafka 2..=7, advertised from 2, flexible from 5;
    DeleteTopics = 20, delete_topics, message_pack 0..=0, kafka 1..=6, advertised from 1, flexible from 4;
    DeleteRecords = 21, delete_records, message_pack 0..=0, kafka 0..=2, advertised from 0, flexible from 2;
    InitProducerId = 22, init_producer_id, message_pack 0..=0, kafka 0..=5, advertised from 0, flexible from 2;
    OffsetForLeaderEpoch = 23, offset_for_leader_epoch, message_pack 0..=0, kafka 2..=4, advertised from 2, flexible from 4;
    DescribeConfigs = 32, describe_configs, message_pack 0..=0, kafka 1..=4, advertised from 1, flexible from 4;
    AlterConfigs = 33, alter_configs, message_pack 0..=0, kafka 0..=2, advertised from 0, flexible from 2;
    DescribeLogDirs = 35, describe_log_dirs, message_pack 0..=0, kafka 1..=4, advertised from 1, flexible from 2;
    CreatePartitions = 37, create_partitions, message_pack 0..=0, kafka 0..=3, advertised from 0, flexible from 2;
    DeleteGroups = 42, delete_groups, message_pack 0..=0, kafka 0..=2, advertised from 0, flexible from 2;
    ElectLeaders = 43, elect_leaders, message_pack 0..=0, kafka 0..=2, advertised from 0, flexible from 2;
    IncrementalAlterConfigs = 44, incremental_alter_configs, message_pack 0..=0, kafka 0..=1, advertised from 0, flexible from 1;
    AlterPartitionReassignments = 45, alter_partition_reassignments, message_pack 0..=0, kafka 0..=1, advertised from 0, flexible from 0;
    ListPartitionReassignments = 46, list_partition_reassignments, message_pack 0..=0, kafka 0..=0, advertised from 0, flexible from 0;
    OffsetDelete = 47, offset_delete, message_pack 0..=0, kafka 0..=0, advertised from 0, flexible from 1;
    DescribeQuorum = 55, describe_quorum, message_pack 0..=0, kafka 0..=2, advertised from 0, flexible from 0;
    DescribeCluster = 60, describe_cluster, message_pack 0..=0, kafka 0..=2, advertised from 0, flexible from 0;
    UnregisterBroker = 64, unregister_broker, message_pack 0..=0, kafka 0..=0, advertised from 0, flexible from 0;
    ConsumerGroupHeartbeat = 68, consumer_group_heartbeat, message_pack 0..=0, kafka 0..=1, advertised from 0, flexible from 0;
    ConsumerGroupDescribe = 69, consumer_group_describe, message_pack 0..=0, kafka 0..=1, advertised from 0, flexible from 0;
    DescribeTopicPartitions = 75, describe_topic_partitions, message_pack 0..=0, kafka 0..=0, advertised from 0, flexible from 0;
    DescribeActors = 1000, describe_actors, message_pack 0..=0;
    #[cfg(feature = "chaos")]
    InjectFault = 1001, inject_fault, message_pack 0..=0;
    ReadmitVoter = 1002, readmit_voter, message_pack 0..=0;
}
