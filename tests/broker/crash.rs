//! kill -9 under load, at random moments, again and again.
//!
//! `KLAMM_ROUNDS` says how often (5 without it), `KLAMM_SEED` repeats a run's moments.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::Arc;

use klamm::client::{BatchOutcome, Client, ProducerConfig, ProducerRecord};
use klamm::model::ErrorCode;

use crate::harness::{Broker, Home};
use crate::history::{check, Copies, Outcome, Sent};
use crate::load::{Load, Plan, Progress};
use crate::seed::Seed;

const ROUNDS: u64 = 5;
/// The broker is killed after at most so many more acknowledged batches.
const BATCHES_MAX: u64 = 400;

const PLAN: Plan = Plan {
    topic: "orders",
    partitions: 3,
    writers: 6,
    window: 8,
};

fn rounds() -> u64 {
    std::env::var("KLAMM_ROUNDS").map_or(ROUNDS, |n| n.parse().unwrap())
}

/// Compares all that is in the log now with all that the writers know by now.
fn check_all(load: &Load, broker: &Broker, round: &str) {
    let mut wire = broker.connect();
    for partition in 0..PLAN.partitions {
        let read = wire.read_all(PLAN.topic, partition);
        let checked = check(&load.history(partition), &read, Copies::AsOftenAsSent);
        if let Err(violation) = checked {
            panic!(
                "{round}, partition {partition}: {violation}\n{}",
                broker.log()
            );
        }
    }
}

#[test]
fn what_was_acknowledged_outlives_kill_9_at_any_moment() {
    let mut seed = Seed::from_environment();
    // Small segments, so that a kill also falls into a roll.
    let home = Home::new();
    let mut broker = home.start();
    broker
        .connect()
        .create_topic(PLAN.topic, PLAN.partitions, &[]);
    let mut load = Load::start(PLAN);
    for round in 0..rounds() {
        load.broker_is_at(broker.address);
        load.wait_for_acknowledged(seed.below(BATCHES_MAX) as usize);
        load.broker_is_gone();
        broker.kill();
        broker = home.start();
        check_all(&load, &broker, &format!("round {round}"));
    }
    load.broker_is_at(broker.address);
    load.finish();
    check_all(&load, &broker, "at the end");
    assert_eq!(load.codes(), [], "a kill is no reason for an error code");
    assert!(load.disconnects() >= PLAN.writers, "the kills hit nobody");
    broker.stop();
    let broker = home.start();
    check_all(&load, &broker, "after a clean stop");
}

/// Sends to all partitions in turn until it is told to stop; returns what became of each record, by
/// partition. Every one of them must be delivered.
async fn send_until(
    stopped: &AtomicBool,
    address: SocketAddr,
    progress: Arc<Progress>,
) -> Vec<Vec<Sent>> {
    let client = Client::connect(address.to_string().as_str()).await.unwrap();
    let listener = move |outcome: &BatchOutcome| {
        if outcome.result.is_ok() {
            progress.advance();
        }
    };
    let producer = client.producer(ProducerConfig {
        batch_bytes: 2 * 1024,
        buffer_bytes: 256 * 1024,
        delivery_listener: Some(Arc::new(listener)),
        ..ProducerConfig::default()
    });
    let mut deliveries = Vec::new();
    while !stopped.load(SeqCst) {
        let value = format!("record {} {}", deliveries.len(), ".".repeat(180));
        let partition = deliveries.len() as i32 % PLAN.partitions;
        let record = ProducerRecord::to(PLAN.topic).partition(partition);
        let delivery = producer.send(record.value(value.as_bytes())).await.unwrap();
        deliveries.push((partition, value, delivery));
    }
    producer.flush().await;
    let mut sent = vec![Vec::new(); PLAN.partitions as usize];
    for (partition, value, delivery) in deliveries {
        let delivery = delivery.await.unwrap_or_else(|e| panic!("{value}: {e}"));
        sent[partition as usize].push(Sent {
            writer: 0,
            value: value.into_bytes(),
            sends: 1,
            outcome: Outcome::Acknowledged(delivery.offset.0),
        });
    }
    sent
}

#[test]
fn what_the_client_library_sends_is_there_once_and_in_order_whatever_is_killed() {
    let mut seed = Seed::from_environment();
    let home = Home::new().with_its_own_port();
    let mut broker = home.start();
    let address = broker.address;
    broker
        .connect()
        .create_topic(PLAN.topic, PLAN.partitions, &[]);
    let stopped = Arc::new(AtomicBool::new(false));
    let progress = Arc::new(Progress::default());
    let (stop, progressing) = (stopped.clone(), progress.clone());
    let sending = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime
            .unwrap()
            .block_on(send_until(&stop, address, progressing))
    });
    for _ in 0..rounds() {
        progress.wait_for(seed.below(BATCHES_MAX) as usize);
        broker.kill();
        broker = home.start();
    }
    progress.wait_for(1);
    stopped.store(true, SeqCst);
    let sent = sending.join().expect("the sender panicked");
    let mut wire = broker.connect();
    for (partition, sent) in (0..).zip(&sent) {
        let read = wire.read_all(PLAN.topic, partition);
        assert_eq!(
            check(sent, &read, Copies::One),
            Ok(()),
            "partition {partition}"
        );
        assert_eq!(read.len(), sent.len());
    }
}

#[test]
fn a_topic_that_was_just_created_outlives_kill_9() {
    let home = Home::new();
    for round in 0..3 {
        let broker = home.start();
        let mut wire = broker.connect();
        let name = format!("orders-{round}");
        wire.create_topic(&name, 1, &[]);
        broker.kill();
        let broker = home.start();
        let mut wire = broker.connect();
        assert_eq!(wire.topic(&name).error_code, ErrorCode::None);
        assert_eq!(wire.append(&name, &["a"]), 0);
        broker.kill();
    }
}
