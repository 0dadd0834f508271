//! What the config says of consumer groups, and what bounds them.

use super::super::assignor::Assignor;

/// How many requests to one group wait at most until a write of it is committed.
pub(super) const WAITING_MAX: usize = 5_000;
/// How long to wait with what couldn't be written of a member that has had its time.
pub(super) const TIME_OUT_RETRY_MS: i64 = 1_000;
/// After so many records, or bytes of them, no further request is decided in the same write.
pub(super) const RECORDS_OF_A_WRITE_MAX: usize = 1_000;
pub(super) const WEIGHT_OF_A_WRITE_MAX: usize = 256 * 1024;

/// What the config says; each has Kafka's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerSettings {
    /// `group.consumer.session.timeout.ms`
    pub session_timeout_ms: i32,
    /// `group.consumer.heartbeat.interval.ms`
    pub heartbeat_interval_ms: i32,
    /// `group.consumer.max.size`
    pub max_size: usize,
    /// `group.consumer.assignors`: those that members may ask for; the first is for groups that don't.
    pub assignors: Vec<Assignor>,
    /// `group.consumer.migration.policy`
    pub migration: MigrationPolicy,
}

/// Kafka's, but for the interval, by which a rebalance is bounded, and the size.
impl Default for ConsumerSettings {
    fn default() -> ConsumerSettings {
        ConsumerSettings {
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 1_000,
            max_size: 1_000,
            assignors: Assignor::ALL.to_vec(),
            migration: MigrationPolicy::default(),
        }
    }
}

impl ConsumerSettings {
    pub(super) fn default_assignor(&self) -> Assignor {
        self.assignors.first().copied().unwrap_or(Assignor::Uniform)
    }
}

/// Whether groups with members may change their protocol. Those without always may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MigrationPolicy {
    #[default]
    Bidirectional,
    /// From the classic to the consumer protocol.
    Upgrade,
    /// From the consumer to the classic protocol.
    Downgrade,
    Disabled,
}

impl MigrationPolicy {
    pub(super) fn upgrades(self) -> bool {
        matches!(
            self,
            MigrationPolicy::Bidirectional | MigrationPolicy::Upgrade
        )
    }

    pub(super) fn downgrades(self) -> bool {
        matches!(
            self,
            MigrationPolicy::Bidirectional | MigrationPolicy::Downgrade
        )
    }
}
