//! OffsetCommit: answered when the offsets are committed. What names no partition that is there is refused
//! before the coordinator is asked.

use super::ApiContext;
use crate::engine::group::{self, Answer, CommitAnswer, CommitRequest, NewOffset};
use crate::model::{ErrorCode, TopicName};
use crate::protocol::offset_commit::{
    OffsetCommitRequestTopic, OffsetCommitResponsePartition, OffsetCommitResponseTopic, Request,
    Response,
};

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let mut offsets = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        topics.push(sort(context, topic, &mut offsets));
    }
    if !offsets.is_empty() {
        let commit = CommitRequest {
            group: request.group_id.as_str().into(),
            generation: request.generation_id_or_member_epoch,
            member: request.member_id.into(),
            instance: request.group_instance_id.map(Into::into),
            predates_member_epochs: request.predates_member_epochs,
            offsets,
        };
        let commit = group::Request::Commit(commit);
        let answer = context.groups.ask_to_write(&request.group_id, commit).await;
        settle(&mut topics, answer);
    }
    Response {
        topics,
        ..Default::default()
    }
}

/// Takes out what the coordinator is to be asked; those partitions have no error yet.
fn sort(
    context: &ApiContext,
    topic: OffsetCommitRequestTopic,
    offsets: &mut Vec<NewOffset>,
) -> OffsetCommitResponseTopic {
    let name = name_of(context, &topic);
    let image = context.image();
    let known = name
        .as_ref()
        .ok()
        .and_then(|name| image.topic_by_name(name.as_str()));
    let refusal = name.as_ref().err().copied();
    let unknown = refusal.unwrap_or(ErrorCode::UnknownTopicOrPartition);
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for partition in topic.partitions {
        let index = partition.partition_index;
        let known = known.filter(|topic| topic.partition(index).is_some());
        if let Some(topic) = known {
            offsets.push(NewOffset {
                topic: topic.name.clone().into(),
                topic_id: topic.id,
                partition: index,
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition.committed_metadata.unwrap_or_default().into(),
            });
        }
        partitions.push(OffsetCommitResponsePartition {
            partition_index: index,
            error_code: match known {
                Some(_) => ErrorCode::None,
                None => unknown,
            },
        });
    }
    OffsetCommitResponseTopic {
        name: topic.name,
        topic_id: topic.topic_id,
        partitions,
    }
}

fn name_of(context: &ApiContext, topic: &OffsetCommitRequestTopic) -> Result<TopicName, ErrorCode> {
    match context.topic_of_id(&topic.name, topic.topic_id) {
        Ok(Some(name)) => Ok(name),
        Ok(None) => (topic.name.parse()).map_err(|_| ErrorCode::UnknownTopicOrPartition),
        Err(refusal) => Err(refusal.code),
    }
}

/// Gives the partitions that have no error yet the coordinator's codes, which are in their order.
fn settle(topics: &mut [OffsetCommitResponseTopic], answer: Result<Answer, ErrorCode>) {
    let (codes, for_all) = match answer {
        Ok(Answer::Commit(CommitAnswer(codes))) => (codes, ErrorCode::UnknownServerError),
        Ok(_) => (Vec::new(), ErrorCode::UnknownServerError),
        Err(code) => (Vec::new(), code),
    };
    let mut codes = codes.into_iter();
    let partitions = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    for partition in partitions.filter(|partition| partition.error_code.is_ok()) {
        partition.error_code = codes.next().unwrap_or(for_all);
    }
}
