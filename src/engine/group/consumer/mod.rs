//! Consumer groups of the new protocol (KIP-848): the coordinator assigns, and each member goes on its own
//! way from what it owns to what it shall own, told by the answers to its heartbeats.
//!
//! Three numbers say where a group is. The *group epoch* rises when members come or go, subscribe to
//! something else, or when the topics change. The *target assignment* is made anew for each group epoch by
//! an assignor ([`super::assignor`]). Each member has a *member epoch*: that of the last target it has
//! entered. A member that speaks with another epoch than its own is fenced, and starts anew.
//!
//! | state | means |
//! |---|---|
//! | Empty | no members; perhaps offsets |
//! | Assigning | the target of the present epoch isn't made yet |
//! | Reconciling | it is, and not all members have all that it gives them |
//! | Stable | they have |
//!
//! | file | |
//! |---|---|
//! | `heartbeat.rs` | what the members' requests do |
//! | `membership.rs` | joining, coming back, leaving |
//! | `subscription.rs` | names and expressions, and whether their topics have changed |
//! | `target.rs` | the target assignment |
//! | `reconcile.rs` | a member's next step to its target |
//! | `state.rs`, `stored.rs`, `records.rs` | what is known of a group, and its records in Kafka's formats |
//! | `draft.rs`, `group.rs` | how decisions are made, one after the other, and written |
//! | `classic_members.rs`, `migration.rs` | members of the classic protocol, and groups that change theirs |
//!
//! Why decisions are made on a draft: [ADR 0018](../../../../docs/adr/0018-a-group-decides-on-a-draft.md).

mod admin;
mod classic_members;
mod draft;
mod group;
mod heartbeat;
mod membership;
mod messages;
mod migration;
mod partitions;
mod reconcile;
mod records;
mod settings;
mod state;
mod stored;
mod subscription;
mod target;
#[cfg(test)]
mod tests;

pub(super) use group::{ConsumerGroup, Wait};
pub(super) use heartbeat::check as check_heartbeat;
pub(super) use migration::upgrade;
pub(super) use state::{ConsumerMember, ConsumerState};

pub use messages::{
    ConsumerHeartbeatAnswer, ConsumerHeartbeatRequest, DescribedConsumer, DescribedConsumerGroup,
    JOIN_EPOCH, LEAVE_EPOCH,
};
pub use partitions::Partitions;
pub use settings::{ConsumerSettings, MigrationPolicy};
pub use stored::{
    AssignmentEpochs, ClassicMember, ConsumerRecord, CurrentAssignment, GroupEpoch, MemberMetadata,
    MemberState, ResolvedRegex, TargetEpoch, LEFT_FOR_A_WHILE,
};
