//! What clients and brokers say to each other.
//!
//! An API is one pair of structs, a file each, with Kafka's names and fields; serde gives them
//! their MessagePack form, an array of the fields in the order of the struct. [`Api`] ties the
//! pair to its key, and the list in [`mod@api`] is the one source of dispatch and of ApiVersions.
//! `docs/PROTOCOL.md` says it for people who write a client.

pub mod api;
mod records;

pub mod api_versions;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_actors;
pub mod describe_cluster;
pub mod describe_configs;
pub mod fetch;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod list_offsets;
pub mod metadata;
pub mod produce;

#[cfg(feature = "chaos")]
pub mod inject_fault;

pub use api::{Api, ApiKey, Request, Response};
pub use records::Records;
