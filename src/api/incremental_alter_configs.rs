//! IncrementalAlterConfigs: change some settings of a topic, and leave the others.

use super::alter_configs::only_topics;
use super::{change_valid, outcome, ApiContext};
use crate::engine::metadata::alter_configs::{ConfigChange, TopicConfigChanges};
use crate::engine::metadata::change::{Change, Decided, Intent};
use crate::model::{ErrorCode, Refusal};
use crate::protocol::incremental_alter_configs::{
    AlterConfigOp, AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig, Request,
    Response,
};

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let intent = Intent::from_flag(request.validate_only);
    let asked = request.resources.iter().map(changes).collect();
    let decided = change_valid(context, intent, asked, Change::AlterTopicConfigs);
    let results = request.resources.into_iter().zip(decided.await);
    Response {
        responses: results
            .map(|(asked, decided)| result(asked, decided))
            .collect(),
        ..Default::default()
    }
}

fn changes(resource: &AlterConfigsResource) -> Result<TopicConfigChanges, Refusal> {
    only_topics(resource.resource_type)?;
    Ok(TopicConfigChanges {
        topic: resource.resource_name.clone(),
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
