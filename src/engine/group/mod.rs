//! Consumer groups: who shares the work of some topics, and how far the group has come.
//!
//! The core of one partition of `__consumer_offsets`, which is a [`Core`] for the runtime of all
//! coordinators. It speaks two protocols. In the classic one members join, one of them, the leader,
//! assigns, and the broker only passes on what they say to each other. So it serves any protocol type:
//! `consumer`, `connect`, and others. In the consumer protocol (KIP-848) the broker assigns: that is
//! `consumer`, with the assignors of `assignor`; `dispatch` says which of the two a request is for.
//!
//! The states of a classic group:
//!
//! | state | means | leaves it when |
//! |---|---|---|
//! | Empty | no members; perhaps offsets | somebody joins |
//! | PreparingRebalance | members are to join anew | all have, or the time is over |
//! | CompletingRebalance | they have; the leader is to assign | its assignment is committed |
//! | Stable | everyone has an assignment | a member comes, goes, or wants something else |
//! | Dead | its deletion is being written | it is committed |
//!
//! Of this only what a record says survives the coordinator: the last generation that was assigned, and
//! the offsets. Who was joining when the coordinator moved joins again.
//!
//! Offsets are told, and expire, as they are committed. What was written and isn't committed yet is
//! known by its place only, so that a deletion that is decided meanwhile covers it.
//!
//! The error codes are those of Apache Kafka 4.3.

mod admin;
mod assignor;
mod committed;
mod consumer;
mod consumer_protocol;
mod context;
mod dispatch;
mod expiry;
mod flexible;
mod heartbeat;
mod ids;
mod join;
mod leave;
mod member;
mod messages;
mod offsets;
mod rebalance;
mod record_bytes;
mod records;
mod settings;
mod shard;
mod state;
mod static_member;
mod stored;
mod sync;

#[cfg(test)]
mod tests;

pub use assignor::Assignor;
pub use consumer::{
    ClassicMember, ConsumerHeartbeatAnswer, ConsumerHeartbeatRequest, ConsumerRecord,
    ConsumerSettings, CurrentAssignment, DescribedConsumer, DescribedConsumerGroup, GroupEpoch,
    MemberMetadata, MemberState, MigrationPolicy, Partitions, ResolvedRegex, TargetEpoch,
    JOIN_EPOCH, LEAVE_EPOCH, LEFT_FOR_A_WHILE,
};
pub use ids::{GroupId, MemberId};
pub use messages::{
    Answer, CommitAnswer, CommitRequest, DescribedGroup, DescribedMember, FetchAnswer,
    FetchRequest, FetchedOffset, HeartbeatRequest, JoinAnswer, JoinRequest, JoinedMember, Leaders,
    LeaveAnswer, LeaveRequest, LeavingMember, ListedGroup, NamedTopic, NewMembers, NewOffset,
    OffsetDeletion, Request, SyncAnswer, SyncRequest, TopicPartitions,
};
pub use records::{partition_of, GroupRecord};
pub use settings::GroupSettings;
pub use shard::{GroupShard, Purpose};
pub use state::{ConsumerGroupState, GroupProtocol, GroupState};
pub use stored::{CommittedOffset, StoredGroup, StoredMember};

#[cfg(doc)]
use super::coordinator::Core;
