//! Replay: how each command changes the image.
//!
//! A command that doesn't fit the image (a topic that is already gone) changes nothing but the
//! version. That is not lenience: two controllers may for a moment decide on images that differ,
//! and then every node has to drop the same command in the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::image::DELETED_TOPICS_KEPT_MAX;
use super::{
    Broker, BrokerEpoch, BrokerState, MetadataCommand, MetadataImage, Partition, PartitionChange,
    Topic,
};
use crate::model::{BrokerId, LeaderEpoch, PartitionEpoch, PartitionId, TopicId, TopicName};

impl MetadataImage {
    /// Changes the image by a committed command.
    pub fn replay(&mut self, command: &MetadataCommand) {
        use MetadataCommand as C;
        self.version += 1;
        match command {
            C::BootstrapCluster {
                cluster_id,
                metadata_version,
            } => {
                if self.cluster_id.is_none() {
                    self.cluster_id = Some(cluster_id.clone());
                    self.metadata_version = *metadata_version;
                }
            }
            C::RegisterBroker {
                id,
                incarnation,
                endpoints,
                rack,
                state,
                metadata_version_max,
            } => self.register_broker(Broker {
                id: *id,
                incarnation: *incarnation,
                epoch: BrokerEpoch(i64::try_from(self.version).unwrap_or(i64::MAX)),
                endpoints: endpoints.clone(),
                rack: rack.clone(),
                state: *state,
                metadata_version_max: *metadata_version_max,
            }),
            C::CreateTopic {
                name,
                id,
                partitions,
                configs,
            } => self.create_topic(name, *id, partitions, configs),
            C::DeleteTopic { id } => self.delete_topic(*id),
            C::AddPartitions {
                id,
                first,
                partitions,
            } => self.add_partitions(*id, *first, partitions),
            C::SetTopicConfigs { id, set, removed } => self.set_topic_configs(*id, set, removed),
            C::SetBrokerConfigs {
                broker,
                set,
                removed,
            } => self.set_broker_configs(*broker, set, removed),
            C::ChangePartitionLeader {
                partition,
                leader,
                leader_epoch,
            } => self.change_leader(*partition, *leader, *leader_epoch),
            C::AllocateProducerIds { up_to, .. } => {
                self.next_producer_id = self.next_producer_id.max(*up_to);
            }
            C::UnregisterBroker { id, epoch } => self.unregister_broker(*id, *epoch),
            C::ChangeBrokerState { id, epoch, state } => {
                self.change_broker_state(*id, *epoch, *state);
            }
            C::ChangePartitions { topic, changes } => self.change_partitions(*topic, changes),
            C::ReadmitVoter { voter, directory } => {
                Arc::make_mut(&mut self.readmitted).insert(*voter, *directory);
            }
            C::SetMetadataVersion { version } => {
                self.metadata_version = self.metadata_version.max(*version);
            }
        }
    }

    /// One that only tells more of the same life keeps its epoch and its state.
    fn register_broker(&mut self, mut broker: Broker) {
        let id = broker.id;
        let known = self.brokers.get(&id);
        let same_life = known.filter(|known| known.incarnation == broker.incarnation);
        let is_restart = known.is_some() && same_life.is_none();
        if let Some(known) = same_life {
            broker.epoch = known.epoch;
            broker.state = known.state;
        }
        Arc::make_mut(&mut self.brokers).insert(id, Arc::new(broker));
        if is_restart {
            self.raise_leader_epochs_of(id);
        }
    }

    fn unregister_broker(&mut self, id: BrokerId, epoch: BrokerEpoch) {
        if self.brokers.get(&id).is_some_and(|b| b.epoch == epoch) {
            Arc::make_mut(&mut self.brokers).remove(&id);
        }
    }

    fn change_broker_state(&mut self, id: BrokerId, epoch: BrokerEpoch, state: BrokerState) {
        let fits = self.brokers.get(&id).is_some_and(|b| b.epoch == epoch);
        if !fits {
            return;
        }
        if let Some(broker) = Arc::make_mut(&mut self.brokers).get_mut(&id) {
            Arc::make_mut(broker).state = state;
        }
    }

    fn raise_leader_epochs_of(&mut self, broker: BrokerId) {
        let has_fencing = self.has_fencing();
        let leads = |topic: &Arc<Topic>| topic.partitions.iter().any(|p| p.leader == broker);
        if !self.topics.values().any(leads) {
            return;
        }
        for topic in Arc::make_mut(&mut self.topics).values_mut() {
            if !leads(topic) {
                continue;
            }
            for partition in &mut Arc::make_mut(topic).partitions {
                if partition.leader == broker {
                    let partition = Arc::make_mut(partition);
                    partition.leader_epoch = partition.leader_epoch.next();
                    raise_partition_epoch(partition, has_fencing);
                }
            }
        }
    }

    fn create_topic(
        &mut self,
        name: &TopicName,
        id: TopicId,
        partitions: &[Vec<BrokerId>],
        configs: &BTreeMap<String, String>,
    ) {
        if self.topics.contains_key(&id) || self.ids_by_name.contains_key(name) {
            return;
        }
        let topic = Topic {
            id,
            name: name.clone(),
            partitions: partitions.iter().map(|r| self.new_partition(r)).collect(),
            configs: configs.clone(),
        };
        self.partition_count += topic.partitions.len();
        Arc::make_mut(&mut self.topics).insert(id, Arc::new(topic));
        Arc::make_mut(&mut self.ids_by_name).insert(name.clone(), id);
    }

    fn delete_topic(&mut self, id: TopicId) {
        if !self.topics.contains_key(&id) {
            return;
        }
        if let Some(topic) = Arc::make_mut(&mut self.topics).remove(&id) {
            self.partition_count -= topic.partitions.len();
            Arc::make_mut(&mut self.ids_by_name).remove(&topic.name);
            self.remember_deleted(id);
        }
    }

    fn remember_deleted(&mut self, id: TopicId) {
        let deleted = Arc::make_mut(&mut self.deleted_topics);
        if deleted.len() == DELETED_TOPICS_KEPT_MAX {
            deleted.pop_front();
        }
        deleted.push_back(id);
    }

    fn add_partitions(&mut self, id: TopicId, first: i32, partitions: &[Vec<BrokerId>]) {
        let new: Vec<_> = partitions.iter().map(|r| self.new_partition(r)).collect();
        let Some(topic) = self.topic_mut(id) else {
            return;
        };
        if usize::try_from(first) != Ok(topic.partitions.len()) {
            return;
        }
        topic.partitions.extend(new);
        self.partition_count += partitions.len();
    }

    fn set_topic_configs(
        &mut self,
        id: TopicId,
        set: &BTreeMap<String, String>,
        removed: &BTreeSet<String>,
    ) {
        let Some(topic) = self.topic_mut(id) else {
            return;
        };
        change_configs(&mut topic.configs, set, removed);
    }

    fn set_broker_configs(
        &mut self,
        broker: Option<BrokerId>,
        set: &BTreeMap<String, String>,
        removed: &BTreeSet<String>,
    ) {
        let brokers = Arc::make_mut(&mut self.broker_configs);
        let configs = brokers.entry(broker).or_default();
        change_configs(configs, set, removed);
        if configs.is_empty() {
            brokers.remove(&broker);
        }
    }

    fn change_leader(&mut self, id: PartitionId, leader: BrokerId, epoch: LeaderEpoch) {
        let fits = self.partition(id).is_some_and(|p| {
            p.leader_epoch < epoch && (leader == BrokerId::NONE || p.replicas.contains(&leader))
        });
        let (true, Ok(index)) = (fits, usize::try_from(id.partition)) else {
            return;
        };
        let has_fencing = self.has_fencing();
        let topic = self.topic_mut(id.topic_id);
        if let Some(partition) = topic.and_then(|t| t.partitions.get_mut(index)) {
            let partition = Arc::make_mut(partition);
            partition.leader = leader;
            partition.leader_epoch = epoch;
            raise_partition_epoch(partition, has_fencing);
        }
    }

    fn change_partitions(&mut self, topic: TopicId, changes: &[PartitionChange]) {
        let Some(known) = self.topic(topic) else {
            return;
        };
        let fitting: Vec<(usize, Arc<Partition>)> = changes
            .iter()
            .filter_map(|change| {
                let index = usize::try_from(change.partition).ok()?;
                let changed = self.changed(known.partitions.get(index)?, change)?;
                Some((index, Arc::new(changed)))
            })
            .collect();
        if fitting.is_empty() {
            return;
        }
        if let Some(topic) = self.topic_mut(topic) {
            for (index, changed) in fitting {
                // Of two changes of one partition the first one counts: both saw the same epoch.
                if topic.partitions[index].partition_epoch < changed.partition_epoch {
                    topic.partitions[index] = changed;
                }
            }
        }
    }

    /// The partition after the change; `None` if the change doesn't fit it.
    fn changed(&self, now: &Partition, change: &PartitionChange) -> Option<Partition> {
        if now.partition_epoch != change.seen {
            return None;
        }
        let mut next = now.clone();
        next.partition_epoch = now.partition_epoch.next();
        if let Some(leader) = change.leader {
            next.leader = leader;
            next.leader_epoch = now.leader_epoch.next();
        }
        let set = |list: &mut Vec<BrokerId>, to: &Option<Vec<BrokerId>>| {
            if let Some(to) = to {
                list.clone_from(to);
            }
        };
        set(&mut next.isr, &change.isr);
        set(&mut next.eligible_leaders, &change.eligible_leaders);
        set(&mut next.replicas, &change.replicas);
        set(&mut next.adding_replicas, &change.adding_replicas);
        set(&mut next.removing_replicas, &change.removing_replicas);
        next.last_known_leader = change.last_known_leader.unwrap_or(now.last_known_leader);

        let is_sound = next.leader == BrokerId::NONE || next.isr.contains(&next.leader);
        let are_replicas = next.isr.iter().all(|id| next.replicas.contains(id));
        let mut joining = next.isr.iter().filter(|id| !now.isr.contains(id));
        let lets_in_held_back = joining.any(|id| self.is_held_back(*id))
            || change
                .leader
                .is_some_and(|leader| self.is_held_back(leader));
        (is_sound && are_replicas && !lets_in_held_back).then_some(next)
    }

    /// All replicas of a new partition are empty, hence in sync if they may be; the first of those
    /// leads. If there is none, each of them is eligible.
    fn new_partition(&self, replicas: &[BrokerId]) -> Arc<Partition> {
        let may_lead = |id: &BrokerId| !self.is_held_back(*id);
        let isr: Vec<_> = replicas.iter().copied().filter(may_lead).collect();
        let eligible_leaders = match isr.is_empty() {
            true => replicas.to_vec(),
            false => Vec::new(),
        };
        Arc::new(Partition {
            replicas: replicas.to_vec(),
            leader: isr.first().copied().unwrap_or(BrokerId::NONE),
            leader_epoch: LeaderEpoch(0),
            isr,
            eligible_leaders,
            partition_epoch: PartitionEpoch(0),
            last_known_leader: BrokerId::NONE,
            adding_replicas: Vec::new(),
            removing_replicas: Vec::new(),
        })
    }

    /// The topic to be changed, its own copy if an older image holds it too.
    fn topic_mut(&mut self, id: TopicId) -> Option<&mut Topic> {
        if !self.topics.contains_key(&id) {
            return None;
        }
        Arc::make_mut(&mut self.topics)
            .get_mut(&id)
            .map(Arc::make_mut)
    }
}

fn change_configs(
    configs: &mut BTreeMap<String, String>,
    set: &BTreeMap<String, String>,
    removed: &BTreeSet<String>,
) {
    configs.retain(|name, _| !removed.contains(name));
    let set = set
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()));
    configs.extend(set);
}

/// Only where the whole cluster counts them: a snapshot of an earlier version has none, and must
/// come to the same image as its log.
fn raise_partition_epoch(partition: &mut Partition, has_fencing: bool) {
    if has_fencing {
        partition.partition_epoch = partition.partition_epoch.next();
    }
}
