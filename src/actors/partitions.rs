//! Which partitions are led on this node: the guardian publishes it, requests look it up without
//! a lock.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use super::partition_handle::PartitionHandle;
use super::vitals::State;
use crate::engine::metadata::TopicConfig;
use crate::model::{PartitionId, TopicId, TopicName};

/// What this node has of one topic.
#[derive(Clone)]
pub struct LocalTopic {
    pub id: TopicId,
    pub config: Arc<TopicConfig>,
    /// By index; those led elsewhere are not in it.
    pub partitions: HashMap<i32, PartitionHandle>,
}

/// All that is led here, as of one metadata image.
#[derive(Default)]
pub struct Directory {
    topics: HashMap<TopicName, LocalTopic>,
    /// The same partitions.
    by_id: HashMap<PartitionId, PartitionHandle>,
}

impl Directory {
    pub fn topic(&self, name: &str) -> Option<&LocalTopic> {
        // A name without end isn't even hashed: requests may hold one for thousands of partitions.
        if name.len() > TopicName::LEN_MAX {
            return None;
        }
        self.topics.get(name)
    }

    pub fn by_id(&self, id: &PartitionId) -> Option<&PartitionHandle> {
        self.by_id.get(id)
    }

    pub fn partitions(&self) -> impl Iterator<Item = &PartitionHandle> {
        self.by_id.values()
    }

    pub fn topics(&self) -> impl Iterator<Item = (&TopicName, &LocalTopic)> {
        self.topics.iter()
    }
}

impl FromIterator<(TopicName, LocalTopic)> for Directory {
    fn from_iter<I: IntoIterator<Item = (TopicName, LocalTopic)>>(topics: I) -> Self {
        let topics: HashMap<_, LocalTopic> = topics.into_iter().collect();
        let partitions = topics.values().flat_map(|topic| topic.partitions.values());
        let by_id = partitions.map(|partition| (partition.id(), partition.clone()));
        Directory {
            by_id: by_id.collect(),
            topics,
        }
    }
}

/// The latest [`Directory`].
#[derive(Clone)]
pub struct Partitions {
    directory: Arc<ArcSwap<Directory>>,
    changed: Arc<watch::Sender<()>>,
}

impl Default for Partitions {
    fn default() -> Self {
        Partitions {
            directory: Arc::default(),
            changed: Arc::new(watch::Sender::new(())),
        }
    }
}

impl Partitions {
    pub fn current(&self) -> Guard<Arc<Directory>> {
        self.directory.load()
    }

    pub fn publish(&self, directory: Directory) {
        self.directory.store(Arc::new(directory));
        self.changed.send_replace(());
    }

    /// Tells those who wait that a leader has come up or gone offline.
    pub fn touch(&self) {
        self.changed.send_replace(());
    }

    /// Changes whenever there is another directory, or a leader has come up or gone offline.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Waits until the partition with this index of the topic has a leader at work, or can't get
    /// one.
    pub async fn settled(&self, topic: TopicId, name: &str, partition: i32) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let settled = match self.current().topic(name) {
                Some(local) if local.id == topic => {
                    local.partitions.get(&partition).is_some_and(is_settled)
                }
                _ => false,
            };
            if settled || changed.changed().await.is_err() {
                return;
            }
        }
    }
}

/// A leader that says it runs may not yet be reachable behind its handle.
fn is_settled(handle: &PartitionHandle) -> bool {
    match handle.vitals().state() {
        State::Running => handle.role().is_some(),
        state => state == State::Offline,
    }
}
