//! What the guardian and its wards are made of.

use std::sync::Arc;
use std::time::Duration;

use actix::ArbiterHandle;

use crate::actors::controller::ControllerHandle;
use crate::actors::log_keeper::{KeepSettings, LogWorkers};
use crate::actors::log_leases::LogLeases;
use crate::actors::partitions::Partitions;
use crate::actors::replication::Replicator;
use crate::actors::vitals::Registry;
use crate::engine::metadata::change::ChangeSettings;
use crate::engine::metadata::{
    BrokerDefaults, CleanupPolicy, TimestampType as Configured, TopicConfig,
};
use crate::engine::replica::ReplicaSelector;
use crate::model::{BrokerId, Incarnation};
use crate::raft::Raft;
use crate::record::TimestampType;
use crate::storage::data_dir::DataDir;
use crate::storage::fs::FileSystem;
use crate::storage::log::{Cleanup, CompactionConfig, LogConfig};

/// What every partition leader of this node is started with.
#[derive(Clone)]
pub struct PartitionSettings {
    pub keep: KeepSettings,
    pub mailbox_capacity: usize,
    /// `replica.lag.time.max.ms`.
    pub replica_lag_max: Duration,
    /// Who sends readers to replicas nearby.
    pub replica_selector: ReplicaSelector,
    pub producer_expiration_ms: i64,
}

/// What the guardian works with, through all its lives.
pub struct Wards {
    pub node: BrokerId,
    /// Of this life of the broker.
    pub incarnation: Incarnation,
    pub file_system: Arc<dyn FileSystem>,
    pub data_dir: DataDir,
    pub workers: LogWorkers,
    pub raft: Raft,
    pub defaults: BrokerDefaults,
    pub settings: PartitionSettings,
    /// By which the controller decides.
    pub changes: Arc<ChangeSettings>,
    pub arbiters: Vec<ArbiterHandle>,
    pub registry: Registry,
    pub partitions: Partitions,
    pub log_leases: LogLeases,
    pub controller: ControllerHandle,
    pub replicator: Replicator,
}

/// What the topic's configs mean to its logs.
pub(super) fn log_config(topic: &TopicConfig, settings: &PartitionSettings) -> LogConfig {
    let compaction = CompactionConfig {
        dirty_millionths_min: topic.min_cleanable_dirty_millionths,
        lag_ms_min: topic.min_compaction_lag_ms,
        lag_ms_max: topic.max_compaction_lag_ms,
        delete_retention_ms: topic.delete_retention_ms,
    };
    LogConfig {
        segment_bytes: topic.segment_bytes.max(1) as u64,
        segment_ms: topic.segment_ms,
        retention_bytes: topic
            .retention_bytes
            .and_then(|bytes| bytes.try_into().ok()),
        retention_ms: topic.retention_ms,
        index_interval_bytes: topic.index_interval_bytes.max(0) as u64,
        timestamp_type: match topic.message_timestamp_type {
            Configured::CreateTime => TimestampType::CreateTime,
            Configured::LogAppendTime => TimestampType::LogAppendTime,
        },
        producer_expiration_ms: settings.producer_expiration_ms,
        cleanup: match topic.cleanup_policy {
            CleanupPolicy::Delete => Cleanup::Delete,
            CleanupPolicy::Compact => Cleanup::Compact(compaction),
            CleanupPolicy::CompactAndDelete => Cleanup::CompactAndDelete(compaction),
        },
    }
}
