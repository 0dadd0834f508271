//! What the config says of groups, and what bounds them.

use super::consumer::ConsumerSettings;

/// The most groups that one partition of `__consumer_offsets` holds.
pub const GROUPS_MAX: usize = 50_000;
/// The most offsets that one group commits.
pub const OFFSETS_OF_A_GROUP_MAX: usize = 200_000;
/// The longest name of a group, an instance or a protocol, in bytes.
pub const NAME_BYTES_MAX: usize = 1_024;
/// How many protocols a member offers at most.
pub const PROTOCOLS_MAX: usize = 64;
/// What a member tells of itself in all its protocols together, in bytes.
pub const METADATA_BYTES_MAX: usize = 1024 * 1024;
/// What all members of one partition of `__consumer_offsets` tell of themselves, in bytes. A group's record
/// is much smaller than this in any case.
pub const ALL_METADATA_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most offsets that one partition of `__consumer_offsets` holds.
pub const OFFSETS_MAX: usize = 2_000_000;
/// A new member that waits for its first generation can't be heard: its client waits for the answer.
/// After so long it is taken for gone.
pub const NEW_MEMBER_JOIN_TIMEOUT_MS: i64 = 5 * 60 * 1000;
/// Tombstones in one batch.
pub const TOMBSTONES_IN_A_BATCH_MAX: usize = 2_000;

/// What the config says; each has Kafka's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// `group.min.session.timeout.ms`
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`
    pub max_session_timeout_ms: i32,
    /// `group.max.size`
    pub max_size: usize,
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members than the
    /// first.
    pub initial_rebalance_delay_ms: i64,
    /// `offset.metadata.max.bytes`
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`
    pub offsets_retention_check_interval_ms: i64,
    pub consumer: ConsumerSettings,
}
