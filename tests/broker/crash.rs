//! kill -9 under load, at random moments, again and again.
//!
//! `KLAMM_ROUNDS` says how often (5 without it), `KLAMM_SEED` repeats a run's moments.

use klamm::model::ErrorCode;

use crate::client_load::ClientLoad;
use crate::harness::{Broker, Home};
use crate::history::{check, Copies};
use crate::load::{Load, Plan};
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

#[test]
fn what_the_client_library_sends_is_there_once_and_in_order_whatever_is_killed() {
    let mut seed = Seed::from_environment();
    let home = Home::new().with_its_own_port();
    let mut broker = home.start();
    let mut wire = broker.connect();
    wire.create_topic(PLAN.topic, PLAN.partitions, &[]);
    let load = ClientLoad::start(broker.address, PLAN.topic, PLAN.partitions);
    for _ in 0..rounds() {
        load.wait_for_acknowledged(seed.below(BATCHES_MAX) as usize);
        broker.kill();
        broker = home.start();
    }
    load.wait_for_acknowledged(1);
    load.end_and_check(&mut broker.connect());
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
