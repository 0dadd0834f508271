//! What a membership says, and what it is told.

use std::collections::{BTreeMap, BTreeSet};

use super::TopicPartition;
use crate::client::ClientError;
use crate::model::Offset;
use crate::protocol::join_group;

/// Who the member is, and in which generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub member_id: String,
    pub generation: i32,
}

/// What the application takes notice of, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It is in a generation, or in another one; what comes and goes with it follows.
    Joined(Identity),
    /// These are to be read, each from where the group has come to, if it has.
    Assigned(BTreeMap<TopicPartition, Option<Offset>>),
    /// These are to be given up; then [`Membership::given_up`](super::Membership::given_up) is told with this number.
    Revoked(u64, BTreeSet<TopicPartition>),
    /// These are no more.
    Lost(BTreeSet<TopicPartition>),
    /// It can't be helped by waiting, or has lasted too long.
    Failed(ClientError),
}

/// What is to be asked or told. The answers come with the numbers that stand here.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    Join {
        turn: u64,
        member_id: String,
        generation: i32,
        owned: BTreeSet<TopicPartition>,
    },
    /// The leader assigns first.
    Sync {
        turn: u64,
        identity: Identity,
        protocol: String,
        leads: Option<Leads>,
    },
    Heartbeat(Identity),
    FetchOffsets {
        turn: u64,
        partitions: BTreeSet<TopicPartition>,
    },
    Leave {
        member_id: String,
    },
    Tell(Event),
}

/// What a leader is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Leads {
    pub members: Vec<join_group::JoinGroupResponseMember>,
    /// Everyone keeps what it has (KIP-814).
    pub skips_assignment: bool,
}
