//! DeleteTopics, by name or by id.

use super::{change_each, ApiContext};
use crate::engine::metadata::change::{Change, Decided, Intent};
use crate::engine::metadata::delete_topics::TopicRef;
use crate::engine::metadata::MetadataCommand;
use crate::model::{ErrorCode, TopicId};
use crate::protocol::delete_topics::{DeletableTopicResult, DeleteTopicState, Request, Response};

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let refs: Vec<TopicRef> = request.topics.iter().map(topic_ref).collect();
    let decided = change_each(context, Intent::Apply, Change::DeleteTopics(refs));
    let results = request.topics.into_iter().zip(decided.await);
    Response {
        responses: results
            .map(|(asked, decided)| result(asked, decided))
            .collect(),
        ..Default::default()
    }
}

fn topic_ref(topic: &DeleteTopicState) -> TopicRef {
    match &topic.name {
        Some(name) => TopicRef::Name(name.clone()),
        None => TopicRef::Id(topic.topic_id),
    }
}

fn result(asked: DeleteTopicState, decided: Decided) -> DeletableTopicResult {
    let mut result = DeletableTopicResult {
        name: asked.name,
        topic_id: asked.topic_id,
        error_code: ErrorCode::None,
        error_message: None,
    };
    match decided {
        Ok(commands) => {
            let deleted = commands.iter().find_map(|command| match command {
                MetadataCommand::DeleteTopic { id } => Some(*id),
                _ => None,
            });
            result.topic_id = deleted.unwrap_or(TopicId::NONE);
        }
        Err(refusal) => {
            result.error_code = refusal.code;
            result.error_message = refusal.into_message();
        }
    }
    result
}
