//! A member by librdkafka, which commits what it was given.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use rdkafka::bindings;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use super::{Life, Protocol, Task};
use super::{COMMIT_INTERVAL, HEARTBEAT_INTERVAL, MAX_POLL_INTERVAL, POLL, SESSION};
use crate::diary::{Entry, Moment};
use crate::writers::TOPIC;

/// Names what librdkafka is to tell of itself (`cgrp`, `broker` …) on standard error.
const DEBUG: &str = "KLAMM_MEMBER_DEBUG";

pub fn work(task: &Task, leaves: impl Fn() -> bool) {
    let consumer = join(task);
    let mut committed = Instant::now();
    let mut is_over = false;
    while !is_over && !leaves() {
        match consumer.poll(POLL) {
            Some(Ok(message)) => consumer.context().given(&message),
            Some(Err(KafkaError::MessageConsumptionFatal(error)))
                if task.manner.is_static() && is_anothers_place(error) =>
            {
                is_over = true;
            }
            Some(Err(KafkaError::MessageConsumptionFatal(error))) => {
                panic!("{}: {error}", task.name)
            }
            // It goes on by itself.
            Some(Err(_)) | None => {}
        }
        if !is_over && committed.elapsed() >= COMMIT_INTERVAL {
            commit(&consumer);
            committed = Instant::now();
        }
    }
    if !is_over {
        commit(&consumer);
    }
    consumer.context().state().life.leaves = true;
}

/// Then a static member is over, as it is for any application, and may begin anew.
fn is_anothers_place(error: RDKafkaErrorCode) -> bool {
    match error {
        // After its session librdkafka 2.12.1 commits what it had begun to commit under no member's id, which it is
        // fenced for, by Kafka too.
        RDKafkaErrorCode::FencedInstanceId => true,
        // In the consumer protocol one that was killed has its place until its session ends.
        RDKafkaErrorCode::UnreleasedInstanceId => true,
        _ => false,
    }
}

fn join(task: &Task) -> BaseConsumer<Context> {
    let ms = |time: std::time::Duration| time.as_millis().to_string();
    let strategy = match task.is_cooperative() {
        true => "cooperative-sticky",
        false => "range",
    };
    let (session, heartbeat_interval) = (ms(SESSION), ms(HEARTBEAT_INTERVAL));
    let protocol: &[(&str, &str)] = match task.protocol() {
        Protocol::Classic => &[
            ("partition.assignment.strategy", strategy),
            ("session.timeout.ms", &session),
            ("heartbeat.interval.ms", &heartbeat_interval),
        ],
        // What else there is, the coordinator says.
        Protocol::Consumer => &[("group.protocol", "consumer")],
    };
    let mut config = ClientConfig::new();
    for (key, value) in protocol {
        config.set(*key, *value);
    }
    for (key, value) in [
        ("bootstrap.servers", &*task.bootstrap),
        ("group.id", task.manner.group()),
        ("max.poll.interval.ms", &ms(MAX_POLL_INTERVAL)),
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
    if let Ok(contexts) = std::env::var(DEBUG) {
        config.set("debug", contexts);
        config.set_log_level(RDKafkaLogLevel::Debug);
    }
    if task.manner.is_static() {
        config.set("group.instance.id", &task.name);
    }
    let consumer = config.create_with_context(Context::of(task));
    let consumer: BaseConsumer<Context> = consumer.unwrap();
    consumer.subscribe(&[TOPIC]).unwrap();
    consumer
}

/// One after the other: of two on their way at once, the earlier one may be written last.
fn commit(consumer: &BaseConsumer<Context>) {
    // Its epoch may rise and nothing come or go. A generation is one only when it is assigned, which is told.
    if consumer.context().protocol == Protocol::Consumer {
        let epoch = generation(consumer);
        consumer.context().state().life.comes_into(epoch);
    }
    let uncommitted = std::mem::take(&mut consumer.context().state().uncommitted);
    let mut offsets = TopicPartitionList::new();
    for (partition, next) in &uncommitted {
        let next = Offset::Offset(*next);
        let added = offsets.add_partition_offset(TOPIC, *partition, next);
        added.unwrap();
    }
    // What came of it is heard in [`ConsumerContext::commit_callback`].
    if offsets.count() > 0 && consumer.commit(&offsets, CommitMode::Sync).is_err() {
        // Its epoch may have risen meanwhile: then it is to commit again, unless it has it no more.
        let State {
            life,
            uncommitted: again,
            ..
        } = &mut *consumer.context().state();
        again.extend(
            uncommitted
                .into_iter()
                .filter(|it| life.owns.contains(&it.0)),
        );
    }
}

/// What the library's callbacks see.
struct Context {
    name: String,
    protocol: Protocol,
    is_cooperative: bool,
    state: Mutex<State>,
}

struct State {
    life: Life,
    /// Of what it owns, where it is to go on.
    uncommitted: BTreeMap<i32, i64>,
}

impl Context {
    fn of(task: &Task) -> Context {
        Context {
            name: task.name.clone(),
            protocol: task.protocol(),
            is_cooperative: task.is_cooperative(),
            state: Mutex::new(State {
                life: Life::begin(task),
                uncommitted: BTreeMap::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn given(&self, message: &impl Message) {
        let (partition, offset) = (message.partition(), message.offset());
        let mut state = self.state();
        (state.life).given(partition, offset, message.payload().unwrap());
        state.uncommitted.insert(partition, offset + 1);
    }
}

impl ClientContext for Context {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        if std::env::var_os(DEBUG).is_some() {
            let at = Moment::now().0;
            eprintln!("{at} {} {facility}: {message}", self.name);
        }
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let (generation, is_lost) = (generation(consumer), consumer.assignment_lost());
        let State { life, uncommitted } = &mut *self.state();
        match rebalance {
            Rebalance::Assign(new) => {
                life.generation = generation;
                life.takes(&numbers(new));
            }
            Rebalance::Revoke(gone) => {
                // Else all that it has.
                let gone = match self.is_cooperative {
                    true => numbers(gone),
                    false => life.owns.clone(),
                };
                match is_lost {
                    true => life.loses(&gone),
                    false => {
                        life.generation = generation;
                        life.gives_up(gone);
                    }
                }
            }
            Rebalance::Error(_) => {}
        }
        // Whoever has them now goes on from what is committed.
        uncommitted.retain(|partition, _| life.owns.contains(partition));
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        if result.is_err() {
            return;
        }
        for element in offsets.elements() {
            if let (Ok(()), Offset::Offset(offset)) = (element.error(), element.offset()) {
                let partition = element.partition();
                let entry = Entry::Committed { partition, offset };
                self.state().life.diary.note(&entry);
            }
        }
    }
}

fn numbers(partitions: &TopicPartitionList) -> BTreeSet<i32> {
    let elements = partitions.elements();
    elements.iter().map(|element| element.partition()).collect()
}

/// Of the group, as this member knows it; -1 while it is none.
fn generation(consumer: &BaseConsumer<Context>) -> i32 {
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
