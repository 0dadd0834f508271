//! DescribeConfigs: the settings of a topic; and of this broker those that topics take over, and those that can
//! be changed while it runs.

use std::collections::{BTreeMap, HashSet};

use super::alter_configs::ALL_BROKERS;
use super::ApiContext;
use crate::engine::metadata::{ConfigEntry, ConfigKind, ConfigOrigin, TopicConfig};
use crate::model::{ErrorCode, Refusal};
use crate::protocol::describe_configs::{
    ConfigType, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult,
    DescribeConfigsSynonym, Request, Response, RESOURCE_BROKER, RESOURCE_TOPIC,
};

pub fn answer(context: &ApiContext, mut request: Request) -> Response {
    // Each is told once, as in Kafka: an answer is a thousand times larger than the question.
    let mut seen = HashSet::new();
    let resources = &mut request.resources;
    resources.retain(|asked| seen.insert((asked.resource_type, asked.resource_name.clone())));
    let mut results = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        let mut result = match describe(context, resource) {
            Ok(configs) => described(resource, configs),
            Err(refusal) => refused(resource, refusal),
        };
        for config in &mut result.configs {
            if !request.include_synonyms {
                config.synonyms.clear();
            }
            if !request.include_documentation {
                config.documentation = None;
            }
        }
        results.push(result);
    }
    Response {
        results,
        ..Default::default()
    }
}

fn describe(
    context: &ApiContext,
    resource: &DescribeConfigsResource,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let asked = |name: &str| match &resource.configuration_keys {
        Some(keys) => keys.iter().any(|key| key == name),
        None => true,
    };
    let mut configs = match resource.resource_type {
        RESOURCE_TOPIC => topic_configs(context, &resource.resource_name)?,
        RESOURCE_BROKER => broker_configs(context, &resource.resource_name)?,
        other => {
            let message = format!("resources of type {other} have no configs here");
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
    };
    configs.retain(|config| asked(&config.name));
    Ok(configs)
}

fn topic_configs(
    context: &ApiContext,
    topic: &str,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let image = context.image();
    let topic = image.topic_by_name(topic).ok_or_else(|| {
        let message = format!("there is no topic {topic:?}");
        Refusal::new(ErrorCode::UnknownTopicOrPartition, message)
    })?;
    let entries = TopicConfig::describe(&topic.configs, &context.settings.defaults);
    Ok(entries.map(|entry| describe_entry(&entry)).collect())
}

/// What a topic gets that doesn't set it, under the broker's names, and what the broker itself goes by. Without
/// a name, what is set for all brokers.
fn broker_configs(
    context: &ApiContext,
    broker: &str,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let image = context.image();
    if broker == ALL_BROKERS {
        let entries = image.describe_configs_of_all_brokers();
        return Ok(entries.iter().map(describe_entry).collect());
    }
    if broker != context.node.to_string() {
        let message = format!("this is broker {}, and not {broker:?}", context.node);
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let own = image.describe_broker_configs(context.node);
    let nothing_set = BTreeMap::new();
    let entries = TopicConfig::describe(&nothing_set, &context.settings.defaults)
        .filter(|entry| !entry.key.broker_synonym.is_empty());
    let describe = |entry: ConfigEntry| DescribeConfigsResourceResult {
        name: entry.key.broker_synonym.to_owned(),
        read_only: true,
        ..describe_entry(&entry)
    };
    Ok(own
        .iter()
        .map(describe_entry)
        .chain(entries.map(describe))
        .collect())
}

pub fn describe_entry(entry: &ConfigEntry) -> DescribeConfigsResourceResult {
    let synonyms = entry.synonyms.iter().map(|synonym| DescribeConfigsSynonym {
        name: synonym.name.to_owned(),
        value: Some(synonym.value.clone()),
        source: source(synonym.origin),
    });
    DescribeConfigsResourceResult {
        name: entry.key.name.to_owned(),
        value: Some(entry.value.clone()),
        read_only: false,
        config_source: source(entry.origin),
        is_sensitive: false,
        synonyms: synonyms.collect(),
        config_type: match entry.key.kind {
            ConfigKind::String => ConfigType::String,
            ConfigKind::Int => ConfigType::Int,
            ConfigKind::Long => ConfigType::Long,
            ConfigKind::Double => ConfigType::Double,
            ConfigKind::List => ConfigType::List,
            ConfigKind::Boolean => ConfigType::Boolean,
        } as i8,
        documentation: Some(entry.key.doc.to_owned()),
    }
}

fn source(origin: ConfigOrigin) -> i8 {
    use crate::protocol::describe_configs::ConfigSource;
    let source = match origin {
        ConfigOrigin::Topic => ConfigSource::DynamicTopicConfig,
        ConfigOrigin::Broker => ConfigSource::DynamicBrokerConfig,
        ConfigOrigin::AllBrokers => ConfigSource::DynamicDefaultBrokerConfig,
        ConfigOrigin::StaticBroker => ConfigSource::StaticBrokerConfig,
        ConfigOrigin::Default => ConfigSource::DefaultConfig,
    };
    source as i8
}

fn described(
    resource: &DescribeConfigsResource,
    configs: Vec<DescribeConfigsResourceResult>,
) -> DescribeConfigsResult {
    DescribeConfigsResult {
        error_code: ErrorCode::None,
        error_message: None,
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
        configs,
    }
}

fn refused(resource: &DescribeConfigsResource, refusal: Refusal) -> DescribeConfigsResult {
    DescribeConfigsResult {
        error_code: refusal.code,
        error_message: refusal.into_message(),
        ..described(resource, Vec::new())
    }
}
