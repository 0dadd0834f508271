//! IncrementalAlterConfigs: change some settings of a topic or broker, and leave the others.

use super::alter_configs::{broker, only_topics};
use super::{change_valid, outcome, ApiContext};
use crate::engine::metadata::alter_configs::{ConfigChange, TopicConfigChanges};
use crate::engine::metadata::broker_configs::BrokerConfigChanges;
use crate::engine::metadata::change::{Change, Decided, Intent};
use crate::model::{ErrorCode, Refusal};
use crate::protocol::describe_configs::RESOURCE_BROKER;
use crate::protocol::incremental_alter_configs::{
    AlterConfigOp, AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig, Request,
    Response,
};

/// A config of Kafka that doesn't act here, so that nobody can have set it: to delete it changes nothing. Kafka's
/// kafka-reassign-partitions does so when it finds that all has moved.
const NEVER_SET: &str = "replica.alter.log.dirs.io.max.bytes.per.second";

pub async fn answer(context: &ApiContext, mut request: Request) -> Response {
    let intent = Intent::from_flag(request.validate_only);
    for resource in &mut request.resources {
        resource.configs.retain(|config| !deletes_nothing(config));
    }
    let is_broker = |asked: &AlterConfigsResource| asked.resource_type == RESOURCE_BROKER;
    let (brokers, topics): (Vec<_>, Vec<_>) = request.resources.into_iter().partition(is_broker);
    let parts = topics.iter().map(changes).collect();
    let decided = change_valid(context, intent, parts, Change::AlterTopicConfigs).await;
    let parts = brokers.iter().map(broker_changes).collect();
    let of_brokers = change_valid(context, intent, parts, Change::AlterBrokerConfigs).await;
    let asked = topics.into_iter().chain(brokers);
    let results = asked.zip(decided.into_iter().chain(of_brokers));
    Response {
        responses: results
            .map(|(asked, decided)| result(asked, decided))
            .collect(),
        ..Default::default()
    }
}

fn deletes_nothing(config: &AlterableConfig) -> bool {
    config.config_operation == AlterConfigOp::Delete as i8 && config.name == NEVER_SET
}

fn changes(resource: &AlterConfigsResource) -> Result<TopicConfigChanges, Refusal> {
    only_topics(resource.resource_type)?;
    Ok(TopicConfigChanges {
        topic: resource.resource_name.clone(),
        changes: (resource.configs.iter().map(change)).collect::<Result<_, _>>()?,
    })
}

fn broker_changes(resource: &AlterConfigsResource) -> Result<BrokerConfigChanges, Refusal> {
    Ok(BrokerConfigChanges {
        broker: broker(&resource.resource_name)?,
        changes: (resource.configs.iter().map(change)).collect::<Result<_, _>>()?,
    })
}

fn change(config: &AlterableConfig) -> Result<(String, ConfigChange), Refusal> {
    let name = &config.name;
    let value = || {
        config.value.clone().ok_or_else(|| {
            let message = format!("config {name} needs a value");
            Refusal::new(ErrorCode::InvalidConfig, message)
        })
    };
    let op = AlterConfigOp::from_code(config.config_operation).ok_or_else(|| {
        let message = format!("config operation {} isn't known", config.config_operation);
        Refusal::new(ErrorCode::InvalidRequest, message)
    })?;
    let change = match op {
        AlterConfigOp::Set => ConfigChange::Set(value()?),
        AlterConfigOp::Delete => ConfigChange::Delete,
        AlterConfigOp::Append => ConfigChange::Append(value()?),
        AlterConfigOp::Subtract => ConfigChange::Subtract(value()?),
    };
    Ok((name.clone(), change))
}

fn result(asked: AlterConfigsResource, decided: Decided) -> AlterConfigsResourceResponse {
    let (error_code, error_message) = outcome(decided);
    AlterConfigsResourceResponse {
        error_code,
        error_message,
        resource_type: asked.resource_type,
        resource_name: asked.resource_name,
    }
}
