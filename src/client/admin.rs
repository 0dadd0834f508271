//! Administration: topics, partitions, configs, offsets and the brokers themselves.

use std::time::Duration;

use super::{ClientError, TopicMetadata};
use crate::model::{BrokerId, Offset, Timestamp};
use crate::protocol::{
    describe_actors::ActorDescription, describe_cluster,
    describe_configs::DescribeConfigsResourceResult, incremental_alter_configs::AlterConfigOp,
    list_offsets,
};

/// A topic to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    /// `None`: the broker's default.
    pub partitions: Option<i32>,
    /// `None`: the broker's default.
    pub replication_factor: Option<i16>,
    pub configs: Vec<(String, String)>,
}

/// Administrates a cluster. Clones share the client.
#[derive(Clone)]
pub struct Admin {}

/// Of what a config is asked or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    Topic(String),
    Broker(BrokerId),
}

impl Admin {
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<(), ClientError> {
        unimplemented!()
    }
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        unimplemented!()
    }
    /// Sorted by name.
    pub async fn list_topics(&self) -> Result<Vec<TopicMetadata>, ClientError> {
        unimplemented!()
    }
    pub async fn describe_topic(&self, name: &str) -> Result<TopicMetadata, ClientError> {
        unimplemented!()
    }
    /// Raises the number of partitions to `count` in all.
    pub async fn create_partitions(&self, topic: &str, count: i32) -> Result<(), ClientError> {
        unimplemented!()
    }
    pub async fn describe_configs(
        &self,
        resource: &Resource,
    ) -> Result<Vec<DescribeConfigsResourceResult>, ClientError> {
        unimplemented!()
    }
    pub async fn alter_configs(
        &self,
        resource: &Resource,
        changes: &[(String, AlterConfigOp, Option<String>)],
    ) -> Result<(), ClientError> {
        unimplemented!()
    }
    /// Where each partition has the first record at or after `timestamp` (or one of
    /// [`list_offsets`]' constants); [`Offset::NONE`] where there is none.
    pub async fn list_offsets(
        &self,
        topic: &str,
        timestamp: Timestamp,
    ) -> Result<Vec<(i32, Offset)>, ClientError> {
        unimplemented!()
    }
    /// Deletes records below `before` ([`Offset::NONE`]: the high watermark); answers the new start.
    pub async fn delete_records(
        &self,
        topic: &str,
        partition: i32,
        before: Offset,
    ) -> Result<Offset, ClientError> {
        unimplemented!()
    }
    pub async fn describe_cluster(&self) -> Result<describe_cluster::Response, ClientError> {
        unimplemented!()
    }
    /// The actors of one broker, or of the one that the client is connected to.
    pub async fn describe_actors(
        &self,
        broker: Option<BrokerId>,
        kind: Option<&str>,
    ) -> Result<Vec<ActorDescription>, ClientError> {
        unimplemented!()
    }
    #[cfg(feature = "chaos")]
    pub async fn inject_fault(
        &self,
        broker: Option<BrokerId>,
        kind: &str,
        name: &str,
        fault: &str,
        stall: Duration,
    ) -> Result<(), ClientError> {
        unimplemented!()
    }
}
