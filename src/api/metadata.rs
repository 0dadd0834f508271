//! Metadata: which brokers there are, and who leads which partition.
//!
//! A client that loses its leader asks at once, before the active controller can have elected another. Told
//! the old one, it would try that for a second or more before it asks again. So a leader that this node has
//! just lost sight of too is told as none, which makes clients ask again soon.

use std::collections::{BTreeSet, HashSet};

use super::authorized_operations::{CLUSTER_OPERATIONS, TOPIC_OPERATIONS};
use super::create_topics::create_by_asking;
use super::ApiContext;
use crate::actors::group_coordinator::OFFSETS_TOPIC;
use crate::engine::metadata::{MetadataImage, Topic};
use crate::model::{BrokerId, ErrorCode, TopicId};
use crate::protocol::metadata::{
    MetadataRequestTopic, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    Request, Response,
};

pub async fn answer(context: &ApiContext, mut request: Request) -> Response {
    if let Some(asked) = &mut request.topics {
        // Each is told once, as in Kafka: an answer may be thousands of times larger than the name.
        let mut seen = HashSet::new();
        asked.retain(|topic| seen.insert((topic.topic_id, topic.name.clone())));
    }
    if let Some(asked) = &request.topics {
        if request.allow_auto_topic_creation && context.settings.auto_create_topics {
            create_missing(context, asked).await;
        }
    }
    let (image, lost) = (context.image(), context.just_lost());
    let mut topics: Vec<_> = match &request.topics {
        None => image
            .topics()
            .map(|topic| describe(&image, &lost, topic))
            .collect(),
        Some(asked) => {
            let found = asked.iter().map(|topic| find(&image, &lost, topic));
            found.collect()
        }
    };
    let brokers = image.brokers().filter(|broker| !broker.is_fenced());
    let brokers = brokers.filter_map(|broker| {
        let endpoint = broker.endpoint(context.listener.name)?;
        Some(MetadataResponseBroker {
            node_id: broker.id,
            host: endpoint.host.clone(),
            port: endpoint.port.into(),
            rack: broker.rack.clone(),
        })
    });
    if request.include_topic_authorized_operations {
        let found = topics.iter_mut().filter(|topic| topic.error_code.is_ok());
        found.for_each(|topic| topic.topic_authorized_operations = TOPIC_OPERATIONS);
    }
    Response {
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => CLUSTER_OPERATIONS,
            false => i32::MIN,
        },
        brokers: brokers.collect(),
        cluster_id: context.cluster_id.0.clone(),
        controller_id: context.controller.active_broker(),
        topics,
        ..Default::default()
    }
}

/// Asking for a topic creates it: `auto.create.topics.enable`. One that can't be created is
/// answered as unknown.
async fn create_missing(context: &ApiContext, asked: &[MetadataRequestTopic]) {
    let image = context.image();
    let names = asked.iter().filter_map(|topic| topic.name.as_deref());
    let missing = names.filter(|name| image.topic_by_name(name).is_none());
    let missing: Vec<&str> = missing.collect();
    if !missing.is_empty() {
        create_by_asking(context, &missing).await;
    }
}

fn find(
    image: &MetadataImage,
    lost: &BTreeSet<BrokerId>,
    asked: &MetadataRequestTopic,
) -> MetadataResponseTopic {
    let (found, code) = match &asked.name {
        Some(name) => (image.topic_by_name(name), unknown_name(name)),
        None => (image.topic(asked.topic_id), ErrorCode::UnknownTopicId),
    };
    match found {
        Some(topic) => describe(image, lost, topic),
        None => MetadataResponseTopic {
            error_code: code,
            name: asked.name.clone(),
            topic_id: asked.topic_id,
            is_internal: false,
            partitions: Vec::new(),
            ..Default::default()
        },
    }
}

pub fn unknown_name(name: &str) -> ErrorCode {
    match name.parse::<crate::model::TopicName>() {
        Ok(_) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    }
}

/// What is told of a topic by a node that has just lost sight of some brokers.
pub fn describe(
    image: &MetadataImage,
    lost: &BTreeSet<BrokerId>,
    topic: &Topic,
) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().zip(0..).map(|(partition, index)| {
        let is_offline = |broker: &BrokerId| {
            lost.contains(broker) || image.broker(*broker).is_none_or(|b| b.is_fenced())
        };
        let leader = match lost.contains(&partition.leader) {
            true => BrokerId::NONE,
            false => partition.leader,
        };
        MetadataResponsePartition {
            error_code: match leader {
                BrokerId::NONE => ErrorCode::LeaderNotAvailable,
                _ => ErrorCode::None,
            },
            partition_index: index,
            leader_id: leader,
            leader_epoch: partition.leader_epoch,
            replica_nodes: partition.replicas.clone(),
            isr_nodes: partition.isr.clone(),
            offline_replicas: partition
                .replicas
                .iter()
                .copied()
                .filter(is_offline)
                .collect(),
        }
    });
    MetadataResponseTopic {
        error_code: ErrorCode::None,
        name: Some(topic.name.to_string()),
        topic_id: TopicId(topic.id.0),
        is_internal: topic.name.as_str() == OFFSETS_TOPIC,
        partitions: partitions.collect(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::engine::metadata::Partition;
    use crate::model::{LeaderEpoch, PartitionEpoch, TopicName};

    #[test]
    fn a_leader_that_was_just_lost_is_told_as_none() {
        let partition = |leader: i32| Partition {
            replicas: vec![BrokerId(1), BrokerId(2)],
            leader: BrokerId(leader),
            leader_epoch: LeaderEpoch(4),
            isr: vec![BrokerId(1), BrokerId(2)],
            eligible_leaders: Vec::new(),
            partition_epoch: PartitionEpoch(7),
            last_known_leader: BrokerId::NONE,
            adding_replicas: Vec::new(),
            removing_replicas: Vec::new(),
        };
        let topic = Topic {
            name: "orders".parse::<TopicName>().unwrap(),
            id: TopicId::NONE,
            partitions: vec![Arc::new(partition(1)), Arc::new(partition(2))],
            configs: Default::default(),
        };
        let told = |lost: &[i32]| -> Vec<(i32, ErrorCode)> {
            let lost = lost.iter().copied().map(BrokerId).collect();
            let described = describe(&MetadataImage::default(), &lost, &topic);
            let partitions = described.partitions.iter();
            partitions.map(|p| (p.leader_id.0, p.error_code)).collect()
        };
        let none = (-1, ErrorCode::LeaderNotAvailable);
        assert_eq!(told(&[]), [(1, ErrorCode::None), (2, ErrorCode::None)]);
        assert_eq!(told(&[1]), [none, (2, ErrorCode::None)]);
        assert_eq!(told(&[1, 2]), [none, none]);
    }
}
