//! ListOffsets: where a partition starts and ends, and where a time lies in it.

use super::ApiContext;
use crate::actors::partition_leader::FindOffset;
use crate::model::{ErrorCode, LeaderEpoch, Offset, Timestamp};
use crate::protocol::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopicResponse, Request, Response,
};

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            partitions.push(find(context, &topic.name, partition).await);
        }
        topics.push(ListOffsetsTopicResponse {
            name: topic.name,
            partitions,
        });
    }
    Response { topics }
}

async fn find(
    context: &ApiContext,
    topic: &str,
    asked: ListOffsetsPartition,
) -> ListOffsetsPartitionResponse {
    let find = FindOffset {
        current_leader_epoch: asked.current_leader_epoch,
        timestamp: asked.timestamp,
    };
    let found = match context.leader(topic, asked.partition_index) {
        Ok(leader) => leader.find_offset(find).await,
        Err(refusal) => Err(refusal),
    };
    let mut response = ListOffsetsPartitionResponse {
        partition_index: asked.partition_index,
        error_code: ErrorCode::None,
        timestamp: Timestamp::NONE,
        offset: Offset::NONE,
        leader_epoch: LeaderEpoch::NONE,
    };
    match found {
        Ok(found) => {
            response.timestamp = found.timestamp;
            response.offset = found.offset;
            response.leader_epoch = found.leader_epoch;
        }
        Err(refusal) => response.error_code = refusal.code,
    }
    response
}
