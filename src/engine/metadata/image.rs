//! The image: everything that the cluster has agreed on, as of one command.
//!
//! A clone is a handful of reference counts, so every node publishes the latest image and readers
//! keep one as long as they like, without locks.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::command::VERSION_OF_FENCING;
use super::{ProposalId, METADATA_VERSION};
use crate::model::{
    BrokerId, ClusterId, DirectoryId, Incarnation, LeaderEpoch, PartitionEpoch, PartitionId,
    TopicId, TopicName,
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

/// What a broker may do (KIP-631, KIP-841).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BrokerState {
    /// It may lead and be in sync.
    #[default]
    Unfenced,
    /// It doesn't answer, or has just registered: it leads nothing, and is in no ISR.
    Fenced,
    /// It serves until it has given away what it leads, and joins nothing any more.
    ShuttingDown,
}

impl BrokerState {
    pub(super) fn is_unfenced(&self) -> bool {
        *self == BrokerState::Unfenced
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
    #[serde(default)]
    pub state: BrokerState,
    /// The latest metadata version that its build knows, and with it all before; `None` of builds that didn't say
    /// so, which know what the cluster speaks. See [`super::metadata_version`].
    #[serde(default)]
    pub metadata_version_max: Option<u16>,
}

impl Broker {
    /// Whether it is known not to serve.
    pub fn is_fenced(&self) -> bool {
        self.state == BrokerState::Fenced
    }

    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|e| e.listener == listener)
    }
}

/// One partition. Its leader is [`BrokerId::NONE`] or one of its in-sync replicas; the in-sync
/// replicas (ISR) and the eligible leaders (ELR, KIP-966) are replicas, and no broker is both.
///
/// An eligible leader has every committed record, because it was in sync when the ISR fell below
/// `min.insync.replicas`, and nothing was committed since. Hence the rule for the leader: **while
/// there are eligible leaders, the high watermark stands still**, whatever the leader believes
/// `min.insync.replicas` to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// While a reassignment is under way: the ones that shall be, then the ones that shall go.
    pub replicas: Vec<BrokerId>,
    pub leader: BrokerId,
    pub leader_epoch: LeaderEpoch,
    pub isr: Vec<BrokerId>,
    pub eligible_leaders: Vec<BrokerId>,
    #[serde(default)]
    pub partition_epoch: PartitionEpoch,
    /// Who led last, if nobody leads; its log is the last hope if nobody is in sync or eligible.
    #[serde(default)]
    pub last_known_leader: BrokerId,
    /// The replicas that a reassignment brings (KIP-455).
    #[serde(default)]
    pub adding_replicas: Vec<BrokerId>,
    /// The replicas that a reassignment takes away once those that it brings are in sync.
    #[serde(default)]
    pub removing_replicas: Vec<BrokerId>,
}

impl Partition {
    pub fn is_reassigning(&self) -> bool {
        !self.adding_replicas.is_empty() || !self.removing_replicas.is_empty()
    }

    /// Those that are replicas if a reassignment that is under way is given up.
    pub fn settled_replicas(&self) -> impl Iterator<Item = BrokerId> + '_ {
        let is_new = |id: &BrokerId| self.adding_replicas.contains(id);
        self.replicas.iter().copied().filter(move |id| !is_new(id))
    }

    /// Those that are replicas once it is complete.
    pub fn replicas_to_be(&self) -> Vec<BrokerId> {
        let goes = |id: &BrokerId| self.removing_replicas.contains(id);
        self.replicas
            .iter()
            .copied()
            .filter(|id| !goes(id))
            .collect()
    }

    /// How many replicas must be in sync for anything to be committed, if the topic is configured
    /// to want so many: never more than there are without those that a reassignment brings
    /// (KIP-966).
    pub fn min_in_sync(&self, min_insync_replicas: usize) -> usize {
        let settled = self.replicas.len() - self.adding_replicas.len().min(self.replicas.len());
        min_insync_replicas.min(settled).max(1)
    }
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

    /// Of its first partition, once a reassignment is complete; new partitions get as many replicas.
    pub fn replication_factor(&self) -> usize {
        let first = self.partitions.first();
        first.map_or(0, |partition| partition.replicas_to_be().len())
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
    pub(super) readmitted: Arc<BTreeMap<BrokerId, DirectoryId>>,
    /// What each broker has set, and under `None` what all have that don't say otherwise.
    pub(super) broker_configs: Arc<BrokerConfigs>,
}

type BrokerConfigs = BTreeMap<Option<BrokerId>, BTreeMap<String, String>>;

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

    /// Whether both have the same topics, whatever has become of their partitions. False may mean that it
    /// isn't known.
    pub fn has_same_topics(&self, other: &MetadataImage) -> bool {
        Arc::ptr_eq(&self.ids_by_name, &other.ids_by_name)
    }

    pub fn broker(&self, id: BrokerId) -> Option<&Arc<Broker>> {
        self.brokers.get(&id)
    }

    /// By ascending id.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &Arc<Broker>> {
        self.brokers.values()
    }

    /// Whether the broker may lead and be in sync. One that isn't registered may not.
    pub fn is_active(&self, id: BrokerId) -> bool {
        self.broker(id).is_some_and(|b| b.state.is_unfenced())
    }

    /// Whether it is known of the broker that it may neither lead nor be in sync.
    pub(super) fn is_held_back(&self, id: BrokerId) -> bool {
        self.broker(id).is_some_and(|b| !b.state.is_unfenced())
    }

    /// Whether brokers are fenced and partitions have epochs.
    pub(super) fn has_fencing(&self) -> bool {
        self.metadata_version >= VERSION_OF_FENCING
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

    /// In an order that doesn't look up names.
    pub(super) fn topics_by_id(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
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

    /// The copy of the metadata that a voter was readmitted with; `None` if it never was.
    pub fn readmitted(&self, voter: BrokerId) -> Option<DirectoryId> {
        self.readmitted.get(&voter).copied()
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
    #[serde(default)]
    readmitted: Arc<BTreeMap<BrokerId, DirectoryId>>,
    #[serde(default)]
    broker_configs: Arc<BrokerConfigs>,
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
            readmitted: Arc::default(),
            broker_configs: Arc::default(),
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
            readmitted: stored.readmitted,
            broker_configs: stored.broker_configs,
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
            readmitted: image.readmitted,
            broker_configs: image.broker_configs,
        }
    }
}
