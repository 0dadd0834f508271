//! A member of a consumer group, as a process of its own: only a process can be killed or hang as they do.
//!
//! The test's binary starts itself as one: it runs [`a_member_works_until_it_is_told_to_leave`] and nothing
//! else, with its task in the environment. It leaves in good order when its standard input ends.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rdkafka::bindings;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaResult;
use rdkafka::message::Message;
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use crate::diary::{Diary, Entry};
use crate::writers::TOPIC;

/// How long a member may be silent before the others get what it owned.
pub const SESSION: Duration = Duration::from_secs(3);
/// How often it commits what it was given.
const COMMIT_INTERVAL: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_millis(50);

/// How the members of a group share its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// All give up everything in each rebalance.
    Range,
    CooperativeSticky,
    /// As `Range`, by members that stay the same when they come back in time (KIP-345).
    Static,
}

impl Manner {
    pub const ALL: [Manner; 3] = [Manner::Range, Manner::CooperativeSticky, Manner::Static];

    /// The group of those who do so.
    pub fn group(self) -> &'static str {
        match self {
            Manner::Range => "range",
            Manner::CooperativeSticky => "cooperative-sticky",
            Manner::Static => "static",
        }
    }

    fn of_group(name: &str) -> Manner {
        let mut all = Manner::ALL.into_iter();
        all.find(|manner| manner.group() == name)
            .expect("there is such a group")
    }
}

/// What a member is started with.
pub struct Task {
    pub manner: Manner,
    /// Its own among all members.
    pub name: String,
    pub bootstrap: String,
    pub diary: PathBuf,
}

const GROUP: &str = "KLAMM_MEMBER_GROUP";
const NAME: &str = "KLAMM_MEMBER_NAME";
const BOOTSTRAP: &str = "KLAMM_MEMBER_BOOTSTRAP";
const DIARY: &str = "KLAMM_MEMBER_DIARY";

impl Task {
    pub fn start(&self) -> Child {
        let binary = env::current_exe().expect("this is a program");
        Command::new(binary)
            .args(["--exact", "--ignored", "--nocapture"])
            .arg("member::a_member_works_until_it_is_told_to_leave")
            .env(GROUP, self.manner.group())
            .env(NAME, &self.name)
            .env(BOOTSTRAP, &self.bootstrap)
            .env(DIARY, &self.diary)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the member starts")
    }

    /// `None` if nobody has asked for a member.
    fn of_environment() -> Option<Task> {
        let group = env::var(GROUP).ok()?;
        let told = |name| env::var(name).expect("a member is told everything");
        Some(Task {
            manner: Manner::of_group(&group),
            name: told(NAME),
            bootstrap: told(BOOTSTRAP),
            diary: told(DIARY).into(),
        })
    }
}

#[test]
#[ignore = "the chaos starts its members so"]
fn a_member_works_until_it_is_told_to_leave() {
    let Some(task) = Task::of_environment() else {
        return;
    };
    let leaves = Arc::new(AtomicBool::new(false));
    std::thread::spawn({
        let leaves = leaves.clone();
        move || {
            // It ends also when the one who has started this process ends.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            leaves.store(true, SeqCst);
        }
    });
    let consumer = join(&task);
    let mut committed = Instant::now();
    while !leaves.load(SeqCst) {
        if let Some(Ok(message)) = consumer.poll(POLL) {
            consumer.context().given(&message);
        }
        if committed.elapsed() >= COMMIT_INTERVAL {
            commit(&consumer);
            committed = Instant::now();
        }
    }
    commit(&consumer);
}

fn join(task: &Task) -> BaseConsumer<Life> {
    let session = SESSION.as_millis().to_string();
    let strategy = match task.manner {
        Manner::Range | Manner::Static => "range",
        Manner::CooperativeSticky => "cooperative-sticky",
    };
    let mut config = ClientConfig::new();
    for (key, value) in [
        ("bootstrap.servers", &*task.bootstrap),
        ("group.id", task.manner.group()),
        ("partition.assignment.strategy", strategy),
        ("session.timeout.ms", &session),
        ("heartbeat.interval.ms", "300"),
        ("max.poll.interval.ms", "10000"),
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "earliest"),
        ("fetch.wait.max.ms", "50"),
        ("reconnect.backoff.ms", "10"),
        ("reconnect.backoff.max.ms", "200"),
        ("retry.backoff.ms", "20"),
        ("topic.metadata.refresh.fast.interval.ms", "50"),
    ] {
        config.set(key, value);
    }
    if task.manner == Manner::Static {
        config.set("group.instance.id", &task.name);
    }
    let consumer = config.create_with_context(Life::begin(task));
    let consumer: BaseConsumer<Life> = consumer.unwrap();
    consumer.subscribe(&[TOPIC]).unwrap();
    consumer
}

/// One after the other: of two on their way at once, the earlier one may be written last.
fn commit(consumer: &BaseConsumer<Life>) {
    let mut offsets = TopicPartitionList::new();
    for (partition, next) in std::mem::take(&mut consumer.context().state().uncommitted) {
        let next = Offset::Offset(next);
        offsets
            .add_partition_offset(TOPIC, partition, next)
            .unwrap();
    }
    if offsets.count() > 0 {
        // What came of it is heard in [`ConsumerContext::commit_callback`].
        let _ = consumer.commit(&offsets, CommitMode::Sync);
    }
}

/// What the member owns, was given, and notes.
struct Life(Mutex<State>);

struct State {
    manner: Manner,
    diary: Diary,
    owns: BTreeSet<i32>,
    /// Of what it owns, where it is to go on.
    uncommitted: BTreeMap<i32, i64>,
}

impl Life {
    fn begin(task: &Task) -> Life {
        Life(Mutex::new(State {
            manner: task.manner,
            diary: Diary::begin(&task.diary),
            owns: BTreeSet::new(),
            uncommitted: BTreeMap::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn given(&self, message: &impl Message) {
        let value = std::str::from_utf8(message.payload().unwrap()).unwrap();
        let (partition, offset) = (message.partition(), message.offset());
        let mut state = self.state();
        state.diary.note(&Entry::Given {
            partition,
            offset,
            value: value.trim_end().into(),
        });
        state.uncommitted.insert(partition, offset + 1);
    }
}

impl ClientContext for Life {}

impl ConsumerContext for Life {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let generation = generation(consumer);
        let mut state = self.state();
        let is_cooperative = state.manner == Manner::CooperativeSticky;
        match rebalance {
            Rebalance::Assign(added) if is_cooperative => state.owns.extend(numbers(added)),
            Rebalance::Assign(all) => state.owns = numbers(all),
            Rebalance::Revoke(gone) if is_cooperative => {
                let gone = numbers(gone);
                state.owns.retain(|partition| !gone.contains(partition));
            }
            Rebalance::Revoke(_) => state.owns.clear(),
            Rebalance::Error(_) => return,
        }
        let State {
            diary,
            owns,
            uncommitted,
            ..
        } = &mut *state;
        // Whoever has them now goes on from what is committed.
        uncommitted.retain(|partition, _| owns.contains(partition));
        let partitions = owns.clone();
        diary.note(&Entry::Owns {
            generation,
            partitions,
        });
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        if result.is_err() {
            return;
        }
        for element in offsets.elements() {
            if let (Ok(()), Offset::Offset(offset)) = (element.error(), element.offset()) {
                let partition = element.partition();
                let entry = Entry::Committed { partition, offset };
                self.state().diary.note(&entry);
            }
        }
    }
}

fn numbers(partitions: &TopicPartitionList) -> BTreeSet<i32> {
    let elements = partitions.elements();
    elements.iter().map(|element| element.partition()).collect()
}

/// Of the group, as this member knows it; -1 while it is none.
fn generation(consumer: &BaseConsumer<Life>) -> i32 {
    let client = consumer.client().native_ptr();
    // Sound: the client lives, and what it gives is ours until we give it back.
    unsafe {
        let metadata = bindings::rd_kafka_consumer_group_metadata(client);
        if metadata.is_null() {
            return -1;
        }
        let generation = bindings::rd_kafka_consumer_group_metadata_generation_id(metadata);
        bindings::rd_kafka_consumer_group_metadata_destroy(metadata);
        generation
    }
}
