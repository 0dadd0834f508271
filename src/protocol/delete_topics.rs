//! DeleteTopics, by name or by id.

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use super::kafka::Adapt;
use crate::model::{ErrorCode, TopicId};

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
#[kafka(adapt)]
pub struct Request {
    #[kafka("6+")]
    pub topics: Vec<DeleteTopicState>,
    /// How older versions name them; always empty in memory.
    #[serde(skip)]
    #[kafka("0-5")]
    pub topic_names: Vec<String>,
    pub timeout_ms: i32,
}

impl Adapt for Request {
    fn upgrade(&mut self, _: i16) {
        let names = std::mem::take(&mut self.topic_names).into_iter();
        self.topics.extend(names.map(|name| DeleteTopicState {
            name: Some(name),
            topic_id: TopicId::NONE,
        }));
    }

    fn downgrade(&mut self, version: i16) {
        if version < 6 {
            let topics = std::mem::take(&mut self.topics).into_iter();
            self.topic_names = topics.filter_map(|topic| topic.name).collect();
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct DeleteTopicState {
    pub name: Option<String>,
    pub topic_id: TopicId,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    #[kafka("1+")]
    pub throttle_time_ms: i32,
    pub responses: Vec<DeletableTopicResult>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct DeletableTopicResult {
    #[kafka("0+", nullable = "6+")]
    pub name: Option<String>,
    #[kafka("6+")]
    pub topic_id: TopicId,
    pub error_code: ErrorCode,
    #[kafka("5+")]
    pub error_message: Option<String>,
}
