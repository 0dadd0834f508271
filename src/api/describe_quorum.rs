//! DescribeQuorum: who keeps the metadata, and how far each of them is, as their leader sees it.

use super::ApiContext;
use crate::actors::controller::{Quorum, QuorumReplica};
use crate::model::{DirectoryId, ErrorCode, Refusal, Timestamp};
use crate::protocol::describe_quorum::{
    DescribedPartition, DescribedTopic, Listener, Node, ReplicaState, Request, Response, TopicData,
    METADATA_TOPIC,
};

/// The only partition of the metadata's log.
const METADATA_PARTITION: i32 = 0;
/// How many partitions are told one by one that they have no quorum.
const STRANGERS_MAX: usize = 1_000;

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    if !asks_for_metadata(&request) {
        return no_such_quorum(request);
    }
    match context.controller.quorum().await {
        Ok(quorum) => described(context, &quorum, Timestamp::now()),
        Err(refusal) => Response {
            error_code: refusal.code,
            error_message: refusal.into_message(),
            ..Default::default()
        },
    }
}

fn asks_for_metadata(request: &Request) -> bool {
    match &request.topics[..] {
        [topic] => {
            let mut partitions = topic.partitions.iter();
            topic.topic_name == METADATA_TOPIC
                && topic.partitions.len() == 1
                && partitions.all(|partition| partition.partition_index == METADATA_PARTITION)
        }
        _ => false,
    }
}

/// As in Kafka, each partition is refused, also that of the metadata beside another one.
fn no_such_quorum(request: Request) -> Response {
    let asked = request.topics.iter().map(|topic| topic.partitions.len());
    if asked.sum::<usize>() > STRANGERS_MAX {
        return Response {
            error_code: ErrorCode::InvalidRequest,
            ..Default::default()
        };
    }
    let refused = |topic: TopicData| {
        let partitions = topic.partitions.into_iter();
        let refused = partitions.map(|partition| DescribedPartition {
            partition_index: partition.partition_index,
            error_code: ErrorCode::UnknownTopicOrPartition,
            error_message: Refusal::from(ErrorCode::UnknownTopicOrPartition).into_message(),
            ..Default::default()
        });
        DescribedTopic {
            topic_name: topic.topic_name,
            partitions: refused.collect(),
        }
    };
    Response {
        topics: request.topics.into_iter().map(refused).collect(),
        ..Default::default()
    }
}

fn described(context: &ApiContext, quorum: &Quorum, now: Timestamp) -> Response {
    let all = |known: &[QuorumReplica]| known.iter().map(|known| replica(known, now)).collect();
    let partition = DescribedPartition {
        partition_index: METADATA_PARTITION,
        leader_id: quorum.leader,
        leader_epoch: i32::try_from(quorum.term).unwrap_or(i32::MAX),
        high_watermark: offset(quorum.high_watermark),
        current_voters: all(&quorum.voters),
        observers: all(&quorum.observers),
        ..Default::default()
    };
    Response {
        topics: vec![DescribedTopic {
            topic_name: METADATA_TOPIC.to_owned(),
            partitions: vec![partition],
        }],
        nodes: nodes(context, quorum),
        ..Default::default()
    }
}

fn replica(known: &QuorumReplica, now: Timestamp) -> ReplicaState {
    let at = |ago: Option<u64>| match ago {
        Some(ago) => Timestamp(now.0 - i64::try_from(ago).unwrap_or(now.0)),
        None => Timestamp(-1),
    };
    ReplicaState {
        replica_id: known.id,
        replica_directory_id: known.directory.unwrap_or(DirectoryId::NONE),
        log_end_offset: known.log_end.map_or(-1, offset),
        last_fetch_timestamp: at(known.heard_ms_ago),
        last_caught_up_timestamp: at(known.caught_up_ms_ago),
    }
}

fn offset(end: u64) -> i64 {
    i64::try_from(end).unwrap_or(i64::MAX)
}

/// Where this listener's clients reach the voters: no controller has a listener of its own.
fn nodes(context: &ApiContext, quorum: &Quorum) -> Vec<Node> {
    let image = context.image();
    let node = |voter: &QuorumReplica| {
        let endpoint = image.broker(voter.id)?.endpoint(context.listener.name)?;
        Some(Node {
            node_id: voter.id,
            listeners: vec![Listener {
                // Kafka's Java client takes no other name for one of these.
                name: endpoint.listener.to_ascii_uppercase(),
                host: endpoint.host.clone(),
                port: endpoint.port,
            }],
        })
    };
    quorum.voters.iter().filter_map(node).collect()
}
