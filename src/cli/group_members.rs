//! Who is in a group, whichever protocol it speaks.

use serde::Serialize;

use crate::client::Admin;
use crate::model::ErrorCode;
use crate::protocol::{consumer_group_describe, describe_groups};

use super::error::CliError;
use super::output::{table, Column};

#[derive(Serialize)]
pub struct GroupMembers {
    pub state: String,
    /// What the members have agreed on, which is empty unless a classic group is stable; or the assignor of a
    /// group of the consumer protocol.
    pub protocol: String,
    pub members: Vec<Member>,
}

#[derive(Serialize)]
pub struct Member {
    member_id: String,
    instance_id: Option<String>,
    client_id: String,
    host: String,
    /// Of the consumer protocol: the assignment epoch that it has reached.
    epoch: Option<i32>,
    /// And what it owns, such as `t:0,1`. What members of a classic group own is between them.
    owns: Vec<String>,
}

/// `None` if there is no such group.
pub async fn members_of(admin: &Admin, group: &str) -> Result<Option<GroupMembers>, CliError> {
    let classic = admin.describe_group(group).await?;
    match classic.error_code {
        ErrorCode::None => return Ok(Some(of_classic(classic))),
        ErrorCode::GroupIdNotFound => {}
        code => return Err(CliError::failed(format!("group {group}: {code}"))),
    }
    let consumers = admin.describe_consumer_group(group).await?;
    match consumers.error_code {
        ErrorCode::None => Ok(Some(of_consumers(consumers))),
        ErrorCode::GroupIdNotFound => Ok(None),
        code => Err(CliError::failed(format!("group {group}: {code}"))),
    }
}

fn of_classic(group: describe_groups::DescribedGroup) -> GroupMembers {
    let members = group.members.into_iter().map(|member| Member {
        member_id: member.member_id,
        instance_id: member.group_instance_id,
        client_id: member.client_id,
        host: member.client_host,
        epoch: None,
        owns: Vec::new(),
    });
    GroupMembers {
        state: group.group_state,
        protocol: group.protocol_data,
        members: members.collect(),
    }
}

fn of_consumers(group: consumer_group_describe::DescribedGroup) -> GroupMembers {
    let members = group.members.into_iter().map(|member| {
        let owned = member.assignment.topic_partitions.into_iter();
        Member {
            member_id: member.member_id,
            instance_id: member.instance_id,
            client_id: member.client_id,
            host: member.client_host,
            epoch: Some(member.member_epoch),
            owns: owned.map(owned_of_topic).collect(),
        }
    });
    GroupMembers {
        state: group.group_state,
        protocol: group.assignor_name,
        members: members.collect(),
    }
}

fn owned_of_topic(topic: consumer_group_describe::TopicPartitions) -> String {
    let numbers: Vec<String> = topic.partitions.iter().map(i32::to_string).collect();
    format!("{}:{}", topic.topic_name, numbers.join(","))
}

pub fn member_table(members: &[Member]) -> String {
    let has_epochs = members.iter().any(|member| member.epoch.is_some());
    let mut columns = vec![
        Column::Left("MEMBER"),
        Column::Left("INSTANCE"),
        Column::Left("CLIENT"),
        Column::Left("HOST"),
    ];
    if has_epochs {
        columns.extend([Column::Right("EPOCH"), Column::Left("OWNS")]);
    }
    let rows = members.iter().map(|member| {
        let mut row = vec![
            member.member_id.clone(),
            member.instance_id.clone().unwrap_or_default(),
            member.client_id.clone(),
            member.host.clone(),
        ];
        if has_epochs {
            let epoch = member.epoch.map(|epoch| epoch.to_string());
            row.extend([epoch.unwrap_or_default(), member.owns.join(" ")]);
        }
        row
    });
    table(&columns, rows)
}
