//! Groups of the library's consumers against a real broker: members come, go, die and stand still, and every
//! record is done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use klamm::client::{
    Assignor, Client, ClientConfig, ClientError, Commits, Consumer, ConsumerConfig, GroupConfig,
    GroupOffsets, OffsetReset, ProducerConfig, ProducerRecord, RebalanceListener, TopicPartition,
};
use klamm::model::{ErrorCode, Offset};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender};

use crate::broker_process::Broker;
use crate::{client, create};

const TOPIC: &str = "work";
const GROUP: &str = "workers";
const PARTITIONS: i32 = 4;
/// How long something may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
const SESSION: Duration = Duration::from_secs(1);

fn broker() -> Broker {
    Broker::start_with(&[
        ("KLAMM__GROUPS__INITIAL_REBALANCE_DELAY_MS", "0"),
        ("KLAMM__GROUPS__MIN_SESSION_TIMEOUT_MS", "1000"),
        ("KLAMM__GROUPS__OFFSETS_TOPIC_NUM_PARTITIONS", "5"),
    ])
}

/// A group whose members are soon missed.
fn group() -> GroupConfig {
    GroupConfig {
        session_timeout: SESSION,
        heartbeat_interval: Duration::from_millis(100),
        commits: Commits::Automatic(Duration::from_millis(50)),
        ..GroupConfig::from(GROUP)
    }
}

fn from_the_beginning() -> ConsumerConfig {
    ConsumerConfig {
        offset_reset: OffsetReset::Earliest,
        max_wait: Duration::from_millis(50),
        ..ConsumerConfig::default()
    }
}

/// What happened to a member, as it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    /// In this generation, under this id.
    Joined(i32, String),
    Assigned(BTreeSet<i32>),
    Revoked(BTreeSet<i32>),
    Lost(BTreeSet<i32>),
}

#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<Told>>>);

impl Events {
    fn came_and_went(&self) -> Vec<Told> {
        let mut told = self.0.lock().unwrap().clone();
        told.retain(|told| !matches!(told, Told::Joined(..)));
        told
    }

    /// In each generation that it was told, what it had in the end.
    fn generations(&self) -> Vec<(i32, BTreeSet<i32>)> {
        let mut generations: Vec<(i32, BTreeSet<i32>)> = Vec::new();
        for told in &*self.0.lock().unwrap() {
            let owned = generations.last().map(|(_, owned)| owned.clone());
            let mut owned = owned.unwrap_or_default();
            match told {
                Told::Joined(generation, _) => {
                    generations.push((*generation, owned));
                    continue;
                }
                Told::Assigned(new) => owned.extend(new),
                Told::Revoked(gone) | Told::Lost(gone) => owned.retain(|it| !gone.contains(it)),
            }
            let now = generations.last_mut();
            now.expect("it is told first that it has joined").1 = owned;
        }
        generations
    }
}

fn numbers(partitions: &[TopicPartition]) -> BTreeSet<i32> {
    partitions.iter().map(|(_, partition)| *partition).collect()
}

impl RebalanceListener for Events {
    fn on_joined(&mut self, member_id: &str, generation: i32) {
        let told = Told::Joined(generation, member_id.into());
        self.0.lock().unwrap().push(told);
    }

    fn on_assigned(&mut self, partitions: &[TopicPartition]) -> BTreeMap<TopicPartition, Offset> {
        let told = Told::Assigned(numbers(partitions));
        self.0.lock().unwrap().push(told);
        BTreeMap::new()
    }

    fn on_revoked(&mut self, partitions: &[TopicPartition]) -> BTreeMap<TopicPartition, Offset> {
        self.0
            .lock()
            .unwrap()
            .push(Told::Revoked(numbers(partitions)));
        BTreeMap::new()
    }

    fn on_lost(&mut self, partitions: &[TopicPartition]) {
        self.0.lock().unwrap().push(Told::Lost(numbers(partitions)));
    }
}

type Done = (i32, i64, String);

/// A consumer that works in a task of its own, until it is told to stop.
struct Worker {
    stop: tokio::sync::oneshot::Sender<()>,
    has: Arc<Mutex<BTreeSet<i32>>>,
    events: Events,
    task: tokio::task::JoinHandle<Result<(), ClientError>>,
}

impl Worker {
    fn start(client: &Client, group: GroupConfig, done: &UnboundedSender<Done>) -> Worker {
        let events = Events::default();
        let mut consumer = client.consumer(from_the_beginning());
        let subscribed = consumer.subscribe_with([TOPIC], group, events.clone());
        subscribed.unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let has = Arc::new(Mutex::new(BTreeSet::new()));
        let task = tokio::spawn(work(consumer, has.clone(), done.clone(), stopped));
        Worker {
            stop,
            has,
            events,
            task,
        }
    }

    fn has(&self) -> BTreeSet<i32> {
        self.has.lock().unwrap().clone()
    }

    /// What came and went.
    fn told(&self) -> Vec<Told> {
        self.events.came_and_went()
    }

    /// Commits and leaves.
    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

async fn work(
    mut consumer: Consumer,
    has: Arc<Mutex<BTreeSet<i32>>>,
    done: UnboundedSender<Done>,
    mut stopped: tokio::sync::oneshot::Receiver<()>,
) -> Result<(), ClientError> {
    while stopped.try_recv().is_err() {
        for batch in &consumer.poll(POLL).await? {
            for record in batch.records() {
                let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                // A test that has seen enough listens no more.
                let _ = done.send((batch.partition(), record.offset.0, value));
            }
        }
        *has.lock().unwrap() = numbers(&consumer.assignment());
    }
    consumer.close().await
}

async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Until each partition is with one of them, and nobody has more than one more than another.
async fn await_shared(workers: &[&Worker]) {
    let mut seen = Vec::new();
    wait_until("they share all partitions evenly", || {
        seen = workers.iter().map(|worker| worker.has()).collect();
        let all: BTreeSet<i32> = seen.iter().flatten().copied().collect();
        let sizes = seen.iter().map(BTreeSet::len);
        let (most, least) = (sizes.clone().max(), sizes.clone().min());
        all.len() == PARTITIONS as usize
            && sizes.sum::<usize>() == all.len()
            && most <= least.map(|least| least + 1)
    })
    .await;
}

/// Writes one record to each partition.
async fn write(client: &Client, round: &str) {
    let producer = client.producer(ProducerConfig::default());
    for partition in 0..PARTITIONS {
        let value = format!("{round}-{partition}");
        let record = ProducerRecord::to(TOPIC).partition(partition);
        let sent = producer.send(record.value(value.as_bytes())).await.unwrap();
        sent.await.unwrap();
    }
}

/// The records of this round are done, each once, and nothing else.
async fn expect(done: &mut UnboundedReceiver<Done>, round: &str) {
    let mut values = BTreeSet::new();
    for _ in 0..PARTITIONS {
        let next = tokio::time::timeout(PATIENCE, done.recv()).await;
        let (_, _, value) = next.expect("all are done").expect("somebody works");
        assert!(values.insert(value.clone()), "{value} twice");
    }
    let wanted = (0..PARTITIONS).map(|partition| format!("{round}-{partition}"));
    assert_eq!(values, wanted.collect());
}

async fn committed(client: &Client) -> Vec<i64> {
    let offsets = client.admin().group_offsets(GROUP).await.unwrap();
    let of = |partition| offsets.get(&(TOPIC.to_owned(), partition)).copied();
    (0..PARTITIONS)
        .map(|p| of(p).map_or(-1, |offset| offset.0))
        .collect()
}

async fn await_committed(client: &Client, offset: i64) {
    let begun = Instant::now();
    while committed(client).await != vec![offset; PARTITIONS as usize] {
        assert!(begun.elapsed() < PATIENCE, "{:?}", committed(client).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn members_share_a_topic_and_hand_over_without_a_record_twice() {
    for assignor in Assignor::ALL {
        let broker = broker();
        let client = client(&broker).await;
        create(&client, TOPIC, PARTITIONS).await;
        let group = || GroupConfig {
            assignors: vec![assignor],
            ..group()
        };
        let (to, mut done) = unbounded_channel();
        let first = Worker::start(&client, group(), &to);
        write(&client, "alone").await;
        expect(&mut done, "alone").await;
        await_shared(&[&first]).await;

        let second = Worker::start(&client, group(), &to);
        await_shared(&[&first, &second]).await;
        write(&client, "together").await;
        expect(&mut done, "together").await;
        let all: BTreeSet<i32> = (0..PARTITIONS).collect();
        let given_up = match assignor {
            Assignor::CooperativeSticky => second.has(),
            Assignor::Range | Assignor::RoundRobin => all.clone(),
        };
        assert_eq!(
            first.told()[..2],
            [Told::Assigned(all), Told::Revoked(given_up)]
        );

        first.stop().await;
        await_shared(&[&second]).await;
        write(&client, "left").await;
        expect(&mut done, "left").await;
        second.stop().await;
        assert_eq!(committed(&client).await, vec![3; PARTITIONS as usize]);
        let described = client.admin().describe_group(GROUP).await.unwrap();
        assert_eq!(described.group_state, "Empty");
    }
}

#[tokio::test]
async fn a_listener_is_told_each_generation_and_in_each_a_partition_has_one_owner() {
    let broker = broker();
    let client = client(&broker).await;
    create(&client, TOPIC, PARTITIONS).await;
    let (to, _done) = unbounded_channel();
    let first = Worker::start(&client, group(), &to);
    await_shared(&[&first]).await;
    let second = Worker::start(&client, group(), &to);
    await_shared(&[&first, &second]).await;
    let events = [first.events.clone(), second.events.clone()];
    first.stop().await;
    await_shared(&[&second]).await;

    let mut owners = BTreeMap::new();
    for (member, events) in events.iter().enumerate() {
        let generations = events.generations();
        let numbers: Vec<i32> = generations.iter().map(|it| it.0).collect();
        assert!(numbers[0] > 0 && numbers.is_sorted(), "{numbers:?}");
        for (generation, owned) in generations {
            for partition in owned {
                let owner = owners.entry((generation, partition)).or_insert(member);
                assert_eq!(*owner, member, "{partition} in {generation}");
            }
        }
    }
    let described = client.admin().describe_group(GROUP).await.unwrap();
    let ids = events[1].0.lock().unwrap().clone();
    let id = ids.iter().find_map(|told| match told {
        Told::Joined(_, id) => Some(id),
        _ => None,
    });
    assert_eq!(id, Some(&described.members[0].member_id));
    second.stop().await;
}

#[tokio::test]
async fn others_take_over_from_one_that_dies_within_its_session_and_do_what_it_had_not_committed() {
    let broker = broker();
    let client = client(&broker).await;
    create(&client, TOPIC, PARTITIONS).await;
    // It has a runtime of its own, with which it ends without a word.
    let runtime = Runtime::new().unwrap();
    let (to, mut done) = unbounded_channel();
    let address = broker.address.clone();
    let begun = to.clone();
    let dying = runtime.spawn(async move {
        let client = Client::connect(ClientConfig::from(address.as_str())).await;
        let never = Commits::Explicit;
        let group = GroupConfig {
            commits: never,
            ..group()
        };
        Worker::start(&client.unwrap(), group, &begun)
    });
    let dying = dying.await.unwrap();
    write(&client, "once").await;
    expect(&mut done, "once").await;
    let second = Worker::start(&client, group(), &to);
    await_shared(&[&dying, &second]).await;
    // What moved was done again, since it wasn't committed.
    for _ in 0..second.has().len() {
        done.recv().await.unwrap();
    }

    let died = Instant::now();
    runtime.shutdown_background();
    await_shared(&[&second]).await;
    let took = died.elapsed();
    assert!(took < SESSION + Duration::from_secs(10), "{took:?}");
    for _ in 0..dying.has().len() {
        done.recv().await.unwrap();
    }
    write(&client, "on").await;
    expect(&mut done, "on").await;
    second.stop().await;
}

#[tokio::test]
async fn only_what_was_handed_out_and_asked_for_is_committed() {
    let broker = broker();
    let client = client(&broker).await;
    create(&client, TOPIC, PARTITIONS).await;
    for round in ["one", "two", "three"] {
        write(&client, round).await;
    }
    let explicit = GroupConfig {
        commits: Commits::Explicit,
        ..group()
    };
    let one_at_a_time = ConsumerConfig {
        poll_bytes_max: 1,
        ..from_the_beginning()
    };
    let mut consumer = client.consumer(one_at_a_time);
    consumer.subscribe([TOPIC], explicit.clone()).unwrap();
    let first = consumer.poll(PATIENCE).await.unwrap();
    assert_eq!(first.records_len(), 1);
    let batch = first.iter().next().unwrap();
    let partition = batch.partition();
    consumer.commit().await.unwrap();
    let mut expected = vec![-1; PARTITIONS as usize];
    // Where it starts is known of the others: that is committed too.
    wait_until("starts are known", || {
        (0..PARTITIONS).all(|p| consumer.position(TOPIC, p).is_some())
    })
    .await;
    consumer.commit().await.unwrap();
    expected.fill(0);
    expected[partition as usize] = 1;
    assert_eq!(committed(&client).await, expected);

    consumer.poll(PATIENCE).await.unwrap();
    assert_eq!(committed(&client).await, expected, "not by itself");
    let further: GroupOffsets = [((TOPIC.to_owned(), partition), Offset(3))].into();
    consumer.commit_offsets(&further).await.unwrap();
    expected[partition as usize] = 3;
    assert_eq!(committed(&client).await, expected);
    let foreign: GroupOffsets = [((TOPIC.to_owned(), 99), Offset(3))].into();
    let error = consumer.commit_offsets(&foreign).await.unwrap_err();
    assert!(matches!(error, ClientError::Invalid(_)), "{error}");
    consumer.close().await.unwrap();
    assert_eq!(committed(&client).await, expected);
}

/// Answers where it stands when it is to give something up.
struct Bookkeeper(Offset);

impl RebalanceListener for Bookkeeper {
    fn on_assigned(&mut self, partitions: &[TopicPartition]) -> BTreeMap<TopicPartition, Offset> {
        let starts = partitions.iter().cloned();
        starts.map(|partition| (partition, Offset(1))).collect()
    }

    fn on_revoked(&mut self, partitions: &[TopicPartition]) -> BTreeMap<TopicPartition, Offset> {
        let ends = partitions.iter().cloned();
        ends.map(|partition| (partition, self.0)).collect()
    }
}

#[tokio::test]
async fn a_listener_says_where_to_start_and_what_to_commit() {
    let broker = broker();
    let client = client(&broker).await;
    create(&client, TOPIC, PARTITIONS).await;
    write(&client, "zero").await;
    write(&client, "one").await;
    let explicit = GroupConfig {
        commits: Commits::Explicit,
        ..group()
    };
    let mut consumer = client.consumer(from_the_beginning());
    let books = Bookkeeper(Offset(2));
    consumer.subscribe_with([TOPIC], explicit, books).unwrap();
    let mut seen = 0;
    while seen < PARTITIONS as usize {
        for batch in &consumer.poll(PATIENCE).await.unwrap() {
            assert!(batch.records().all(|record| record.offset == Offset(1)));
            seen += batch.len();
        }
    }
    consumer.close().await.unwrap();
    assert_eq!(committed(&client).await, vec![2; PARTITIONS as usize]);
}

#[tokio::test]
async fn what_is_being_done_is_not_committed_before_the_next_poll_and_dropping_commits_nothing() {
    let broker = broker();
    let client = client(&broker).await;
    create(&client, TOPIC, PARTITIONS).await;
    write(&client, "first").await;
    let one_at_a_time = ConsumerConfig {
        poll_bytes_max: 1,
        ..from_the_beginning()
    };
    let mut consumer = client.consumer(one_at_a_time);
    consumer.subscribe([TOPIC], group()).unwrap();
    for _ in 0..PARTITIONS {
        let polled = consumer.poll(PATIENCE).await.unwrap();
        assert_eq!(polled.records_len(), 1);
    }
    // The last one may still be worked on: the others are committed, and where it starts.
    let begun = Instant::now();
    loop {
        let mut seen = committed(&client).await;
        seen.sort_unstable();
        if seen == [0, 1, 1, 1] {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{seen:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    consumer.poll(Duration::ZERO).await.unwrap();
    await_committed(&client, 1).await;

    write(&client, "second").await;
    let mut handed_out = 0;
    while handed_out < PARTITIONS as usize {
        handed_out += consumer.poll(PATIENCE).await.unwrap().records_len();
    }
    drop(consumer);
    let (to, mut done) = unbounded_channel();
    let next = Worker::start(&client, group(), &to);
    await_committed(&client, 2).await;
    let again = done.recv().await.unwrap();
    assert!(again.2.starts_with("second"), "{again:?}");
    next.stop().await;
}

#[tokio::test]
async fn a_member_that_does_not_poll_leaves_and_comes_back_with_the_next_poll() {
    let broker = broker();
    let client = client(&broker).await;
    create(&client, TOPIC, PARTITIONS).await;
    let impatient = GroupConfig {
        max_poll_interval: Duration::from_millis(800),
        ..group()
    };
    let events = Events::default();
    let mut still = client.consumer(from_the_beginning());
    let listening = events.clone();
    still.subscribe_with([TOPIC], impatient, listening).unwrap();
    let all: BTreeSet<i32> = (0..PARTITIONS).collect();
    while numbers(&still.assignment()) != all {
        still.poll(POLL).await.unwrap();
    }
    let (to, _done) = unbounded_channel();
    let patient = Worker::start(&client, group(), &to);
    await_shared(&[&patient]).await;
    let nothing: GroupOffsets = [((TOPIC.to_owned(), 0), Offset(0))].into();
    let error = still.commit_offsets(&nothing);
    assert_eq!(
        error.await.unwrap_err().code(),
        Some(ErrorCode::UnknownMemberId)
    );
    // Now it works again, and gets its share.
    let begun = Instant::now();
    while still.assignment().len() != 2 || patient.has().len() != 2 {
        assert!(begun.elapsed() < PATIENCE, "{:?}", still.assignment());
        still.poll(POLL).await.unwrap();
    }
    let told = events.came_and_went();
    assert_eq!(told[..2], [Told::Assigned(all.clone()), Told::Lost(all)]);
    patient.stop().await;
}

#[tokio::test]
async fn a_static_member_has_its_partitions_again_and_one_of_its_name_ends_it() {
    let broker = broker();
    let client = client(&broker).await;
    create(&client, TOPIC, PARTITIONS).await;
    let named = |name: &str| GroupConfig {
        instance_id: Some(name.to_owned()),
        session_timeout: Duration::from_secs(20),
        ..group()
    };
    let (to, _done) = unbounded_channel();
    let first = Worker::start(&client, named("first"), &to);
    let second = Worker::start(&client, named("second"), &to);
    await_shared(&[&first, &second]).await;
    let (had, told) = (first.has(), second.told());
    first.stop().await;
    let first = Worker::start(&client, named("first"), &to);
    wait_until("it has them again", || first.has() == had).await;
    assert_eq!(second.told(), told, "the other notices nothing");

    let usurper = Worker::start(&client, named("first"), &to);
    wait_until("it has them now", || usurper.has() == had).await;
    let error = first.task.await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::FencedInstanceId), "{error}");
    usurper.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn new_partitions_are_shared_and_a_topic_that_comes_later_is_read() {
    let broker = broker();
    let config = ClientConfig {
        metadata_age_max: Duration::from_millis(100),
        ..ClientConfig::from(broker.address.as_str())
    };
    let client = Client::connect(config).await.unwrap();
    let mut consumer = client.consumer(from_the_beginning());
    consumer.subscribe([TOPIC], group()).unwrap();
    consumer.poll(POLL).await.unwrap();
    create(&client, TOPIC, 1).await;
    let begun = Instant::now();
    for count in [1, PARTITIONS] {
        if count > 1 {
            let admin = client.admin();
            admin.create_partitions(TOPIC, count).await.unwrap();
        }
        while consumer.assignment().len() != count as usize {
            assert!(begun.elapsed() < PATIENCE, "{:?}", consumer.assignment());
            consumer.poll(POLL).await.unwrap();
        }
    }
    consumer.close().await.unwrap();
}

#[tokio::test]
async fn what_can_not_be_is_refused() {
    let broker = broker();
    let client = client(&broker).await;
    create(&client, TOPIC, PARTITIONS).await;
    // Nothing is committed, and nobody says where to start then.
    let mut consumer = client.consumer(ConsumerConfig::default());
    consumer.subscribe([TOPIC], group()).unwrap();
    let error = consumer.poll(PATIENCE).await.unwrap_err();
    let says = "group workers has committed no offset of partition work-";
    assert!(error.to_string().starts_with(says), "{error}");
    let error = consumer.subscribe([TOPIC], group()).unwrap_err();
    assert!(matches!(error, ClientError::Invalid(_)), "{error}");
    let assigned = consumer.assign_topic(TOPIC, klamm::client::StartAt::End);
    assert!(matches!(assigned.await, Err(ClientError::Invalid(_))));
    consumer.close().await.unwrap();

    let mut consumer = client.consumer(from_the_beginning());
    let hasty = GroupConfig {
        session_timeout: Duration::from_millis(1),
        heartbeat_interval: Duration::ZERO,
        ..group()
    };
    consumer.subscribe([TOPIC], hasty).unwrap();
    for _ in 0..2 {
        let error = consumer.poll(PATIENCE).await.unwrap_err();
        let code = Some(ErrorCode::InvalidSessionTimeout);
        assert_eq!(error.code(), code, "{error}");
    }
    let nameless = GroupConfig::from("");
    consumer.unsubscribe().await.unwrap_err();
    assert!(consumer.subscribe([TOPIC], nameless).is_err());
    assert!(consumer.subscribe([], group()).is_err());
    assert!(consumer.commit().await.is_err(), "it is in no group");
}
