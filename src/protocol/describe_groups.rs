//! DescribeGroups: the state and the members of groups.

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use super::kafka::Adapt;
use super::Opaque;
use crate::model::ErrorCode;

pub struct Api;

/// The first version in which a group that isn't there is an error (KIP-1043).
const VERSION_OF_NOT_FOUND: i16 = 6;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Request {
    pub groups: Vec<String>,
    #[kafka("3+")]
    pub include_authorized_operations: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct Response {
    #[kafka("1+")]
    pub throttle_time_ms: i32,
    /// One for each group, in their order.
    pub groups: Vec<DescribedGroup>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
#[kafka(adapt)]
pub struct DescribedGroup {
    pub error_code: ErrorCode,
    #[kafka("6+", nullable = "6+")]
    pub error_message: Option<String>,
    pub group_id: String,
    /// `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable` or `Dead`.
    pub group_state: String,
    pub protocol_type: String,
    /// The protocol that the group speaks.
    pub protocol_data: String,
    pub members: Vec<DescribedGroupMember>,
    /// Bits of Kafka's `AclOperation`; the smallest i32 if they weren't asked for.
    #[kafka("3+", default = i32::MIN)]
    pub authorized_operations: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct DescribedGroupMember {
    pub member_id: String,
    #[kafka("4+", nullable = "4+")]
    pub group_instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    /// In the words of the group's protocol; empty unless the group is stable.
    pub member_metadata: Opaque,
    pub member_assignment: Opaque,
}

impl Adapt for DescribedGroup {
    fn upgrade(&mut self, _: i16) {}

    /// Older versions know a group that isn't there as a dead one.
    fn downgrade(&mut self, version: i16) {
        if version < VERSION_OF_NOT_FOUND && self.error_code == ErrorCode::GroupIdNotFound {
            self.error_code = ErrorCode::None;
        }
    }
}
