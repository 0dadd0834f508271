//! What all loads have in common: the topic, its spread over connections, and the two ways to keep
//! requests under way.
//!
//! A *closed* loop keeps a number of requests in flight and sends the next when one is answered:
//! it finds out how much the broker can do. An *open* loop sends at a rate, and counts a request's
//! time from the moment at which it was due, so that a broker that stalls is not spared the
//! requests that piled up meanwhile (coordinated omission).

use std::collections::HashMap;
use std::sync::{Barrier, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::super::connect::Bootstrap;
use super::super::error::CliError;
use super::report::Latencies;
use super::wire::Wire;
use crate::model::{BrokerId, ErrorCode};
use crate::protocol::{create_topics, metadata, Api};

/// How long a new topic's leaders may take to appear.
const LEADERS_TIMEOUT: Duration = Duration::from_secs(10);
const LEADERS_POLL_INTERVAL: Duration = Duration::from_millis(20);
const CREATE_TIMEOUT_MS: i32 = 30_000;

/// Where the load goes.
#[derive(Clone, Debug, clap::Args)]
pub struct Target {
    #[command(flatten)]
    pub bootstrap: Bootstrap,
    /// Is created if it is missing
    #[arg(long, default_value = "klamm-perf", value_name = "NAME")]
    pub topic: String,
    /// How many partitions to use, and to create the topic with
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub partitions: i32,
}

/// A topic, and the address of each partition's leader.
pub struct Topic {
    pub name: String,
    pub leaders: Vec<String>,
}

/// What one connection does: these partitions, whose leader is at this address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    pub address: String,
    pub partitions: Vec<i32>,
}

impl Target {
    pub fn connect(&self) -> Result<Wire, CliError> {
        Wire::connect(&self.bootstrap.bootstrap)
    }

    /// Creates the topic unless it is there, and waits until its partitions have leaders.
    pub fn create(&self, wire: &mut Wire) -> Result<Topic, CliError> {
        let request = create_topics::Request {
            topics: vec![create_topics::CreatableTopic {
                name: self.topic.clone(),
                num_partitions: self.partitions,
                replication_factor: -1,
                assignments: vec![],
                configs: vec![],
            }],
            timeout_ms: CREATE_TIMEOUT_MS,
            validate_only: false,
        };
        let response = wire.call::<create_topics::Api>(&request)?;
        for topic in &response.topics {
            match topic.error_code {
                ErrorCode::None | ErrorCode::TopicAlreadyExists => {}
                code => {
                    let message = topic.error_message.as_deref().unwrap_or_default();
                    return Err(CliError::failed(format!(
                        "creating {}: {code} {message}",
                        self.topic
                    )));
                }
            }
        }
        self.find(wire)
    }

    /// The topic as it is, once the partitions that are asked for have leaders.
    pub fn find(&self, wire: &mut Wire) -> Result<Topic, CliError> {
        let deadline = Instant::now() + LEADERS_TIMEOUT;
        loop {
            match self.leaders(wire)? {
                Ok(leaders) => {
                    return Ok(Topic {
                        name: self.topic.clone(),
                        leaders,
                    })
                }
                Err(reason) if Instant::now() > deadline => return Err(CliError::failed(reason)),
                Err(_) => thread::sleep(LEADERS_POLL_INTERVAL),
            }
        }
    }

    /// The leaders' addresses, or why they aren't known yet.
    fn leaders(&self, wire: &mut Wire) -> Result<Result<Vec<String>, String>, CliError> {
        let response = wire.call::<metadata::Api>(&metadata::Request {
            topics: Some(vec![metadata::MetadataRequestTopic {
                topic_id: crate::model::TopicId::NONE,
                name: Some(self.topic.clone()),
            }]),
            allow_auto_topic_creation: false,
            ..Default::default()
        })?;
        let addresses: HashMap<BrokerId, String> = response
            .brokers
            .iter()
            .map(|broker| (broker.node_id, format!("{}:{}", broker.host, broker.port)))
            .collect();
        let Some(topic) = response.topics.into_iter().next() else {
            return Ok(Err(format!("topic {}: not answered", self.topic)));
        };
        if topic.error_code != ErrorCode::None {
            return Ok(Err(format!("topic {}: {}", self.topic, topic.error_code)));
        }
        let have = topic.partitions.len();
        if have < self.partitions as usize {
            return Err(CliError::failed(format!(
                "topic {} has {have} partitions, and {} are asked for",
                self.topic, self.partitions
            )));
        }
        let mut leaders = vec![None; self.partitions as usize];
        for partition in topic.partitions {
            if let Some(leader) = leaders.get_mut(partition.partition_index as usize) {
                *leader = addresses.get(&partition.leader_id).cloned();
            }
        }
        let leaders: Option<Vec<String>> = leaders.into_iter().collect();
        Ok(leaders.ok_or_else(|| format!("topic {}: partitions without a leader", self.topic)))
    }
}

impl Topic {
    /// Spreads the partitions over `connections`: each to one leader, and each with at least one
    /// partition. There are more connections if there are more leaders than asked for.
    pub fn shares(&self, connections: usize) -> Vec<Share> {
        let mut by_leader: Vec<Share> = Vec::new();
        for (partition, address) in self.leaders.iter().enumerate() {
            let partition = partition as i32;
            match by_leader.iter_mut().find(|share| share.address == *address) {
                Some(share) => share.partitions.push(partition),
                None => by_leader.push(Share {
                    address: address.clone(),
                    partitions: vec![partition],
                }),
            }
        }
        let each = (connections / by_leader.len().max(1)).max(1);
        let spread = |leader: &Share| -> Vec<Share> {
            let share = |connection: usize| Share {
                address: leader.address.clone(),
                partitions: match each <= leader.partitions.len() {
                    true => Vec::from_iter(
                        leader
                            .partitions
                            .iter()
                            .copied()
                            .skip(connection)
                            .step_by(each),
                    ),
                    false => vec![leader.partitions[connection % leader.partitions.len()]],
                },
            };
            (0..each).map(share).collect()
        };
        by_leader.iter().flat_map(spread).collect()
    }
}

/// Does `work` on each of so many connections at once, a thread each, and says how long it took
/// from when all of them were open until the last had ended.
pub fn on_connections<T: Send>(
    topic: &Topic,
    connections: usize,
    work: impl Fn(Wire, Connection) -> Result<T, CliError> + Sync,
) -> Result<(Duration, Vec<T>), CliError> {
    let shares = topic.shares(connections.max(1));
    let count = shares.len();
    let open: Vec<(Wire, Connection)> = shares
        .into_iter()
        .enumerate()
        .map(|(index, share)| {
            let wire = Wire::connect(&share.address)?;
            Ok((
                wire,
                Connection {
                    index,
                    count,
                    share,
                },
            ))
        })
        .collect::<Result<_, CliError>>()?;
    let start_line = Barrier::new(count + 1);
    thread::scope(|scope| {
        let (work, start_line) = (&work, &start_line);
        let threads: Vec<_> = open
            .into_iter()
            .map(|(wire, connection)| {
                scope.spawn(move || {
                    start_line.wait();
                    work(wire, connection)
                })
            })
            .collect();
        // Before the last has started: what it does until we are woken counts.
        let start = Instant::now();
        start_line.wait();
        let mut results = Vec::with_capacity(count);
        for thread in threads {
            let result = thread.join();
            results.push(result.map_err(|_| CliError::failed("a loading thread panicked"))??);
        }
        Ok((start.elapsed(), results))
    })
}

/// One of several connections of a load.
pub struct Connection {
    index: usize,
    count: usize,
    share: Share,
}

impl Connection {
    pub fn partitions(&self) -> &[i32] {
        &self.share.partitions
    }

    /// Its part of what all connections do together.
    pub fn part_of(&self, total: u64) -> u64 {
        part(total, self.count, self.index)
    }

    /// The time between its events, if there are so many a second on all connections together.
    pub fn interval(&self, per_second: f64) -> Duration {
        Duration::from_secs_f64(self.count as f64 / per_second.max(1e-3))
    }
}

/// How the records fared that were written.
pub struct Outcome {
    pub records: u64,
    pub failed_records: u64,
    /// Why the first failed.
    pub first_failure: Option<String>,
    /// Of requests that succeeded.
    pub latencies: Latencies,
}

impl Outcome {
    pub fn new() -> Result<Outcome, CliError> {
        Ok(Outcome {
            records: 0,
            failed_records: 0,
            first_failure: None,
            latencies: Latencies::new()?,
        })
    }

    /// A request with so many records was answered, with the reason if it was refused.
    pub fn count(&mut self, records: u64, latency: Duration, refusal: Option<String>) {
        match refusal {
            None => {
                self.latencies.record(latency);
                self.records += records;
            }
            Some(reason) => {
                self.failed_records += records;
                self.first_failure.get_or_insert(reason);
            }
        }
    }

    pub fn sum(outcomes: Vec<Outcome>) -> Result<Outcome, CliError> {
        let mut sum = Outcome::new()?;
        for outcome in outcomes {
            sum.latencies.add(&outcome.latencies)?;
            sum.records += outcome.records;
            sum.failed_records += outcome.failed_records;
            sum.first_failure = sum.first_failure.or(outcome.first_failure);
        }
        Ok(sum)
    }
}

/// Gives each of `parts` its part of `total`, together exactly `total`.
fn part(total: u64, parts: usize, index: usize) -> u64 {
    let (parts, index) = (parts as u64, index as u64);
    total / parts + u64::from(index < total % parts)
}

/// Keeps up to `in_flight` requests under way until `next` has no more, and all are answered.
/// `done` gets each response and the time from its request.
pub fn closed_loop<A: Api>(
    wire: &mut Wire,
    in_flight: usize,
    mut next: impl FnMut() -> Result<Option<A::Request>, CliError>,
    mut done: impl FnMut(A::Response, Duration) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut sent: HashMap<i32, Instant> = HashMap::with_capacity(in_flight);
    let mut frames = Vec::new();
    let mut is_over = false;
    loop {
        while !is_over && sent.len() < in_flight {
            match next()? {
                Some(request) => {
                    let id = wire.queue::<A>(&request)?;
                    sent.insert(id, Instant::now());
                }
                None => is_over = true,
            }
        }
        wire.flush()?;
        if sent.is_empty() {
            return Ok(());
        }
        wire.receive(&mut frames)?;
        let now = Instant::now();
        for frame in frames.drain(..) {
            let (id, response) = wire.decode::<A>(&frame)?;
            if let Some(sent_at) = sent.remove(&id) {
                done(response, now - sent_at)?;
            }
        }
    }
}

/// The requests of an open loop that are under way, shared by its two threads.
struct InFlight {
    /// When each was due, by correlation id.
    due: Mutex<Flight>,
    changed: Condvar,
}

#[derive(Default)]
struct Flight {
    due: HashMap<i32, Instant>,
    has_ended: bool,
}

impl InFlight {
    fn lock(&self) -> MutexGuard<'_, Flight> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `holds`, or until the other thread has ended.
    fn wait(&self, holds: impl Fn(&Flight) -> bool) -> MutexGuard<'_, Flight> {
        let mut flight = self.lock();
        while !holds(&flight) && !flight.has_ended {
            flight = self
                .changed
                .wait(flight)
                .unwrap_or_else(PoisonError::into_inner);
        }
        flight
    }

    fn end(&self) {
        self.lock().has_ended = true;
        self.changed.notify_all();
    }
}

/// Sends one request each `interval`, but never more than `in_flight_max` at once, until `next`
/// has no more and all are answered. `done` gets each response and the time since it was due.
pub fn open_loop<A: Api>(
    wire: &mut Wire,
    interval: Duration,
    in_flight_max: usize,
    mut next: impl FnMut() -> Result<Option<A::Request>, CliError>,
    done: impl FnMut(A::Response, Duration) -> Result<(), CliError> + Send,
) -> Result<(), CliError> {
    let in_flight = InFlight {
        due: Mutex::default(),
        changed: Condvar::new(),
    };
    let receiver = wire.receiver()?;
    thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let result = receive_all::<A>(receiver, &in_flight, done);
            in_flight.end();
            result
        });
        let sent = send_at_rate::<A>(wire, interval, in_flight_max, &in_flight, &mut next);
        in_flight.end();
        let received = receiving
            .join()
            .unwrap_or_else(|_| Err(CliError::failed("a receiving thread panicked")));
        sent.and(received)
    })
}

fn send_at_rate<A: Api>(
    wire: &mut Wire,
    interval: Duration,
    in_flight_max: usize,
    in_flight: &InFlight,
    next: &mut impl FnMut() -> Result<Option<A::Request>, CliError>,
) -> Result<(), CliError> {
    let mut due = Instant::now();
    while let Some(request) = next()? {
        let now = Instant::now();
        if due > now {
            wire.flush()?;
            thread::sleep(due - now);
        }
        if in_flight.lock().due.len() >= in_flight_max {
            wire.flush()?;
        }
        let mut flight = in_flight.wait(|flight| flight.due.len() < in_flight_max);
        if flight.has_ended {
            return Ok(());
        }
        let id = wire.queue::<A>(&request)?;
        flight.due.insert(id, due);
        drop(flight);
        in_flight.changed.notify_all();
        due += interval;
    }
    wire.flush()
}

fn receive_all<A: Api>(
    mut wire: Wire,
    in_flight: &InFlight,
    mut done: impl FnMut(A::Response, Duration) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut frames = Vec::new();
    loop {
        // Once the sender has ended, what is under way only becomes less.
        if in_flight
            .wait(|flight| !flight.due.is_empty())
            .due
            .is_empty()
        {
            return Ok(());
        }
        wire.receive(&mut frames)?;
        let now = Instant::now();
        for frame in frames.drain(..) {
            let (id, response) = wire.decode::<A>(&frame)?;
            if let Some(due) = in_flight.lock().due.remove(&id) {
                done(response, now.saturating_duration_since(due))?;
            }
        }
        in_flight.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use bytes::BytesMut;

    use super::*;
    use crate::protocol::{
        api_versions, decode_request, describe_cluster, encode_response, split_frame, Request,
        Response, FRAME_BYTES_MAX,
    };

    /// A broker that greets, and answers nothing else before `hold` requests wait; then all of
    /// them, the last first. Says how many waited at most.
    fn backward_broker(hold: usize) -> (String, thread::JoinHandle<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let broker = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut received = BytesMut::new();
            let mut waiting = Vec::new();
            let mut waiting_max = 0;
            let mut block = [0; 4096];
            loop {
                let read = stream.read(&mut block).unwrap();
                if read == 0 {
                    return waiting_max;
                }
                received.extend_from_slice(&block[..read]);
                while let Some(frame) = split_frame(&mut received, FRAME_BYTES_MAX).unwrap() {
                    let (header, request) = decode_request(&frame).unwrap();
                    let response: Response = match request {
                        Request::ApiVersions(_) => {
                            api_versions::Response::of_message_pack(String::new(), ErrorCode::None)
                                .into()
                        }
                        _ => {
                            waiting.push(header.correlation_id);
                            continue;
                        }
                    };
                    let bytes = encode_response(header.correlation_id, &response).unwrap();
                    stream.write_all(&bytes.to_bytes()).unwrap();
                }
                waiting_max = waiting_max.max(waiting.len());
                if waiting.len() < hold {
                    continue;
                }
                for id in waiting.drain(..).rev() {
                    let bytes = encode_response(id, &described()).unwrap();
                    stream.write_all(&bytes.to_bytes()).unwrap();
                }
            }
        });
        (address, broker)
    }

    fn described() -> Response {
        Response::from(describe_cluster::Response {
            error_code: ErrorCode::None,
            cluster_id: String::new(),
            controller_id: BrokerId(1),
            brokers: vec![],
            ..Default::default()
        })
    }

    fn requests(
        count: usize,
    ) -> impl FnMut() -> Result<Option<describe_cluster::Request>, CliError> {
        let mut left = count;
        move || {
            let request = (left > 0).then_some(describe_cluster::Request::default());
            left = left.saturating_sub(1);
            Ok(request)
        }
    }

    #[test]
    fn a_closed_loop_keeps_so_many_in_flight_and_waits_for_all_in_any_order() {
        let (address, broker) = backward_broker(4);
        let mut wire = Wire::connect(&address).unwrap();
        let mut answered = 0;
        closed_loop::<describe_cluster::Api>(&mut wire, 4, requests(20), |_, _| {
            answered += 1;
            Ok(())
        })
        .unwrap();
        drop(wire);
        assert_eq!(answered, 20);
        assert_eq!(broker.join().unwrap(), 4);
    }

    #[test]
    fn an_open_loop_sends_at_its_rate_while_nothing_is_answered() {
        let (address, broker) = backward_broker(20);
        let mut wire = Wire::connect(&address).unwrap();
        let interval = Duration::from_millis(5);
        let mut times = Vec::new();
        let done = |_, time| {
            times.push(time);
            Ok(())
        };
        open_loop::<describe_cluster::Api>(&mut wire, interval, 100, requests(20), done).unwrap();
        drop(wire);
        assert_eq!(broker.join().unwrap(), 20);
        // The last is answered first, and the first was due 19 intervals before it.
        let (last, first) = (times[0], times[19]);
        assert!(first >= interval * 19, "{first:?}");
        assert!(first - last >= interval * 18, "{first:?} {last:?}");
    }

    fn topic(leaders: &[&str]) -> Topic {
        Topic {
            name: "t".into(),
            leaders: leaders.iter().map(|l| l.to_string()).collect(),
        }
    }

    fn partitions(shares: &[Share]) -> Vec<Vec<i32>> {
        shares
            .iter()
            .map(|share| share.partitions.clone())
            .collect()
    }

    #[test]
    fn partitions_are_spread_over_connections_to_their_leaders() {
        let one = topic(&["a", "a", "a", "a", "a"]);
        assert_eq!(partitions(&one.shares(1)), [vec![0, 1, 2, 3, 4]]);
        assert_eq!(partitions(&one.shares(2)), [vec![0, 2, 4], vec![1, 3]]);
        assert_eq!(partitions(&topic(&["a", "a"]).shares(3)), [[0], [1], [0]]);

        let two = topic(&["a", "b", "a"]).shares(2);
        assert_eq!(partitions(&two), [vec![0, 2], vec![1]]);
        assert_eq!(two[1].address, "b");
        assert_eq!(topic(&["a", "b"]).shares(1).len(), 2);
    }

    #[test]
    fn the_parts_are_together_the_whole() {
        for (total, parts) in [(10, 3), (2, 3), (9, 3), (0, 1)] {
            let sum: u64 = (0..parts).map(|index| part(total, parts, index)).sum();
            assert_eq!(sum, total);
        }
    }
}
