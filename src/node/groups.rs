//! The coordinators of consumer groups.

use crate::actors::coordinator::{keep, Hosting};
use crate::actors::group_coordinator::{
    forget_deleted_topics, GroupCoordinators, GroupCore, OFFSETS_TOPIC,
};
use crate::actors::guardian::Wards;
use crate::actors::vitals::Kind;
use crate::api::OffsetsTopic;
use crate::config::{self, ConsumerAssignor};
use crate::engine::group::{Assignor, ConsumerSettings, GroupSettings, MigrationPolicy};
use tokio_util::sync::CancellationToken;

/// Has coordinators begin and end with the leadership of their partitions, until the node stops.
pub fn start_groups(
    config: &config::Groups,
    wards: &Wards,
    stopping: CancellationToken,
) -> GroupCoordinators {
    let groups = GroupCoordinators::new(wards.raft.image());
    let settings = settings(config);
    let hosting = Hosting {
        node: wards.node,
        kind: Kind::GroupCoordinator,
        topic: OFFSETS_TOPIC,
        blank: Box::new(move || GroupCore::new(settings.clone())),
        mailbox_capacity: wards.settings.mailbox_capacity,
        partitions: wards.partitions.clone(),
        images: wards.raft.image(),
        arbiters: wards.arbiters.clone(),
        registry: wards.registry.clone(),
        stopping: stopping.clone(),
    };
    actix_rt::spawn(keep(hosting, groups.coordinators()));
    actix_rt::spawn(forget_deleted_topics(groups.clone(), stopping));
    groups
}

/// What `__consumer_offsets` is created with in a cluster of so many nodes.
pub fn offsets_topic(config: &config::Groups, nodes: usize) -> OffsetsTopic {
    let nodes = i16::try_from(nodes).unwrap_or(i16::MAX);
    let replication_factor = config.offsets_topic_replication_factor.min(nodes);
    OffsetsTopic::new(config.offsets_topic_num_partitions, replication_factor)
}

fn settings(config: &config::Groups) -> GroupSettings {
    GroupSettings {
        min_session_timeout_ms: config.min_session_timeout_ms,
        max_session_timeout_ms: config.max_session_timeout_ms,
        max_size: config.max_size,
        initial_rebalance_delay_ms: config.initial_rebalance_delay_ms.into(),
        offset_metadata_max_bytes: config.offset_metadata_max_bytes.into(),
        offsets_retention_ms: i64::from(config.offsets_retention_minutes) * 60_000,
        offsets_retention_check_interval_ms: config.offsets_retention_check_interval_ms.into(),
        consumer: ConsumerSettings {
            session_timeout_ms: config.consumer_session_timeout_ms,
            heartbeat_interval_ms: config.consumer_heartbeat_interval_ms,
            max_size: config.consumer_max_size,
            assignors: config.consumer_assignors.iter().map(assignor).collect(),
            migration: match config.consumer_migration_policy {
                config::MigrationPolicy::Bidirectional => MigrationPolicy::Bidirectional,
                config::MigrationPolicy::Upgrade => MigrationPolicy::Upgrade,
                config::MigrationPolicy::Downgrade => MigrationPolicy::Downgrade,
                config::MigrationPolicy::Disabled => MigrationPolicy::Disabled,
            },
        },
    }
}

fn assignor(config: ConsumerAssignor) -> Assignor {
    match config {
        ConsumerAssignor::Uniform => Assignor::Uniform,
        ConsumerAssignor::Range => Assignor::Range,
    }
}
