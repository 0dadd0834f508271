//! DeleteTopics, by name or by id.

use serde::{Deserialize, Serialize};

use crate::model::{ErrorCode, TopicId};

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub topics: Vec<DeleteTopicState>,
    pub timeout_ms: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeleteTopicState {
    pub name: Option<String>,
    pub topic_id: TopicId,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    pub responses: Vec<DeletableTopicResult>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeletableTopicResult {
    pub name: Option<String>,
    pub topic_id: TopicId,
    pub error_code: ErrorCode,
    pub error_message: Option<String>,
}
