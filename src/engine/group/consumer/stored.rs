//! What the records of a consumer group say: all that the coordinator's next life knows of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::super::MemberId;
use super::Partitions;
use crate::model::{Timestamp, TopicId};

/// The epoch of a static member that has left for a while.
pub const LEFT_FOR_A_WHILE: i32 = -2;

/// What a record takes up beside its content: the key, which names group and member.
const RECORD_WEIGHT: usize = 128;

/// A change of a consumer group. `None`: it isn't there any more.
#[derive(Clone, Debug, PartialEq)]
pub enum ConsumerRecord {
    Group(Option<GroupEpoch>),
    Member(MemberId, Option<MemberMetadata>),
    TargetEpoch(Option<TargetEpoch>),
    Target(MemberId, Option<Partitions>),
    Current(MemberId, Option<CurrentAssignment>),
    Regex(Arc<str>, Option<ResolvedRegex>),
}

impl ConsumerRecord {
    /// What it takes up, in bytes and roughly.
    pub(in super::super) fn weight(&self) -> usize {
        let partitions = |set: &Partitions| 24 * set.by_topic().len() + 4 * set.len();
        let content = match self {
            ConsumerRecord::Member(_, Some(metadata)) => metadata.size(),
            ConsumerRecord::Target(_, Some(target)) => partitions(target),
            ConsumerRecord::Current(_, Some(current)) => {
                let epochs = 4 * current.since.len();
                partitions(&current.assigned) + partitions(&current.revoking) + epochs
            }
            ConsumerRecord::Regex(_, Some(resolved)) => {
                resolved.topics.iter().map(|name| name.len() + 2).sum()
            }
            _ => 0,
        };
        content + RECORD_WEIGHT
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupEpoch {
    /// Rises with each change that asks for another assignment; never 0 in a group that is there.
    pub epoch: i32,
    /// Of the topics that the group subscribes to, as they were when the epoch began.
    pub metadata_hash: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetEpoch {
    pub epoch: i32,
    pub timestamp: Timestamp,
}

/// What a member says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberMetadata {
    pub instance: Option<Arc<str>>,
    pub rack: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub topic_names: BTreeSet<Arc<str>>,
    pub topic_regex: Option<Arc<str>>,
    /// -1: never said.
    pub rebalance_timeout_ms: i32,
    pub assignor: Option<Arc<str>>,
    /// `None`: it speaks the consumer protocol.
    pub classic: Option<ClassicMember>,
}

impl MemberMetadata {
    /// What it takes up, in bytes and roughly.
    pub(in super::super) fn size(&self) -> usize {
        let length = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
        let names: usize = self.topic_names.iter().map(|name| name.len() + 32).sum();
        let protocols = self.classic.iter().flat_map(|classic| &classic.protocols);
        let protocols = protocols.map(|(name, metadata)| name.len() + metadata.len());
        length(&self.instance)
            + length(&self.rack)
            + length(&self.topic_regex)
            + length(&self.assignor)
            + self.client_id.len()
            + self.client_host.len()
            + names
            + protocols.sum::<usize>()
    }
}

/// What a member of the classic protocol says beside that.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClassicMember {
    pub session_timeout_ms: i32,
    /// The best first.
    pub protocols: Vec<(Arc<str>, Bytes)>,
}

/// Where a member is on its way to its target assignment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CurrentAssignment {
    /// The assignment epoch that the member has reached, or [`LEFT_FOR_A_WHILE`].
    pub epoch: i32,
    /// The one before: the answer that told the member of the last step may be lost.
    pub previous_epoch: i32,
    pub state: MemberState,
    /// What it has been told to own.
    pub assigned: Partitions,
    /// What it owns until it says that it has given it up.
    pub revoking: Partitions,
    /// Of each of these.
    pub since: AssignmentEpochs,
}

/// In which epoch a member was assigned a partition that it owns. A commit that it began in that epoch, or in a later
/// one, is still its own (KIP-1251).
pub type AssignmentEpochs = BTreeMap<(TopicId, i32), i32>;

/// Kafka's `MemberState`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberState {
    /// It owns what its epoch assigns it.
    #[default]
    Stable,
    /// It has to give up partitions before it goes on.
    UnrevokedPartitions,
    /// Others have to give up partitions before it gets them.
    UnreleasedPartitions,
}

/// Which topics a regular expression meant.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedRegex {
    pub topics: BTreeSet<Arc<str>>,
    /// Of the metadata that it was resolved with.
    pub version: i64,
    pub timestamp: Timestamp,
}
