//! OffsetDelete: answered when the deletion is committed.

use super::ApiContext;
use crate::engine::group::{self, Answer, CommitAnswer, OffsetDeletion};
use crate::model::ErrorCode;
use crate::protocol::offset_delete::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic, Request, Response,
};

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let mut partitions = Vec::new();
    for topic in &request.topics {
        let name: std::sync::Arc<str> = topic.name.as_str().into();
        let indexes = topic.partitions.iter().map(|p| p.partition_index);
        partitions.extend(indexes.map(|index| (name.clone(), index)));
    }
    let deletion = group::Request::DeleteOffsets(OffsetDeletion {
        group: request.group_id.as_str().into(),
        partitions,
    });
    let answer = context
        .groups
        .ask_to_write(&request.group_id, deletion)
        .await;
    let codes = match answer {
        Ok(Answer::Commit(CommitAnswer(codes))) => codes,
        Ok(Answer::Code(code)) | Err(code) => return refused(code),
        Ok(_) => return refused(ErrorCode::UnknownServerError),
    };
    let image = context.image();
    let mut codes = codes.into_iter();
    let topics = request.topics.into_iter().map(|topic| {
        let known = image.topic_by_name(&topic.name);
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            let code = codes.next().unwrap_or(ErrorCode::UnknownServerError);
            OffsetDeleteResponsePartition {
                partition_index: index,
                error_code: match known.and_then(|topic| topic.partition(index)) {
                    Some(_) => code,
                    None => ErrorCode::UnknownTopicOrPartition,
                },
            }
        });
        OffsetDeleteResponseTopic {
            partitions: partitions.collect(),
            name: topic.name,
        }
    });
    Response {
        topics: topics.collect(),
        ..Default::default()
    }
}

fn refused(error_code: ErrorCode) -> Response {
    Response {
        error_code,
        ..Default::default()
    }
}
