//! What records say, and the coordinator's next life knows.

use std::sync::Arc;

use bytes::Bytes;

use super::MemberId;
use crate::model::{LeaderEpoch, Offset, Timestamp, TopicId};

/// How far a group has come in a partition.
#[derive(Clone, Debug, PartialEq)]
pub struct CommittedOffset {
    /// [`TopicId::NONE`]: any topic of the name.
    pub topic_id: TopicId,
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub metadata: Arc<str>,
    pub commit_timestamp: Timestamp,
}

impl CommittedOffset {
    /// Whether it may be one of this topic, which has the name now; `None`: no topic has.
    pub(super) fn may_be_of(&self, topic: Option<TopicId>) -> bool {
        self.topic_id == TopicId::NONE || topic.is_none_or(|id| id == self.topic_id)
    }
}

/// A generation of a group that was assigned, or that has no members.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredGroup {
    pub protocol_type: Arc<str>,
    pub generation: i32,
    pub protocol: Option<Arc<str>>,
    pub leader: Option<MemberId>,
    /// Since when it is so.
    pub state_timestamp: Timestamp,
    pub members: Vec<StoredMember>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct StoredMember {
    pub member: MemberId,
    pub instance: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// What it said in the protocol that was chosen.
    pub subscription: Bytes,
    pub assignment: Bytes,
}
