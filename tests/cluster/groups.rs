//! A consumer group on three nodes, of which one after the other is killed, the one that coordinates it first: a
//! group of unmodified clients (librdkafka), and one of Klamm's own.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use klamm::client::{Client, Commits, ConsumerConfig, GroupConfig, OffsetReset};
use klamm::model::BrokerId;
use rdkafka::config::{ClientConfig, FromClientConfig};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::nodes::{number, Cluster};

const TOPIC: &str = "work";
const PARTITIONS: i32 = 4;
const GROUP: &str = "workers";
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How many records are done and committed from one kill to the next.
const COMMITS_BETWEEN: usize = 50;

fn client<C: FromClientConfig>(cluster: &Cluster, settings: &[(&str, &str)]) -> C {
    let mut config = ClientConfig::new();
    let fixed = [
        ("bootstrap.servers", &*cluster.kafka()),
        ("reconnect.backoff.ms", "10"),
        ("reconnect.backoff.max.ms", "100"),
        ("retry.backoff.ms", "20"),
        ("topic.metadata.refresh.fast.interval.ms", "20"),
    ];
    for (key, value) in fixed.iter().chain(settings) {
        config.set(*key, *value);
    }
    config.create().unwrap()
}

/// What the members of the group have done.
#[derive(Default)]
struct Done {
    values: BTreeSet<u64>,
    /// When each commit was acknowledged.
    commits: Vec<Instant>,
}

/// Threads that work until they are told to stop.
struct Work {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Work {
    fn new() -> Work {
        Work {
            stop: Arc::default(),
            threads: Vec::new(),
        }
    }

    fn start(&mut self, mut turn: impl FnMut() + Send + 'static) {
        let stop = self.stop.clone();
        self.threads.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                turn();
            }
        }));
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

/// A member that does each record, and commits it before it does the next.
fn member(cluster: &Cluster, done: Arc<Mutex<Done>>) -> impl FnMut() + Send {
    let settings = [
        ("group.id", GROUP),
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "earliest"),
        ("fetch.wait.max.ms", "10"),
        ("heartbeat.interval.ms", "200"),
        ("session.timeout.ms", "20000"),
        ("partition.assignment.strategy", "cooperative-sticky"),
    ];
    let consumer: BaseConsumer = client(cluster, &settings);
    consumer.subscribe(&[TOPIC]).unwrap();
    move || {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) else {
            return;
        };
        let value = std::str::from_utf8(message.payload().unwrap()).unwrap();
        done.lock().unwrap().values.insert(value.parse().unwrap());
        // One that fails is done again by whoever has the partition then.
        if consumer.commit_message(&message, CommitMode::Sync).is_ok() {
            done.lock().unwrap().commits.push(Instant::now());
        }
    }
}

/// The same with Klamm's client, which does all that a poll brings before it commits.
fn klamm_member(cluster: &Cluster, done: Arc<Mutex<Done>>) -> impl FnMut() + Send {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    let config = klamm::client::ClientConfig {
        retry_backoff: Duration::from_millis(10),
        retry_backoff_max: Duration::from_millis(100),
        ..klamm::client::ClientConfig::from(&*cluster.bootstrap())
    };
    let begun = async {
        let client = Client::connect(config).await.unwrap();
        let mut consumer = client.consumer(ConsumerConfig {
            offset_reset: OffsetReset::Earliest,
            max_wait: Duration::from_millis(10),
            ..ConsumerConfig::default()
        });
        let group = GroupConfig {
            session_timeout: Duration::from_secs(20),
            heartbeat_interval: Duration::from_millis(200),
            commits: Commits::Explicit,
            ..GroupConfig::from(GROUP)
        };
        consumer.subscribe([TOPIC], group).unwrap();
        consumer
    };
    let mut consumer =
        std::thread::scope(|scope| scope.spawn(|| runtime.block_on(begun)).join().unwrap());
    let turn = async move |consumer: &mut klamm::client::Consumer, done: &Mutex<Done>| {
        let batches = consumer.poll(Duration::from_millis(20)).await.unwrap();
        for batch in &batches {
            for record in batch.records() {
                let value = std::str::from_utf8(record.value.unwrap()).unwrap();
                done.lock().unwrap().values.insert(value.parse().unwrap());
            }
        }
        // One that fails is done again by whoever has the partition then.
        if !batches.is_empty() && consumer.commit().await.is_ok() {
            done.lock().unwrap().commits.push(Instant::now());
        }
    };
    move || runtime.block_on(turn(&mut consumer, &done))
}

/// Writes the numbers from 0 on, round all partitions; `written` counts those that are acknowledged.
fn writer(cluster: &Cluster, written: Arc<Mutex<u64>>) -> impl FnMut() + Send {
    let producer: BaseProducer = client(cluster, &[("enable.idempotence", "true")]);
    let mut next = 0u64;
    move || {
        for _ in 0..10 {
            let value = next.to_string();
            let partition = (next % PARTITIONS as u64) as i32;
            let record: BaseRecord<(), _> = BaseRecord::to(TOPIC).partition(partition);
            producer.send(record.payload(&value)).unwrap();
            next += 1;
        }
        producer.flush(WAIT_MAX).unwrap();
        *written.lock().unwrap() = next;
    }
}

/// How far the group has come by what it has committed, by partition; `None` if nobody can tell now.
fn committed(consumer: &BaseConsumer) -> Option<Vec<i64>> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range(TOPIC, 0, PARTITIONS - 1);
    let told = consumer
        .committed_offsets(asked, Duration::from_secs(5))
        .ok()?;
    let offset = |offset| match offset {
        Offset::Offset(offset) => offset,
        _ => 0,
    };
    Some(told.elements().iter().map(|e| offset(e.offset())).collect())
}

/// Looks again and again whether a committed offset has gone back.
fn watch(cluster: &Cluster) -> impl FnMut() + Send {
    let consumer: BaseConsumer = client(cluster, &[("group.id", GROUP)]);
    let mut last = vec![0; PARTITIONS as usize];
    move || {
        if let Some(now) = committed(&consumer) {
            let regresses = now.iter().zip(&last).any(|(now, last)| now < last);
            assert!(!regresses, "{now:?} after {last:?}");
            last = now;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < WAIT_MAX, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// So many more commits are acknowledged.
fn await_commits(done: &Mutex<Done>) {
    let before = done.lock().unwrap().commits.len();
    wait_until("commits go on", || {
        done.lock().unwrap().commits.len() >= before + COMMITS_BETWEEN
    });
}

/// The longest time without an acknowledged commit.
fn longest_gap(done: &Mutex<Done>, since: Instant) -> Duration {
    let done = done.lock().unwrap();
    let after = done.commits.iter().filter(|commit| **commit >= since);
    let times: Vec<Instant> = std::iter::once(since).chain(after.copied()).collect();
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.max().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_goes_on_when_its_coordinator_is_killed_and_no_committed_offset_goes_back() {
    go_on_when_nodes_are_killed(|cluster, done| Box::new(member(cluster, done))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_klamms_client_goes_on_and_no_committed_offset_goes_back() {
    go_on_when_nodes_are_killed(|cluster, done| Box::new(klamm_member(cluster, done))).await;
}

type Member = Box<dyn FnMut() + Send>;

async fn go_on_when_nodes_are_killed(member: fn(&Cluster, Arc<Mutex<Done>>) -> Member) {
    let mut cluster = Cluster::start();
    let admin = cluster.client().await;
    cluster.create_with(&admin, TOPIC, PARTITIONS).await;
    let (done, written) = (Arc::<Mutex<Done>>::default(), Arc::<Mutex<u64>>::default());
    let mut writing = Work::new();
    writing.start(writer(&cluster, written.clone()));
    let mut working = Work::new();
    for _ in 0..2 {
        working.start(member(&cluster, done.clone()));
    }
    working.start(watch(&cluster));
    await_commits(&done);

    let mut gaps = Vec::new();
    for round in 0..number("KLAMM_ROUNDS", 3) {
        let victim = match round {
            0 => cluster.leader(&admin, "__consumer_offsets").await,
            _ => BrokerId(1 + (round * 5 % 3) as i32),
        };
        let killed = Instant::now();
        cluster.node(victim).kill();
        await_commits(&done);
        gaps.push((victim.0, longest_gap(&done, killed)));
        cluster.node(victim).restart();
        cluster.node(victim).wait();
        cluster.await_in_sync("__consumer_offsets").await;
        await_commits(&done);
    }
    println!("killed, and the longest time without a commit after it: {gaps:?}");

    // Everything that was written is done, and nothing is committed beyond it.
    writing.stop();
    let all = *written.lock().unwrap();
    wait_until("all is done", || {
        let done = done.lock().unwrap();
        done.values.len() as u64 == all
    });
    let consumer: BaseConsumer = client(&cluster, &[("group.id", GROUP)]);
    wait_until("all is committed", || {
        committed(&consumer).is_some_and(|now| now.iter().sum::<i64>() as u64 == all)
    });
    working.stop();
}
