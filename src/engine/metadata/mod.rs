//! The cluster's metadata: which brokers there are, which topics, and who leads what.
//!
//! Two halves, and nothing passes between them but commands:
//!
//! - *Decisions* ([`change`], which is any of [`create_topics`], [`delete_topics`], [`create_partitions`], [`alter_configs`], [`broker_configs`],
//!   [`register_broker`], [`change_leader`], [`producer_ids`]) look at an image and a request, and
//!   answer with the [`MetadataCommand`]s that would fulfil it, or with a [`Refusal`] that carries
//!   Kafka's error code.
//! - *Replay* ([`MetadataImage::replay`]) changes the image by a command that is committed. It
//!   can't fail and never looks at anything but the image and the command, so every node that
//!   replays the same commands has the same image.
//!
//! The controller serialises requests (decide, propose, answer), so a decision is never overtaken
//! by another one.

pub use crate::model::Refusal;

pub mod alter_configs;
pub mod alter_partition;
pub mod broker_configs;
pub mod change;
pub mod change_batch;
pub mod change_leader;
mod command;
mod config_catalogue;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_topics;
pub mod elect_leaders;
mod election;
pub mod fence_broker;
pub mod give_up_log;
mod image;
mod limits;
pub mod metadata_version;
mod placement;
pub mod producer_ids;
mod proposal;
pub mod readmit_voter;
pub mod reassign;
pub mod register_broker;
mod replay;
mod sweep;
pub mod throttles;
mod topic_config;
pub mod unregister_broker;

#[cfg(test)]
mod tests;

pub use command::{MetadataCommand, PartitionChange, METADATA_VERSION};
pub use config_catalogue::{ConfigKey, ConfigKind, BROKER_CONFIG_KEYS, TOPIC_CONFIG_KEYS};
pub use image::{Broker, BrokerEpoch, BrokerState, Endpoint, MetadataImage, Partition, Topic};
pub use limits::MetadataLimits;
pub use proposal::{Proposal, ProposalId, Replayed, SessionId};
pub use sweep::CHANGES_PER_PROPOSAL_MAX;
pub use topic_config::{
    BrokerDefaults, CleanupPolicy, ConfigEntry, ConfigOrigin, ConfigSynonym, TimestampType,
    TopicConfig,
};
