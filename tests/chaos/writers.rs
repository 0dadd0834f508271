//! Writers of both protocols that go on whatever befalls the nodes.

use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use klamm::client::{ProducerConfig, ProducerRecord};
use klamm::model::Timestamp;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::ClientContext;
use tokio::task::JoinHandle;

use crate::history::{Outcome, Sent};
use crate::nodes::{Cluster, WAIT_MAX};

/// The topic of all writers.
pub const TOPIC: &str = "orders";
pub const PARTITIONS: i32 = 3;
/// How long a value is: some hundred fill a segment.
const VALUE_BYTES: usize = 512;
/// How many records of one writer are on their way.
const IN_FLIGHT: usize = 8;
/// A writer's rest after each record, so that the checker's memory bounds no run.
const REST: Duration = Duration::from_millis(2);

/// What librdkafka's writers have one of on its way, and so no duplicates. With several it begins a new producer
/// epoch when the second of two batches is refused because the first one was, and sends that one again, which may be in
/// the log all the same (confluentinc/librdkafka#4953): seeds 1001 and 2006 have seen it.
pub const ONE_REQUEST: (&str, &str) = ("max.in.flight.requests.per.connection", "1");

/// What a writer is told while it writes.
#[derive(Default)]
struct Told {
    acknowledged: AtomicUsize,
    /// When each acknowledgement came.
    times: Mutex<Vec<Instant>>,
}

impl Told {
    fn acknowledged(&self) -> usize {
        self.acknowledged.load(SeqCst)
    }
}

/// Those of one run: for each partition one of Klamm's clients and one of librdkafka, each idempotent,
/// with acks=all.
pub struct Writers {
    stop: Arc<AtomicBool>,
    /// What each is told: writers 2n and 2n + 1 are Klamm's and librdkafka's of partition n.
    told: Vec<Arc<Told>>,
    tasks: Vec<JoinHandle<Vec<Sent>>>,
}

impl Writers {
    /// librdkafka's with these settings besides.
    pub async fn start(cluster: &Cluster, librdkafkas: &[(&str, &str)]) -> Writers {
        let mut writers = Writers {
            stop: Arc::default(),
            told: Vec::new(),
            tasks: Vec::new(),
        };
        for partition in 0..PARTITIONS {
            for (number, library) in [Library::Klamm, Library::Librdkafka]
                .into_iter()
                .enumerate()
            {
                let writer = 2 * partition as usize + number;
                let log = writers.log_of(writer);
                let producer = library.producer(cluster, writer, librdkafkas).await;
                let running = log.run(producer, partition);
                writers.tasks.push(tokio::spawn(running));
            }
        }
        writers
    }

    fn log_of(&mut self, writer: usize) -> WriterLog {
        let told = Arc::<Told>::default();
        self.told.push(told.clone());
        WriterLog {
            writer,
            stop: self.stop.clone(),
            told,
            sent: Vec::new(),
        }
    }

    /// Until so many more of each are acknowledged.
    pub async fn await_all(&self, records: usize) {
        let counts = || self.told.iter().map(|told| told.acknowledged());
        let wanted: Vec<usize> = counts().collect();
        let begun = Instant::now();
        loop {
            let have: Vec<usize> = counts().collect();
            let is_done = |(have, wanted): (&usize, &usize)| *have >= wanted + records;
            if have.iter().zip(&wanted).all(is_done) {
                return;
            }
            assert!(
                begun.elapsed() < WAIT_MAX,
                "of each writer's records {wanted:?} were acknowledged, and {have:?} are after {WAIT_MAX:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Between two acknowledgements of one writer.
    pub fn longest_gap_since(&self, writer: usize, since: Instant) -> Duration {
        let times = self.told[writer].times.lock().unwrap();
        let mut last = since;
        let mut longest = Duration::ZERO;
        for time in times.iter().filter(|time| **time > since) {
            longest = longest.max(*time - last);
            last = *time;
        }
        longest
    }

    /// What was sent to each partition. Returns when the last records' outcomes are known.
    pub async fn stop(self) -> Vec<Vec<Sent>> {
        self.stop.store(true, SeqCst);
        let mut sent: Vec<Vec<Sent>> = (0..PARTITIONS).map(|_| Vec::new()).collect();
        for (writer, task) in self.tasks.into_iter().enumerate() {
            sent[writer / 2].extend(task.await.unwrap());
        }
        sent
    }
}

/// Whose producer it is.
#[derive(Clone, Copy)]
enum Library {
    Klamm,
    Librdkafka,
}

impl Library {
    async fn producer(
        self,
        cluster: &Cluster,
        writer: usize,
        settings: &[(&str, &str)],
    ) -> Producer {
        match self {
            Library::Klamm => {
                let config = ProducerConfig {
                    delivery_timeout: 2 * WAIT_MAX,
                    ..ProducerConfig::default()
                };
                Producer::Klamm(cluster.client().await.producer(config))
            }
            Library::Librdkafka => {
                Producer::Librdkafka(librdkafka(&cluster.kafka(), writer, settings))
            }
        }
    }
}

enum Producer {
    Klamm(klamm::client::Producer),
    Librdkafka(FutureProducer<SequenceLog>),
}

/// A record's offset, once that is known, or a negative number if it is acknowledged without; `None` leaves
/// it open.
type Delivery = Pin<Box<dyn Future<Output = Option<i64>> + Send>>;

impl Producer {
    async fn send(&self, partition: i32, value: &[u8]) -> Delivery {
        match self {
            Producer::Klamm(producer) => {
                let record = ProducerRecord::to(TOPIC).partition(partition).value(value);
                let sent = producer.send(record).await;
                Box::pin(async move { Some(sent.ok()?.await.ok()?.offset.0) })
            }
            Producer::Librdkafka(producer) => {
                let record = FutureRecord::<(), _>::to(TOPIC)
                    .partition(partition)
                    .payload(value);
                let sent = producer.send_result(record);
                let sent = sent.map_err(|(error, _)| error);
                Box::pin(async move { Some(sent.ok()?.await.ok()?.ok()?.offset) })
            }
        }
    }
}

/// What one writer did.
struct WriterLog {
    writer: usize,
    stop: Arc<AtomicBool>,
    told: Arc<Told>,
    sent: Vec<Sent>,
}

impl WriterLog {
    async fn run(mut self, producer: Producer, partition: i32) -> Vec<Sent> {
        let mut open = VecDeque::new();
        while !self.stop.load(SeqCst) {
            let value = format!("writer {} record {}", self.writer, self.sent.len());
            let value = format!("{value:VALUE_BYTES$}").into_bytes();
            open.push_back((self.sent.len(), producer.send(partition, &value).await));
            self.sent.push(Sent {
                writer: self.writer,
                value,
                sends: 1,
                outcome: Outcome::Unknown,
            });
            if open.len() == IN_FLIGHT {
                self.finish(open.pop_front()).await;
            }
            tokio::time::sleep(REST).await;
        }
        while !open.is_empty() {
            self.finish(open.pop_front()).await;
        }
        self.sent
    }

    async fn finish(&mut self, delivery: Option<(usize, Delivery)>) {
        let Some((number, delivery)) = delivery else {
            return;
        };
        if let Some(offset) = delivery.await {
            self.sent[number].outcome = match offset {
                0.. => Outcome::Acknowledged(offset),
                _ => Outcome::AcknowledgedSomewhere,
            };
            self.told.times.lock().unwrap().push(Instant::now());
            self.told.acknowledged.fetch_add(1, SeqCst);
        }
    }
}

/// Writes down what librdkafka does with its sequences: why it has begun a new epoch, say. The directory is told
/// by `KLAMM_WRITERS_LOG`; nothing is written without.
struct SequenceLog(Option<Mutex<File>>);

impl SequenceLog {
    fn of_environment(writer: usize) -> SequenceLog {
        let dir = std::env::var_os("KLAMM_WRITERS_LOG").map(PathBuf::from);
        let file = dir.map(|dir| File::create(dir.join(format!("writer-{writer}.log"))).unwrap());
        SequenceLog(file.map(Mutex::new))
    }
}

impl ClientContext for SequenceLog {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        if let SequenceLog(Some(file)) = self {
            let now = Timestamp::now();
            writeln!(file.lock().unwrap(), "{now} {facility} {message}").unwrap();
        }
    }
}

fn librdkafka(
    bootstrap: &str,
    writer: usize,
    settings: &[(&str, &str)],
) -> FutureProducer<SequenceLog> {
    let mut config = rdkafka::ClientConfig::new();
    let context = SequenceLog::of_environment(writer);
    if context.0.is_some() {
        config.set("debug", "eos");
    }
    let fixed = [
        ("bootstrap.servers", bootstrap),
        ("enable.idempotence", "true"),
        ("linger.ms", "2"),
        ("retry.backoff.ms", "10"),
        ("retry.backoff.max.ms", "100"),
        ("reconnect.backoff.ms", "10"),
        ("reconnect.backoff.max.ms", "200"),
        ("socket.timeout.ms", "10000"),
        ("message.timeout.ms", "120000"),
    ];
    for (key, value) in fixed.iter().chain(settings) {
        config.set(*key, *value);
    }
    config.create_with_context(context).unwrap()
}
