//! What a group's coordinator is asked, and what it answers.

use std::sync::Arc;

use bytes::Bytes;

use super::consumer::{ConsumerHeartbeatAnswer, ConsumerHeartbeatRequest, DescribedConsumerGroup};
use super::{GroupId, MemberId};
use crate::engine::metadata::MetadataImage;
use crate::model::{ErrorCode, LeaderEpoch, Offset, Refusal, TopicId};

/// Partitions, by their topics.
pub type TopicPartitions = Vec<(Arc<str>, Vec<i32>)>;
/// A topic, and not a later one of the same name. [`TopicId::NONE`]: it isn't known which one.
pub type NamedTopic = (Arc<str>, TopicId);

#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    Join(JoinRequest),
    Sync(SyncRequest),
    Heartbeat(HeartbeatRequest),
    Leave(LeaveRequest),
    ConsumerHeartbeat(ConsumerHeartbeatRequest),
    Commit(CommitRequest),
    Fetch(FetchRequest),
    DeleteOffsets(OffsetDeletion),
    Describe(GroupId),
    DescribeConsumers(GroupId),
    List,
    Delete(GroupId),
    /// These topics are gone, and with them what was committed for them.
    ForgetTopics(Vec<NamedTopic>),
    /// Whose offsets are known? So that it can be seen which topics are gone.
    Topics,
}

impl Request {
    /// The answer to what a member can't have.
    pub(super) fn refused(&self, refusal: Refusal) -> Answer {
        let error = refusal.code;
        match self {
            Request::ConsumerHeartbeat(_) => Answer::ConsumerHeartbeat(Err(refusal)),
            Request::Join(join) => Answer::Join(JoinAnswer::refused(error, join.member.clone())),
            Request::Sync(_) => Answer::Sync(SyncAnswer::refused(error)),
            Request::Leave(_) => Answer::Leave(LeaveAnswer {
                error,
                members: Vec::new(),
            }),
            _ => Answer::Code(error),
        }
    }

    /// The metadata that it came with.
    pub(super) fn image(&self) -> Option<&Arc<MetadataImage>> {
        match self {
            Request::Join(join) => Some(&join.image),
            Request::Sync(sync) => Some(&sync.image),
            Request::ConsumerHeartbeat(heartbeat) => Some(&heartbeat.image),
            Request::Fetch(fetch) => Some(&fetch.image),
            _ => None,
        }
    }
}

#[derive(Debug, PartialEq)]
pub enum Answer {
    Join(JoinAnswer),
    Sync(SyncAnswer),
    Leave(LeaveAnswer),
    ConsumerHeartbeat(Result<ConsumerHeartbeatAnswer, Refusal>),
    Commit(CommitAnswer),
    /// [`Answer::Code`] if the member may not fetch.
    Fetch(FetchAnswer),
    /// To Heartbeat, Delete, DeleteOffsets and ForgetTopics; and to DeleteOffsets with [`Answer::Commit`].
    Code(ErrorCode),
    Described(Result<DescribedGroup, ErrorCode>),
    ConsumersDescribed(Result<DescribedConsumerGroup, ErrorCode>),
    Listed(Vec<ListedGroup>),
    Topics(Vec<NamedTopic>),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct JoinRequest {
    pub group: GroupId,
    pub member: MemberId,
    pub instance: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub session_timeout_ms: i32,
    /// -1: as the session's.
    pub rebalance_timeout_ms: i32,
    pub protocol_type: Arc<str>,
    /// With what the member says to the leader in each.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    /// Makes a new member's id unique.
    pub nonce: String,
    pub new_members: NewMembers,
    pub leaders: Leaders,
    /// The metadata as they are now, for a member of a consumer group.
    pub image: Arc<MetadataImage>,
}

/// Whether a new member joins at once, or is told its id first (KIP-394).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NewMembers {
    #[default]
    JoinAtOnce,
    AreToldTheirId,
}

/// Whether a leader can be told that it need not assign (KIP-814).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leaders {
    #[default]
    AssignAlways,
    CanSkip,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct JoinAnswer {
    pub error: ErrorCode,
    pub member: MemberId,
    /// -1 with an error.
    pub generation: i32,
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    pub leader: MemberId,
    pub skip_assignment: bool,
    /// For the leader only.
    pub members: Vec<JoinedMember>,
}

impl JoinAnswer {
    pub(super) fn refused(error: ErrorCode, member: MemberId) -> JoinAnswer {
        JoinAnswer {
            error,
            member,
            generation: -1,
            ..JoinAnswer::default()
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct JoinedMember {
    pub member: MemberId,
    pub instance: Option<Arc<str>>,
    pub metadata: Bytes,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct SyncRequest {
    pub group: GroupId,
    pub generation: i32,
    pub member: MemberId,
    pub instance: Option<Arc<str>>,
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    pub assignments: Vec<(MemberId, Bytes)>,
    /// The metadata as they are now, for a member of a consumer group.
    pub image: Arc<MetadataImage>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct SyncAnswer {
    pub error: ErrorCode,
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    pub assignment: Bytes,
}

impl SyncAnswer {
    pub(super) fn refused(error: ErrorCode) -> SyncAnswer {
        SyncAnswer {
            error,
            ..SyncAnswer::default()
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeartbeatRequest {
    pub group: GroupId,
    pub generation: i32,
    pub member: MemberId,
    pub instance: Option<Arc<str>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeaveRequest {
    pub group: GroupId,
    pub members: Vec<LeavingMember>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeavingMember {
    /// May be empty if the instance is given.
    pub member: MemberId,
    pub instance: Option<Arc<str>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeaveAnswer {
    pub error: ErrorCode,
    /// One for each, in their order.
    pub members: Vec<ErrorCode>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommitRequest {
    pub group: GroupId,
    /// Or the member epoch; -1: the consumer assigns partitions to itself.
    pub generation: i32,
    pub member: MemberId,
    pub instance: Option<Arc<str>>,
    /// Its client knows generations only, and not the consumer protocol.
    pub predates_member_epochs: bool,
    pub offsets: Vec<NewOffset>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct NewOffset {
    pub topic: Arc<str>,
    /// [`TopicId::NONE`]: any topic of this name.
    pub topic_id: TopicId,
    pub partition: i32,
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub metadata: Arc<str>,
}

/// One code for each partition, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct CommitAnswer(pub Vec<ErrorCode>);

#[derive(Clone, Debug, PartialEq)]
pub struct FetchRequest {
    pub group: GroupId,
    /// `None`, and -1: it isn't a member of a consumer group that asks.
    pub member: Option<MemberId>,
    pub epoch: i32,
    /// `None`: all that there is.
    pub partitions: Option<TopicPartitions>,
    /// The metadata as they are now: what was committed for a former topic of the same name isn't told.
    pub image: Arc<MetadataImage>,
}

/// All partitions that were asked for, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchAnswer(pub Vec<(Arc<str>, Vec<FetchedOffset>)>);

#[derive(Clone, Debug, PartialEq)]
pub struct FetchedOffset {
    pub partition: i32,
    /// -1: none is committed.
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub metadata: Arc<str>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct OffsetDeletion {
    pub group: GroupId,
    pub partitions: Vec<(Arc<str>, i32)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DescribedGroup {
    pub state: super::GroupState,
    pub protocol_type: Arc<str>,
    pub protocol: Arc<str>,
    pub members: Vec<DescribedMember>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DescribedMember {
    pub member: MemberId,
    pub instance: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ListedGroup {
    pub group: GroupId,
    pub protocol: super::GroupProtocol,
    pub protocol_type: Arc<str>,
    /// As Kafka's tools know it.
    pub state: &'static str,
}
