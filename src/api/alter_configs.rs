//! AlterConfigs: replace all settings of a topic.

use super::{change_each, outcome, ApiContext, Decided, Intent};
use crate::engine::metadata::alter_configs::replace_topic_configs;
use crate::engine::metadata::MetadataCommand;
use crate::model::{ErrorCode, Refusal};
use crate::protocol::alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, Request, Response,
};
use crate::protocol::describe_configs::RESOURCE_TOPIC;

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let intent = Intent::from_flag(request.validate_only);
    let resources = request.resources.clone();
    let limits = context.settings.limits;
    let decided = change_each(context, intent, resources.len(), move |image| {
        let decide = |resource: &AlterConfigsResource| -> Result<Vec<MetadataCommand>, Refusal> {
            only_topics(resource.resource_type)?;
            let configs = resource.configs.iter();
            let configs = configs.map(|config| (config.name.clone(), config.value.clone()));
            replace_topic_configs(image, &resource.resource_name, configs, &limits)
        };
        resources.iter().map(decide).collect()
    });
    let results = request.resources.into_iter().zip(decided.await);
    Response {
        responses: results
            .map(|(asked, decided)| result(asked, decided))
            .collect(),
        ..Default::default()
    }
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
