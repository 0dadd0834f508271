//! JoinGroup: it waits at the coordinator until the group's next generation is there.

use uuid::Uuid;

use super::{ApiContext, Peer};
use crate::engine::group::{self, Answer, JoinAnswer, JoinRequest, Leaders, NewMembers};
use crate::model::ErrorCode;
use crate::protocol::join_group::{JoinGroupResponseMember, Request, Response};
use crate::protocol::Opaque;

pub async fn answer(context: &ApiContext, request: Request, peer: &Peer) -> Response {
    let member_id = request.member_id.clone();
    let id = request.group_id.clone();
    let join = group::Request::Join(join(context, request, peer));
    let error_code = match context.ask_group(&id, join).await {
        Ok(Answer::Join(answer)) => return response(answer),
        Ok(_) => ErrorCode::UnknownServerError,
        Err(code) => code,
    };
    Response {
        error_code,
        generation_id: -1,
        member_id,
        ..Default::default()
    }
}

fn join(context: &ApiContext, request: Request, peer: &Peer) -> JoinRequest {
    let protocols = request.protocols.into_iter();
    JoinRequest {
        group: request.group_id.into(),
        member: request.member_id.into(),
        instance: request.group_instance_id.map(Into::into),
        client_id: peer.client_id(),
        client_host: peer.host(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        protocol_type: request.protocol_type.into(),
        protocols: protocols.map(|p| (p.name.into(), p.metadata.0)).collect(),
        nonce: Uuid::new_v4().to_string(),
        new_members: match request.is_member_at_once {
            true => NewMembers::JoinAtOnce,
            false => NewMembers::AreToldTheirId,
        },
        leaders: match request.assigns_always {
            true => Leaders::AssignAlways,
            false => Leaders::CanSkip,
        },
        image: context.image(),
    }
}

fn response(answer: JoinAnswer) -> Response {
    let members = answer.members.into_iter();
    Response {
        error_code: answer.error,
        generation_id: answer.generation,
        protocol_type: answer.protocol_type.map(|name| name.to_string()),
        protocol_name: answer.protocol.map(|name| name.to_string()),
        leader: answer.leader.to_string(),
        skip_assignment: answer.skip_assignment,
        member_id: answer.member.to_string(),
        members: members
            .map(|member| JoinGroupResponseMember {
                member_id: member.member.to_string(),
                group_instance_id: member.instance.map(|name| name.to_string()),
                metadata: Opaque(member.metadata),
            })
            .collect(),
        ..Default::default()
    }
}
