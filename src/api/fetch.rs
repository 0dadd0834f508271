//! Fetch: read from partitions, and wait for more (KIP-74 for the sizes).
//!
//! Each partition says where can be read; that is repeated, whenever one of them has more, until
//! enough is there or the time is over. Only then is anything read: from memory at once, and from
//! the disk off the arbiter.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{timeout_at, Instant};

use super::{patience, ApiContext, Room};
use crate::actors::partition_leader::{Read, ReadReply, Reader};
use crate::model::{ErrorCode, Offset, Refusal, TopicId};
use crate::protocol::fetch::{
    FetchPartition, FetchableTopicResponse, PartitionData, Request, Response,
};
use crate::protocol::Records;
use crate::storage::log::{LogError, MinOne, ReadPlan};

/// One partition of the request, in the request's order.
struct Wanted {
    /// Its topic's place in the request.
    topic: usize,
    name: Result<String, Refusal>,
    partition: FetchPartition,
}

/// What can be read of a partition now.
type Found = Result<ReadReply, Refusal>;

pub async fn answer(
    context: &ApiContext,
    request: Request,
    room: &Room,
) -> (Response, Option<OwnedSemaphorePermit>) {
    let deadline = Instant::now() + patience(request.max_wait_ms);
    let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0);
    let bytes_max = bytes_max.min(context.settings.fetch_bytes_max);
    let bytes_min = usize::try_from(request.min_bytes)
        .unwrap_or(0)
        .min(bytes_max);
    let (mut response, wanted) = resolve(context, request);
    let found = loop {
        let more = Arc::new(Notify::new());
        let found = look(context, &wanted, &more).await;
        if is_enough(&found, bytes_min) || timeout_at(deadline, more.notified()).await.is_err() {
            break found;
        }
    };
    let plans = share_out(found, bytes_max);
    let bytes = plans
        .iter()
        .flatten()
        .map(|(reply, _)| planned(reply))
        .sum();
    // The connection is gone if there is no room: nobody reads the answer.
    let room = room.reserve(bytes).await;
    for (wanted, plan) in wanted.iter().zip(plans) {
        let data = match plan {
            Ok((reply, bytes_max)) => read(wanted, reply, bytes_max).await,
            Err(refusal) => refused(&wanted.partition, refusal.code),
        };
        response.responses[wanted.topic].partitions.push(data);
    }
    (response, room)
}

/// The frame of the response, and the request's partitions one by one.
fn resolve(context: &ApiContext, request: Request) -> (Response, Vec<Wanted>) {
    let mut responses = Vec::with_capacity(request.topics.len());
    let mut wanted = Vec::new();
    for (place, topic) in request.topics.into_iter().enumerate() {
        let name = topic_name(context, &topic.topic, topic.topic_id);
        wanted.extend(topic.partitions.into_iter().map(|partition| Wanted {
            topic: place,
            name: name.clone(),
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
    };
    (response, wanted)
}

/// The topic's name, if name and id agree.
fn topic_name(context: &ApiContext, name: &str, id: TopicId) -> Result<String, Refusal> {
    if id == TopicId::NONE {
        return Ok(name.to_owned());
    }
    let image = context.image();
    let known = image.topic(id);
    let known = known.filter(|known| name.is_empty() || known.name.as_str() == name);
    let known = known.ok_or_else(|| Refusal::from(ErrorCode::UnknownTopicId))?;
    Ok(known.name.to_string())
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
            bytes_max: bytes_max.min(context.settings.fetch_bytes_max),
            min_one: MinOne::Yes,
            reader: Some(Reader::new(more)),
        };
        leader.read(read).await
    }))
    .await
}

/// A refusal is told at once.
fn is_enough(found: &[Found], bytes_min: usize) -> bool {
    let mut bytes = 0;
    for found in found {
        match found {
            Ok(reply) if reply.plan.is_ok() => bytes += planned(reply),
            _ => return true,
        }
    }
    bytes >= bytes_min
}

fn planned(reply: &ReadReply) -> usize {
    reply.plan.as_ref().map_or(0, ReadPlan::len)
}

/// How much each partition may give of `bytes_max`, in the request's order. The first that has
/// anything gives at least one batch, whatever its size, so that every reader gets on.
fn share_out(found: Vec<Found>, bytes_max: usize) -> Vec<Result<(ReadReply, usize), Refusal>> {
    let mut left = bytes_max;
    let mut anything = false;
    let share = |found: Found| {
        let mut reply = found?;
        let len = planned(&reply);
        if len > left && anything {
            reply.plan = Ok(ReadPlan::nothing());
        }
        let share = len.min(left);
        left = left.saturating_sub(len);
        anything |= len > 0;
        Ok((reply, share))
    };
    found.into_iter().map(share).collect()
}

async fn read(wanted: &Wanted, reply: ReadReply, bytes_max: usize) -> PartitionData {
    let plan = match reply.plan {
        Ok(plan) => plan,
        Err(refusal) => {
            let mut data = refused(&wanted.partition, refusal.code);
            data.high_watermark = reply.high_watermark;
            data.log_start_offset = reply.log_start_offset;
            return data;
        }
    };
    match carry_out(plan).await {
        Ok(records) => PartitionData {
            partition_index: wanted.partition.partition,
            error_code: ErrorCode::None,
            high_watermark: reply.high_watermark,
            log_start_offset: reply.log_start_offset,
            records,
        },
        Err(error) => {
            log::error!(
                "a fetch from partition {}: {error}",
                wanted.partition.partition
            );
            refused(&wanted.partition, error.code())
        }
    }
}

async fn carry_out(plan: ReadPlan) -> Result<Records, LogError> {
    if let Some(bytes) = plan.read_cached()? {
        return Ok(Records(bytes));
    }
    match actix_rt::task::spawn_blocking(move || plan.read()).await {
        Ok(read) => read.map(Records),
        Err(panic) => Err(LogError::Failed(format!("a read panicked: {panic}"))),
    }
}

fn refused(partition: &FetchPartition, code: ErrorCode) -> PartitionData {
    PartitionData {
        partition_index: partition.partition,
        error_code: code,
        high_watermark: Offset::NONE,
        log_start_offset: Offset::NONE,
        records: Records::default(),
    }
}
