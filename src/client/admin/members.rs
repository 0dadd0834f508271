//! Who is in a group, whichever protocol it speaks.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Admin;
use crate::client::consumer_protocol::{decode_assignment, PROTOCOL_TYPE};
use crate::client::coordinator::refused;
use crate::client::{ClientError, TopicPartition};
use crate::model::ErrorCode;
use crate::protocol::{consumer_group_describe, describe_groups};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMembers {
    pub group_id: String,
    pub state: String,
    /// What the members of a classic group have agreed on, which is empty unless it is stable; or the assignor
    /// of a group of the consumer protocol (KIP-848).
    pub protocol: String,
    pub members: Vec<GroupMember>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub host: String,
    /// In a group of the consumer protocol: the assignment epoch that the member has reached.
    pub epoch: Option<i32>,
    /// As far as it is known: a classic group that rebalances doesn't tell.
    pub owns: BTreeSet<TopicPartition>,
}

impl Admin {
    /// `None` if there is no such group.
    pub async fn group_members(&self, group: &str) -> Result<Option<GroupMembers>, ClientError> {
        let classic = self.describe_group(group).await?;
        match classic.error_code {
            ErrorCode::None => return Ok(Some(of_classic(classic))),
            ErrorCode::GroupIdNotFound => {}
            code => return Err(refused(group, "DescribeGroups", code)),
        }
        let consumers = self.describe_consumer_group(group).await?;
        match consumers.error_code {
            ErrorCode::None => Ok(Some(of_consumers(consumers))),
            ErrorCode::GroupIdNotFound => Ok(None),
            code => Err(refused(group, "ConsumerGroupDescribe", code)),
        }
    }
}

fn of_classic(group: describe_groups::DescribedGroup) -> GroupMembers {
    let are_consumers = group.protocol_type == PROTOCOL_TYPE;
    let members = group.members.into_iter().map(|member| GroupMember {
        owns: match are_consumers {
            true => decode_assignment(&member.member_assignment.0).unwrap_or_default(),
            false => BTreeSet::new(),
        },
        member_id: member.member_id,
        instance_id: member.group_instance_id,
        client_id: member.client_id,
        host: member.client_host,
        epoch: None,
    });
    GroupMembers {
        group_id: group.group_id,
        state: group.group_state,
        protocol: group.protocol_data,
        members: members.collect(),
    }
}

fn of_consumers(group: consumer_group_describe::DescribedGroup) -> GroupMembers {
    let members = group.members.into_iter().map(|member| GroupMember {
        member_id: member.member_id,
        instance_id: member.instance_id,
        client_id: member.client_id,
        host: member.client_host,
        epoch: Some(member.member_epoch),
        owns: partitions(member.assignment),
    });
    GroupMembers {
        group_id: group.group_id,
        state: group.group_state,
        protocol: group.assignor_name,
        members: members.collect(),
    }
}

fn partitions(assignment: consumer_group_describe::Assignment) -> BTreeSet<TopicPartition> {
    let topics = assignment.topic_partitions.into_iter();
    let all = topics.flat_map(|topic| {
        let name: Arc<str> = topic.topic_name.into();
        let numbers = topic.partitions.into_iter();
        numbers.map(move |number| (name.clone(), number))
    });
    all.collect()
}
