//! DescribeGroups.

use super::authorized_operations::GROUP_OPERATIONS;
use super::ApiContext;
use crate::engine::group::{self, Answer, GroupState};
use crate::model::ErrorCode;
use crate::protocol::describe_groups::{DescribedGroup, DescribedGroupMember, Request, Response};
use crate::protocol::Opaque;

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let mut groups = Vec::with_capacity(request.groups.len());
    for group_id in request.groups {
        let mut described = describe(context, group_id).await;
        if request.include_authorized_operations && described.error_code.is_ok() {
            described.authorized_operations = GROUP_OPERATIONS;
        }
        groups.push(described);
    }
    Response {
        groups,
        ..Default::default()
    }
}

async fn describe(context: &ApiContext, group_id: String) -> DescribedGroup {
    let ask = group::Request::Describe(group_id.as_str().into());
    let described = match context.groups.ask(&group_id, ask).await {
        Ok(Answer::Described(described)) => described,
        Ok(_) => Err(ErrorCode::UnknownServerError),
        Err(code) => Err(code),
    };
    match described {
        Ok(described) => DescribedGroup {
            group_id,
            group_state: described.state.name().to_owned(),
            protocol_type: described.protocol_type.to_string(),
            protocol_data: described.protocol.to_string(),
            members: described.members.into_iter().map(member).collect(),
            ..Default::default()
        },
        Err(error_code) => DescribedGroup {
            error_code,
            error_message: explained(error_code, &group_id),
            group_state: match error_code {
                ErrorCode::GroupIdNotFound => GroupState::Dead.name().to_owned(),
                _ => String::new(),
            },
            group_id,
            ..Default::default()
        },
    }
}

/// The words in which Kafka says it.
pub(super) fn explained(error_code: ErrorCode, group_id: &str) -> Option<String> {
    (error_code == ErrorCode::GroupIdNotFound).then(|| format!("Group {group_id} not found."))
}

fn member(described: group::DescribedMember) -> DescribedGroupMember {
    DescribedGroupMember {
        member_id: described.member.to_string(),
        group_instance_id: described.instance.map(|name| name.to_string()),
        client_id: described.client_id.to_string(),
        client_host: described.client_host.to_string(),
        member_metadata: Opaque(described.metadata),
        member_assignment: Opaque(described.assignment),
    }
}
