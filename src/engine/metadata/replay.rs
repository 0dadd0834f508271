//! Replay: how each command changes the image.
//!
//! A command that doesn't fit the image (a topic that is already gone) changes nothing but the
//! version. That is not lenience: two controllers may for a moment decide on images that differ,
//! and then every node has to drop the same command in the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::image::DELETED_TOPICS_KEPT_MAX;
use super::{Broker, BrokerEpoch, Endpoint, MetadataCommand, MetadataImage, Partition, Topic};
use crate::model::{BrokerId, Incarnation, LeaderEpoch, PartitionId, TopicId, TopicName};

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
            } => self.register_broker(*id, *incarnation, endpoints, rack),
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
            C::ChangePartitionLeader {
                partition,
                leader,
                leader_epoch,
            } => self.change_leader(*partition, *leader, *leader_epoch),
            C::AllocateProducerIds { up_to, .. } => {
                self.next_producer_id = self.next_producer_id.max(*up_to);
            }
        }
    }

    fn register_broker(
        &mut self,
        id: BrokerId,
        incarnation: Incarnation,
        endpoints: &[Endpoint],
        rack: &Option<String>,
    ) {
        let known = self.brokers.get(&id);
        let same_life = known.filter(|b| b.incarnation == incarnation);
        let epoch = match same_life {
            Some(broker) => broker.epoch,
            None => BrokerEpoch(i64::try_from(self.version).unwrap_or(i64::MAX)),
        };
        let is_restart = known.is_some() && same_life.is_none();
        let broker = Broker {
            id,
            incarnation,
            epoch,
            endpoints: endpoints.to_vec(),
            rack: rack.clone(),
        };
        Arc::make_mut(&mut self.brokers).insert(id, Arc::new(broker));
        if is_restart {
            self.raise_leader_epochs_of(id);
        }
    }

    fn raise_leader_epochs_of(&mut self, broker: BrokerId) {
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
            partitions: partitions.iter().map(|r| new_partition(r)).collect(),
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
        let Some(topic) = self.topic_mut(id) else {
            return;
        };
        if usize::try_from(first) != Ok(topic.partitions.len()) {
            return;
        }
        let new = partitions.iter().map(|r| new_partition(r));
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
        topic.configs.retain(|name, _| !removed.contains(name));
        let set = set
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()));
        topic.configs.extend(set);
    }

    fn change_leader(&mut self, id: PartitionId, leader: BrokerId, epoch: LeaderEpoch) {
        let fits = self.partition(id).is_some_and(|p| {
            p.leader_epoch < epoch && (leader == BrokerId::NONE || p.replicas.contains(&leader))
        });
        let (true, Ok(index)) = (fits, usize::try_from(id.partition)) else {
            return;
        };
        let topic = self.topic_mut(id.topic_id);
        if let Some(partition) = topic.and_then(|t| t.partitions.get_mut(index)) {
            let partition = Arc::make_mut(partition);
            partition.leader = leader;
            partition.leader_epoch = epoch;
        }
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

/// All replicas of a new partition are empty, hence in sync; the first leads.
fn new_partition(replicas: &[BrokerId]) -> Arc<Partition> {
    Arc::new(Partition {
        replicas: replicas.to_vec(),
        leader: replicas.first().copied().unwrap_or(BrokerId::NONE),
        leader_epoch: LeaderEpoch(0),
        isr: replicas.to_vec(),
        eligible_leaders: Vec::new(),
    })
}
