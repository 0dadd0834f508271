//! DescribeActors, our own: the actors of this broker at work.

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    /// Only actors of this kind; nil asks for all.
    pub kind: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    /// Sorted by kind and name.
    pub actors: Vec<ActorDescription>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct ActorDescription {
    /// `connection`, `partition_leader`, `partition_follower`, `group_coordinator`, `controller` or
    /// `guardian`.
    pub kind: String,
    /// Unique within its kind: for a partition `<topic>-<partition>`.
    pub name: String,
    /// `starting`, `running`, `restarting`, `offline`.
    pub state: String,
    /// Messages that wait in its mailbox now.
    pub mailbox_depth: u64,
    /// Messages that it has handled in all its lives.
    pub messages_handled: u64,
    /// How often it was rebuilt after a panic.
    pub restarts: u64,
    /// Since it (or its present life) was started.
    pub age_ms: i64,
    /// What else it tells of itself, in a line: offsets, epochs, the reason why it is offline.
    pub detail: String,
}
