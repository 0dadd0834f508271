//! Stopping: what is in flight is answered, and the next start knows that the last run ended well.

use std::path::PathBuf;

use klamm::model::ErrorCode;
use klamm::protocol::{fetch, find_coordinator, join_group, produce};
use rustix::process::Signal;

use crate::batches::{batch, noise};
use crate::calls::{fetch_request, only_partition, produce_request, ACKS_ALL};
use crate::harness::{Broker, Home, WAIT_MAX};
use crate::wire::{Heard, Wire};

/// The exit code of whoever is told twice to stop: 128 and the number of SIGINT.
const INTERRUPTED: i32 = 130;

fn clean_mark(home: &Home) -> PathBuf {
    home.data().join("clean-shutdown")
}

/// A connection to which the broker can't write what it has to say.
fn connect_and_never_read(broker: &Broker) -> Wire {
    let mut wire = broker.connect();
    wire.create_topic("large", 1, &[]);
    wire.append("large", &[noise(1_000_000)]);
    for _ in 0..32 {
        wire.send::<fetch::Api>(&fetch_request("large", 0, 0))
            .unwrap();
    }
    // Something of it has come, so the broker is at it.
    assert!(matches!(wire.hear(), Ok(Heard::Frame(_))));
    wire
}

#[test]
fn sigterm_leaves_the_clean_mark_and_a_start_takes_it_away() {
    let home = Home::new();
    let broker = home.start();
    let mut wire = broker.connect();
    wire.create_topic("orders", 2, &[]);
    wire.append("orders", &["a", "b"]);
    assert!(!clean_mark(&home).exists());
    broker.stop();
    assert!(clean_mark(&home).exists());
    let broker = home.start();
    assert!(!clean_mark(&home).exists());
    let mut wire = broker.connect();
    assert_eq!(wire.read_all("orders", 0).len(), 2);
    assert_eq!(wire.append("orders", &["c"]), 2);
    broker.kill();
    assert!(!clean_mark(&home).exists());
}

#[test]
fn a_broker_that_is_stopped_right_after_its_start_stops_cleanly() {
    let home = Home::new();
    for _ in 0..10 {
        home.start().stop();
        assert!(clean_mark(&home).exists());
    }
}

#[test]
fn sigint_stops_like_sigterm() {
    let home = Home::new();
    let mut broker = home.start();
    broker.signal(Signal::INT);
    assert!(broker.wait().success());
    assert!(clean_mark(&home).exists());
}

#[test]
fn a_long_poll_ends_at_sigterm() {
    let broker = Home::new().start();
    let mut wire = broker.connect();
    wire.create_topic("orders", 1, &[]);
    let request = fetch::Request {
        max_wait_ms: WAIT_MAX.as_millis() as i32,
        min_bytes: 1,
        ..fetch_request("orders", 0, 0)
    };
    let waiting = wire.send::<fetch::Api>(&request).unwrap();
    let after = wire.send::<produce::Api>(&produce_request("no", 0, 1, batch(&["a"])));
    assert_eq!(wire.correlation_ids(1), [after.unwrap()]);
    broker.signal(Signal::TERM);
    let (answered, answer) = wire.receive::<fetch::Api>().unwrap();
    assert_eq!(answered, waiting);
    assert_eq!(only_partition(answer.unwrap()).error_code, ErrorCode::None);
    wire.expect_close("the last answer");
}

/// A member that waits for others would wait for as long as they like.
#[test]
fn a_member_that_waits_for_its_group_is_told_at_sigterm() {
    // The first member of an empty group waits for others.
    let home = Home::new().with("groups.initial_rebalance_delay_ms", WAIT_MAX.as_millis());
    let broker = home.start();
    let mut wire = broker.connect();
    let find = find_coordinator::Request {
        coordinator_keys: vec!["workers".into()],
        ..Default::default()
    };
    assert_eq!(
        wire.call::<find_coordinator::Api>(&find).coordinators[0].error_code,
        ErrorCode::None
    );
    let mut join = join_group::Request {
        group_id: "workers".into(),
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: WAIT_MAX.as_millis() as i32,
        protocol_type: "consumer".into(),
        protocols: vec![join_group::JoinGroupRequestProtocol {
            name: "range".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let told = loop {
        let told = wire.call::<join_group::Api>(&join);
        // Its coordinator may be loading still.
        if !told.error_code.is_retriable() {
            break told;
        }
    };
    assert_eq!(told.error_code, ErrorCode::MemberIdRequired);
    join.member_id = told.member_id;
    let waiting = wire.send::<join_group::Api>(&join).unwrap();
    let after = wire.send::<produce::Api>(&produce_request("no", 0, 1, batch(&["a"])));
    assert_eq!(wire.correlation_ids(1), [after.unwrap()]);
    broker.signal(Signal::TERM);
    let (answered, answer) = wire.receive::<join_group::Api>().unwrap();
    assert_eq!(answered, waiting);
    assert_eq!(answer.unwrap().error_code, ErrorCode::NotCoordinator);
    wire.expect_close("the last answer");
}

#[test]
fn what_was_taken_before_sigterm_is_answered_and_nothing_else_is_in_the_log() {
    let home = Home::new();
    let mut broker = home.start();
    let mut wire = broker.connect();
    wire.create_topic("orders", 1, &[]);
    for n in 0..2_000 {
        let request = produce_request("orders", 0, ACKS_ALL, batch(&[n.to_string()]));
        if wire.send::<produce::Api>(&request).is_err() {
            break; // The broker is gone.
        }
        if n == 1_000 {
            broker.signal(Signal::TERM);
        }
    }
    let mut answered = 0;
    while let Heard::Frame(_) = wire.hear().unwrap() {
        answered += 1;
    }
    assert!(broker.wait().success(), "{}", broker.log());
    let broker = home.start();
    let read = broker.connect().read_all("orders", 0);
    assert_eq!(read.len(), answered);
    for (n, (offset, value)) in read.into_iter().enumerate() {
        assert_eq!((offset, value), (n as i64, n.to_string().into_bytes()));
    }
}

#[test]
fn no_new_connection_is_served_while_the_broker_drains() {
    let mut broker = Home::new().start();
    let _never_read = connect_and_never_read(&broker);
    broker.signal(Signal::TERM);
    broker.wait_for_log("SIGTERM: stopping");
    match Wire::silent(broker.address) {
        Err(_) => {}
        Ok(mut wire) => {
            wire.half_close();
            wire.expect_close("connecting to a broker that stops");
        }
    }
}

#[test]
fn a_peer_that_never_reads_holds_up_the_stop_no_longer_than_the_drain_timeout() {
    let home = Home::new().with("shutdown.drain_timeout_ms", 200);
    let mut broker = home.start();
    let _never_read = connect_and_never_read(&broker);
    broker.signal(Signal::TERM);
    assert!(broker.wait().success(), "{}", broker.log());
    broker.wait_for_log("some requests in flight got no answer in time");
    assert!(clean_mark(&home).exists());
}

#[test]
fn sigint_twice_stops_at_once() {
    let home = Home::new().with("shutdown.drain_timeout_ms", WAIT_MAX.as_millis() * 2);
    let mut broker = home.start();
    let _never_read = connect_and_never_read(&broker);
    broker.signal(Signal::INT);
    broker.wait_for_log("SIGINT: stopping");
    broker.signal(Signal::INT);
    assert_eq!(broker.wait().code(), Some(INTERRUPTED));
    assert!(!clean_mark(&home).exists());
    let broker = home.start();
    assert_eq!(broker.connect().read_all("large", 0).len(), 1);
}
