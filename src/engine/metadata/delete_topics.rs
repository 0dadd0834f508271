//! DeleteTopics: by name or by id (KIP-516).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::change::Decided;
use super::{MetadataCommand, MetadataImage, Refusal};
use crate::model::{ErrorCode, TopicId};

/// A topic as a request names it. A name can be anything that a client sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TopicRef {
    Name(String),
    Id(TopicId),
}

/// Decides each topic of one request by itself; the answers are in the request's order. A topic
/// that comes twice is refused the second time.
pub fn delete_topics(image: &MetadataImage, request: &[TopicRef]) -> Vec<Decided> {
    let mut seen = BTreeSet::new();
    let decide = |topic: &TopicRef| {
        let id = find(image, topic)?;
        if !seen.insert(id) {
            let message = format!("The topic with the id {id} is in the request twice.");
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
        Ok(vec![MetadataCommand::DeleteTopic { id }])
    };
    request.iter().map(decide).collect()
}

fn find(image: &MetadataImage, topic: &TopicRef) -> Result<TopicId, Refusal> {
    match topic {
        TopicRef::Name(name) => image.topic_by_name(name).map(|t| t.id).ok_or_else(|| {
            Refusal::new(
                ErrorCode::UnknownTopicOrPartition,
                "This server does not host this topic-partition.",
            )
        }),
        TopicRef::Id(id) => image.topic(*id).map(|t| t.id).ok_or_else(|| {
            Refusal::new(
                ErrorCode::UnknownTopicId,
                "This server does not host this topic ID.",
            )
        }),
    }
}
