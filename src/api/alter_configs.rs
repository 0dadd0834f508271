//! AlterConfigs: replace all settings of a topic or broker.

use super::{change_valid, outcome, ApiContext};
use crate::engine::metadata::alter_configs::NewTopicConfigs;
use crate::engine::metadata::broker_configs::NewBrokerConfigs;
use crate::engine::metadata::change::{Change, Decided, Intent};
use crate::model::{BrokerId, ErrorCode, Refusal};
use crate::protocol::alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, Request, Response,
};
use crate::protocol::describe_configs::{RESOURCE_BROKER, RESOURCE_TOPIC};

/// The name of what all brokers have that don't say otherwise.
pub const ALL_BROKERS: &str = "";

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let intent = Intent::from_flag(request.validate_only);
    let is_broker = |asked: &AlterConfigsResource| asked.resource_type == RESOURCE_BROKER;
    let (brokers, topics): (Vec<_>, Vec<_>) = request.resources.into_iter().partition(is_broker);
    let asked = topics.iter().map(new_configs).collect();
    let decided = change_valid(context, intent, asked, Change::ReplaceTopicConfigs).await;
    let asked = brokers.iter().map(new_broker_configs).collect();
    let of_brokers = change_valid(context, intent, asked, Change::ReplaceBrokerConfigs).await;
    let asked = topics.into_iter().chain(brokers);
    let results = asked.zip(decided.into_iter().chain(of_brokers));
    Response {
        responses: results
            .map(|(asked, decided)| result(asked, decided))
            .collect(),
        ..Default::default()
    }
}

fn new_configs(resource: &AlterConfigsResource) -> Result<NewTopicConfigs, Refusal> {
    only_topics(resource.resource_type)?;
    Ok(NewTopicConfigs {
        topic: resource.resource_name.clone(),
        configs: values(resource),
    })
}

fn new_broker_configs(resource: &AlterConfigsResource) -> Result<NewBrokerConfigs, Refusal> {
    Ok(NewBrokerConfigs {
        broker: broker(&resource.resource_name)?,
        configs: values(resource),
    })
}

fn values(resource: &AlterConfigsResource) -> Vec<(String, Option<String>)> {
    let configs = resource.configs.iter();
    let configs = configs.map(|config| (config.name.clone(), config.value.clone()));
    configs.collect()
}

/// Brokers apart, only topics have configs that can be changed while the broker runs.
pub fn only_topics(resource_type: i8) -> Result<(), Refusal> {
    if resource_type == RESOURCE_TOPIC {
        return Ok(());
    }
    let message = format!("resources of type {resource_type} have no configs here");
    Err(Refusal::new(ErrorCode::InvalidRequest, message))
}

/// The broker of this name; `None`: all.
pub fn broker(name: &str) -> Result<Option<BrokerId>, Refusal> {
    let id = match name {
        ALL_BROKERS => return Ok(None),
        name => name.parse().ok().filter(|id| *id >= 0),
    };
    let refuse = || {
        Refusal::new(
            ErrorCode::InvalidRequest,
            format!("Invalid broker name {name}"),
        )
    };
    id.map(|id| Some(BrokerId(id))).ok_or_else(refuse)
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
