//! DeleteRecords: raise a partition's log start offset.

use super::ApiContext;
use crate::actors::partition_leader::DeleteRecords;
use crate::model::{ErrorCode, Offset};
use crate::protocol::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsTopicResult, Request,
    Response,
};

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            partitions.push(delete(context, &topic.name, partition).await);
        }
        topics.push(DeleteRecordsTopicResult {
            name: topic.name,
            partitions,
        });
    }
    Response {
        topics,
        ..Default::default()
    }
}

async fn delete(
    context: &ApiContext,
    topic: &str,
    asked: DeleteRecordsPartition,
) -> DeleteRecordsPartitionResult {
    let delete = DeleteRecords {
        before: asked.offset,
    };
    let deleted = match context.leader(topic, asked.partition_index) {
        Ok(leader) => leader.delete_records(delete).await,
        Err(refusal) => Err(refusal),
    };
    let (low_watermark, error_code) = match deleted {
        Ok(log_start) => (log_start, ErrorCode::None),
        Err(refusal) => (Offset::NONE, refusal.code),
    };
    DeleteRecordsPartitionResult {
        partition_index: asked.partition_index,
        low_watermark,
        error_code,
    }
}
