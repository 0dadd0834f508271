//! What a consumer group's coordinator is asked in the consumer protocol, and what it answers.

use std::sync::Arc;

use super::super::{ConsumerGroupState, GroupId, MemberId};
use super::stored::{CurrentAssignment, MemberMetadata};
use super::Partitions;
use crate::engine::metadata::MetadataImage;

/// The epoch of who joins, and of who leaves; see [`super::LEFT_FOR_A_WHILE`] too.
pub const JOIN_EPOCH: i32 = 0;
pub const LEAVE_EPOCH: i32 = -1;

/// `None` and -1: as it was said before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConsumerHeartbeatRequest {
    pub group: GroupId,
    pub member: MemberId,
    pub epoch: i32,
    pub instance: Option<Arc<str>>,
    pub rack: Option<Arc<str>>,
    pub rebalance_timeout_ms: i32,
    pub topic_names: Option<Vec<Arc<str>>>,
    pub topic_regex: Option<Arc<str>>,
    pub assignor: Option<Arc<str>>,
    pub owned: Option<Partitions>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    /// The metadata as they are now.
    pub image: Arc<MetadataImage>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConsumerHeartbeatAnswer {
    pub member: MemberId,
    pub epoch: i32,
    pub heartbeat_interval_ms: i32,
    /// `None`: as it was told last.
    pub assignment: Option<Partitions>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DescribedConsumerGroup {
    pub state: ConsumerGroupState,
    pub epoch: i32,
    pub target_epoch: i32,
    pub assignor: &'static str,
    pub members: Vec<DescribedConsumer>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DescribedConsumer {
    pub member: MemberId,
    pub metadata: MemberMetadata,
    pub current: CurrentAssignment,
    pub target: Partitions,
}
