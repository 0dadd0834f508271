//! AlterConfigs: replace all settings of a topic.

use super::{change_valid, outcome, ApiContext};
use crate::engine::metadata::alter_configs::NewTopicConfigs;
use crate::engine::metadata::change::{Change, Decided, Intent};
use crate::model::{ErrorCode, Refusal};
use crate::protocol::alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, Request, Response,
};
use crate::protocol::describe_configs::RESOURCE_TOPIC;

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let intent = Intent::from_flag(request.validate_only);
    let asked = request.resources.iter().map(new_configs).collect();
    let decided = change_valid(context, intent, asked, Change::ReplaceTopicConfigs);
    let results = request.resources.into_iter().zip(decided.await);
    Response {
        responses: results
            .map(|(asked, decided)| result(asked, decided))
            .collect(),
        ..Default::default()
    }
}

fn new_configs(resource: &AlterConfigsResource) -> Result<NewTopicConfigs, Refusal> {
    only_topics(resource.resource_type)?;
    let configs = resource.configs.iter();
    Ok(NewTopicConfigs {
        topic: resource.resource_name.clone(),
        configs: configs
            .map(|config| (config.name.clone(), config.value.clone()))
            .collect(),
    })
}

/// What a broker itself is told stands in its config file.
pub fn only_topics(resource_type: i8) -> Result<(), Refusal> {
    if resource_type == RESOURCE_TOPIC {
        return Ok(());
    }
    let message = format!(
        "only the configs of topics can be changed while the broker runs, not those of resource \
         type {resource_type}"
    );
    Err(Refusal::new(ErrorCode::InvalidRequest, message))
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
