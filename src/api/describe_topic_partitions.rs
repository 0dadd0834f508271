//! DescribeTopicPartitions: topics and their partitions, page by page (KIP-966).

use std::collections::BTreeSet;

use super::authorized_operations::TOPIC_OPERATIONS;
use super::metadata::{describe, unknown_name};
use super::ApiContext;
use crate::engine::metadata::{MetadataImage, Partition};
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
    let partitions = described.partitions.into_iter().zip(&known.partitions);
    DescribeTopicPartitionsResponseTopic {
        error_code: described.error_code,
        name: described.name,
        topic_id: described.topic_id,
        is_internal: described.is_internal,
        partitions: partitions
            .skip(from)
            .take(partitions_max)
            .map(|(told, known)| partition(told, known))
            .collect(),
        topic_authorized_operations: TOPIC_OPERATIONS,
    }
}

fn partition(
    told: MetadataResponsePartition,
    known: &Partition,
) -> DescribeTopicPartitionsResponsePartition {
    DescribeTopicPartitionsResponsePartition {
        error_code: told.error_code,
        partition_index: told.partition_index,
        leader_id: told.leader_id,
        leader_epoch: told.leader_epoch,
        replica_nodes: told.replica_nodes,
        isr_nodes: told.isr_nodes,
        eligible_leader_replicas: Some(known.eligible_leaders.clone()),
        last_known_elr: Some(last_known_eligible(known)),
        offline_replicas: told.offline_replicas,
    }
}

/// With nobody in sync and nobody eligible, the last leader's log lacks the least.
fn last_known_eligible(known: &Partition) -> Vec<BrokerId> {
    let has_none = known.isr.is_empty() && known.eligible_leaders.is_empty();
    let last = Some(known.last_known_leader).filter(|id| has_none && *id != BrokerId::NONE);
    last.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LeaderEpoch, PartitionEpoch};

    #[test]
    fn who_may_lead_without_loss_is_told_and_who_led_last_only_if_nobody_may() {
        let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
        let told = |isr: &[i32], eligible: &[i32], last: i32| {
            let known = Partition {
                replicas: ids(&[1, 2, 3]),
                leader: BrokerId::NONE,
                leader_epoch: LeaderEpoch(4),
                isr: ids(isr),
                eligible_leaders: ids(eligible),
                partition_epoch: PartitionEpoch(7),
                last_known_leader: BrokerId(last),
                adding_replicas: Vec::new(),
                removing_replicas: Vec::new(),
            };
            let told = partition(MetadataResponsePartition::default(), &known);
            let eligible = told.eligible_leader_replicas.unwrap();
            (eligible, told.last_known_elr.unwrap())
        };
        assert_eq!(told(&[1], &[2, 3], -1), (ids(&[2, 3]), ids(&[])));
        assert_eq!(told(&[], &[3], 1), (ids(&[3]), ids(&[])));
        assert_eq!(told(&[], &[], 1), (ids(&[]), ids(&[1])));
        assert_eq!(told(&[], &[], -1), (ids(&[]), ids(&[])));
    }
}
