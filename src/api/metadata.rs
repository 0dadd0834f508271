//! Metadata: which brokers there are, and who leads which partition.

use std::collections::HashSet;

use super::authorized_operations::{CLUSTER_OPERATIONS, TOPIC_OPERATIONS};
use super::create_topics::create_by_asking;
use super::ApiContext;
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
    let image = context.image();
    let mut topics: Vec<_> = match &request.topics {
        None => image
            .topics()
            .map(|topic| describe(&image, topic))
            .collect(),
        Some(asked) => asked.iter().map(|topic| find(&image, topic)).collect(),
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

fn find(image: &MetadataImage, asked: &MetadataRequestTopic) -> MetadataResponseTopic {
    let (found, code) = match &asked.name {
        Some(name) => (image.topic_by_name(name), unknown_name(name)),
        None => (image.topic(asked.topic_id), ErrorCode::UnknownTopicId),
    };
    match found {
        Some(topic) => describe(image, topic),
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

pub fn describe(image: &MetadataImage, topic: &Topic) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().zip(0..).map(|(partition, index)| {
        let is_offline = |broker: &BrokerId| image.broker(*broker).is_none_or(|b| b.is_fenced());
        MetadataResponsePartition {
            error_code: match partition.leader {
                BrokerId::NONE => ErrorCode::LeaderNotAvailable,
                _ => ErrorCode::None,
            },
            partition_index: index,
            leader_id: partition.leader,
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
        is_internal: false,
        partitions: partitions.collect(),
        ..Default::default()
    }
}
