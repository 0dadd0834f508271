//! ConsumerGroupHeartbeat: answered when what the answer rests on is committed.

use uuid::Uuid;

use super::{ApiContext, Peer};
use crate::engine::group::{
    self, Answer, ConsumerHeartbeatAnswer, ConsumerHeartbeatRequest, Partitions, JOIN_EPOCH,
};
use crate::model::{ErrorCode, Refusal};
use crate::protocol::consumer_group_heartbeat::{Assignment, Request, Response, TopicPartitions};

pub async fn answer(context: &ApiContext, request: Request, peer: &Peer) -> Response {
    let group = request.group_id.clone();
    let member_id = request.member_id.clone();
    let heartbeat = group::Request::ConsumerHeartbeat(heartbeat(context, request, peer));
    let answer = match context.ask_group(&group, heartbeat).await {
        Ok(Answer::ConsumerHeartbeat(answer)) => answer,
        Ok(_) => Err(ErrorCode::UnknownServerError.into()),
        Err(code) => Err(code.into()),
    };
    match answer {
        Ok(answer) => response(answer),
        Err(refusal) => refused(refusal, member_id),
    }
}

fn heartbeat(context: &ApiContext, request: Request, peer: &Peer) -> ConsumerHeartbeatRequest {
    let has_no_id = request.member_id.is_empty() && request.may_lack_an_id;
    let names = request.subscribed_topic_names;
    ConsumerHeartbeatRequest {
        group: request.group_id.into(),
        member: match has_no_id && request.member_epoch == JOIN_EPOCH {
            true => Uuid::new_v4().to_string().into(),
            false => request.member_id.into(),
        },
        epoch: request.member_epoch,
        instance: request.instance_id.map(Into::into),
        rack: request.rack_id.map(Into::into),
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        topic_names: names.map(|names| names.into_iter().map(Into::into).collect()),
        topic_regex: request.subscribed_topic_regex.map(Into::into),
        assignor: request.server_assignor.map(Into::into),
        owned: request.topic_partitions.map(|topics| {
            let owned = topics.into_iter().flat_map(|topic| {
                let numbers = topic.partitions.into_iter();
                numbers.map(move |number| (topic.topic_id, number))
            });
            owned.collect()
        }),
        client_id: peer.client_id(),
        client_host: peer.host(),
        image: context.image(),
    }
}

fn response(answer: ConsumerHeartbeatAnswer) -> Response {
    Response {
        member_id: Some(answer.member.to_string()),
        member_epoch: answer.epoch,
        heartbeat_interval_ms: answer.heartbeat_interval_ms,
        assignment: answer.assignment.map(|assigned| Assignment {
            topic_partitions: by_topic(&assigned),
        }),
        ..Default::default()
    }
}

fn by_topic(partitions: &Partitions) -> Vec<TopicPartitions> {
    let topics = partitions.by_topic();
    let topics = topics.map(|(topic_id, numbers)| TopicPartitions {
        topic_id,
        partitions: numbers.iter().copied().collect(),
    });
    topics.collect()
}

fn refused(refusal: Refusal, member_id: String) -> Response {
    Response {
        error_code: refusal.code,
        error_message: refusal.into_message(),
        member_id: Some(member_id).filter(|id| !id.is_empty()),
        ..Default::default()
    }
}
