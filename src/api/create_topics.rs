//! CreateTopics: answered once the partitions can be written to, or the time is over.

use futures_util::future::join_all;

use super::describe_configs::describe_entry;
use super::{change_each, patience, ApiContext};
use crate::actors::group_coordinator::OFFSETS_TOPIC;
use crate::engine::metadata::change::{Change, Decided, Intent};
use crate::engine::metadata::create_topics::NewTopic;
use crate::engine::metadata::{MetadataCommand, TopicConfig};
use crate::model::TopicId;
use crate::protocol::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, Request, Response,
};

/// How long a client that asked for an unknown topic waits for it.
const AUTO_CREATION_TIMEOUT_MS: i32 = 5_000;

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let intent = Intent::from_flag(request.validate_only);
    let names: Vec<String> = request.topics.iter().map(|t| t.name.clone()).collect();
    let topics = request.topics.into_iter().map(new_topic).collect();
    let decided = create(context, topics, intent).await;
    if intent == Intent::Apply {
        await_leaders(context, &decided, request.timeout_ms).await;
    }
    let topics = names.into_iter().zip(decided);
    Response {
        topics: topics
            .map(|(name, decided)| result(context, name, decided))
            .collect(),
        ..Default::default()
    }
}

/// Creates topics because somebody asked for their metadata.
pub async fn create_by_asking(context: &ApiContext, names: &[&str]) {
    let topics = names.iter().map(|name| match *name {
        OFFSETS_TOPIC => context.offsets_topic.new_topic(),
        name => NewTopic {
            name: name.to_owned(),
            id: TopicId::random(),
            partitions: -1,
            replication_factor: -1,
            assignments: Vec::new(),
            configs: Vec::new(),
        },
    });
    let decided = create(context, topics.collect(), Intent::Apply).await;
    for refusal in decided.iter().filter_map(|decided| decided.as_ref().err()) {
        log::debug!("a topic that was asked for isn't created: {refusal}");
    }
    await_leaders(context, &decided, AUTO_CREATION_TIMEOUT_MS).await;
}

async fn create(context: &ApiContext, topics: Vec<NewTopic>, intent: Intent) -> Vec<Decided> {
    change_each(context, intent, Change::CreateTopics(topics)).await
}

fn new_topic(topic: CreatableTopic) -> NewTopic {
    let assignments = topic.assignments.into_iter();
    let configs = topic.configs.into_iter();
    NewTopic {
        name: topic.name,
        id: TopicId::random(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments
            .map(|a| (a.partition_index, a.broker_ids))
            .collect(),
        configs: configs.map(|config| (config.name, config.value)).collect(),
    }
}

/// Waits until the new partitions that are led here can be written to.
pub async fn await_leaders(context: &ApiContext, decided: &[Decided], timeout_ms: i32) {
    let image = context.image();
    let mut ready = Vec::new();
    for command in decided.iter().flatten().flatten() {
        let (id, first, partitions) = match command {
            MetadataCommand::CreateTopic { id, partitions, .. } => (id, 0, partitions),
            MetadataCommand::AddPartitions {
                id,
                first,
                partitions,
            } => (id, *first, partitions),
            _ => continue,
        };
        let Some(topic) = image.topic(*id) else {
            continue;
        };
        let led_here = (first..).zip(partitions);
        let led_here = led_here.filter(|(_, replicas)| replicas.first() == Some(&context.node));
        ready.extend(led_here.map(|(partition, _)| {
            let name = topic.name.as_str();
            context.partitions.settled(*id, name, partition)
        }));
    }
    // Who can't wait longer is answered all the same: the topics are created.
    let _ = tokio::time::timeout(patience(timeout_ms), join_all(ready)).await;
}

fn result(context: &ApiContext, name: String, decided: Decided) -> CreatableTopicResult {
    let mut result = CreatableTopicResult {
        name,
        ..CreatableTopicResult::default()
    };
    match decided {
        Err(refusal) => {
            result.error_code = refusal.code;
            result.error_message = refusal.into_message();
        }
        Ok(commands) => {
            for command in &commands {
                describe(context, &mut result, command);
            }
        }
    }
    result
}

fn describe(context: &ApiContext, result: &mut CreatableTopicResult, command: &MetadataCommand) {
    let MetadataCommand::CreateTopic {
        id,
        partitions,
        configs,
        ..
    } = command
    else {
        return;
    };
    result.topic_id = *id;
    result.num_partitions = partitions.len() as i32;
    result.replication_factor = partitions.first().map_or(0, Vec::len) as i16;
    let entries = TopicConfig::describe(configs, &context.settings.defaults);
    let described = entries.map(|entry| {
        let described = describe_entry(&entry);
        CreatableTopicConfigs {
            name: described.name,
            value: described.value,
            read_only: described.read_only,
            config_source: described.config_source,
            is_sensitive: described.is_sensitive,
        }
    });
    result.configs = described.collect();
}
