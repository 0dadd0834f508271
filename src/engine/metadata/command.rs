//! The commands: the only thing that changes metadata, and what the Raft log holds.
//!
//! They are written as MessagePack maps with the fields' names, so that a field can be added.
//! Rolling upgrades rest on two rules:
//!
//! - An image carries the metadata version that the whole cluster has agreed on. A command or a
//!   field that came with a later version is proposed only once that version is agreed on
//!   (`metadata_version` in this directory).
//! - A node that reads a command which it doesn't know stops. It never skips one: its image would
//!   differ from the others' without anyone noticing.
//!
//! One field comes before any agreement, since agreements rest on it: `metadata_version_max` of a registration. Builds
//! of before pass it over. Nothing else that replay does depends on it, and a broker that has said it says it again
//! to each new active controller.
//!
//! A field that is added later has `#[serde(default)]`, so that older logs still read, and isn't
//! written while it has its default, so that an older version's commands keep their bytes. A test
//! pins the bytes of every command.
//!
//! | version | brought |
//! |---|---|
//! | 1 | everything that isn't named below |
//! | 2 | [`BrokerState`], `ChangeBrokerState`, `ChangePartitions`, `SetMetadataVersion`; partition epochs rise |
//! | 3 | `ReadmitVoter` |
//! | 4 | `UnregisterBroker` |
//! | 5 | `SetBrokerConfigs` |

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{BrokerEpoch, BrokerState, Endpoint};
use crate::model::{
    BrokerId, ClusterId, DirectoryId, Incarnation, LeaderEpoch, PartitionEpoch, PartitionId,
    TopicId, TopicName,
};

/// The latest metadata version that this build knows.
pub const METADATA_VERSION: u16 = 5;
/// From which version on brokers are fenced and partitions have epochs.
pub(super) const VERSION_OF_FENCING: u16 = 2;
const VERSION_OF_READMISSION: u16 = 3;
const VERSION_OF_UNREGISTRATION: u16 = 4;
const VERSION_OF_BROKER_CONFIGS: u16 = 5;

/// One change of the metadata, as it was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetadataCommand {
    /// Gives a new cluster its identity. Without effect on a cluster that has one.
    BootstrapCluster {
        cluster_id: ClusterId,
        metadata_version: u16,
    },
    /// A broker has started, or tells its endpoints anew. A new incarnation gets a new broker
    /// epoch, and the leader epoch of each partition that the broker leads is raised: a restarted
    /// broker never continues an epoch in which it may have forgotten unsynced records.
    RegisterBroker {
        id: BrokerId,
        incarnation: Incarnation,
        endpoints: Vec<Endpoint>,
        rack: Option<String>,
        /// Of a new incarnation; one that only tells its endpoints anew keeps the state that it has.
        #[serde(default, skip_serializing_if = "BrokerState::is_unfenced")]
        state: BrokerState,
        /// The latest metadata version that its build knows; `None` of builds that didn't say so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        metadata_version_max: Option<u16>,
    },
    /// A new topic, with the replicas of each of its partitions. Those that are fenced or shut down
    /// aren't in sync, and the first of the others leads.
    CreateTopic {
        name: TopicName,
        id: TopicId,
        partitions: Vec<Vec<BrokerId>>,
        configs: BTreeMap<String, String>,
    },
    DeleteTopic {
        id: TopicId,
    },
    /// More partitions for a topic: the first of them has the number `first`.
    AddPartitions {
        id: TopicId,
        first: i32,
        partitions: Vec<Vec<BrokerId>>,
    },
    SetTopicConfigs {
        id: TopicId,
        set: BTreeMap<String, String>,
        removed: BTreeSet<String>,
    },
    /// Without effect unless the epoch is above the partition's.
    ChangePartitionLeader {
        partition: PartitionId,
        leader: BrokerId,
        leader_epoch: LeaderEpoch,
    },
    /// Gives the broker the producer ids from the image's next one up to, and without, `up_to`.
    AllocateProducerIds {
        broker: BrokerId,
        broker_epoch: BrokerEpoch,
        up_to: i64,
    },
    /// Without effect unless the broker is registered in just this epoch.
    ChangeBrokerState {
        id: BrokerId,
        epoch: BrokerEpoch,
        state: BrokerState,
    },
    /// Changes partitions of one topic. Each of them for itself has no effect if the partition has
    /// changed since it was decided, or if it would let a broker in that is fenced or shuts down.
    ChangePartitions {
        topic: TopicId,
        changes: Vec<PartitionChange>,
    },
    /// A voter has lost its copy of the metadata for good, and takes part with this one from now on.
    ReadmitVoter {
        voter: BrokerId,
        directory: DirectoryId,
    },
    /// Forgets a broker. Without effect unless it is registered in just this epoch.
    UnregisterBroker {
        id: BrokerId,
        epoch: BrokerEpoch,
    },
    /// What a broker has set beside its config file; `None`: what all have that don't say otherwise.
    SetBrokerConfigs {
        broker: Option<BrokerId>,
        set: BTreeMap<String, String>,
        removed: BTreeSet<String>,
    },
    /// The whole cluster speaks this version from now on. Without effect if it does already.
    SetMetadataVersion {
        version: u16,
    },
}

impl MetadataCommand {
    /// The metadata version that a node must know to replay it.
    pub fn needs(&self) -> u16 {
        match self {
            MetadataCommand::BootstrapCluster {
                metadata_version, ..
            } => *metadata_version,
            MetadataCommand::RegisterBroker { .. }
            | MetadataCommand::CreateTopic { .. }
            | MetadataCommand::DeleteTopic { .. }
            | MetadataCommand::AddPartitions { .. }
            | MetadataCommand::SetTopicConfigs { .. }
            | MetadataCommand::ChangePartitionLeader { .. }
            | MetadataCommand::AllocateProducerIds { .. } => 1,
            MetadataCommand::ChangeBrokerState { .. }
            | MetadataCommand::ChangePartitions { .. } => VERSION_OF_FENCING,
            MetadataCommand::ReadmitVoter { .. } => VERSION_OF_READMISSION,
            MetadataCommand::UnregisterBroker { .. } => VERSION_OF_UNREGISTRATION,
            MetadataCommand::SetBrokerConfigs { .. } => VERSION_OF_BROKER_CONFIGS,
            MetadataCommand::SetMetadataVersion { version } => *version,
        }
    }
}

/// What becomes of one partition; what is `None` stays. The partition epoch rises by one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionChange {
    pub partition: i32,
    /// The partition epoch on which it was decided.
    pub seen: PartitionEpoch,
    /// Leads from now on in the next leader epoch; the leader of before may be named again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<BrokerId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isr: Option<Vec<BrokerId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eligible_leaders: Option<Vec<BrokerId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_known_leader: Option<BrokerId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<Vec<BrokerId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adding_replicas: Option<Vec<BrokerId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removing_replicas: Option<Vec<BrokerId>>,
}
