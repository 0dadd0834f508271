//! CreateTopics: what has to hold for a new topic, and where its replicas go.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::change::Decided;
use super::placement::Placement;
use super::topic_config::check_settings;
use super::{MetadataCommand, MetadataImage, MetadataLimits, Refusal};
use crate::model::{BrokerId, ErrorCode, TopicId, TopicName};

/// A topic that is asked for, as the client wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTopic {
    pub name: String,
    /// Drawn by the caller.
    pub id: TopicId,
    /// -1: the default.
    pub partitions: i32,
    /// -1: the default.
    pub replication_factor: i16,
    /// Partition and replicas; empty lets the controller place them.
    pub assignments: Vec<(i32, Vec<BrokerId>)>,
    /// A name without a value is refused, as in Kafka.
    pub configs: Vec<(String, Option<String>)>,
}

/// What a topic gets if it doesn't say: `num.partitions`, `default.replication.factor`.
#[derive(Clone, Copy, Debug)]
pub struct NewTopicDefaults {
    pub partitions: i32,
    pub replication_factor: i16,
}

/// Decides each topic of one request by itself, those before it counted in; the answers are in
/// the request's order. A name that comes twice is refused both times.
pub fn create_topics(
    image: &MetadataImage,
    request: &[NewTopic],
    defaults: NewTopicDefaults,
    limits: &MetadataLimits,
) -> Vec<Decided> {
    let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
    for topic in request {
        *uses.entry(&topic.name).or_default() += 1;
    }
    let mut scratch = image.clone();
    let decide = |topic: &NewTopic| {
        if uses.get(topic.name.as_str()) != Some(&1) {
            let message = format!("The topic {:?} is in the request twice.", topic.name);
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
        let before = scratch.partition_count() - image.partition_count();
        let commands = create_topic(&scratch, topic, defaults, limits, before)?;
        commands.iter().for_each(|command| scratch.replay(command));
        Ok(commands)
    };
    request.iter().map(decide).collect()
}

fn create_topic(
    image: &MetadataImage,
    topic: &NewTopic,
    defaults: NewTopicDefaults,
    limits: &MetadataLimits,
    already_in_request: usize,
) -> Result<Vec<MetadataCommand>, Refusal> {
    let name = check_name(image, &topic.name)?;
    let configs = check_configs(&topic.configs, limits)?;
    let wanted = if topic.assignments.is_empty() {
        wanted_partitions(topic, defaults)?
    } else {
        topic.assignments.len()
    };
    check_counts(image, wanted, already_in_request, limits)?;
    if image.topic_count() >= limits.topics_max {
        let message = format!("The cluster holds {} topics at most.", limits.topics_max);
        return Err(Refusal::new(ErrorCode::PolicyViolation, message));
    }
    check_collision(image, &topic.name)?;
    let partitions = if topic.assignments.is_empty() {
        place(image, topic, wanted, defaults)?
    } else {
        assigned(image, topic)?
    };
    Ok(vec![MetadataCommand::CreateTopic {
        name,
        id: topic.id,
        partitions,
        configs,
    }])
}

/// The name is legal and free.
fn check_name(image: &MetadataImage, name: &str) -> Result<TopicName, Refusal> {
    let invalid = |message| Refusal::new(ErrorCode::InvalidTopicException, message);
    let legal: TopicName = name.parse().map_err(invalid)?;
    if image.topic_by_name(name).is_some() {
        let message = format!("Topic '{name}' already exists.");
        return Err(Refusal::new(ErrorCode::TopicAlreadyExists, message));
    }
    Ok(legal)
}

/// The name doesn't differ from another one just by '.' and '_', which would make their metrics
/// collide. This looks at every topic, so it comes after the checks of how many there may be.
fn check_collision(image: &MetadataImage, name: &str) -> Result<(), Refusal> {
    if !name.contains(['.', '_']) {
        return Ok(());
    }
    let mut others = image.topics().map(|t| t.name.as_str());
    let Some(other) = others.find(|other| collide(name, other)) else {
        return Ok(());
    };
    let message = format!("Topic '{name}' collides with existing topic: {other}");
    Err(Refusal::new(ErrorCode::InvalidTopicException, message))
}

fn collide(a: &str, b: &str) -> bool {
    let same = |(a, b): (u8, u8)| a == b || (matches!(a, b'.' | b'_') && matches!(b, b'.' | b'_'));
    a.len() == b.len() && a.bytes().zip(b.bytes()).all(same)
}

fn check_configs(
    configs: &[(String, Option<String>)],
    limits: &MetadataLimits,
) -> Result<BTreeMap<String, String>, Refusal> {
    let mut set = BTreeMap::new();
    for (name, value) in configs {
        let Some(value) = value else {
            let message = format!("Null value not supported for topic configs: {name}");
            return Err(Refusal::new(ErrorCode::InvalidConfig, message));
        };
        if set.insert(name.clone(), value.clone()).is_some() {
            let message = format!("The config {name} is set twice.");
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
    }
    check_settings(&set, limits)?;
    Ok(set)
}

fn wanted_partitions(topic: &NewTopic, defaults: NewTopicDefaults) -> Result<usize, Refusal> {
    let wanted = match topic.partitions {
        -1 => defaults.partitions,
        wanted => wanted,
    };
    usize::try_from(wanted)
        .ok()
        .filter(|n| *n > 0)
        .ok_or_else(|| {
            let message = "Number of partitions was set to an invalid non-positive value.";
            Refusal::new(ErrorCode::InvalidPartitions, message)
        })
}

/// The request and the cluster stay within their limits with `wanted` partitions more.
pub(super) fn check_counts(
    image: &MetadataImage,
    wanted: usize,
    already_in_request: usize,
    limits: &MetadataLimits,
) -> Result<(), Refusal> {
    let too_many = |message| Err(Refusal::new(ErrorCode::PolicyViolation, message));
    let max = limits.partitions_per_request_max;
    if wanted.saturating_add(already_in_request) > max {
        let message = format!("Excessively large number of partitions per request: {max} at most.");
        return too_many(message);
    }
    let max = limits.partitions_per_cluster_max;
    if wanted.saturating_add(image.partition_count()) > max {
        return too_many(format!("The cluster holds {max} partitions at most."));
    }
    Ok(())
}

fn place(
    image: &MetadataImage,
    topic: &NewTopic,
    partitions: usize,
    defaults: NewTopicDefaults,
) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    let wanted = match topic.replication_factor {
        -1 => defaults.replication_factor,
        wanted => wanted,
    };
    let invalid = |message| Refusal::new(ErrorCode::InvalidReplicationFactor, message);
    let factor = usize::try_from(wanted).ok().filter(|n| *n > 0);
    let factor = factor.ok_or_else(|| {
        invalid("Replication factor must be larger than 0, or -1 to use the default value.".into())
    })?;
    let mut placement = Placement::new(image, None);
    let brokers = placement.broker_count();
    if factor > brokers {
        return Err(invalid(format!(
            "Unable to replicate the partition {factor} time(s): only {brokers} broker(s) are registered."
        )));
    }
    Ok((0..partitions).map(|_| placement.place(factor)).collect())
}

/// The client's own assignment: partitions numbered from 0 without gaps, each with as many
/// replicas as the others, on brokers that are registered.
fn assigned(image: &MetadataImage, topic: &NewTopic) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    let request = |what| {
        let message =
            format!("A manual partition assignment was specified, but {what} was not set to -1.");
        Refusal::new(ErrorCode::InvalidRequest, message)
    };
    if topic.replication_factor != -1 {
        return Err(request("replication factor"));
    }
    if topic.partitions != -1 {
        return Err(request("numPartitions"));
    }
    let invalid = |message| Refusal::new(ErrorCode::InvalidReplicaAssignment, message);
    let mut by_number = BTreeMap::new();
    for (number, replicas) in &topic.assignments {
        if by_number.insert(*number, replicas.clone()).is_some() {
            return Err(invalid(format!(
                "Found multiple manual partition assignments for partition {number}"
            )));
        }
    }
    if by_number.keys().copied().ne(0..by_number.len() as i32) {
        return Err(invalid(
            "partitions should be a consecutive 0-based integer sequence".into(),
        ));
    }
    let partitions: Vec<_> = by_number.into_values().collect();
    let factor = partitions.first().map_or(0, Vec::len);
    for replicas in &partitions {
        check_assignment(image, replicas, factor)?;
    }
    Ok(partitions)
}

/// One partition's replicas: not empty, no broker twice, all registered, as many as `factor`.
pub(super) fn check_assignment(
    image: &MetadataImage,
    replicas: &[BrokerId],
    factor: usize,
) -> Result<(), Refusal> {
    let invalid = |message| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
    if replicas.is_empty() {
        return invalid("The manual partition assignment includes an empty replica list.".into());
    }
    let mut seen = BTreeSet::new();
    for broker in replicas {
        if !seen.insert(broker) {
            return invalid(format!(
                "The manual partition assignment includes the broker {broker} more than once."
            ));
        }
        if image.broker(*broker).is_none() {
            return invalid(format!(
                "The manual partition assignment includes broker {broker}, but no such broker is registered."
            ));
        }
    }
    if replicas.len() != factor {
        let count = replicas.len();
        return invalid(format!(
            "The manual partition assignment includes a partition with {count} replica(s), \
             but this is not consistent with previous partitions, which have {factor} replica(s)."
        ));
    }
    Ok(())
}
