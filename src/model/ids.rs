//! Who and what: clusters, brokers, topics, partitions, and the epochs that fence them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A broker's number in its cluster: `[node] id` of its config, 0 or above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BrokerId(pub i32);

impl BrokerId {
    /// "No broker", as Kafka writes it: a partition without a leader has this one.
    pub const NONE: BrokerId = BrokerId(-1);
}

impl Default for BrokerId {
    fn default() -> BrokerId {
        BrokerId::NONE
    }
}

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The identity of a cluster, drawn once when it is first started, and never changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterId(pub String);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One copy of the metadata on one voter's disk: drawn when it is made, so that a voter which has lost its
/// disk can be told from itself (KIP-853).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct DirectoryId(pub Uuid);

impl DirectoryId {
    /// "Not known", as Kafka writes it.
    pub const NONE: DirectoryId = DirectoryId(Uuid::nil());

    pub fn random() -> Self {
        DirectoryId(Uuid::new_v4())
    }
}

impl fmt::Display for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One life of a broker on one data directory: drawn at each start, so that two starts of the
/// same broker can be told apart (KIP-631 calls it the incarnation id).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub Uuid);

impl Incarnation {
    pub fn random() -> Self {
        Incarnation(Uuid::new_v4())
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A topic's identity (KIP-516): a topic that is deleted and created again under the same name
/// has another one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct TopicId(pub Uuid);

impl TopicId {
    /// "No id", as Kafka writes it.
    pub const NONE: TopicId = TopicId(Uuid::nil());

    pub fn random() -> Self {
        TopicId(Uuid::new_v4())
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A topic's name, which is legal: 1 to 249 of `[a-zA-Z0-9._-]`, and neither `.` nor `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// The longest legal name, in bytes: with `-` and a partition's number it fits a file name.
    pub const LEN_MAX: usize = 249;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TopicName {
    type Err = String;

    /// The error says in one line what is wrong with the name.
    fn from_str(name: &str) -> Result<Self, String> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() {
            return Err("a topic's name can't be empty".into());
        }
        if name == "." || name == ".." {
            return Err(format!("a topic's name can't be {name:?}"));
        }
        if name.len() > Self::LEN_MAX {
            return Err(format!(
                "a topic's name has at most {} bytes, and this one {}",
                Self::LEN_MAX,
                name.len()
            ));
        }
        if let Some(c) = name.chars().find(|c| !legal(*c)) {
            return Err(format!(
                "a topic's name holds only ASCII letters, digits, '.', '_' and '-', and not {c:?}"
            ));
        }
        Ok(TopicName(name.into()))
    }
}

impl TryFrom<String> for TopicName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

impl From<TopicName> for String {
    fn from(name: TopicName) -> String {
        name.0.to_string()
    }
}

impl From<TopicName> for Arc<str> {
    fn from(name: TopicName) -> Arc<str> {
        name.0
    }
}

impl std::borrow::Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One partition of one topic, by the topic's id. Its display, `<topic id>-<index>`, is the name
/// of the partition's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartitionId {
    pub topic_id: TopicId,
    /// From 0, as Kafka counts them.
    pub partition: i32,
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic_id, self.partition)
    }
}

impl FromStr for PartitionId {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let parsed = name.rsplit_once('-').and_then(|(topic_id, partition)| {
            let topic_id = TopicId(Uuid::parse_str(topic_id).ok()?);
            let partition = partition.parse().ok().filter(|p| *p >= 0)?;
            Some(PartitionId {
                topic_id,
                partition,
            })
        });
        parsed.ok_or_else(|| format!("{name:?} isn't <topic id>-<partition>"))
    }
}

/// One partition by its topic's name, as people name it. Its display is `<topic>-<index>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    pub topic: TopicName,
    /// From 0, as Kafka counts them.
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// How often a partition has changed its leader, which fences what earlier leaders still send
/// (KIP-101). Stamped into each record batch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct LeaderEpoch(pub i32);

impl LeaderEpoch {
    /// "Not known": a client that doesn't want its requests fenced sends this one.
    pub const NONE: LeaderEpoch = LeaderEpoch(-1);

    pub fn next(self) -> LeaderEpoch {
        LeaderEpoch(self.0 + 1)
    }
}

impl fmt::Display for LeaderEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How often a partition's entry in the metadata has changed (KIP-497): it rises with each change of
/// leader, in-sync replicas or replicas, and so fences proposals that were made on an older state.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct PartitionEpoch(pub i32);

impl PartitionEpoch {
    pub fn next(self) -> PartitionEpoch {
        PartitionEpoch(self.0 + 1)
    }
}

impl fmt::Display for PartitionEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_name_is_refused_for_the_reason_that_is_named() {
        assert!("orders.v1_2-3".parse::<TopicName>().is_ok());
        assert!("a".repeat(249).parse::<TopicName>().is_ok());
        for (name, reason) in [
            ("", "empty"),
            (".", "\".\""),
            ("..", "\"..\""),
            ("../x", "'/'"),
            ("a\0b", "'\\0'"),
            ("größe", "'ö'"),
            (&"a".repeat(250), "250"),
        ] {
            let error = name.parse::<TopicName>().unwrap_err();
            assert!(error.contains(reason), "{name:?}: {error}");
        }
    }

    #[test]
    fn a_partition_id_reads_back_what_it_displays() {
        let id = PartitionId {
            topic_id: TopicId::random(),
            partition: 12,
        };
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("no-uuid-3".parse::<PartitionId>().is_err());
        assert!(format!("{}--1", id.topic_id)
            .parse::<PartitionId>()
            .is_err());
    }
}
