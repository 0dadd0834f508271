//! The commands: the only thing that changes metadata, and what the Raft log holds.
//!
//! They are written as MessagePack maps with the fields' names, so that a field can be added.
//! Rolling upgrades rest on two rules:
//!
//! - An image carries the metadata version that the whole cluster has agreed on. A command or a
//!   field that came with a later version is proposed only once that version is agreed on.
//! - A node that reads a command which it doesn't know stops. It never skips one: its image would
//!   differ from the others' without anyone noticing.
//!
//! A field that is added later has `#[serde(default)]`, so that older logs still read. A test pins
//! the bytes of every command.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{BrokerEpoch, Endpoint};
use crate::model::{
    BrokerId, ClusterId, Incarnation, LeaderEpoch, PartitionId, TopicId, TopicName,
};

/// The latest metadata version that this build knows.
pub const METADATA_VERSION: u16 = 1;

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
    },
    /// A new topic, with the replicas of each of its partitions; the first one leads.
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
}
