//! Load from librdkafka on any broker that speaks Kafka's protocol, for `benches/compare-kafka.sh`:
//! `cargo bench --bench kafka_load -- produce --bootstrap 127.0.0.1:9092 --topic t --records 1000000`.
//!
//! Each command prints one line of `name=value` words. Latencies are in milliseconds; with a rate they
//! are counted from the time at which a record was due, so that a stall counts for all whom it held up.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use hdrhistogram::Histogram;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// How long a call may take, and how long anything may take to get on.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the producer waits for room in its own queue.
const QUEUE_FULL_WAIT: Duration = Duration::from_micros(200);
/// Time between two attempts to reach a broker that starts.
const READY_RETRY: Duration = Duration::from_millis(1);
/// Records that are different enough to be no gift to anybody who compresses or caches.
const PAYLOADS: usize = 64;
/// The part of the records that goes before those that count, where latencies are looked at.
const WARM_UP_DIVISOR: u64 = 5;
/// The opaque of a record that doesn't count.
const WARM_UP: usize = usize::MAX;
/// Latencies are kept up to this, with three digits.
const MICROS_MAX: u64 = 60_000_000;
const DIGITS: u8 = 3;

type Failure = Box<dyn Error>;

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Cargo's.
    #[arg(long, global = true, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Wait until the broker answers who it is
    Ready(Target),
    /// Create a topic
    Create {
        #[command(flatten)]
        target: Target,
        #[arg(long)]
        topic: String,
        #[arg(long, default_value_t = 1)]
        partitions: i32,
        /// A topic config, as name=value
        #[arg(long = "config")]
        configs: Vec<String>,
    },
    /// Produce with acks=all; of a rate, the first fifth of the records doesn't count
    Produce {
        #[command(flatten)]
        target: Target,
        #[arg(long)]
        topic: String,
        #[arg(long)]
        records: u64,
        #[arg(long, default_value_t = 100)]
        size: usize,
        /// Records a second [default: as many as it takes]
        #[arg(long)]
        rate: Option<f64>,
    },
    /// Read from the beginning
    Consume {
        #[command(flatten)]
        target: Target,
        #[arg(long)]
        topic: String,
        #[arg(long)]
        records: u64,
    },
    /// One record at a time, from producer to consumer, and a fifth more before those that count
    EndToEnd {
        #[command(flatten)]
        target: Target,
        #[arg(long)]
        topic: String,
        #[arg(long)]
        records: u64,
        #[arg(long, default_value_t = 100)]
        size: usize,
    },
}

#[derive(clap::Args)]
struct Target {
    #[arg(long)]
    bootstrap: String,
    /// A setting of librdkafka, as name=value
    #[arg(long = "set")]
    settings: Vec<String>,
}

impl Target {
    fn client(&self) -> Result<ClientConfig, Failure> {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.bootstrap);
        for setting in &self.settings {
            let (name, value) = name_and_value(setting)?;
            client.set(name, value);
        }
        Ok(client)
    }
}

fn name_and_value(text: &str) -> Result<(&str, &str), Failure> {
    let split = text.split_once('=');
    split.ok_or_else(|| format!("{text:?} is not name=value").into())
}

fn main() -> Result<(), Failure> {
    match Args::parse().command {
        // `cargo bench` runs everything that is in this directory.
        None => println!("kafka_load: see --help; it needs a broker"),
        Some(Command::Ready(target)) => ready(&target.bootstrap)?,
        Some(Command::Create {
            target,
            topic,
            partitions,
            configs,
        }) => create(&target, &topic, partitions, &configs)?,
        Some(Command::Produce {
            target,
            topic,
            records,
            size,
            rate,
        }) => produce(&target, &topic, records, size, rate)?,
        Some(Command::Consume {
            target,
            topic,
            records,
        }) => consume(&target, &topic, records)?,
        Some(Command::EndToEnd {
            target,
            topic,
            records,
            size,
        }) => end_to_end(&target, &topic, records, size)?,
    }
    Ok(())
}

/// Waits until the broker answers a Metadata request with itself in it. It speaks to the socket
/// itself: a library that waits between its attempts would blur the time.
fn ready(address: &str) -> Result<(), Failure> {
    let begin = Instant::now();
    loop {
        match asks_metadata(address) {
            Ok(true) => return Ok(()),
            _ if begin.elapsed() < PATIENCE => thread::sleep(READY_RETRY),
            Ok(false) => return Err("the broker names no broker".into()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether the answer names any broker.
fn asks_metadata(address: &str) -> std::io::Result<bool> {
    // Metadata version 1 with correlation id 7, no client id, and no topic.
    const REQUEST: [u8; 18] = [0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0];
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&REQUEST)?;
    // Its length, the correlation id, and the number of brokers.
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    Ok(answer[8..] != [0; 4])
}

fn create(
    target: &Target,
    topic: &str,
    partitions: i32,
    configs: &[String],
) -> Result<(), Failure> {
    let admin: AdminClient<DefaultClientContext> = target.client()?.create()?;
    // As many replicas as the broker makes by default.
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
    for config in configs {
        let (name, value) = name_and_value(config)?;
        new = new.set(name, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let created = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(admin.create_topics([&new], &options))?;
    for result in created {
        result.map_err(|(topic, code)| format!("{topic}: {code}"))?;
    }
    Ok(())
}

/// What the producer is told of its records. A record's opaque is when it was due, in nanoseconds
/// after the start, or [`WARM_UP`].
struct Deliveries {
    start: Instant,
    micros: Mutex<Histogram<u64>>,
    failed: AtomicU64,
    /// When the last one came, in nanoseconds after the start. `flush` comes back later.
    last_nanos: AtomicU64,
}

impl Deliveries {
    fn new() -> Result<Arc<Deliveries>, Failure> {
        Ok(Arc::new(Deliveries {
            start: Instant::now(),
            micros: Mutex::new(histogram()?),
            failed: AtomicU64::new(0),
            last_nanos: AtomicU64::new(0),
        }))
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

fn histogram() -> Result<Histogram<u64>, Failure> {
    Ok(Histogram::new_with_bounds(1, MICROS_MAX, DIGITS)?)
}

#[derive(Clone)]
struct Context(Arc<Deliveries>);

impl ClientContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, due: usize) {
        let deliveries = &self.0;
        let now = deliveries.now();
        let nanos = now.as_nanos() as u64;
        deliveries.last_nanos.store(nanos, Ordering::Relaxed);
        if result.is_err() {
            deliveries.failed.fetch_add(1, Ordering::Relaxed);
        } else if due != WARM_UP {
            let latency = now.saturating_sub(Duration::from_nanos(due as u64));
            let micros = deliveries.micros.lock();
            let mut micros = micros.unwrap_or_else(|lost| lost.into_inner());
            micros.saturating_record(latency.as_micros() as u64);
        }
    }
}

fn producer(
    target: &Target,
    deliveries: &Arc<Deliveries>,
) -> Result<ThreadedProducer<Context>, Failure> {
    let mut client = target.client()?;
    client.set("acks", "all");
    Ok(client.create_with_context(Context(deliveries.clone()))?)
}

/// Bytes that look like chance, the same in each run.
fn payloads(size: usize) -> Vec<Vec<u8>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    let payload = |_| (0..size).map(|_| next()).collect();
    (0..PAYLOADS).map(payload).collect()
}

fn produce(
    target: &Target,
    topic: &str,
    records: u64,
    size: usize,
    rate: Option<f64>,
) -> Result<(), Failure> {
    let payloads = payloads(size);
    let deliveries = Deliveries::new()?;
    let producer = producer(target, &deliveries)?;
    // The connections and the metadata are there before the time begins.
    producer.client().fetch_metadata(Some(topic), PATIENCE)?;
    let warm_up = rate.map_or(0, |_| records / WARM_UP_DIVISOR);
    let start = deliveries.now();
    let mut begin = start;
    for number in 0..records {
        let due = match rate {
            Some(rate) => wait_until_due(&deliveries, start, number as f64 / rate),
            None => deliveries.now(),
        };
        if number == warm_up {
            begin = due;
        }
        let opaque = match number < warm_up {
            true => WARM_UP,
            false => due.as_nanos() as usize,
        };
        let payload = &payloads[number as usize % PAYLOADS];
        let record = BaseRecord::<(), [u8], usize>::with_opaque_to(topic, opaque);
        send(&producer, record.payload(payload))?;
    }
    producer.flush(PATIENCE)?;
    let end = Duration::from_nanos(deliveries.last_nanos.load(Ordering::Relaxed));
    let seconds = end.saturating_sub(begin).as_secs_f64();
    let failed = deliveries.failed.load(Ordering::Relaxed);
    if failed > 0 {
        return Err(format!("{failed} of {records} records failed").into());
    }
    let micros = deliveries
        .micros
        .lock()
        .unwrap_or_else(|lost| lost.into_inner());
    report(records - warm_up, size, seconds, Some(&micros));
    Ok(())
}

/// When record number so and so is due; comes back then, or at once if it is late.
fn wait_until_due(deliveries: &Deliveries, start: Duration, seconds: f64) -> Duration {
    let due = start + Duration::from_secs_f64(seconds);
    let early = due.saturating_sub(deliveries.now());
    if !early.is_zero() {
        thread::sleep(early);
    }
    due
}

fn send<'a>(
    producer: &ThreadedProducer<Context>,
    mut record: BaseRecord<'a, (), [u8], usize>,
) -> Result<(), Failure> {
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                thread::sleep(QUEUE_FULL_WAIT);
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

/// A consumer of all partitions. There need be no group: its name is librdkafka's wish only.
fn consumer(target: &Target, topic: &str, from: Offset) -> Result<BaseConsumer, Failure> {
    let mut client = target.client()?;
    client
        .set("group.id", "kafka_load")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false");
    let consumer: BaseConsumer = client.create()?;
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let topics = metadata.topics().first().ok_or("no such topic")?;
    let mut list = TopicPartitionList::new();
    for partition in topics.partitions() {
        let (low, high) = consumer.fetch_watermarks(topic, partition.id(), PATIENCE)?;
        let from = match from {
            Offset::End => high,
            _ => low,
        };
        list.add_partition_offset(topic, partition.id(), Offset::Offset(from))?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

/// The next record's size. An error that librdkafka recovers from by itself is passed over: one is
/// that there is no coordinator, which it looks for although nobody asked.
fn next(consumer: &BaseConsumer) -> Result<usize, Failure> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if let Some(Ok(message)) = consumer.poll(PATIENCE) {
            return Ok(message.payload_len());
        }
    }
    Err("no record came".into())
}

fn consume(target: &Target, topic: &str, records: u64) -> Result<(), Failure> {
    let begin = Instant::now();
    let consumer = consumer(target, topic, Offset::Beginning)?;
    let size = next(&consumer)?;
    for _ in 1..records {
        next(&consumer)?;
    }
    report(records, size, begin.elapsed().as_secs_f64(), None);
    Ok(())
}

fn end_to_end(target: &Target, topic: &str, records: u64, size: usize) -> Result<(), Failure> {
    let payloads = payloads(size);
    let deliveries = Deliveries::new()?;
    let producer = producer(target, &deliveries)?;
    let consumer = consumer(target, topic, Offset::End)?;
    let mut micros = histogram()?;
    let warm_up = records / WARM_UP_DIVISOR;
    let mut begin = Instant::now();
    for number in 0..warm_up + records {
        if number == warm_up {
            begin = Instant::now();
        }
        let sent = Instant::now();
        let payload = &payloads[number as usize % PAYLOADS];
        let record = BaseRecord::<(), [u8], usize>::with_opaque_to(topic, WARM_UP);
        send(&producer, record.payload(payload))?;
        next(&consumer)?;
        if number >= warm_up {
            micros.saturating_record(sent.elapsed().as_micros() as u64);
        }
    }
    report(records, size, begin.elapsed().as_secs_f64(), Some(&micros));
    Ok(())
}

fn report(records: u64, size: usize, seconds: f64, micros: Option<&Histogram<u64>>) {
    let rate = records as f64 / seconds;
    let megabytes = rate * size as f64 / 1e6;
    print!("records={records} seconds={seconds:.3} records_s={rate:.0} mb_s={megabytes:.1}");
    if let Some(micros) = micros {
        let mean = micros.mean() / 1e3;
        let at = |quantile| micros.value_at_quantile(quantile) as f64 / 1e3;
        print!(
            " mean_ms={mean:.3} p50_ms={:.3} p99_ms={:.3}",
            at(0.5),
            at(0.99)
        );
    }
    println!();
}
