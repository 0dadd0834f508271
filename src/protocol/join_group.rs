//! JoinGroup: become a member of a group, or stay one while it rebalances. It is answered when the
//! members of the next generation are known.

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use super::kafka::Adapt;
use super::Opaque;
use crate::model::ErrorCode;

pub struct Api;

/// The first version whose client expects to be told its member id before it is one (KIP-394).
const VERSION_OF_MEMBER_ID_REQUIRED: i16 = 4;
/// The first version whose leader can be told that it needs to assign nothing (KIP-814).
const VERSION_OF_SKIP_ASSIGNMENT: i16 = 9;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
#[kafka(adapt)]
pub struct Request {
    pub group_id: String,
    /// A member that isn't heard from for so long has left.
    pub session_timeout_ms: i32,
    /// How long the group waits for a member to join again; -1: as long as its session.
    #[kafka("1+", default = -1)]
    pub rebalance_timeout_ms: i32,
    /// Empty: not known yet. It is told by the answer.
    pub member_id: String,
    /// Makes it a static member, which keeps its place through a restart (KIP-345).
    #[kafka("5+", nullable = "5+")]
    pub group_instance_id: Option<String>,
    /// `consumer`, `connect`, …: all members have the same.
    pub protocol_type: String,
    /// What the member can speak, the best first.
    pub protocols: Vec<JoinGroupRequestProtocol>,
    #[kafka("8+", nullable = "8+")]
    pub reason: Option<String>,
    /// An old client, which doesn't know MEMBER_ID_REQUIRED.
    #[serde(skip)]
    #[kafka(none)]
    pub is_member_at_once: bool,
    /// An old client, which assigns whenever it leads.
    #[serde(skip)]
    #[kafka(none)]
    pub assigns_always: bool,
}

impl Adapt for Request {
    fn upgrade(&mut self, version: i16) {
        self.is_member_at_once = version < VERSION_OF_MEMBER_ID_REQUIRED;
        self.assigns_always = version < VERSION_OF_SKIP_ASSIGNMENT;
    }

    fn downgrade(&mut self, _: i16) {}
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct JoinGroupRequestProtocol {
    pub name: String,
    pub metadata: Opaque,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    #[kafka("2+")]
    pub throttle_time_ms: i32,
    /// MEMBER_ID_REQUIRED: ask again with the `member_id` that stands here.
    pub error_code: ErrorCode,
    #[kafka(default = -1)]
    pub generation_id: i32,
    #[kafka("7+", nullable = "7+")]
    pub protocol_type: Option<String>,
    /// The one that the group speaks in this generation.
    #[kafka("0+", nullable = "7+")]
    pub protocol_name: Option<String>,
    /// The member that assigns.
    pub leader: String,
    /// The leader need not assign: the members keep what they have (KIP-814).
    #[kafka("9+")]
    pub skip_assignment: bool,
    pub member_id: String,
    /// Told to the leader only.
    pub members: Vec<JoinGroupResponseMember>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct JoinGroupResponseMember {
    pub member_id: String,
    #[kafka("5+", nullable = "5+")]
    pub group_instance_id: Option<String>,
    pub metadata: Opaque,
}
