//! SyncGroup: it waits at the coordinator until the leader has assigned, and that is committed.

use super::ApiContext;
use crate::engine::group::{self, Answer, SyncRequest};
use crate::model::ErrorCode;
use crate::protocol::sync_group::{Request, Response};
use crate::protocol::Opaque;

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let id = request.group_id.clone();
    let assignments = request.assignments.into_iter();
    let sync = SyncRequest {
        group: request.group_id.into(),
        generation: request.generation_id,
        member: request.member_id.into(),
        instance: request.group_instance_id.map(Into::into),
        protocol_type: request.protocol_type.map(Into::into),
        protocol: request.protocol_name.map(Into::into),
        assignments: assignments
            .map(|a| (a.member_id.into(), a.assignment.0))
            .collect(),
        image: context.image(),
    };
    let error_code = match context.ask_group(&id, group::Request::Sync(sync)).await {
        Ok(Answer::Sync(answer)) => {
            return Response {
                error_code: answer.error,
                protocol_type: answer.protocol_type.map(|name| name.to_string()),
                protocol_name: answer.protocol.map(|name| name.to_string()),
                assignment: Opaque(answer.assignment),
                ..Default::default()
            }
        }
        Ok(_) => ErrorCode::UnknownServerError,
        Err(code) => code,
    };
    Response {
        error_code,
        ..Default::default()
    }
}
