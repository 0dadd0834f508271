//! OffsetFetch: what groups have committed. There are no transactions that could still change it, so
//! every offset is stable.

use std::sync::Arc;

use super::ApiContext;
use crate::engine::group::{self, Answer, FetchAnswer, FetchRequest, FetchedOffset};
use crate::model::{ErrorCode, LeaderEpoch, Offset, TopicId};
use crate::protocol::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponseTopic, Request, Response,
};

/// A topic's name, if there is one, and partitions of it.
type NamedTopic = (Option<Arc<str>>, Vec<i32>);

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        groups.push(answer_group(context, group).await);
    }
    Response {
        groups,
        ..Default::default()
    }
}

async fn answer_group(
    context: &ApiContext,
    request: OffsetFetchRequestGroup,
) -> OffsetFetchResponseGroup {
    let topics = request.topics.as_ref();
    let topics = topics.map(|topics| names(context, topics));
    let answer = ask(context, &request, topics.as_deref()).await;
    let (topics, error_code) = match answer {
        Ok(FetchAnswer(told)) => {
            let asked = request.topics.zip(topics);
            (tell(context, asked, told), ErrorCode::None)
        }
        Err(code) => (refuse(request.topics, code), code),
    };
    OffsetFetchResponseGroup {
        group_id: request.group_id,
        topics,
        error_code,
    }
}

/// The name of each topic; an id that isn't known has none.
fn names(context: &ApiContext, topics: &[OffsetFetchRequestTopic]) -> Vec<NamedTopic> {
    let named = topics.iter().map(|topic| {
        let name = match context.topic_of_id(&topic.name, topic.topic_id) {
            Ok(Some(name)) => Some(name.into()),
            Ok(None) => Some(topic.name.as_str().into()),
            Err(_) => None,
        };
        (name, topic.partition_indexes.clone())
    });
    named.collect()
}

async fn ask(
    context: &ApiContext,
    request: &OffsetFetchRequestGroup,
    topics: Option<&[NamedTopic]>,
) -> Result<FetchAnswer, ErrorCode> {
    let known = topics.map(|topics| {
        let known = topics.iter();
        let known = known.filter_map(|(name, indexes)| Some((name.clone()?, indexes.clone())));
        known.collect::<Vec<_>>()
    });
    let fetch = group::Request::Fetch(FetchRequest {
        group: request.group_id.as_str().into(),
        member: request.member_id.as_deref().map(Into::into),
        epoch: request.member_epoch,
        partitions: known,
        image: context.image(),
    });
    match context.groups.ask(&request.group_id, fetch).await? {
        Answer::Fetch(answer) => Ok(answer),
        Answer::Code(code) => Err(code),
        _ => Err(ErrorCode::UnknownServerError),
    }
}

fn tell(
    context: &ApiContext,
    asked: Option<(Vec<OffsetFetchRequestTopic>, Vec<NamedTopic>)>,
    told: Vec<(Arc<str>, Vec<FetchedOffset>)>,
) -> Vec<OffsetFetchResponseTopic> {
    let Some((asked, names)) = asked else {
        let image = context.image();
        let all = told.into_iter().map(|(name, offsets)| {
            let known = image.topic_by_name(&name);
            OffsetFetchResponseTopic {
                topic_id: known.map_or(TopicId::NONE, |topic| topic.id),
                name: name.to_string(),
                partitions: offsets.into_iter().map(partition).collect(),
            }
        });
        return all.collect();
    };
    let mut told = told.into_iter();
    let mut topics = Vec::with_capacity(asked.len());
    for (topic, (name, _)) in asked.into_iter().zip(names) {
        let offsets = name.and_then(|_| told.next());
        topics.push(match offsets {
            Some((_, offsets)) => OffsetFetchResponseTopic {
                name: topic.name,
                topic_id: topic.topic_id,
                partitions: offsets.into_iter().map(partition).collect(),
            },
            None => refuse_topic(topic, ErrorCode::UnknownTopicId),
        });
    }
    topics
}

fn partition(told: FetchedOffset) -> OffsetFetchResponsePartition {
    OffsetFetchResponsePartition {
        partition_index: told.partition,
        committed_offset: told.offset,
        committed_leader_epoch: told.leader_epoch,
        metadata: Some(told.metadata.to_string()),
        error_code: ErrorCode::None,
    }
}

fn refuse(
    asked: Option<Vec<OffsetFetchRequestTopic>>,
    code: ErrorCode,
) -> Vec<OffsetFetchResponseTopic> {
    let asked = asked.into_iter().flatten();
    asked.map(|topic| refuse_topic(topic, code)).collect()
}

fn refuse_topic(topic: OffsetFetchRequestTopic, code: ErrorCode) -> OffsetFetchResponseTopic {
    let indexes = topic.partition_indexes.into_iter();
    OffsetFetchResponseTopic {
        name: topic.name,
        topic_id: topic.topic_id,
        partitions: indexes
            .map(|partition_index| OffsetFetchResponsePartition {
                partition_index,
                committed_offset: Offset::NONE,
                committed_leader_epoch: LeaderEpoch::NONE,
                metadata: Some(String::new()),
                error_code: code,
            })
            .collect(),
    }
}
