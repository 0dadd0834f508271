//! The coordinators of consumer groups: one for each partition of `__consumer_offsets` that is led here,
//! with the core of [`engine::group`](crate::engine::group).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::coordinator::{Coordinators, Ticket};
use crate::engine::group::{partition_of, Answer, GroupShard, NamedTopic, Request};
use crate::engine::metadata::MetadataImage;
use crate::model::{ErrorCode, TopicId};

/// Where groups and offsets are kept, as in Kafka.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// How long a client waits until its offsets are committed: Kafka's `offsets.commit.timeout.ms`. They may
/// still be committed later.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The core as it is hosted here.
pub type GroupCore = GroupShard<Ticket<Answer>>;

/// The way to the coordinators of this node.
#[derive(Clone)]
pub struct GroupCoordinators {
    coordinators: Coordinators<GroupCore>,
    images: watch::Receiver<Arc<MetadataImage>>,
}

impl GroupCoordinators {
    pub fn new(images: watch::Receiver<Arc<MetadataImage>>) -> GroupCoordinators {
        GroupCoordinators {
            coordinators: Coordinators::default(),
            images,
        }
    }

    pub fn coordinators(&self) -> Coordinators<GroupCore> {
        self.coordinators.clone()
    }

    /// The partition of a group; `None` if there is no topic for offsets yet.
    pub fn partition_of(&self, group: &str) -> Option<i32> {
        let image = self.images.borrow();
        let partitions = image.topic_by_name(OFFSETS_TOPIC)?.partitions.len();
        Some(partition_of(group, i32::try_from(partitions).ok()?))
    }

    /// Asks the coordinator of a group, if it is here.
    pub async fn ask(&self, group: &str, request: Request) -> Result<Answer, ErrorCode> {
        let partition = self.partition_of(group);
        let partition = partition.ok_or(ErrorCode::NotCoordinator)?;
        self.coordinators.ask(partition, request).await
    }

    /// The same for what is written: answered in time, though it may be written later.
    pub async fn ask_to_write(&self, group: &str, request: Request) -> Result<Answer, ErrorCode> {
        let answer = tokio::time::timeout(COMMIT_TIMEOUT, self.ask(group, request)).await;
        answer.unwrap_or(Err(ErrorCode::CoordinatorNotAvailable))
    }

    /// Asks each coordinator that is here.
    pub async fn ask_all(&self, request: Request) -> Vec<Result<Answer, ErrorCode>> {
        let partitions = self.coordinators.partitions();
        let asked = partitions
            .into_iter()
            .map(|partition| self.coordinators.ask(partition, request.clone()));
        futures_util::future::join_all(asked).await
    }

    async fn forget(&self, topics: BTreeSet<NamedTopic>) {
        if !topics.is_empty() {
            let topics = topics.into_iter().collect();
            self.ask_all(Request::ForgetTopics(topics)).await;
        }
    }

    /// Topics that coordinators have offsets for, and that aren't there. A coordinator's node knows all topics
    /// that those before it have taken offsets for: the metadata that made it one are younger.
    async fn missing_topics(&self) -> BTreeSet<NamedTopic> {
        let answers = self.ask_all(Request::Topics).await;
        let image = self.images.borrow().clone();
        let is_missing = |(name, id): &NamedTopic| match *id == TopicId::NONE {
            true => image.topic_by_name(name).is_none(),
            false => image.topic(*id).is_none(),
        };
        let known = answers.into_iter().filter_map(|answer| match answer {
            Ok(Answer::Topics(topics)) => Some(topics),
            _ => None,
        });
        let known = known.flatten();
        known.filter(is_missing).collect()
    }
}

/// Has what was committed for deleted topics forgotten: a topic of the same name starts anew. Whoever loads
/// learns what was deleted before.
pub async fn forget_deleted_topics(groups: GroupCoordinators, stopping: CancellationToken) {
    let mut images = groups.images.clone();
    let mut loads = groups.coordinators.loads();
    let mut known = images.borrow_and_update().clone();
    loop {
        tokio::select! {
            changed = images.changed() => {
                if changed.is_err() {
                    return;
                }
                let image = images.borrow_and_update().clone();
                let gone = known.topics().filter(|topic| image.topic(topic.id).is_none());
                let gone = gone.map(|topic| (topic.name.clone().into(), topic.id)).collect();
                known = image;
                groups.forget(gone).await;
            }
            Ok(()) = loads.changed() => {
                loads.borrow_and_update();
                let missing = groups.missing_topics().await;
                groups.forget(missing).await;
            }
            () = stopping.cancelled() => return,
        }
    }
}
