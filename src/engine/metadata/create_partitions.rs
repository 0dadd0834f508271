//! CreatePartitions: raise the number of a topic's partitions. It never falls.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::change::Decided;
use super::create_topics::{check_assignment, check_counts};
use super::placement::Placement;
use super::{MetadataCommand, MetadataImage, MetadataLimits, Refusal, Topic};
use crate::model::{BrokerId, ErrorCode};

/// More partitions for one topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MorePartitions {
    pub topic: String,
    /// How many the topic shall have in all.
    pub count: i32,
    /// The replicas of each new partition; `None` lets the controller place them.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

/// Decides each topic of one request by itself, those before it counted in; the answers are in
/// the request's order. A topic that comes twice is refused both times.
pub fn create_partitions(
    image: &MetadataImage,
    request: &[MorePartitions],
    limits: &MetadataLimits,
) -> Vec<Decided> {
    let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
    for more in request {
        *uses.entry(&more.topic).or_default() += 1;
    }
    let mut scratch = image.clone();
    let decide = |more: &MorePartitions| {
        if uses.get(more.topic.as_str()) != Some(&1) {
            let message = format!("The topic {:?} is in the request twice.", more.topic);
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
        let before = scratch.partition_count() - image.partition_count();
        let commands = add_partitions(&scratch, more, limits, before)?;
        commands.iter().for_each(|command| scratch.replay(command));
        Ok(commands)
    };
    request.iter().map(decide).collect()
}

fn add_partitions(
    image: &MetadataImage,
    more: &MorePartitions,
    limits: &MetadataLimits,
    already_in_request: usize,
) -> Result<Vec<MetadataCommand>, Refusal> {
    let Some(topic) = image.topic_by_name(&more.topic) else {
        return Err(Refusal::new(
            ErrorCode::UnknownTopicOrPartition,
            "This server does not host this topic-partition.",
        ));
    };
    let additional = additional(topic, more.count)?;
    check_counts(image, additional, already_in_request, limits)?;
    let partitions = match &more.assignments {
        Some(assignments) => assigned(image, topic, assignments, additional)?,
        None => place(image, topic, additional)?,
    };
    Ok(vec![MetadataCommand::AddPartitions {
        id: topic.id,
        first: topic.partitions.len() as i32,
        partitions,
    }])
}

fn additional(topic: &Topic, count: i32) -> Result<usize, Refusal> {
    let (name, now) = (&topic.name, topic.partitions.len());
    let invalid = |message| Err(Refusal::new(ErrorCode::InvalidPartitions, message));
    match usize::try_from(count) {
        Ok(count) if count > now => Ok(count - now),
        Ok(count) if count == now => invalid(format!("Topic already has {now} partition(s).")),
        _ => invalid(format!(
            "The topic {name} currently has {now} partition(s); {count} would not be an increase."
        )),
    }
}

fn assigned(
    image: &MetadataImage,
    topic: &Topic,
    assignments: &[Vec<BrokerId>],
    additional: usize,
) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    if assignments.len() != additional {
        let message = format!(
            "Attempted to add {additional} additional partition(s), but only {} assignment(s) were specified.",
            assignments.len()
        );
        return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    for replicas in assignments {
        check_assignment(image, replicas, topic.replication_factor())?;
    }
    Ok(assignments.to_vec())
}

fn place(
    image: &MetadataImage,
    topic: &Topic,
    additional: usize,
) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    let mut placement = Placement::new(image, Some(topic));
    let factor = topic.replication_factor();
    let brokers = placement.broker_count();
    if factor > brokers {
        let message = format!(
            "Unable to replicate the partition {factor} time(s): only {brokers} broker(s) are registered."
        );
        return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
    }
    Ok((0..additional).map(|_| placement.place(factor)).collect())
}
