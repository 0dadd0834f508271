//! ListOffsets: where a partition starts and ends, and where a time lies in it.

use super::{ApiContext, Named};
use crate::actors::partition_leader::{FindOffset, TimestampedOffset};
use crate::model::{ErrorCode, LeaderEpoch, Offset, Refusal, Timestamp};
use crate::protocol::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopicResponse, Request, Response,
};

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut named = Named::default();
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        let named = named.topic(&topic.name);
        for asked in topic.partitions {
            let found = match named.insert(asked.partition_index) {
                true => find(context, &topic.name, &asked).await,
                false => Err(ErrorCode::InvalidRequest.into()),
            };
            partitions.push(result(asked.partition_index, found));
        }
        topics.push(ListOffsetsTopicResponse {
            name: topic.name,
            partitions,
        });
    }
    Response {
        topics,
        ..Default::default()
    }
}

async fn find(
    context: &ApiContext,
    topic: &str,
    asked: &ListOffsetsPartition,
) -> Result<TimestampedOffset, Refusal> {
    let find = FindOffset {
        current_leader_epoch: asked.current_leader_epoch,
        timestamp: asked.timestamp,
    };
    let leader = context.leader(topic, asked.partition_index)?;
    leader.find_offset(find).await
}

fn result(
    partition_index: i32,
    found: Result<TimestampedOffset, Refusal>,
) -> ListOffsetsPartitionResponse {
    match found {
        Ok(found) => ListOffsetsPartitionResponse {
            partition_index,
            error_code: ErrorCode::None,
            timestamp: found.timestamp,
            offset: found.offset,
            leader_epoch: found.leader_epoch,
        },
        Err(refusal) => ListOffsetsPartitionResponse {
            partition_index,
            error_code: refusal.code,
            timestamp: Timestamp::NONE,
            offset: Offset::NONE,
            leader_epoch: LeaderEpoch::NONE,
        },
    }
}
