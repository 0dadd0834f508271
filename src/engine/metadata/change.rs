//! Changes: what any broker asks of the active controller.
//!
//! A change is plain data, since the broker that is asked for it is seldom the one that decides it.
//! Each of its parts (a topic of many) is decided by itself, on the image of the active controller
//! and by that broker's config.

use serde::{Deserialize, Serialize};

use super::alter_configs::{
    alter_topic_configs, replace_topic_configs, NewTopicConfigs, TopicConfigChanges,
};
use super::alter_partition::{alter_partition, IsrProposal};
use super::broker_configs::{
    alter_broker_configs, replace_broker_configs, BrokerConfigChanges, NewBrokerConfigs,
};
use super::change_leader::change_leader;
use super::create_partitions::{create_partitions, MorePartitions};
use super::create_topics::{create_topics, NewTopic, NewTopicDefaults};
use super::delete_topics::{delete_topics, TopicRef};
use super::elect_leaders::{elect_leader, ElectionType};
use super::fence_broker::{begin_controlled_shutdown, fence_broker, unfence_broker};
use super::give_up_log::give_up_log;
use super::metadata_version::raised_for;
use super::producer_ids::allocate_producer_ids;
use super::readmit_voter::readmit_voter;
use super::reassign::{reassign_partition, Reassignment, ReplicationFactor};
use super::register_broker::{register_broker, BrokerRegistration};
use super::sweep::is_full;
use super::unregister_broker::unregister_broker;
use super::{BrokerDefaults, BrokerEpoch, MetadataCommand, MetadataImage, MetadataLimits, Refusal};
use crate::model::{BrokerId, DirectoryId, LeaderEpoch, PartitionId, TopicPartition};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    RegisterBroker(BrokerRegistration),
    /// The broker doesn't answer, or has ended.
    FenceBroker {
        broker: BrokerId,
        epoch: BrokerEpoch,
    },
    /// The broker is there.
    UnfenceBroker {
        broker: BrokerId,
        epoch: BrokerEpoch,
    },
    /// The broker wants to end: others shall lead what it leads.
    ControlledShutdown {
        broker: BrokerId,
        epoch: BrokerEpoch,
    },
    /// The ISR that a leader wants (KIP-497).
    AlterPartition {
        leader: BrokerId,
        broker_epoch: BrokerEpoch,
        proposal: IsrProposal,
    },
    CreateTopics(Vec<NewTopic>),
    DeleteTopics(Vec<TopicRef>),
    CreatePartitions(Vec<MorePartitions>),
    /// Kafka's AlterConfigs.
    ReplaceTopicConfigs(Vec<NewTopicConfigs>),
    /// Kafka's IncrementalAlterConfigs.
    AlterTopicConfigs(Vec<TopicConfigChanges>),
    /// The same for brokers.
    ReplaceBrokerConfigs(Vec<NewBrokerConfigs>),
    AlterBrokerConfigs(Vec<BrokerConfigChanges>),
    /// See [`elect_leader`].
    ElectLeaders {
        election: ElectionType,
        partitions: Vec<TopicPartition>,
    },
    /// See [`reassign_partition`].
    ReassignPartitions {
        factor: ReplicationFactor,
        partitions: Vec<Reassignment>,
    },
    /// A block of ids for a broker's producers.
    AllocateProducerIds {
        broker: BrokerId,
        broker_epoch: BrokerEpoch,
    },
    /// See [`readmit_voter`].
    ReadmitVoter {
        voter: BrokerId,
        directory: DirectoryId,
    },
    /// See [`unregister_broker`].
    UnregisterBroker {
        broker: BrokerId,
    },
    /// See [`give_up_log`].
    GiveUpLog {
        broker: BrokerId,
        epoch: BrokerEpoch,
        partition: PartitionId,
    },
    /// See [`change_leader`].
    ChangeLeader {
        partition: PartitionId,
        leader: BrokerId,
        seen: LeaderEpoch,
    },
}

/// Whether a change is made, or only checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Intent {
    Apply,
    ValidateOnly,
}

impl Intent {
    /// From a request's `validate_only`.
    pub fn from_flag(validate_only: bool) -> Intent {
        match validate_only {
            true => Intent::ValidateOnly,
            false => Intent::Apply,
        }
    }
}

/// What one part of a change comes to: the commands that carry it out.
pub type Decided = Result<Vec<MetadataCommand>, Refusal>;

/// What a controller's config says about changes.
#[derive(Clone, Debug)]
pub struct ChangeSettings {
    pub new_topics: NewTopicDefaults,
    pub defaults: BrokerDefaults,
    pub limits: MetadataLimits,
    /// Those that agree on the metadata.
    pub voters: Vec<BrokerId>,
}

impl Change {
    /// How many parts it has.
    pub fn parts(&self) -> usize {
        match self {
            Change::CreateTopics(topics) => topics.len(),
            Change::DeleteTopics(topics) => topics.len(),
            Change::CreatePartitions(topics) => topics.len(),
            Change::ReplaceTopicConfigs(topics) => topics.len(),
            Change::AlterTopicConfigs(topics) => topics.len(),
            Change::ReplaceBrokerConfigs(brokers) => brokers.len(),
            Change::AlterBrokerConfigs(brokers) => brokers.len(),
            Change::ElectLeaders { partitions, .. } => partitions.len(),
            Change::ReassignPartitions { partitions, .. } => partitions.len(),
            Change::RegisterBroker(_)
            | Change::FenceBroker { .. }
            | Change::UnfenceBroker { .. }
            | Change::ControlledShutdown { .. }
            | Change::AlterPartition { .. }
            | Change::AllocateProducerIds { .. }
            | Change::ReadmitVoter { .. }
            | Change::UnregisterBroker { .. }
            | Change::GiveUpLog { .. }
            | Change::ChangeLeader { .. } => 1,
        }
    }

    /// Whether there is more to it than what was decided now: it concerns a whole broker, and more partitions than
    /// one proposal changes. Then it is to be decided again, on the image that this made.
    pub fn is_unfinished(&self, decided: &[Decided]) -> bool {
        let sweeps = matches!(
            self,
            Change::RegisterBroker(_)
                | Change::FenceBroker { .. }
                | Change::UnfenceBroker { .. }
                | Change::ControlledShutdown { .. }
                | Change::UnregisterBroker { .. }
        );
        let commands = decided.iter().flatten().flatten();
        sweeps && is_full(commands)
    }

    /// Decides each part, in their order. What needs a later metadata version than the cluster speaks raises it
    /// too, or is refused; see [`super::metadata_version`].
    pub fn decide(&self, image: &MetadataImage, settings: &ChangeSettings) -> Vec<Decided> {
        let voters = &settings.voters[..];
        let raised = |part: Decided| raised_for(image, part?, voters, self.gone());
        let parts = self.decide_parts(image, settings);
        parts.into_iter().map(raised).collect()
    }

    /// Of whom it says that it is gone, or that what it had is lost: what it knows counts for nothing.
    fn gone(&self) -> Option<BrokerId> {
        match self {
            Change::UnregisterBroker { broker } => Some(*broker),
            Change::ReadmitVoter { voter, .. } => Some(*voter),
            _ => None,
        }
    }

    fn decide_parts(&self, image: &MetadataImage, settings: &ChangeSettings) -> Vec<Decided> {
        let ChangeSettings {
            new_topics,
            defaults,
            limits,
            ..
        } = settings;
        match self {
            Change::RegisterBroker(broker) => vec![register_broker(image, broker, defaults)],
            Change::FenceBroker { broker, epoch } => {
                vec![fence_broker(image, *broker, *epoch, defaults)]
            }
            Change::UnfenceBroker { broker, epoch } => {
                vec![unfence_broker(image, *broker, *epoch, defaults)]
            }
            Change::ControlledShutdown { broker, epoch } => {
                vec![begin_controlled_shutdown(image, *broker, *epoch, defaults)]
            }
            Change::AlterPartition {
                leader,
                broker_epoch,
                proposal,
            } => vec![alter_partition(
                image,
                *leader,
                *broker_epoch,
                proposal,
                defaults,
            )],
            Change::CreateTopics(topics) => create_topics(image, topics, *new_topics, limits),
            Change::DeleteTopics(topics) => delete_topics(image, topics),
            Change::CreatePartitions(topics) => create_partitions(image, topics, limits),
            Change::ReplaceTopicConfigs(topics) => {
                let replace = |configs| replace_topic_configs(image, configs, limits);
                topics.iter().map(replace).collect()
            }
            Change::AlterTopicConfigs(topics) => {
                let alter = |changes| alter_topic_configs(image, changes, defaults, limits);
                topics.iter().map(alter).collect()
            }
            Change::ReplaceBrokerConfigs(brokers) => {
                let replace = |configs| replace_broker_configs(image, configs, limits);
                brokers.iter().map(replace).collect()
            }
            Change::AlterBrokerConfigs(brokers) => {
                let alter = |changes| alter_broker_configs(image, changes, limits);
                brokers.iter().map(alter).collect()
            }
            Change::ElectLeaders {
                election,
                partitions,
            } => {
                let elect = |name| elect_leader(image, *election, name, defaults);
                partitions.iter().map(elect).collect()
            }
            Change::ReassignPartitions { factor, partitions } => {
                let reassign = |asked| reassign_partition(image, asked, *factor, defaults);
                partitions.iter().map(reassign).collect()
            }
            Change::AllocateProducerIds {
                broker,
                broker_epoch,
            } => vec![allocate_producer_ids(image, *broker, *broker_epoch)],
            Change::ReadmitVoter { voter, directory } => {
                vec![readmit_voter(image, *voter, *directory)]
            }
            Change::UnregisterBroker { broker } => {
                vec![unregister_broker(image, *broker, defaults)]
            }
            Change::GiveUpLog {
                broker,
                epoch,
                partition,
            } => vec![give_up_log(image, *broker, *epoch, *partition, defaults)],
            Change::ChangeLeader {
                partition,
                leader,
                seen,
            } => vec![change_leader(image, *partition, *leader, *seen)],
        }
    }
}
