//! OffsetForLeaderEpoch: where a leader epoch ends in the log.

use super::{ApiContext, Named};
use crate::actors::partition_leader::{EpochEnd, FindEpochEnd};
use crate::model::{ErrorCode, Refusal};
use crate::protocol::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderPartition, OffsetForLeaderTopicResult, Request, Response,
};

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut named = Named::default();
    for topic in request.topics {
        let named = named.topic(&topic.topic);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let found = match named.insert(asked.partition) {
                true => find(context, &topic.topic, &asked).await,
                false => Err(ErrorCode::InvalidRequest.into()),
            };
            partitions.push(result(asked.partition, found));
        }
        topics.push(OffsetForLeaderTopicResult {
            topic: topic.topic,
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
    asked: &OffsetForLeaderPartition,
) -> Result<Option<EpochEnd>, Refusal> {
    let ask = FindEpochEnd {
        current_leader_epoch: asked.current_leader_epoch,
        leader_epoch: asked.leader_epoch,
    };
    let leader = context.leader(topic, asked.partition)?;
    leader.find_epoch_end(ask).await
}

fn result(partition: i32, found: Result<Option<EpochEnd>, Refusal>) -> EpochEndOffset {
    let nothing = |error_code| EpochEndOffset {
        error_code,
        partition,
        ..Default::default()
    };
    match found {
        Ok(Some(end)) => EpochEndOffset {
            leader_epoch: end.leader_epoch,
            end_offset: end.end_offset,
            ..nothing(ErrorCode::None)
        },
        Ok(None) => nothing(ErrorCode::None),
        Err(refusal) => nothing(refusal.code),
    }
}
