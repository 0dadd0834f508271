//! `__consumer_offsets`, where groups and offsets are kept: it is created when somebody first looks for a
//! group's coordinator.

use tokio::sync::Mutex;

use super::create_topics::await_leaders;
use super::ApiContext;
use crate::actors::group_coordinator::OFFSETS_TOPIC;
use crate::engine::metadata::change::Change;
use crate::engine::metadata::create_topics::NewTopic;
use crate::model::{ErrorCode, Refusal, TopicId};

/// How long to wait until its partitions are led.
const CREATION_TIMEOUT_MS: i32 = 5_000;
/// Kafka's `offsets.topic.segment.bytes`: small, for what is read whole.
const SEGMENT_BYTES: &str = "104857600";

/// What it is created with.
pub struct OffsetsTopic {
    pub partitions: i32,
    pub replication_factor: i16,
    /// One request at a time creates it.
    creating: Mutex<()>,
}

impl OffsetsTopic {
    pub fn new(partitions: i32, replication_factor: i16) -> OffsetsTopic {
        OffsetsTopic {
            partitions,
            replication_factor,
            creating: Mutex::default(),
        }
    }

    /// It is compacted: of each offset and each group, what was written last is kept.
    pub fn new_topic(&self) -> NewTopic {
        let config = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
        NewTopic {
            name: OFFSETS_TOPIC.to_owned(),
            id: TopicId::random(),
            partitions: self.partitions,
            replication_factor: self.replication_factor,
            assignments: Vec::new(),
            configs: vec![
                config("cleanup.policy", "compact"),
                config("segment.bytes", SEGMENT_BYTES),
            ],
        }
    }
}

/// Creates it unless it is there.
pub async fn ensure(context: &ApiContext) -> Result<(), Refusal> {
    let is_there = || context.image().topic_by_name(OFFSETS_TOPIC).is_some();
    if is_there() {
        return Ok(());
    }
    let topic = &context.offsets_topic;
    let _turn = topic.creating.lock().await;
    if is_there() {
        return Ok(());
    }
    let change = Change::CreateTopics(vec![topic.new_topic()]);
    match context.controller.change_one(change).await {
        Ok(commands) => {
            await_leaders(context, &[Ok(commands)], CREATION_TIMEOUT_MS).await;
            Ok(())
        }
        Err(refusal) if refusal.code == ErrorCode::TopicAlreadyExists => Ok(()),
        Err(refusal) => Err(refusal),
    }
}
