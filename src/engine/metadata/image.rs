//! The image: everything that the cluster has agreed on, as of one command.
//!
//! A clone is a handful of reference counts, so every node publishes the latest image and readers
//! keep one as long as they like, without locks.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{ProposalId, METADATA_VERSION};
use crate::model::{
    BrokerId, ClusterId, Incarnation, LeaderEpoch, PartitionId, TopicId, TopicName,
};

/// Where a broker can be reached on one of its listeners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// `native`, `kafka`, …
    pub listener: String,
    pub host: String,
    pub port: u16,
}

/// Which registration of a broker this is: the image's version when it was made, so a later one
/// is always higher (KIP-631).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct BrokerEpoch(pub i64);

impl fmt::Display for BrokerEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A broker that has registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    pub id: BrokerId,
    pub incarnation: Incarnation,
    pub epoch: BrokerEpoch,
    pub endpoints: Vec<Endpoint>,
    pub rack: Option<String>,
}

impl Broker {
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|e| e.listener == listener)
    }
}

/// One partition. Its leader is [`BrokerId::NONE`] or one of its replicas; the in-sync replicas
/// and the eligible leaders (KIP-966) are replicas too, and no broker is both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    pub replicas: Vec<BrokerId>,
    pub leader: BrokerId,
    pub leader_epoch: LeaderEpoch,
    pub isr: Vec<BrokerId>,
    pub eligible_leaders: Vec<BrokerId>,
}

/// One topic; its partitions are numbered from 0 without gaps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    pub id: TopicId,
    pub name: TopicName,
    pub partitions: Vec<Arc<Partition>>,
    /// Only what was set for this topic; see [`super::TopicConfig`] for all of it.
    pub configs: BTreeMap<String, String>,
}

impl Topic {
    /// `None` if there is no partition of that number.
    pub fn partition(&self, number: i32) -> Option<&Partition> {
        let index = usize::try_from(number).ok()?;
        self.partitions.get(index).map(Arc::as_ref)
    }

    /// Of its first partition; all others have as many.
    pub fn replication_factor(&self) -> usize {
        self.partitions.first().map_or(0, |p| p.replicas.len())
    }
}

/// How many deleted topics the image remembers. What replay does depends on it, so it belongs to the
/// metadata version.
pub(super) const DELETED_TOPICS_KEPT_MAX: usize = 10_000;

/// All metadata as of one command. Changed only by [`MetadataImage::replay`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredImage", into = "StoredImage")]
pub struct MetadataImage {
    pub(super) cluster_id: Option<ClusterId>,
    pub(super) metadata_version: u16,
    /// How many commands made this image, those without effect included.
    pub(super) version: u64,
    pub(super) brokers: Arc<BTreeMap<BrokerId, Arc<Broker>>>,
    pub(super) topics: Arc<BTreeMap<TopicId, Arc<Topic>>>,
    /// Always the names of exactly `topics`.
    pub(super) ids_by_name: Arc<BTreeMap<TopicName, TopicId>>,
    /// Always the sum over `topics`.
    pub(super) partition_count: usize,
    pub(super) next_producer_id: i64,
    /// The newest is last; at most [`DELETED_TOPICS_KEPT_MAX`].
    pub(super) deleted_topics: Arc<VecDeque<TopicId>>,
    /// The last proposal of each proposer; see [`super::Proposal`].
    pub(super) last_proposals: Arc<BTreeMap<BrokerId, ProposalId>>,
}

impl Default for MetadataImage {
    /// The image before the first command.
    fn default() -> Self {
        StoredImage::default().into()
    }
}

impl MetadataImage {
    /// `None` until the cluster is bootstrapped.
    pub fn cluster_id(&self) -> Option<&ClusterId> {
        self.cluster_id.as_ref()
    }

    /// What the cluster has agreed to speak; see [`super::MetadataCommand`].
    pub fn metadata_version(&self) -> u16 {
        self.metadata_version
    }

    /// How many commands made this image: it only rises.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn broker(&self, id: BrokerId) -> Option<&Arc<Broker>> {
        self.brokers.get(&id)
    }

    /// By ascending id.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &Arc<Broker>> {
        self.brokers.values()
    }

    /// Takes any string: an illegal name is just not there.
    pub fn topic_by_name(&self, name: &str) -> Option<&Arc<Topic>> {
        self.ids_by_name.get(name).and_then(|id| self.topic(*id))
    }

    pub fn topic(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&id)
    }

    /// By ascending name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.ids_by_name.values().filter_map(|id| self.topic(*id))
    }

    /// Whether the topic was there and was deleted: the only proof by which its data may be removed.
    /// A topic that isn't known proves nothing, and the oldest deletions are forgotten.
    pub fn was_deleted(&self, id: TopicId) -> bool {
        self.topic(id).is_none() && self.deleted_topics.contains(&id)
    }

    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Of all topics together.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    pub fn partition(&self, id: PartitionId) -> Option<&Partition> {
        self.topic(id.topic_id)?.partition(id.partition)
    }

    /// Every partition that has a replica on the broker.
    pub fn partitions_on(
        &self,
        broker: BrokerId,
    ) -> impl Iterator<Item = (PartitionId, &Arc<Topic>, &Arc<Partition>)> {
        self.topics.values().flat_map(move |topic| {
            let numbered = (0..).zip(&topic.partitions);
            let mine = numbered.filter(move |(_, p)| p.replicas.contains(&broker));
            mine.map(move |(partition, p)| {
                let id = PartitionId {
                    topic_id: topic.id,
                    partition,
                };
                (id, topic, p)
            })
        })
    }

    /// The first producer id that no broker has yet.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }
}

/// The image as it is written: without what follows from the rest. A field that is added later
/// has `#[serde(default)]`.
#[derive(Serialize, Deserialize)]
struct StoredImage {
    cluster_id: Option<ClusterId>,
    metadata_version: u16,
    version: u64,
    brokers: Vec<Arc<Broker>>,
    topics: Vec<Arc<Topic>>,
    next_producer_id: i64,
    last_proposals: Arc<BTreeMap<BrokerId, ProposalId>>,
    #[serde(default)]
    deleted_topics: Arc<VecDeque<TopicId>>,
}

impl Default for StoredImage {
    fn default() -> Self {
        StoredImage {
            cluster_id: None,
            metadata_version: METADATA_VERSION,
            version: 0,
            brokers: Vec::new(),
            topics: Vec::new(),
            next_producer_id: 0,
            last_proposals: Arc::default(),
            deleted_topics: Arc::default(),
        }
    }
}

impl From<StoredImage> for MetadataImage {
    fn from(stored: StoredImage) -> MetadataImage {
        let ids_by_name = stored.topics.iter().map(|t| (t.name.clone(), t.id));
        MetadataImage {
            cluster_id: stored.cluster_id,
            metadata_version: stored.metadata_version,
            version: stored.version,
            ids_by_name: Arc::new(ids_by_name.collect()),
            partition_count: stored.topics.iter().map(|t| t.partitions.len()).sum(),
            brokers: Arc::new(stored.brokers.into_iter().map(|b| (b.id, b)).collect()),
            topics: Arc::new(stored.topics.into_iter().map(|t| (t.id, t)).collect()),
            next_producer_id: stored.next_producer_id,
            last_proposals: stored.last_proposals,
            deleted_topics: stored.deleted_topics,
        }
    }
}

impl From<MetadataImage> for StoredImage {
    fn from(image: MetadataImage) -> StoredImage {
        StoredImage {
            cluster_id: image.cluster_id,
            metadata_version: image.metadata_version,
            version: image.version,
            brokers: image.brokers.values().cloned().collect(),
            topics: image.topics.values().cloned().collect(),
            next_producer_id: image.next_producer_id,
            last_proposals: image.last_proposals,
            deleted_topics: image.deleted_topics,
        }
    }
}
