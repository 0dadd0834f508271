//! Heartbeat.

use super::ApiContext;
use crate::engine::group::{self, Answer, HeartbeatRequest};
use crate::model::ErrorCode;
use crate::protocol::heartbeat::{Request, Response};

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let id = request.group_id.clone();
    let heartbeat = group::Request::Heartbeat(HeartbeatRequest {
        group: request.group_id.into(),
        generation: request.generation_id,
        member: request.member_id.into(),
        instance: request.group_instance_id.map(Into::into),
    });
    let error_code = match context.groups.ask(&id, heartbeat).await {
        // The coordinator has just come here, or is about to go: there is no reason to join again.
        Err(ErrorCode::CoordinatorLoadInProgress) => ErrorCode::None,
        Ok(Answer::Code(code)) | Err(code) => code,
        Ok(_) => ErrorCode::UnknownServerError,
    };
    Response {
        error_code,
        ..Default::default()
    }
}
