//! Fetch: read from partitions, and wait for more (KIP-74 for the sizes).
//!
//! Each partition says where can be read; that is repeated, whenever one of them has more, until
//! enough is there or the time is over. Only then is anything read: from memory at once, and from
//! the disk off the arbiter.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{sleep_until, Instant};

use super::{patience, ApiContext, Named, Room};
use crate::actors::partition_leader::{FirstBatch, PlannedRead, Read, ReadReply, Reader};
use crate::model::{BrokerId, ErrorCode, Offset, Refusal};
use crate::protocol::fetch::{
    FetchPartition, FetchableTopicResponse, PartitionData, Request, Response,
};
use crate::protocol::Records;

/// One partition of the request, in the request's order.
struct Wanted {
    /// Its topic's place in the request.
    topic: usize,
    name: Result<Arc<str>, Refusal>,
    partition: FetchPartition,
}

/// What can be read of a partition now.
type Found = Result<ReadReply, Refusal>;

pub async fn answer(
    context: &ApiContext,
    request: Request,
    room: &Room,
) -> (Response, Option<OwnedSemaphorePermit>) {
    if let Err(code) = check(context, &request) {
        let response = Response {
            error_code: code,
            ..Default::default()
        };
        return (response, None);
    }
    let isolation = Isolation::from_level(request.isolation_level);
    let deadline = Instant::now() + patience(request.max_wait_ms);
    let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0);
    let bytes_max = bytes_max.min(context.listener.fetch_bytes_max);
    let bytes_min = usize::try_from(request.min_bytes)
        .unwrap_or(0)
        .min(bytes_max);
    let (mut response, wanted) = resolve(context, request);
    let found = loop {
        let more = Arc::new(Notify::new());
        let found = look(context, &wanted, &more).await;
        if is_enough(&found, bytes_min) {
            break found;
        }
        tokio::select! {
            () = more.notified() => {}
            () = sleep_until(deadline) => break found,
            () = context.stopping.cancelled() => break found,
        }
    };
    let planned = found.iter().flatten().map(planned).sum::<usize>();
    let Some(room) = room.for_records(planned.min(bytes_max)).await else {
        // The connection is gone, and nobody reads the answer.
        return (response, None);
    };
    let mut share = Share {
        bytes_left: bytes_max,
        first: FirstBatch::Always,
    };
    for (wanted, found) in wanted.iter().zip(found) {
        let data = match found {
            Ok(reply) => read(wanted, reply, isolation, &mut share).await,
            Err(refusal) => refused(&wanted.partition, refusal.code),
        };
        response.responses[wanted.topic].partitions.push(data);
    }
    (response, Some(room))
}

/// Which records a reader wants.
#[derive(Clone, Copy, PartialEq)]
enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

impl Isolation {
    /// From a request's `isolation_level`, of which Kafka takes all but 0 for 1.
    fn from_level(level: i8) -> Isolation {
        match level {
            0 => Isolation::ReadUncommitted,
            _ => Isolation::ReadCommitted,
        }
    }
}

/// Whether the request is a client's, and meant for this cluster. Our followers are pushed to, so
/// whoever claims to be one is none of ours.
fn check(context: &ApiContext, request: &Request) -> Result<(), ErrorCode> {
    let is_foreign = |id: &String| *id != context.cluster_id.0;
    if request.cluster_id.as_ref().is_some_and(is_foreign) {
        return Err(ErrorCode::InconsistentClusterId);
    }
    let follower = request.replica_id.max(request.replica_state.replica_id);
    match follower >= BrokerId(0) {
        true => Err(ErrorCode::ClusterAuthorizationFailed),
        false => Ok(()),
    }
}

/// What the partitions that are still to be read may give. The first that has anything gives at
/// least one batch, whatever its size, so that every reader gets on.
struct Share {
    bytes_left: usize,
    first: FirstBatch,
}

/// The frame of the response, and the request's partitions one by one.
fn resolve(context: &ApiContext, request: Request) -> (Response, Vec<Wanted>) {
    let mut responses = Vec::with_capacity(request.topics.len());
    let mut wanted = Vec::new();
    let mut named = Named::default();
    for (place, topic) in request.topics.into_iter().enumerate() {
        let name = context.topic_name(&topic.topic, topic.topic_id);
        let named = named.topic(name.as_deref().unwrap_or_default());
        wanted.extend(topic.partitions.into_iter().map(|partition| Wanted {
            topic: place,
            name: match named.insert(partition.partition) {
                true => name.clone(),
                false => Err(ErrorCode::InvalidRequest.into()),
            },
            partition,
        }));
        responses.push(FetchableTopicResponse {
            topic: topic.topic,
            topic_id: topic.topic_id,
            partitions: Vec::new(),
        });
    }
    let response = Response {
        error_code: ErrorCode::None,
        responses,
        ..Default::default()
    };
    (response, wanted)
}

/// Asks each partition where can be read; `more` is notified when one has more than it says.
async fn look(context: &ApiContext, wanted: &[Wanted], more: &Arc<Notify>) -> Vec<Found> {
    join_all(wanted.iter().map(|wanted| async {
        let name = wanted.name.as_deref().map_err(Clone::clone)?;
        let leader = context.leader(name, wanted.partition.partition)?;
        let bytes_max = usize::try_from(wanted.partition.partition_max_bytes).unwrap_or(0);
        let read = Read {
            current_leader_epoch: wanted.partition.current_leader_epoch,
            offset: wanted.partition.fetch_offset,
            bytes_max: bytes_max.min(context.listener.fetch_bytes_max),
            first: FirstBatch::Always,
            reader: Some(Reader::new(more)),
        };
        leader.read(read).await
    }))
    .await
}

/// A refusal is told at once, and so is what lies in a segment that gets no more.
fn is_enough(found: &[Found], bytes_min: usize) -> bool {
    let mut bytes = 0;
    for found in found {
        match found {
            Ok(reply) => match &reply.plan {
                Ok(plan) if plan.reaches_end() => bytes += planned(reply),
                _ => return true,
            },
            Err(_) => return true,
        }
    }
    bytes >= bytes_min
}

fn planned(reply: &ReadReply) -> usize {
    reply.plan.as_ref().map_or(0, PlannedRead::bytes_max)
}

async fn read(
    wanted: &Wanted,
    reply: ReadReply,
    isolation: Isolation,
    share: &mut Share,
) -> PartitionData {
    let mut data = PartitionData {
        high_watermark: reply.high_watermark,
        // There are no transactions, so none is open and none was aborted.
        last_stable_offset: reply.high_watermark,
        aborted_transactions: (isolation == Isolation::ReadCommitted).then(Vec::new),
        log_start_offset: reply.log_start_offset,
        ..refused(&wanted.partition, ErrorCode::None)
    };
    let read = match reply.plan {
        Ok(_) if share.bytes_left == 0 && share.first == FirstBatch::IfFits => return data,
        Ok(plan) => plan.carry_out(share.bytes_left, share.first).await,
        Err(refusal) => Err(refusal),
    };
    match read {
        Ok(bytes) => data.records = Records(bytes),
        Err(refusal) => data.error_code = refusal.code,
    }
    if !data.records.0.is_empty() {
        share.bytes_left = share.bytes_left.saturating_sub(data.records.0.len());
        share.first = FirstBatch::IfFits;
    }
    data
}

fn refused(partition: &FetchPartition, code: ErrorCode) -> PartitionData {
    PartitionData {
        partition_index: partition.partition,
        error_code: code,
        high_watermark: Offset::NONE,
        log_start_offset: Offset::NONE,
        records: Records::default(),
        ..Default::default()
    }
}
