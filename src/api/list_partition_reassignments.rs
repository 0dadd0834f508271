//! ListPartitionReassignments: which partitions are on their way to other replicas.

use super::{ApiContext, Named};
use crate::engine::metadata::reassign::reassigning;
use crate::engine::metadata::{MetadataImage, Partition};
use crate::protocol::list_partition_reassignments::{
    ListPartitionReassignmentsTopics, OngoingPartitionReassignment, OngoingTopicReassignment,
    Request, Response,
};

pub fn answer(context: &ApiContext, request: Request) -> Response {
    let image = context.image();
    let topics = match request.topics {
        Some(topics) => named(&image, &topics),
        None => all(&image),
    };
    Response {
        topics,
        ..Default::default()
    }
}

fn all(image: &MetadataImage) -> Vec<OngoingTopicReassignment> {
    let topics = reassigning(image).map(|(topic, partitions)| OngoingTopicReassignment {
        name: topic.name.to_string(),
        partitions: partitions
            .map(|(number, now)| ongoing(number, now))
            .collect(),
    });
    topics.collect()
}

/// As in Kafka, nothing is told of one that isn't there, and each is told once.
fn named(
    image: &MetadataImage,
    asked: &[ListPartitionReassignmentsTopics],
) -> Vec<OngoingTopicReassignment> {
    let mut seen = Named::default();
    let mut topics = Vec::new();
    for asked in asked {
        let Some(topic) = image.topic_by_name(&asked.name) else {
            continue;
        };
        let seen = seen.topic(&asked.name);
        let numbers = asked.partition_indexes.iter().copied();
        let partitions = numbers.filter_map(|number| {
            let now = topic.partition(number)?;
            (now.is_reassigning() && seen.insert(number)).then(|| ongoing(number, now))
        });
        let partitions: Vec<_> = partitions.collect();
        if !partitions.is_empty() {
            topics.push(OngoingTopicReassignment {
                name: topic.name.to_string(),
                partitions,
            });
        }
    }
    topics
}

fn ongoing(number: i32, now: &Partition) -> OngoingPartitionReassignment {
    OngoingPartitionReassignment {
        partition_index: number,
        replicas: now.replicas.clone(),
        adding_replicas: now.adding_replicas.clone(),
        removing_replicas: now.removing_replicas.clone(),
    }
}
