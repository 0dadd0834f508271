//! AlterPartitionReassignments: a partition moves to other replicas (KIP-455).
//!
//! While it is under way, the replicas are those that shall be, then those that shall go. Once the ones that
//! it brings are in sync, the others go; `super::election` finds that out with each change of the
//! partition. All of it is in the metadata, so it goes on after a restart and under another controller.
//!
//! A second reassignment replaces the first. What the first one was bringing and the second doesn't want
//! stays until that is complete, as one that is brought and goes: it may have records that no other
//! replica has yet.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::change::Decided;
use super::create_topics::check_assignment;
use super::election::settle;
use super::sweep::{numbered, of_topic, Sweep};
use super::{BrokerDefaults, MetadataImage, Partition, Refusal, Topic};
use crate::model::{BrokerId, ErrorCode, TopicPartition};

/// Where one partition shall be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reassignment {
    pub partition: TopicPartition,
    /// The preferred leader first; `None` cancels the reassignment that is under way.
    pub replicas: Option<Vec<BrokerId>>,
}

/// Whether a partition may get more or fewer replicas than it has (KIP-860).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplicationFactor {
    MayChange,
    Stays,
}

/// Decides one reassignment. Nothing to do if the replicas are those already.
///
/// | refused with | because |
/// |---|---|
/// | UNKNOWN_TOPIC_OR_PARTITION | there is no such partition |
/// | INVALID_REPLICA_ASSIGNMENT | no replicas, one of them twice, or one that isn't registered; or nobody could lead after a cancellation |
/// | INVALID_REPLICATION_FACTOR | more or fewer replicas, which the request doesn't allow |
/// | NO_REASSIGNMENT_IN_PROGRESS | there is nothing to cancel |
/// | UNSUPPORTED_VERSION | the cluster's metadata version knows no reassignments |
pub fn reassign_partition(
    image: &MetadataImage,
    asked: &Reassignment,
    factor: ReplicationFactor,
    defaults: &BrokerDefaults,
) -> Decided {
    if !image.has_fencing() {
        let version = image.metadata_version();
        let message = format!("Metadata version {version} knows no reassignments.");
        return Err(Refusal::new(ErrorCode::UnsupportedVersion, message));
    }
    let name = &asked.partition;
    let topic = image.topic_by_name(name.topic.as_str());
    let Some((topic, now)) = topic.and_then(|t| Some((t, t.partition(name.partition)?))) else {
        let message = format!("Unable to find partition {name}.");
        return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, message));
    };
    let wanted = match &asked.replicas {
        Some(target) => moved(image, now, target, factor)?,
        None => cancelled(now)?,
    };
    let sweep = Sweep {
        image,
        defaults,
        may_lead: &|id| image.is_active(id),
        loss: None,
    };
    let change = settle(name.partition, now, wanted, &sweep.terms(topic, None));
    let loses_leader = |leader| leader == BrokerId::NONE && now.leader != BrokerId::NONE;
    if (change.as_ref()).is_some_and(|change| change.leader.is_some_and(loses_leader)) {
        let message = format!("Nobody who has all records of {name} could lead it then.");
        return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    let changes = change.into_iter().collect();
    Ok(of_topic(topic, changes).into_iter().collect())
}

/// The partition on its way to these replicas.
fn moved(
    image: &MetadataImage,
    now: &Partition,
    target: &[BrokerId],
    factor: ReplicationFactor,
) -> Result<Partition, Refusal> {
    check_assignment(image, target, target.len())?;
    let goal = now.replicas_to_be().len();
    if factor == ReplicationFactor::Stays && goal != target.len() {
        let message = format!(
            "The replication factor is changed from {goal} to {}",
            target.len()
        );
        return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
    }
    let before: BTreeSet<BrokerId> = now.settled_replicas().collect();
    let is_kept = |id: &BrokerId| target.contains(id);
    let going = now.replicas.iter().copied().filter(|id| !is_kept(id));
    let going: Vec<BrokerId> = going.collect();
    let new = target.iter().filter(|id| !before.contains(id));
    let superseded = going.iter().filter(|id| !before.contains(id));
    Ok(Partition {
        adding_replicas: new.chain(superseded).copied().collect(),
        replicas: target.iter().chain(&going).copied().collect(),
        removing_replicas: going,
        ..now.clone()
    })
}

/// The partition without what a reassignment has brought.
fn cancelled(now: &Partition) -> Result<Partition, Refusal> {
    if !now.is_reassigning() {
        let message = "No partition reassignment is in progress.";
        return Err(Refusal::new(ErrorCode::NoReassignmentInProgress, message));
    }
    let replicas: Vec<BrokerId> = now.settled_replicas().collect();
    let mut wanted = now.clone();
    wanted.isr.retain(|id| replicas.contains(id));
    wanted.replicas = replicas;
    wanted.adding_replicas.clear();
    wanted.removing_replicas.clear();
    Ok(wanted)
}

/// The partitions that are on their way to other replicas.
pub fn reassigning(
    image: &MetadataImage,
) -> impl Iterator<Item = (&Topic, impl Iterator<Item = (i32, &Partition)>)> {
    image.topics().filter_map(|topic| {
        let mut under_way = numbered(topic)
            .filter(|(_, partition)| partition.is_reassigning())
            .map(|(number, partition)| (number, &**partition))
            .peekable();
        under_way.peek()?;
        Some((&**topic, under_way))
    })
}
