//! LeaveGroup.

use super::ApiContext;
use crate::engine::group::{self, Answer, LeaveAnswer, LeaveRequest, LeavingMember};
use crate::model::ErrorCode;
use crate::protocol::leave_group::{MemberResponse, Request, Response};

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let leaving = request.members.iter().map(|member| LeavingMember {
        member: member.member_id.as_str().into(),
        instance: member.group_instance_id.as_deref().map(Into::into),
    });
    let leave = group::Request::Leave(LeaveRequest {
        group: request.group_id.as_str().into(),
        members: leaving.collect(),
    });
    let answer = match context.groups.ask(&request.group_id, leave).await {
        Ok(Answer::Leave(answer)) => answer,
        Ok(_) => refused(ErrorCode::UnknownServerError),
        Err(code) => refused(code),
    };
    let members = request.members.into_iter().zip(answer.members);
    Response {
        error_code: answer.error,
        members: members
            .map(|(member, error_code)| MemberResponse {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                error_code,
            })
            .collect(),
        ..Default::default()
    }
}

fn refused(error: ErrorCode) -> LeaveAnswer {
    LeaveAnswer {
        error,
        members: Vec::new(),
    }
}
