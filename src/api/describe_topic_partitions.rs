//! DescribeTopicPartitions: topics and their partitions, page by page (KIP-966).

use std::collections::BTreeSet;

use super::authorized_operations::TOPIC_OPERATIONS;
use super::metadata::{describe, unknown_name};
use super::ApiContext;
use crate::engine::metadata::MetadataImage;
use crate::model::BrokerId;
use crate::protocol::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
    Request, Response,
};
use crate::protocol::metadata::MetadataResponsePartition;

/// The most partitions of one answer: `max.request.partition.size.limit`.
const PARTITIONS_MAX: usize = 2000;

pub fn answer(context: &ApiContext, request: Request) -> Response {
    let (image, lost) = (context.image(), context.just_lost());
    let mut left = usize::try_from(request.response_partition_limit)
        .unwrap_or(0)
        .clamp(1, PARTITIONS_MAX);
    let mut response = Response::default();
    for name in names(&image, &request) {
        let from = match &request.cursor {
            Some(cursor) if cursor.topic_name == name => cursor.partition_index.max(0) as usize,
            _ => 0,
        };
        if left == 0 {
            response.next_cursor = Some(cursor(name, from));
            break;
        }
        let topic = topic(&image, &lost, name, from, left);
        left -= topic.partitions.len();
        let next = from + topic.partitions.len();
        let all = image.topic_by_name(name).map_or(0, |t| t.partitions.len());
        response.topics.push(topic);
        if next < all {
            response.next_cursor = Some(cursor(name, next));
            break;
        }
    }
    response
}

/// The topics that are asked for, from the cursor on, in the order of their names.
fn names<'a>(image: &'a MetadataImage, request: &'a Request) -> BTreeSet<&'a str> {
    let mut names: BTreeSet<&str> = match request.topics.is_empty() {
        true => image.topics().map(|topic| topic.name.as_str()).collect(),
        false => request.topics.iter().map(|topic| &*topic.name).collect(),
    };
    if let Some(cursor) = &request.cursor {
        names.retain(|name| *name >= &*cursor.topic_name);
    }
    names
}

fn cursor(topic_name: &str, partition: usize) -> Cursor {
    Cursor {
        topic_name: topic_name.to_owned(),
        partition_index: partition as i32,
    }
}

fn topic(
    image: &MetadataImage,
    lost: &BTreeSet<BrokerId>,
    name: &str,
    from: usize,
    partitions_max: usize,
) -> DescribeTopicPartitionsResponseTopic {
    let Some(known) = image.topic_by_name(name) else {
        return DescribeTopicPartitionsResponseTopic {
            error_code: unknown_name(name),
            name: Some(name.to_owned()),
            ..Default::default()
        };
    };
    let described = describe(image, lost, known);
    let partitions = described.partitions.into_iter();
    DescribeTopicPartitionsResponseTopic {
        error_code: described.error_code,
        name: described.name,
        topic_id: described.topic_id,
        is_internal: described.is_internal,
        partitions: partitions
            .skip(from)
            .take(partitions_max)
            .map(partition)
            .collect(),
        topic_authorized_operations: TOPIC_OPERATIONS,
    }
}

fn partition(known: MetadataResponsePartition) -> DescribeTopicPartitionsResponsePartition {
    DescribeTopicPartitionsResponsePartition {
        error_code: known.error_code,
        partition_index: known.partition_index,
        leader_id: known.leader_id,
        leader_epoch: known.leader_epoch,
        replica_nodes: known.replica_nodes,
        isr_nodes: known.isr_nodes,
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        offline_replicas: known.offline_replicas,
    }
}
