//! Produce: check the batches, hand them to their partitions, and collect what becomes of them.

use std::collections::HashMap;
use std::sync::Arc;

use super::{patience, ApiContext};
use crate::actors::partition_leader::{
    AppendItem, AppendKey, AppendReplies, AppendResult, AppendTicket, PartitionHandle,
};
use crate::actors::partitions::{Directory, LocalTopic};
use crate::engine::metadata::{TimestampType, TopicConfig};
use crate::engine::replica::Acks;
use crate::model::{ErrorCode, Offset, PartitionId, Refusal, Timestamp, TopicId};
use crate::protocol::produce::{
    PartitionProduceData, PartitionProduceResponse, Request, Response, TopicProduceResponse,
};
use crate::record::{self, Limits, TimestampRule};

/// The appends of all requests of one read, by partition, in the order in which they came.
#[derive(Default)]
pub struct Appends {
    partitions: HashMap<PartitionId, (PartitionHandle, Vec<AppendItem>)>,
}

impl Appends {
    fn push(&mut self, partition: &PartitionHandle, item: AppendItem) {
        let (_, items) = self
            .partitions
            .entry(partition.id())
            .or_insert_with(|| (partition.clone(), Vec::new()));
        items.push(item);
    }

    /// Gives each partition its appends, in one message.
    pub fn send(self) {
        for (partition, items) in self.partitions.into_values() {
            partition.append(items);
        }
    }
}

/// A Produce request whose batches are on their way.
pub struct PendingProduce {
    acks: Result<Acks, ErrorCode>,
    response: Response,
    /// Where in the response each batch's result belongs: topic and partition.
    places: Vec<(usize, usize)>,
    waiting_for: usize,
}

/// What to do about a request that is done.
pub enum Answer {
    Response(Response),
    /// acks=0 is never answered.
    Nothing,
    /// acks=0 went wrong: closing the connection is the only way to tell, as Kafka does.
    Disconnect,
}

/// Checks the request, and adds its appends to `appends`. Each batch's result comes back through
/// `replies`, keyed by `id` and the batch's number in the request.
pub fn begin(
    context: &ApiContext,
    request: Request,
    id: u64,
    replies: &Arc<dyn AppendReplies>,
    appends: &mut Appends,
) -> PendingProduce {
    let now = Timestamp::now();
    let deadline = Timestamp(now.0 + patience(request.timeout_ms).as_millis() as i64);
    let mut pending = PendingProduce {
        acks: Acks::from_code(request.acks),
        response: Response {
            responses: Vec::with_capacity(request.topic_data.len()),
            ..Default::default()
        },
        places: Vec::new(),
        waiting_for: 0,
    };
    let directory = context.partitions.current();
    for topic in request.topic_data {
        let name = context.topic_name(&topic.name, topic.topic_id);
        let name = name.as_deref().map_err(Clone::clone);
        let target = name.map(|name| Target::find(context, &directory, name, now));
        pending.begin_topic(topic.name, topic.topic_id);
        for data in topic.partition_data {
            let key = AppendKey {
                request: id,
                batch: pending.begin_batch(data.index),
            };
            match prepare(context, &pending, &target, data) {
                Ok((partition, batch, acks)) => appends.push(
                    partition,
                    AppendItem {
                        batch,
                        acks,
                        deadline,
                        ticket: AppendTicket::new(replies.clone(), key),
                    },
                ),
                Err(refusal) => pending.settle(key.batch, Err(refusal)),
            }
        }
    }
    pending
}

/// A topic that batches are for.
struct Target<'a> {
    name: &'a str,
    /// What is led here of it, and what its batches must keep to.
    here: Option<(&'a LocalTopic, Limits)>,
}

impl Target<'_> {
    fn find<'a>(
        context: &ApiContext,
        directory: &'a Directory,
        name: &'a str,
        now: Timestamp,
    ) -> Target<'a> {
        let local = directory.topic(name);
        Target {
            name,
            here: local.map(|local| (local, limits(context, &local.config, now))),
        }
    }
}

/// The partition and the checked batch, if the batch may be appended.
fn prepare<'a>(
    context: &ApiContext,
    pending: &PendingProduce,
    target: &Result<Target<'a>, Refusal>,
    data: PartitionProduceData,
) -> Result<(&'a PartitionHandle, record::Batch, Acks), Refusal> {
    let acks = pending.acks?;
    let Target { name, here } = target.as_ref().map_err(Clone::clone)?;
    let no_leader = || context.no_leader(name, data.index);
    let (local, limits) = here.as_ref().ok_or_else(no_leader)?;
    let partition = local.partitions.get(&data.index).ok_or_else(no_leader)?;
    let batch = record::validate(data.records.0, limits)
        .map_err(|error| Refusal::new(error.code(), error.to_string()))?;
    Ok((partition, batch, acks))
}

fn limits(context: &ApiContext, topic: &TopicConfig, now: Timestamp) -> Limits {
    Limits {
        batch_bytes_max: topic.max_message_bytes.max(0) as usize,
        records_bytes_max: context.settings.batch_records_bytes_max,
        timestamps: match topic.message_timestamp_type {
            TimestampType::LogAppendTime => TimestampRule::Any,
            TimestampType::CreateTime => TimestampRule::around(
                now,
                topic.message_timestamp_before_max_ms,
                topic.message_timestamp_after_max_ms,
            ),
        },
    }
}

impl PendingProduce {
    fn begin_topic(&mut self, name: String, topic_id: TopicId) {
        self.response.responses.push(TopicProduceResponse {
            name,
            topic_id,
            partition_responses: Vec::new(),
        });
    }

    /// Makes a place for the result of the next batch of the last topic.
    fn begin_batch(&mut self, index: i32) -> usize {
        if let Some(topic) = self.response.responses.last_mut() {
            topic.partition_responses.push(PartitionProduceResponse {
                index,
                error_code: ErrorCode::UnknownServerError,
                base_offset: Offset::NONE,
                log_append_time_ms: Timestamp::NONE,
                log_start_offset: Offset::NONE,
                error_message: None,
                ..Default::default()
            });
            let partition = topic.partition_responses.len() - 1;
            self.places
                .push((self.response.responses.len() - 1, partition));
        }
        self.waiting_for += 1;
        self.places.len() - 1
    }

    /// Takes in what became of a batch.
    pub fn settle(&mut self, batch: usize, result: AppendResult) {
        let Some(&(topic, partition)) = self.places.get(batch) else {
            return;
        };
        let place = &mut self.response.responses[topic].partition_responses[partition];
        match result {
            Ok(receipt) => {
                place.error_code = ErrorCode::None;
                place.base_offset = receipt.base_offset;
                place.log_append_time_ms = receipt.log_append_time;
                place.log_start_offset = receipt.log_start_offset;
            }
            Err(refusal) => {
                place.error_code = refusal.code;
                place.error_message = refusal.into_message();
            }
        }
        self.waiting_for -= 1;
    }

    /// Whether the result of each batch is there.
    pub fn is_complete(&self) -> bool {
        self.waiting_for == 0
    }

    pub fn finish(self) -> Answer {
        if self.acks != Ok(Acks::None) {
            return Answer::Response(self.response);
        }
        let mut results = self
            .response
            .responses
            .iter()
            .flat_map(|topic| &topic.partition_responses);
        if results.all(|result| result.error_code.is_ok()) {
            Answer::Nothing
        } else {
            Answer::Disconnect
        }
    }
}
