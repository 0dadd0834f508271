//! LeaveGroup: members leave at once, and not when their sessions end.

use klamm_kafka_derive::Kafka;
use serde::{Deserialize, Serialize};

use super::kafka::Adapt;
use crate::model::ErrorCode;

pub struct Api;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
#[kafka(adapt)]
pub struct Request {
    pub group_id: String,
    /// The only member, in older versions; always empty in memory.
    #[serde(skip)]
    #[kafka("0-2")]
    pub member_id: String,
    #[kafka("3+")]
    pub members: Vec<MemberIdentity>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct MemberIdentity {
    /// May be empty where the instance id says who it is.
    pub member_id: String,
    #[kafka("3+", nullable = "3+")]
    pub group_instance_id: Option<String>,
    #[kafka("5+", nullable = "5+")]
    pub reason: Option<String>,
}

impl Adapt for Request {
    fn upgrade(&mut self, version: i16) {
        if version < 3 {
            self.members = vec![MemberIdentity {
                member_id: std::mem::take(&mut self.member_id),
                ..Default::default()
            }];
        }
    }

    fn downgrade(&mut self, version: i16) {
        if version < 3 {
            let only = self.members.drain(..).next().unwrap_or_default();
            self.member_id = only.member_id;
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
#[kafka(adapt)]
pub struct Response {
    #[kafka("1+")]
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    /// One for each member, in their order.
    #[kafka("3+")]
    pub members: Vec<MemberResponse>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Kafka)]
pub struct MemberResponse {
    pub member_id: String,
    #[kafka("3+", nullable = "3+")]
    pub group_instance_id: Option<String>,
    pub error_code: ErrorCode,
}

impl Adapt for Response {
    fn upgrade(&mut self, _: i16) {}

    /// Older versions tell of the only member in the code of the whole.
    fn downgrade(&mut self, version: i16) {
        if version < 3 {
            let only = self.members.drain(..).next().unwrap_or_default();
            if self.error_code.is_ok() {
                self.error_code = only.error_code;
            }
        }
    }
}
