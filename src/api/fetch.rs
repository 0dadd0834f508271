//! Fetch: read from partitions, and wait for more (KIP-74 for the sizes).
//!
//! Each partition says where can be read; that is repeated, whenever one of them has more, until
//! enough is there or the time is over. Only then is anything read: from memory at once, and from
//! the disk off the arbiter.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{sleep_until, Instant};

use super::current_leaders::CurrentLeaders;
use super::{patience, ApiContext, Peer};
use crate::actors::partition_leader::{FirstBatch, Read, ReadFrom, ReadReply, Reader};
use crate::engine::fetch_session::{FetchAsk, FetchKey, SessionRequest, Told, NO_SESSION};
use crate::model::{BrokerId, ErrorCode, Offset, Refusal, TopicId, TopicName};
use crate::protocol::fetch::{
    FetchPartition, FetchableTopicResponse, PartitionData, Request, Response,
};
use crate::protocol::Records;

/// One partition that is wanted.
struct Wanted {
    key: FetchKey,
    ask: FetchAsk,
    /// Its topic, if there is one that it names.
    name: Result<Arc<str>, Refusal>,
}

/// What can be read of a partition now.
type Found = Result<ReadReply, Refusal>;

pub async fn answer(
    context: &ApiContext,
    mut request: Request,
    peer: &Peer,
) -> (Response, Option<OwnedSemaphorePermit>) {
    let mut answer = Answer::of_overlong(&mut request);
    let checked = check(context, &request);
    let asked = session_request(&mut request);
    if let Err(code) = checked {
        return (refuse_all(answer, &asked, code), None);
    }
    let fetching = match peer.fetch_session.begin(asked) {
        Ok(fetching) => fetching,
        Err(error_code) => {
            let response = Response {
                error_code,
                ..Default::default()
            };
            return (response, None);
        }
    };
    let session = (fetching.session_id, fetching.extent);
    let isolation = Isolation::from_level(request.isolation_level);
    let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0);
    let bytes_max = bytes_max.min(context.listener.fetch_bytes_max);
    let wanted = resolve(context, fetching.wanted);
    let found = wait(context, &request, &wanted, bytes_max).await;

    let planned = found.iter().flatten().map(planned).sum::<usize>();
    let Some(room) = peer.room.for_records(planned.min(bytes_max)).await else {
        // The connection is gone, and nobody reads the answer.
        return (answer.into_response(session.0), None);
    };
    let mut share = Share {
        bytes_left: bytes_max,
        first: FirstBatch::Always,
    };
    let mut leaders = CurrentLeaders::new(context);
    for (wanted, found) in wanted.iter().zip(found) {
        let mut data = match found {
            Ok(reply) => read(wanted, reply, isolation, &mut share).await,
            Err(refusal) => refused(wanted.key.partition, refusal.code),
        };
        data.current_leader = leaders.of_refused(
            data.error_code,
            &wanted.key.topic,
            wanted.key.topic_id,
            wanted.key.partition,
        );
        if peer.fetch_session.tell(session, &wanted.key, told(&data)) {
            answer.push(&wanted.key, data);
        }
    }
    let response = Response {
        node_endpoints: leaders.into_endpoints(),
        ..answer.into_response(session.0)
    };
    (response, Some(room))
}

/// The same for every partition, and for the whole: older versions have no place for the latter.
fn refuse_all(mut answer: Answer, asked: &SessionRequest, error_code: ErrorCode) -> Response {
    for (key, _) in &asked.wanted {
        answer.push(key, refused(key.partition, error_code));
    }
    Response {
        error_code,
        ..answer.into_response(NO_SESSION)
    }
}

/// Waits until there is enough to read, or the time is over.
async fn wait(
    context: &ApiContext,
    request: &Request,
    wanted: &[Wanted],
    bytes_max: usize,
) -> Vec<Found> {
    let deadline = Instant::now() + patience(request.max_wait_ms);
    let bytes_min = usize::try_from(request.min_bytes).unwrap_or(0);
    let bytes_min = bytes_min.min(bytes_max);
    let rack = Some(&*request.rack_id).filter(|rack| !rack.is_empty());
    let rack: Option<Arc<str>> = rack.map(Arc::from);
    loop {
        let more = Arc::new(Notify::new());
        let found = look(context, wanted, &rack, &more).await;
        if is_enough(&found, bytes_min) {
            return found;
        }
        tokio::select! {
            () = more.notified() => {}
            () = sleep_until(deadline) => return found,
            () = context.stopping.cancelled() => return found,
        }
    }
}

/// What the request says of its session; its topics go there.
fn session_request(request: &mut Request) -> SessionRequest {
    let mut wanted = Vec::new();
    for topic in std::mem::take(&mut request.topics) {
        let name: Arc<str> = topic.topic.into();
        wanted.extend(topic.partitions.into_iter().map(|partition| {
            let key = FetchKey {
                topic: name.clone(),
                topic_id: topic.topic_id,
                partition: partition.partition,
            };
            let ask = FetchAsk {
                current_leader_epoch: partition.current_leader_epoch,
                fetch_offset: partition.fetch_offset,
                partition_max_bytes: partition.partition_max_bytes,
            };
            (key, ask)
        }));
    }
    let mut forgotten = Vec::new();
    for topic in std::mem::take(&mut request.forgotten_topics_data) {
        let name: Arc<str> = topic.topic.into();
        forgotten.extend(topic.partitions.into_iter().map(|partition| FetchKey {
            topic: name.clone(),
            topic_id: topic.topic_id,
            partition,
        }));
    }
    SessionRequest {
        session_id: request.session_id,
        session_epoch: request.session_epoch,
        wanted,
        forgotten,
    }
}

/// The topics of the response, in the order in which they come.
struct Answer {
    topics: Vec<FetchableTopicResponse>,
    places: HashMap<(Arc<str>, TopicId), usize>,
}

impl Answer {
    /// Takes out the topics whose names are too long to be one, and answers them. A name without
    /// end must not be touched for each of its partitions, as a key is: a request may have ten
    /// thousand of them.
    fn of_overlong(request: &mut Request) -> Answer {
        let is_overlong = |name: &str| name.len() > TopicName::LEN_MAX;
        request
            .forgotten_topics_data
            .retain(|topic| !is_overlong(&topic.topic));
        let mut topics = Vec::new();
        for topic in request.topics.extract_if(.., |t| is_overlong(&t.topic)) {
            let partitions = topic.partitions.iter();
            let refuse =
                |p: &FetchPartition| refused(p.partition, ErrorCode::InvalidTopicException);
            topics.push(FetchableTopicResponse {
                partitions: partitions.map(refuse).collect(),
                topic: topic.topic,
                topic_id: topic.topic_id,
            });
        }
        if !topics.is_empty() {
            // A refusal is told at once.
            request.max_wait_ms = 0;
        }
        Answer {
            topics,
            places: HashMap::new(),
        }
    }

    fn push(&mut self, key: &FetchKey, data: PartitionData) {
        let topics = &mut self.topics;
        let place = self.places.entry((key.topic.clone(), key.topic_id));
        let place = *place.or_insert_with(|| {
            topics.push(FetchableTopicResponse {
                topic: key.topic.to_string(),
                topic_id: key.topic_id,
                partitions: Vec::new(),
            });
            topics.len() - 1
        });
        self.topics[place].partitions.push(data);
    }

    fn into_response(self, session_id: i32) -> Response {
        Response {
            session_id,
            responses: self.topics,
            ..Default::default()
        }
    }
}

fn told(data: &PartitionData) -> Told {
    Told {
        error_code: data.error_code,
        high_watermark: data.high_watermark,
        log_start_offset: data.log_start_offset,
        has_records: !data.records.0.is_empty(),
        is_elsewhere: data.preferred_read_replica != BrokerId::NONE,
    }
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

/// Finds the topics; who names a partition twice is refused the second time.
fn resolve(context: &ApiContext, wanted: Vec<(FetchKey, FetchAsk)>) -> Vec<Wanted> {
    let mut named = HashSet::new();
    let resolved = wanted.into_iter().map(|(key, ask)| {
        let name = context.topic_of_id(&key.topic, key.topic_id);
        let name = name.map(|known| known.map_or_else(|| key.topic.clone(), Arc::from));
        let name = name.and_then(|name| match named.insert((name.clone(), key.partition)) {
            true => Ok(name),
            false => Err(ErrorCode::InvalidRequest.into()),
        });
        Wanted { key, ask, name }
    });
    resolved.collect()
}

/// Asks each partition where can be read; `more` is notified when one has more than it says.
async fn look(
    context: &ApiContext,
    wanted: &[Wanted],
    rack: &Option<Arc<str>>,
    more: &Arc<Notify>,
) -> Vec<Found> {
    join_all(wanted.iter().map(|wanted| async {
        let name = wanted.name.as_deref().map_err(Clone::clone)?;
        let leader = context.leader(name, wanted.key.partition)?;
        let bytes_max = usize::try_from(wanted.ask.partition_max_bytes).unwrap_or(0);
        let read = Read {
            current_leader_epoch: wanted.ask.current_leader_epoch,
            offset: wanted.ask.fetch_offset,
            bytes_max: bytes_max.min(context.listener.fetch_bytes_max),
            first: FirstBatch::Always,
            rack: rack.clone(),
            reader: Some(Reader::new(more)),
        };
        leader.read(read).await
    }))
    .await
}

/// A refusal is told at once, and so is what lies in a segment that gets no more. Who asks for no
/// partition has nothing to wait for: a Java client ends its session so.
fn is_enough(found: &[Found], bytes_min: usize) -> bool {
    if found.is_empty() {
        return true;
    }
    let mut bytes = 0;
    for found in found {
        match found {
            Ok(reply) => match &reply.found {
                Ok(ReadFrom::Here(plan)) if plan.reaches_end() => bytes += planned(reply),
                _ => return true,
            },
            Err(_) => return true,
        }
    }
    bytes >= bytes_min
}

fn planned(reply: &ReadReply) -> usize {
    match &reply.found {
        Ok(ReadFrom::Here(plan)) => plan.bytes_max(),
        _ => 0,
    }
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
        ..refused(wanted.key.partition, ErrorCode::None)
    };
    let read = match reply.found {
        Ok(ReadFrom::Replica(replica)) => {
            data.preferred_read_replica = replica;
            return data;
        }
        Ok(_) if share.bytes_left == 0 && share.first == FirstBatch::IfFits => return data,
        Ok(ReadFrom::Here(plan)) => plan.carry_out(share.bytes_left, share.first).await,
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

fn refused(partition: i32, code: ErrorCode) -> PartitionData {
    PartitionData {
        partition_index: partition,
        error_code: code,
        high_watermark: Offset::NONE,
        ..Default::default()
    }
}
