//! Produce: check the batches, hand them to their partitions, and collect what becomes of them.
//!
//! Little of what is compressed is checked at once, since it may become very much. The rest goes
//! through the [`Checkers`], and all that the same read of the connection brought waits for it: a
//! partition gets the batches of a connection in the order in which they came.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::current_leaders::CurrentLeaders;
use super::{patience, ApiContext, Checkers};
use crate::actors::group_coordinator::OFFSETS_TOPIC;
use crate::actors::partition_handle::PartitionHandle;
use crate::actors::partition_leader::{
    AppendItem, AppendKey, AppendReplies, AppendResult, AppendTicket,
};
use crate::actors::partitions::{Directory, LocalTopic};
use crate::engine::metadata::{TimestampType, TopicConfig};
use crate::engine::replica::Acks;
use crate::model::{
    ErrorCode, LeaderEpoch, Offset, PartitionId, Refusal, Timestamp, TopicId, TopicName,
};
use crate::protocol::produce::{
    PartitionProduceData, PartitionProduceResponse, Request, Response, TopicProduceData,
    TopicProduceResponse,
};
use crate::record::{self, Checked, KeyRule, Limits, RecordError, TimestampRule};

/// What one read of a connection may decompress on its arbiter: well below a millisecond. A hop to
/// another thread costs less than a larger batch.
const DECOMPRESSED_INLINE_BYTES_MAX: usize = 128 * 1024;
/// How long a connection's batches are checked before another connection has its turn.
const CHECK_TURN: Duration = Duration::from_millis(20);

/// The appends of all requests of one read, by partition, in the order in which they came.
pub struct Appends {
    partitions: HashMap<PartitionId, (PartitionHandle, Vec<Item>)>,
    /// The places of what isn't checked yet.
    unread: VecDeque<(PartitionId, usize)>,
    inline_bytes_left: usize,
}

/// A batch, and what its [`AppendItem`] will say.
struct Item {
    batch: Result<Checked, RecordError>,
    acks: Acks,
    deadline: Timestamp,
    ticket: AppendTicket,
}

impl Default for Appends {
    fn default() -> Appends {
        Appends {
            partitions: HashMap::new(),
            unread: VecDeque::new(),
            inline_bytes_left: DECOMPRESSED_INLINE_BYTES_MAX,
        }
    }
}

impl Appends {
    fn push(&mut self, partition: &PartitionHandle, item: Item) {
        let (_, items) = self
            .partitions
            .entry(partition.id())
            .or_insert_with(|| (partition.clone(), Vec::new()));
        if let Ok(Checked::Unread(_)) = item.batch {
            self.unread.push_back((partition.id(), items.len()));
        }
        items.push(item);
    }

    /// Whether they may be sent as they are.
    pub fn are_checked(&self) -> bool {
        self.unread.is_empty()
    }

    /// Checks one batch after the other until the time is over, and one at least.
    fn check_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Some((partition, place)) = self.unread.pop_front() {
            let items = self.partitions.get_mut(&partition);
            if let Some(item) = items.and_then(|(_, items)| items.get_mut(place)) {
                item.check();
            }
            if Instant::now() >= end {
                return;
            }
        }
    }

    /// Gives each partition its appends, in one message.
    pub fn send(self) {
        for (partition, items) in self.partitions.into_values() {
            partition.append(items.into_iter().filter_map(Item::checked).collect());
        }
    }

    /// Checks what isn't checked yet, off the arbiter, and sends all of it.
    pub async fn check_and_send(mut self, checkers: &Checkers) {
        while !self.are_checked() {
            let turn = checkers.run(move || {
                self.check_for(CHECK_TURN);
                self
            });
            match turn.await {
                Some(checked) => self = checked,
                // Dropped tickets have answered.
                None => return,
            }
        }
        self.send();
    }
}

impl Item {
    fn check(&mut self) {
        if let Ok(Checked::Unread(unread)) = &self.batch {
            self.batch = unread.clone().check().map(Checked::Valid);
        }
    }

    /// What the partition is given. A batch that is wrong is answered here.
    fn checked(self) -> Option<AppendItem> {
        let batch = self.batch.and_then(|checked| match checked {
            Checked::Valid(batch) => Ok(batch),
            Checked::Unread(unread) => unread.check(),
        });
        match batch {
            Ok(batch) => Some(AppendItem {
                batch,
                acks: self.acks,
                leader_epoch: LeaderEpoch::NONE,
                deadline: self.deadline,
                ticket: self.ticket,
            }),
            Err(error) => {
                AppendTicket::answer_all([(self.ticket, Err(refusal(&error)))]);
                None
            }
        }
    }
}

fn refusal(error: &RecordError) -> Refusal {
    Refusal::new(error.code(), error.to_string())
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
        let target = Target::find(context, &directory, &topic, now);
        pending.begin_topic(topic.name, topic.topic_id);
        for data in topic.partition_data {
            let key = AppendKey {
                request: id,
                batch: pending.begin_batch(data.index),
            };
            let budget = &mut appends.inline_bytes_left;
            match prepare(context, &pending, &target, data, budget) {
                Ok((partition, batch, acks)) => appends.push(
                    partition,
                    Item {
                        batch: Ok(batch),
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
    /// Its name, where the request has its id.
    name: Option<TopicName>,
    /// What is led here of it, and what its batches must keep to.
    here: Option<(&'a LocalTopic, Limits)>,
}

impl Target<'_> {
    fn find<'a>(
        context: &ApiContext,
        directory: &'a Directory,
        topic: &TopicProduceData,
        now: Timestamp,
    ) -> Result<Target<'a>, Refusal> {
        let name = context.topic_of_id(&topic.name, topic.topic_id)?;
        if name.as_ref().map_or(topic.name.as_str(), TopicName::as_str) == OFFSETS_TOPIC {
            let message = "only coordinators write to an internal topic";
            return Err(Refusal::new(ErrorCode::InvalidTopicException, message));
        }
        let local = directory.topic(name.as_ref().map_or(&topic.name, TopicName::as_str));
        let here = local.map(|local| (local, limits(context, &local.config, now)));
        Ok(Target { name, here })
    }
}

/// The partition and the batch, if nothing was found that is wrong with it.
fn prepare<'a>(
    context: &ApiContext,
    pending: &PendingProduce,
    target: &Result<Target<'a>, Refusal>,
    data: PartitionProduceData,
    inline_bytes_left: &mut usize,
) -> Result<(&'a PartitionHandle, Checked, Acks), Refusal> {
    let acks = pending.acks?;
    let Target { name, here } = target.as_ref().map_err(Clone::clone)?;
    let no_leader = || {
        let name = name
            .as_ref()
            .map_or(pending.topic_name(), TopicName::as_str);
        context.no_leader(name, data.index)
    };
    let (local, limits) = here.as_ref().ok_or_else(no_leader)?;
    let partition = local.partitions.get(&data.index).ok_or_else(no_leader)?;
    let batch = record::validate_within(data.records.0, limits, inline_bytes_left)
        .map_err(|error| refusal(&error))?;
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
        keys: match topic.cleanup_policy.compacts() {
            true => KeyRule::Required,
            false => KeyRule::Optional,
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

    /// Of the topic that was begun last, as the request has it.
    fn topic_name(&self) -> &str {
        self.response.responses.last().map_or("", |t| &t.name)
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

    fn tell_leaders(&mut self, context: &ApiContext) {
        let mut leaders = CurrentLeaders::new(context);
        for topic in &mut self.response.responses {
            for place in &mut topic.partition_responses {
                let (code, index) = (place.error_code, place.index);
                place.current_leader = leaders.of_refused(code, &topic.name, topic.topic_id, index);
            }
        }
        self.response.node_endpoints = leaders.into_endpoints();
    }

    /// Whether the result of each batch is there.
    pub fn is_complete(&self) -> bool {
        self.waiting_for == 0
    }

    pub fn finish(mut self, context: &ApiContext) -> Answer {
        if self.acks != Ok(Acks::None) {
            self.tell_leaders(context);
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
