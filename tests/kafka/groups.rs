//! Consumer groups: members share a topic, one goes and the others go on where it stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use klamm::client::{Assignor, Commits, ConsumerConfig, GroupConfig, OffsetReset};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::message::Message;
use rdkafka::producer::FutureProducer;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::broker_process::Broker;
use crate::entry::Entry;
use crate::exchange::create_topic;
use crate::library::{rdkafka, send, WAIT};
use crate::report::{Client, Row};

const STRATEGY: &str = "partition.assignment.strategy";
const TOPIC: &str = "work";
const PARTITIONS: i32 = 4;
/// The shortest session that the broker of these tests allows.
const SESSION: &str = "1000";
/// What the broker tells members of the consumer protocol.
const CONSUMER_SESSION: &str = "5000";
/// The consumer protocol (KIP-848): the broker says how long sessions are, and who reads what.
const CONSUMER: (&str, &str) = ("group.protocol", "consumer");

fn broker() -> Broker {
    Broker::start_with(&[
        ("KLAMM__GROUPS__INITIAL_REBALANCE_DELAY_MS", "0"),
        ("KLAMM__GROUPS__MIN_SESSION_TIMEOUT_MS", SESSION),
        (
            "KLAMM__GROUPS__CONSUMER_SESSION_TIMEOUT_MS",
            CONSUMER_SESSION,
        ),
        ("KLAMM__GROUPS__CONSUMER_HEARTBEAT_INTERVAL_MS", "100"),
        ("KLAMM__GROUPS__OFFSETS_TOPIC_NUM_PARTITIONS", "5"),
    ])
}

/// Counts the rebalances that it is part of.
#[derive(Clone, Default)]
struct Rebalances(Arc<AtomicUsize>);

impl ClientContext for Rebalances {}

impl ConsumerContext for Rebalances {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if matches!(rebalance, Rebalance::Assign(_)) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// A consumer that polls on a thread of its own.
struct Member {
    stop: Sender<()>,
    seen: Arc<Mutex<BTreeSet<i32>>>,
    rebalances: Rebalances,
    thread: Option<JoinHandle<()>>,
}

/// A record that a member has got: partition, offset, value.
type Got = (i32, i64, String);

impl Member {
    /// Each record that it gets is told, and committed.
    fn start(broker: &Broker, settings: &[(&str, &str)], got: &Sender<Got>) -> Member {
        Member::subscribe(broker, TOPIC, settings, got)
    }

    fn subscribe(
        broker: &Broker,
        topics: &str,
        settings: &[(&str, &str)],
        got: &Sender<Got>,
    ) -> Member {
        let mut config = ClientConfig::new();
        let fixed = [
            ("bootstrap.servers", &*broker.kafka),
            ("group.id", "workers"),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"),
            ("fetch.wait.max.ms", "10"),
            ("reconnect.backoff.max.ms", "200"),
        ];
        let own: &[(&str, &str)] = match settings.contains(&CONSUMER) {
            true => &[],
            false => &[
                ("heartbeat.interval.ms", "100"),
                ("session.timeout.ms", SESSION),
            ],
        };
        for (key, value) in fixed.iter().chain(own).chain(settings) {
            config.set(*key, *value);
        }
        let rebalances = Rebalances::default();
        let consumer: BaseConsumer<Rebalances> =
            config.create_with_context(rebalances.clone()).unwrap();
        consumer.subscribe(&[topics]).unwrap();
        let (stop, stopped) = channel();
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let (shared, got) = (seen.clone(), got.clone());
        let thread = std::thread::spawn(move || work(&consumer, &shared, &got, &stopped));
        Member {
            stop,
            seen,
            rebalances,
            thread: Some(thread),
        }
    }

    /// The same with Klamm's client.
    fn start_klamm(broker: &Broker, assignor: Assignor, got: &Sender<Got>) -> Member {
        let (stop, stopped) = channel();
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let (shared, got, address) = (seen.clone(), got.clone(), broker.address.clone());
        let group = GroupConfig {
            session_timeout: Duration::from_millis(SESSION.parse().unwrap()),
            heartbeat_interval: Duration::from_millis(100),
            assignors: vec![assignor],
            commits: Commits::Explicit,
            ..GroupConfig::from("workers")
        };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(work_klamm(&address, group, &shared, &got, &stopped));
        });
        Member {
            stop,
            seen,
            rebalances: Rebalances::default(),
            thread: Some(thread),
        }
    }

    fn owns(&self) -> BTreeSet<i32> {
        self.seen.lock().unwrap().clone()
    }

    /// Closes the consumer: it leaves, unless it is a static member.
    fn stop(mut self) {
        self.stop.send(()).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

async fn work_klamm(
    address: &str,
    group: GroupConfig,
    owns: &Mutex<BTreeSet<i32>>,
    got: &Sender<Got>,
    stopped: &Receiver<()>,
) {
    let client = klamm::client::Client::connect(address).await.unwrap();
    let mut consumer = client.consumer(ConsumerConfig {
        offset_reset: OffsetReset::Earliest,
        max_wait: Duration::from_millis(10),
        ..ConsumerConfig::default()
    });
    consumer.subscribe([TOPIC], group).unwrap();
    while stopped.try_recv().is_err() {
        let batches = consumer.poll(Duration::from_millis(20)).await.unwrap();
        if !batches.is_empty() && consumer.commit().await.is_ok() {
            for batch in &batches {
                for record in batch.records() {
                    let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                    // A test that has seen enough listens no more.
                    let _ = got.send((batch.partition(), record.offset.0, value));
                }
            }
        }
        let assigned = consumer.assignment().into_iter();
        *owns.lock().unwrap() = assigned.map(|(_, partition)| partition).collect();
    }
    consumer.close().await.unwrap();
}

fn work(
    consumer: &BaseConsumer<Rebalances>,
    owns: &Mutex<BTreeSet<i32>>,
    got: &Sender<Got>,
    stopped: &Receiver<()>,
) {
    while stopped.try_recv().is_err() {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) {
            let value = String::from_utf8(message.payload().unwrap().to_vec()).unwrap();
            let record = (message.partition(), message.offset(), value);
            if consumer.commit_message(&message, CommitMode::Sync).is_ok() {
                // A test that has seen enough listens no more.
                let _ = got.send(record);
            }
        }
        let assigned = consumer.assignment().unwrap();
        let assigned = assigned.elements().iter().map(|e| e.partition()).collect();
        *owns.lock().unwrap() = assigned;
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the members own all partitions, each one some.
fn wait_until_shared(members: &[&Member]) {
    wait_until("the members share the partitions", || {
        let owned: Vec<_> = members.iter().map(|member| member.owns()).collect();
        let all: BTreeSet<i32> = owned.iter().flatten().copied().collect();
        let count: usize = owned.iter().map(BTreeSet::len).sum();
        let each = owned.iter().all(|owned| !owned.is_empty());
        each && all.len() == PARTITIONS as usize && count == all.len()
    });
}

/// Writes one record to each partition.
async fn write(broker: &Broker, round: &str) {
    let producer: FutureProducer = rdkafka(broker, &[]);
    for partition in 0..PARTITIONS {
        let entry = Entry::value(&format!("{round}-{partition}"));
        let sent = send(&producer, TOPIC, partition, &entry);
        sent.await.unwrap().unwrap();
    }
}

/// The records of these rounds come, each just once and nothing else.
fn expect(got: &Receiver<Got>, rounds: &[&str]) {
    let wanted = rounds.len() * PARTITIONS as usize;
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..wanted {
        let (_, _, value) = got.recv_timeout(WAIT).unwrap();
        *count.entry(value).or_default() += 1;
    }
    for round in rounds {
        for partition in 0..PARTITIONS {
            let value = format!("{round}-{partition}");
            assert_eq!(count.get(&value), Some(&1), "{value}: {count:?}");
        }
    }
}

async fn share(settings: &[(&str, &str)]) {
    let broker = broker();
    create_topic(&broker, TOPIC, PARTITIONS).await;
    let (to, got) = channel();
    let first = Member::start(&broker, settings, &to);
    wait_until_shared(&[&first]);
    write(&broker, "alone").await;
    expect(&got, &["alone"]);

    let second = Member::start(&broker, settings, &to);
    wait_until_shared(&[&first, &second]);
    write(&broker, "together").await;
    expect(&got, &["together"]);

    // It leaves, and the other takes over where it stopped.
    first.stop();
    wait_until_shared(&[&second]);
    write(&broker, "left").await;
    expect(&got, &["left"]);
    second.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_a_topic_by_range() {
    let row = Row::new(
        Client::Rdkafka,
        "a group shares a topic by range, and takes over from one that leaves",
    );
    share(&[(STRATEGY, "range")]).await;
    row.works();
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_a_topic_by_round_robin() {
    let row = Row::new(
        Client::Rdkafka,
        "a group shares a topic by roundrobin, and takes over from one that leaves",
    );
    share(&[(STRATEGY, "roundrobin")]).await;
    row.works();
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_a_topic_cooperatively() {
    let row = Row::new(
        Client::Rdkafka,
        "a group shares a topic by cooperative-sticky, and takes over from one that leaves",
    );
    share(&[(STRATEGY, "cooperative-sticky")]).await;
    row.works();
}

/// Each of them comes first once, and so leads the group and assigns the other.
#[tokio::test(flavor = "multi_thread")]
async fn klamms_client_shares_a_topic_with_it_by_each_assignor() {
    let row = Row::new(
        Client::Rdkafka,
        "a group shares a topic with members of Klamm's client, by cooperative-sticky, range and roundrobin",
    );
    for assignor in Assignor::ALL {
        for klamm_comes_first in [true, false] {
            let broker = broker();
            create_topic(&broker, TOPIC, PARTITIONS).await;
            let settings = [("partition.assignment.strategy", assignor.name())];
            let (to, got) = channel();
            let start = |is_klamm| match is_klamm {
                true => Member::start_klamm(&broker, assignor, &to),
                false => Member::start(&broker, &settings, &to),
            };
            let first = start(klamm_comes_first);
            wait_until_shared(&[&first]);
            write(&broker, "alone").await;
            expect(&got, &["alone"]);
            let second = start(!klamm_comes_first);
            wait_until_shared(&[&first, &second]);
            write(&broker, "together").await;
            expect(&got, &["together"]);
            first.stop();
            wait_until_shared(&[&second]);
            write(&broker, "left").await;
            expect(&got, &["left"]);
            second.stop();
        }
    }
    row.works();
}

/// `klamm consume --group`, which ends with the test.
struct CommandLine(Child);

impl CommandLine {
    fn start(broker: &Broker) -> CommandLine {
        let mut consume = Command::new(env!("CARGO_BIN_EXE_klamm"));
        consume.args(["consume", TOPIC, "--group", "workers"]);
        consume.env("KLAMM_BOOTSTRAP", &broker.address);
        CommandLine(consume.stdout(Stdio::piped()).spawn().unwrap())
    }
}

impl Drop for CommandLine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As kcat does, which offers `range` and `roundrobin`.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shares_a_topic_with_librdkafkas_defaults() {
    let row = Row::new(
        Client::Rdkafka,
        "a group shares a topic with `klamm consume --group`, both at their defaults",
    );
    let broker = broker();
    create_topic(&broker, TOPIC, PARTITIONS).await;
    let (to, got) = channel();
    let member = Member::start(&broker, &[], &to);
    wait_until_shared(&[&member]);
    // Else librdkafka may still ask where its partitions begin when they are taken away; it reads them on then, and
    // hands that out when it gets them back.
    write(&broker, "alone").await;
    expect(&got, &["alone"]);
    let mut other = CommandLine::start(&broker);
    let half = PARTITIONS as usize / 2;
    wait_until("they share", || member.owns().len() == half);
    write(&broker, "together").await;
    let lines = BufReader::new(other.0.stdout.take().unwrap()).lines();
    for line in lines.take(half) {
        to.send((0, 0, line.unwrap())).unwrap();
    }
    expect(&got, &["together"]);

    let terminated = Command::new("kill").arg(other.0.id().to_string()).status();
    assert!(terminated.unwrap().success());
    wait_until_shared(&[&member]);
    write(&broker, "left").await;
    expect(&got, &["left"]);
    member.stop();
    row.works();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_keeps_its_place_through_a_restart_and_loses_it_with_its_session() {
    let row = Row::new(
        Client::Rdkafka,
        "a static member keeps its partitions through a restart, and loses them with its session",
    );
    restart_and_give_up(("session.timeout.ms", "5000")).await;
    row.works();
}

/// Two static members; one is restarted, and then doesn't come back.
async fn restart_and_give_up(protocol: (&str, &str)) {
    let broker = broker();
    create_topic(&broker, TOPIC, PARTITIONS).await;
    let (to, got) = channel();
    let start = |instance| {
        let settings = [protocol, ("group.instance.id", instance)];
        Member::start(&broker, &settings, &to)
    };
    let (first, second) = (start("first"), start("second"));
    wait_until_shared(&[&first, &second]);
    let (owned, rebalances) = (first.owns(), second.rebalances.clone());
    let before = rebalances.0.load(Ordering::SeqCst);

    // It is restarted: the other notices nothing.
    first.stop();
    let first = start("first");
    wait_until("it has its partitions again", || first.owns() == owned);
    write(&broker, "again").await;
    expect(&got, &["again"]);
    assert_eq!(rebalances.0.load(Ordering::SeqCst), before);

    // It doesn't come back: the other takes over when its session has ended.
    first.stop();
    wait_until_shared(&[&second]);
    write(&broker, "over").await;
    expect(&got, &["over"]);
    second.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_the_consumer_protocol_share_a_topic() {
    let row = Row::new(
        Client::Rdkafka,
        "a group of the consumer protocol (KIP-848) shares a topic, and takes over from one that leaves",
    );
    share(&[CONSUMER]).await;
    row.works();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_assigns_as_the_members_ask_for() {
    let row = Row::new(
        Client::Rdkafka,
        "a group of the consumer protocol shares a topic by range, if its members ask for that",
    );
    share(&[CONSUMER, ("group.remote.assignor", "range")]).await;
    row.works();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_of_the_consumer_protocol_keeps_its_place_too() {
    let row = Row::new(
        Client::Rdkafka,
        "a static member of the consumer protocol keeps its partitions through a restart, and loses them with its session",
    );
    restart_and_give_up(CONSUMER).await;
    row.works();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_finds_the_topics_that_an_expression_means() {
    let row = Row::new(
        Client::Rdkafka,
        "the broker resolves regular expressions of the consumer protocol, also for topics that come later",
    );
    let broker = broker();
    create_topic(&broker, "other", 1).await;
    let (to, got) = channel();
    let member = Member::subscribe(&broker, "^wor[jk]$", &[CONSUMER], &to);
    create_topic(&broker, TOPIC, PARTITIONS).await;
    wait_until_shared(&[&member]);
    write(&broker, "later").await;
    expect(&got, &["later"]);
    member.stop();
    row.works();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_changes_its_protocol_while_it_works() {
    let row = Row::new(
        Client::Rdkafka,
        "a group goes over to the consumer protocol and back again, member by member",
    );
    let broker = broker();
    create_topic(&broker, TOPIC, PARTITIONS).await;
    let (to, got) = channel();
    let classic = [(STRATEGY, "cooperative-sticky")];
    let first = Member::start(&broker, &classic, &to);
    wait_until_shared(&[&first]);
    let second = Member::start(&broker, &[CONSUMER], &to);
    wait_until_shared(&[&first, &second]);
    write(&broker, "both").await;
    expect(&got, &["both"]);

    first.stop();
    let first = Member::start(&broker, &[CONSUMER], &to);
    wait_until_shared(&[&first, &second]);
    write(&broker, "consumers").await;
    expect(&got, &["consumers"]);

    second.stop();
    let second = Member::start(&broker, &classic, &to);
    wait_until_shared(&[&first, &second]);
    first.stop();
    wait_until_shared(&[&second]);
    write(&broker, "classic").await;
    expect(&got, &["classic"]);
    second.stop();
    row.works();
}

/// What the group has committed, by partition.
fn committed(broker: &Broker) -> Vec<Offset> {
    let consumer: BaseConsumer = rdkafka(broker, &[("group.id", "workers")]);
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range(TOPIC, 0, PARTITIONS - 1);
    let committed = consumer.committed_offsets(asked, WAIT).unwrap();
    committed.elements().iter().map(|e| e.offset()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_goes_on_where_it_was_when_its_broker_is_killed() {
    let row = Row::new(
        Client::Rdkafka,
        "a group goes on with its offsets and members after a broker's kill -9",
    );
    survive(("session.timeout.ms", "30000")).await;
    row.works();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_the_consumer_protocol_goes_on_too_when_its_broker_is_killed() {
    let row = Row::new(
        Client::Rdkafka,
        "a group of the consumer protocol goes on with its offsets and members after a broker's kill -9",
    );
    survive(CONSUMER).await;
    row.works();
}

async fn survive(protocol: (&str, &str)) {
    let mut broker = broker();
    create_topic(&broker, TOPIC, PARTITIONS).await;
    let (to, got) = channel();
    let settings = [protocol];
    let member = Member::start(&broker, &settings, &to);
    wait_until_shared(&[&member]);
    write(&broker, "before").await;
    expect(&got, &["before"]);
    let offsets = vec![Offset::Offset(1); PARTITIONS as usize];
    assert_eq!(committed(&broker), offsets);

    broker.kill_and_restart();
    assert_eq!(committed(&broker), offsets);
    write(&broker, "after").await;
    expect(&got, &["after"]);
    wait_until("the offsets are committed", || {
        committed(&broker) == vec![Offset::Offset(2); PARTITIONS as usize]
    });
    member.stop();
    // One that begins anew has nothing to do, and does the next.
    let member = Member::start(&broker, &settings, &to);
    wait_until_shared(&[&member]);
    write(&broker, "anew").await;
    expect(&got, &["anew"]);
    member.stop();
}
