//! Partitions as a request names them, for those APIs that name many.

use std::sync::Arc;

use crate::model::{ErrorCode, Refusal, TopicName, TopicPartition};

/// How many partitions one request may name.
pub const PARTITIONS_MAX: usize = 100_000;
/// How many of them are one proposal to the metadata.
pub const PARTITIONS_AT_ONCE_MAX: usize = 1_000;

/// The topic's name is shared: it may be long, and have many partitions.
#[derive(Clone, Debug)]
pub struct PartitionName {
    pub topic: Arc<str>,
    pub partition: i32,
}

impl PartitionName {
    /// A name that can't be one is that of no topic.
    pub fn parse(&self) -> Result<TopicPartition, Refusal> {
        let topic = self.topic.parse::<TopicName>();
        Ok(TopicPartition {
            topic: topic.map_err(|_| Refusal::from(ErrorCode::UnknownTopicOrPartition))?,
            partition: self.partition,
        })
    }
}

/// Refuses a request that names more partitions than one may.
pub fn check_count(partitions: impl Iterator<Item = usize>) -> Result<(), Refusal> {
    let count: usize = partitions.sum();
    if count <= PARTITIONS_MAX {
        return Ok(());
    }
    let message = format!("A request may name {PARTITIONS_MAX} partitions at most.");
    Err(Refusal::new(ErrorCode::InvalidRequest, message))
}

/// What is told of each partition, in the order in which they come; those of one topic stand together.
pub fn by_topic<T>(told: impl IntoIterator<Item = (PartitionName, T)>) -> Vec<(Arc<str>, Vec<T>)> {
    let mut topics: Vec<(Arc<str>, Vec<T>)> = Vec::new();
    for (name, told) in told {
        match topics.last_mut().filter(|(topic, _)| *topic == name.topic) {
            Some((_, partitions)) => partitions.push(told),
            None => topics.push((name.topic, vec![told])),
        }
    }
    topics
}
