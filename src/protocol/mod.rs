//! What clients and brokers say to each other.
//!
//! An API is one pair of structs, a file each, with Kafka's names and fields; serde gives them
//! their MessagePack form, an array of the fields in the order of the struct. [`Api`] ties the
//! pair to its key, and the list in [`mod@api`] is the one source of dispatch and of ApiVersions.
//! `docs/PROTOCOL.md` says it for people who write a client.

pub mod api;
pub mod codec;
pub mod encoding;
pub mod frame;
pub mod kafka;
mod opaque;
mod path;
#[cfg(feature = "broker")]
pub mod peer;
mod pieces;
mod records;
pub mod scan;
mod sink;

pub mod alter_configs;
pub mod alter_partition_reassignments;
pub mod api_versions;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_actors;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_quorum;
pub mod describe_topic_partitions;
pub mod elect_leaders;
pub mod fetch;
pub mod find_coordinator;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leader;
pub mod leave_group;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod readmit_voter;
pub mod sync_group;
pub mod unregister_broker;

#[cfg(feature = "chaos")]
pub mod inject_fault;

#[cfg(test)]
mod arbitrary;
#[cfg(test)]
mod tests;

pub use api::{Api, ApiKey, Request, Response};
pub use codec::{
    decode_request, decode_response, encode_error, encode_request, encode_response,
    response_correlation_id, Answer, DecodeError, EncodeError, ErrorResponse, RequestError,
    RequestHeader,
};
pub use encoding::{Decoded, Encoding, Envelope, Refused};
pub use frame::{split_frame, FrameError, Segments, FRAME_BYTES_MAX, FRAME_BYTES_MAX_UNGREETED};
pub use opaque::Opaque;
pub use pieces::Pieces;
pub use records::Records;
