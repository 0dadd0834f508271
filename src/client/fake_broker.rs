//! A broker for tests of the client: it keeps its promises in memory, and breaks connections and
//! answers on demand.
//!
//! It speaks the real frames over TCP and checks batches and sequences like a real one, so that
//! what its logs hold at the end says whether the client kept its own promises.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::model::{BrokerId, ErrorCode, LeaderEpoch, Offset, Timestamp, TopicId};
use crate::protocol::*;
use crate::record::{validate, Batch, KeyRule, Limits, TimestampRule};

pub const TOPIC: &str = "t";

/// What happens to a Produce request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The connection ends before the append.
    DropBefore,
    /// The connection ends after it.
    DropAfter,
    /// This error, without an append.
    Error(ErrorCode),
    /// This error, although it was appended.
    ErrorAfter(ErrorCode),
    /// No answer, ever.
    Silence,
    /// An answer that isn't one.
    Garbage,
}

/// One partition: its batches, and what it knows of producers.
#[derive(Default)]
pub struct FakeLog {
    pub batches: Vec<Batch>,
    pub end: i64,
    pub start: i64,
    /// What fetches of this partition are answered.
    pub fetch_error: Option<ErrorCode>,
    /// Whether Metadata says that somebody leads it.
    pub leaderless: bool,
    /// By producer id: the next sequence, and the last batches by base sequence.
    producers: HashMap<i64, (i32, VecDeque<(i32, i64)>)>,
}

type Script = Box<dyn FnMut(&produce::PartitionProduceData) -> Fault + Send>;

pub struct State {
    pub logs: Vec<FakeLog>,
    pub script: Script,
    pub fetch_error: Option<ErrorCode>,
    /// Whether new connections are answered at all.
    pub greets: bool,
    /// How many connections there were.
    pub connections: usize,
    /// The fetches so far.
    pub fetches: Vec<fetch::Request>,
    /// What ListOffsets answers, instead of the truth.
    pub listed_offset: Option<i64>,
    /// Whether each partition of a fetch is answered twice.
    pub answers_twice: bool,
    /// Whether the topic is gone.
    pub deleted: bool,
    /// While set, Metadata requests for a topic have no answer.
    pub metadata_held: bool,
    /// While set, Produce requests wait.
    pub held: bool,
    /// How many have begun to wait.
    pub held_requests: usize,
    /// While set, Metadata says that broker 2 leads everything, which listens at this port.
    pub led_at: Option<u16>,
    pub produce_requests: usize,
    pub cluster_id: &'static str,
    next_producer_id: i64,
    port: u16,
}

pub struct FakeBroker {
    state: Arc<Mutex<State>>,
    released: Arc<Notify>,
    pub address: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeBroker {
    pub async fn start(partitions: usize) -> FakeBroker {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State {
            logs: (0..partitions).map(|_| FakeLog::default()).collect(),
            script: Box::new(|_| Fault::None),
            fetch_error: None,
            greets: true,
            connections: 0,
            fetches: Vec::new(),
            listed_offset: None,
            answers_twice: false,
            deleted: false,
            metadata_held: false,
            held: false,
            held_requests: 0,
            led_at: None,
            produce_requests: 0,
            cluster_id: "fake",
            next_producer_id: 1000,
            port,
        }));
        let released = Arc::new(Notify::new());
        FakeBroker {
            task: tokio::spawn(listen(listener, state.clone(), released.clone())),
            state,
            released,
            address: format!("127.0.0.1:{port}"),
        }
    }

    /// No connection is taken any more, and those that are open end.
    pub async fn stop(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    /// As it was before it was stopped.
    pub async fn restart(&mut self) {
        let listener = TcpListener::bind(&self.address).await.unwrap();
        self.task = tokio::spawn(listen(listener, self.state.clone(), self.released.clone()));
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn script(
        &self,
        script: impl FnMut(&produce::PartitionProduceData) -> Fault + Send + 'static,
    ) {
        self.state().script = Box::new(script);
    }

    /// Lets held Produce requests go on.
    pub fn release(&self) {
        self.state().held = false;
        self.released.notify_waiters();
    }

    /// The values of a partition's records, in order.
    pub fn values(&self, partition: usize) -> Vec<String> {
        let state = self.state();
        let mut values = Vec::new();
        for batch in &state.logs[partition].batches {
            let records = batch.records(1 << 26).unwrap();
            for record in &records {
                let value = record.unwrap().value.unwrap();
                values.push(String::from_utf8(value.to_vec()).unwrap());
            }
        }
        values
    }
}

async fn listen(listener: TcpListener, state: Arc<Mutex<State>>, released: Arc<Notify>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        state.lock().unwrap().connections += 1;
        connections.spawn(serve(stream, state.clone(), released.clone()));
    }
}

/// Answers one connection's requests, one after the other, but for fetches, which may wait.
async fn serve(stream: TcpStream, state: Arc<Mutex<State>>, released: Arc<Notify>) {
    let (mut stream, writer) = stream.into_split();
    let writer = Arc::new(tokio::sync::Mutex::new(writer));
    let mut buffer = BytesMut::new();
    loop {
        while let Some(frame) = split_frame(&mut buffer, FRAME_BYTES_MAX).unwrap() {
            let (header, request) = decode_request(&frame).unwrap();
            let response = match request {
                Request::Produce(request) => {
                    let mut is_first_look = true;
                    loop {
                        let released = released.notified();
                        {
                            let mut state = state.lock().unwrap();
                            if !state.held {
                                break;
                            }
                            state.held_requests += usize::from(is_first_look);
                        }
                        is_first_look = false;
                        released.await;
                    }
                    let produced = produce(&mut state.lock().unwrap(), request);
                    match produced {
                        Produced::Answer(response) => Response::Produce(response),
                        Produced::Nothing => continue,
                        Produced::Garbage => {
                            let _ = writer.lock().await.write_all(b"\0\0\0\x05hello").await;
                            continue;
                        }
                        Produced::HangUp => return,
                    }
                }
                Request::Metadata(request)
                    if state.lock().unwrap().metadata_held
                        && request
                            .topics
                            .as_ref()
                            .is_none_or(|topics| !topics.is_empty()) =>
                {
                    continue
                }
                Request::ApiVersions(_) if !state.lock().unwrap().greets => continue,
                Request::Fetch(request) => {
                    state.lock().unwrap().fetches.push(request.clone());
                    let (state, writer) = (state.clone(), writer.clone());
                    tokio::spawn(async move {
                        let response = Response::Fetch(fetch(&state, request).await);
                        let segments = encode_response(header.correlation_id, &response).unwrap();
                        let _ = writer.lock().await.write_all(&segments.to_bytes()).await;
                    });
                    continue;
                }
                request => answer(&mut state.lock().unwrap(), request),
            };
            let segments = encode_response(header.correlation_id, &response).unwrap();
            if writer
                .lock()
                .await
                .write_all(&segments.to_bytes())
                .await
                .is_err()
            {
                return;
            }
        }
        match stream.read_buf(&mut buffer).await {
            Ok(read) if read > 0 => {}
            _ => return,
        }
    }
}

enum Produced {
    Answer(produce::Response),
    Nothing,
    Garbage,
    HangUp,
}

fn produce(state: &mut State, request: produce::Request) -> Produced {
    state.produce_requests += 1;
    let topic = &request.topic_data[0];
    let data = &topic.partition_data[0];
    let fault = (state.script)(data);
    let log = &mut state.logs[data.index as usize];
    let appended = match fault {
        Fault::DropBefore => return Produced::HangUp,
        Fault::Silence => return Produced::Nothing,
        Fault::Garbage => return Produced::Garbage,
        Fault::Error(code) => Err(code),
        Fault::None | Fault::DropAfter | Fault::ErrorAfter(_) => log.append(data.records.0.clone()),
    };
    let result = match fault {
        Fault::DropAfter => return Produced::HangUp,
        Fault::ErrorAfter(code) => Err(code),
        _ => appended,
    };
    if request.acks == 0 {
        return Produced::Nothing;
    }
    Produced::Answer(produce::Response {
        responses: vec![produce::TopicProduceResponse {
            name: topic.name.clone(),
            partition_responses: vec![produce::PartitionProduceResponse {
                index: data.index,
                error_code: result.err().unwrap_or(ErrorCode::None),
                base_offset: Offset(result.unwrap_or(-1)),
                log_append_time_ms: Timestamp::NONE,
                log_start_offset: Offset(log.start),
                error_message: None,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    })
}

impl FakeLog {
    /// As when no producer has written for long.
    pub fn forget_producers(&mut self) {
        self.producers.clear();
    }

    /// Checks the batch and its sequence like a partition leader, and appends it.
    fn append(&mut self, bytes: Bytes) -> Result<i64, ErrorCode> {
        let limits = Limits {
            batch_bytes_max: 1 << 26,
            records_bytes_max: 1 << 26,
            timestamps: TimestampRule::Any,
            keys: KeyRule::Optional,
        };
        let mut bytes =
            BytesMut::from(&validate(bytes, &limits).map_err(|e| e.code())?.bytes()[..]);
        let header = *Batch::parse(bytes.clone().freeze()).unwrap().header();
        if header.producer_id >= 0 {
            if header.base_sequence != 0 && !self.producers.contains_key(&header.producer_id) {
                return Err(ErrorCode::UnknownProducerId);
            }
            let (next, last) = self.producers.entry(header.producer_id).or_default();
            if let Some((_, offset)) = last.iter().find(|(seq, _)| *seq == header.base_sequence) {
                return Ok(*offset);
            }
            if header.base_sequence != *next {
                return Err(ErrorCode::OutOfOrderSequenceNumber);
            }
            *next = header.base_sequence + header.record_count;
            last.push_back((header.base_sequence, self.end));
            if last.len() > 5 {
                last.pop_front();
            }
        }
        bytes[..8].copy_from_slice(&self.end.to_be_bytes());
        self.batches.push(Batch::parse(bytes.freeze()).unwrap());
        let base = self.end;
        self.end += header.record_count as i64;
        Ok(base)
    }
}

/// A long poll of a millisecond's grain.
async fn fetch(state: &Mutex<State>, request: fetch::Request) -> fetch::Response {
    for _ in 0..request.max_wait_ms.max(1) {
        if let Some(response) = fetch_now(&state.lock().unwrap(), &request) {
            return response;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    fetch_at(&state.lock().unwrap(), &request)
}

fn fetch_now(state: &State, request: &fetch::Request) -> Option<fetch::Response> {
    let response = fetch_at(state, request);
    let topics = response.responses.iter();
    let mut partitions = topics.flat_map(|topic| &topic.partitions);
    let some = |data: &fetch::PartitionData| !data.records.0.is_empty() || !data.error_code.is_ok();
    partitions.any(some).then_some(response)
}

fn fetch_at(state: &State, request: &fetch::Request) -> fetch::Response {
    let mut bytes_left = request.max_bytes as usize;
    let mut is_first = true;
    let responses = request.topics.iter().map(|topic| {
        let times = 1 + usize::from(state.answers_twice);
        let partitions = topic.partitions.iter().cycle();
        let partitions = partitions
            .take(times * topic.partitions.len())
            .map(|wanted| {
                let data = fetch_partition(state, &topic.topic, wanted, bytes_left, is_first);
                bytes_left = bytes_left.saturating_sub(data.records.0.len());
                is_first &= data.records.0.is_empty();
                data
            });
        fetch::FetchableTopicResponse {
            topic: topic.topic.clone(),
            topic_id: TopicId::NONE,
            partitions: partitions.collect(),
        }
    });
    fetch::Response {
        error_code: ErrorCode::None,
        responses: responses.collect(),
        ..Default::default()
    }
}

/// Whole batches up to the sizes that are asked for; the first of the answer whatever its size.
fn fetch_partition(
    state: &State,
    topic: &str,
    wanted: &fetch::FetchPartition,
    bytes_left: usize,
    is_first: bool,
) -> fetch::PartitionData {
    let missing = fetch::PartitionData {
        partition_index: wanted.partition,
        error_code: ErrorCode::UnknownTopicOrPartition,
        high_watermark: Offset::NONE,
        log_start_offset: Offset::NONE,
        records: Records::default(),
        ..Default::default()
    };
    let log = state.logs.get(wanted.partition as usize);
    let Some(log) = log.filter(|_| topic == TOPIC && !state.deleted) else {
        return missing;
    };
    let in_range = (log.start..=log.end).contains(&wanted.fetch_offset.0);
    let error_code = match state.fetch_error.or(log.fetch_error) {
        Some(code) => code,
        None if in_range => ErrorCode::None,
        None => ErrorCode::OffsetOutOfRange,
    };
    let bytes_max = bytes_left.min(wanted.partition_max_bytes as usize);
    let mut records = BytesMut::new();
    for batch in &log.batches {
        let fits = records.len() + batch.bytes().len() <= bytes_max;
        let is_wanted = batch.header().next_offset() > wanted.fetch_offset && error_code.is_ok();
        match fits || (is_first && records.is_empty()) {
            true if is_wanted => records.extend_from_slice(batch.bytes()),
            true => {}
            false if is_wanted => break,
            false => {}
        }
    }
    fetch::PartitionData {
        error_code,
        high_watermark: Offset(log.end),
        log_start_offset: Offset(log.start),
        records: Records(records.freeze()),
        ..missing
    }
}

fn answer(state: &mut State, request: Request) -> Response {
    match request {
        Request::ApiVersions(_) => {
            api_versions::Response::of_message_pack(state.cluster_id.into(), ErrorCode::None).into()
        }
        Request::Metadata(request) => metadata(state, request).into(),
        Request::InitProducerId(_) => {
            state.next_producer_id += 1;
            init_producer_id::Response {
                error_code: ErrorCode::None,
                producer_id: state.next_producer_id,
                producer_epoch: 0,
                ..Default::default()
            }
            .into()
        }
        Request::ListOffsets(request) => {
            let topics = request.topics.iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|wanted| {
                    let log = &state.logs[wanted.partition_index as usize];
                    let offset = match wanted.timestamp {
                        _ if state.listed_offset.is_some() => state.listed_offset.unwrap(),
                        list_offsets::LATEST_TIMESTAMP => log.end,
                        list_offsets::EARLIEST_TIMESTAMP => log.start,
                        _ => -1,
                    };
                    list_offsets::ListOffsetsPartitionResponse {
                        partition_index: wanted.partition_index,
                        error_code: match state.deleted {
                            true => ErrorCode::UnknownTopicOrPartition,
                            false => ErrorCode::None,
                        },
                        timestamp: Timestamp::NONE,
                        offset: Offset(offset),
                        leader_epoch: LeaderEpoch(0),
                    }
                });
                list_offsets::ListOffsetsTopicResponse {
                    name: topic.name.clone(),
                    partitions: partitions.collect(),
                }
            });
            list_offsets::Response {
                topics: topics.collect(),
                ..Default::default()
            }
            .into()
        }
        other => panic!("the fake broker has no {}", other.key().name()),
    }
}

fn metadata(state: &State, request: metadata::Request) -> metadata::Response {
    let names: Vec<String> = match request.topics {
        None => vec![TOPIC.into()],
        Some(topics) => topics.into_iter().filter_map(|topic| topic.name).collect(),
    };
    let topics = names.into_iter().map(|name| {
        let known = name == TOPIC && !state.deleted;
        let logs = state.logs.iter().enumerate();
        let partitions = logs.map(|(index, log)| metadata::MetadataResponsePartition {
            error_code: ErrorCode::None,
            partition_index: index as i32,
            leader_id: match (log.leaderless, state.led_at) {
                (true, _) => BrokerId::NONE,
                (false, None) => BrokerId(1),
                (false, Some(_)) => BrokerId(2),
            },
            leader_epoch: LeaderEpoch(0),
            replica_nodes: vec![BrokerId(1)],
            isr_nodes: vec![BrokerId(1)],
            offline_replicas: vec![],
        });
        metadata::MetadataResponseTopic {
            error_code: match known {
                true => ErrorCode::None,
                false => ErrorCode::UnknownTopicOrPartition,
            },
            name: Some(name),
            topic_id: TopicId::NONE,
            is_internal: false,
            partitions: if known { partitions.collect() } else { vec![] },
            ..Default::default()
        }
    });
    let ports = [Some(state.port), state.led_at];
    let ports = ports.into_iter().flatten();
    let brokers = (1..)
        .zip(ports)
        .map(|(id, port)| metadata::MetadataResponseBroker {
            node_id: BrokerId(id),
            host: "127.0.0.1".into(),
            port: port.into(),
            rack: None,
        });
    metadata::Response {
        brokers: brokers.collect(),
        cluster_id: "fake".into(),
        controller_id: BrokerId(1),
        topics: topics.collect(),
        ..Default::default()
    }
}
