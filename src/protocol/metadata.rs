//! Metadata: which brokers there are, and who leads which partition.

use serde::{Deserialize, Serialize};

use crate::model::{BrokerId, ErrorCode, LeaderEpoch, TopicId};

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The topics that are asked for; nil asks for all, an empty list for none.
    pub topics: Option<Vec<MetadataRequestTopic>>,
    pub allow_auto_topic_creation: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetadataRequestTopic {
    /// Asks by id if there is no name.
    pub topic_id: TopicId,
    pub name: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    pub brokers: Vec<MetadataResponseBroker>,
    pub cluster_id: String,
    pub controller_id: BrokerId,
    pub topics: Vec<MetadataResponseTopic>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetadataResponseBroker {
    pub node_id: BrokerId,
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetadataResponseTopic {
    pub error_code: ErrorCode,
    /// Nil if the topic was asked for by an id that isn't known.
    pub name: Option<String>,
    pub topic_id: TopicId,
    pub is_internal: bool,
    pub partitions: Vec<MetadataResponsePartition>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetadataResponsePartition {
    pub error_code: ErrorCode,
    pub partition_index: i32,
    /// -1 if the partition has no leader now.
    pub leader_id: BrokerId,
    pub leader_epoch: LeaderEpoch,
    pub replica_nodes: Vec<BrokerId>,
    pub isr_nodes: Vec<BrokerId>,
    pub offline_replicas: Vec<BrokerId>,
}
