//! Peers who cost: too slow, too many, too much at once. They are bounded, and pay for it
//! themselves.

use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use klamm::model::ErrorCode;
use klamm::protocol::{api_versions, describe_cluster, fetch, metadata, produce};
use klamm::record::Codec;
use rustix::process::{getrlimit, setrlimit, Resource};

use crate::batches::{batch, noise, zeros};
use crate::calls::{fetch_request, only_partition, produce_request, ACKS_ALL};
use crate::harness::{Broker, Home};
use crate::hostile_frames::Bystander;
use crate::load::until;
use crate::wire::{frame, greeting, Wire};

#[test]
fn who_says_nothing_is_closed() {
    let home = Home::new().with("listeners.native.greeting_timeout_ms", 100);
    let broker = home.start();
    let mut bystander = Bystander::of(&broker);
    let mut silent = Wire::silent(broker.address).unwrap();
    silent.expect_close("7: nothing");
    bystander.is_served_after("7: nothing");
}

#[test]
fn who_says_it_too_slowly_is_closed() {
    let home = Home::new().with("listeners.native.frame_timeout_ms", 300);
    let broker = home.start();
    let mut bystander = Bystander::of(&broker);
    trickle(broker.connect(), frame::<api_versions::Api>(1, &greeting()));
    bystander.is_served_after("6: a byte now and then");
}

/// Sends the bytes so slowly that the connection is closed before they are through.
pub fn trickle(mut slow: Wire, bytes: Bytes) {
    let mut socket = slow.writer();
    let trickling = std::thread::spawn(move || {
        // The pace of the attack: the frame would take many times its deadline.
        for byte in bytes.iter().cycle() {
            if socket.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    slow.expect_close("6: a byte now and then");
    trickling.join().unwrap();
}

#[test]
fn who_has_been_idle_for_too_long_is_closed_but_nobody_who_waits_for_an_answer() {
    let home = Home::new().with("listeners.native.idle_timeout_ms", 200);
    let broker = home.start();
    let mut wire = broker.connect();
    wire.create_topic("orders", 1, &[]);
    let request = fetch::Request {
        max_wait_ms: 700,
        min_bytes: 1,
        ..fetch_request("orders", 0, 0)
    };
    let data = only_partition(wire.call::<fetch::Api>(&request));
    assert_eq!(data.error_code, ErrorCode::None);
    wire.expect_close("nothing for too long");
}

/// Connects until there are too many; returns those who are served.
fn crowd(broker: &Broker, count: usize) -> Vec<Wire> {
    let wires = (0..count).map(|_| Wire::connect(broker.address));
    wires.filter_map(Result::ok).collect()
}

#[test]
fn no_more_connections_than_allowed_are_served() {
    for key in ["connections_max", "connections_per_address_max"] {
        let home = Home::new().with(&format!("listeners.native.{key}"), 50);
        let broker = home.start();
        let mut served = crowd(&broker, 80);
        assert_eq!(served.len(), 50, "8: {key}");
        let ask = |wire: &mut Wire| {
            wire.call::<describe_cluster::Api>(&describe_cluster::Request::default());
        };
        served.iter_mut().for_each(ask);
        served.truncate(49);
        until("a place is free again", || {
            Wire::connect(broker.address).is_ok()
        });
        served.iter_mut().for_each(ask);
    }
}

/// How many connections this process and the broker can have, of those that are wanted.
fn possible(connections: usize) -> usize {
    // What the broker and the other tests of this process may have open beside them.
    const OTHERS: u64 = 1_000;
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let limit = limit.maximum.unwrap_or(u64::MAX);
    connections.min(limit.saturating_sub(OTHERS) as usize)
}

#[test]
fn ten_thousand_connections_cost_little_and_no_more_are_served() {
    let count = possible(10_000);
    let count_here = count / 10 * 6;
    let count_there = count - count_here;
    let home = Home::new()
        .with("listeners.native.connections_max", count)
        .with("listeners.native.connections_per_address_max", count_here);
    let broker = home.start();
    let before = broker.resident_bytes();
    let crowd = |address: [u8; 4], count| -> Vec<Wire> {
        let wires = (0..count).map(|_| Wire::connect_from(address.into(), broker.address));
        wires.filter_map(Result::ok).collect()
    };
    let mut here = crowd([127, 0, 0, 1], count_here + 20);
    assert_eq!(here.len(), count_here, "8: of one address");
    let mut there = crowd([127, 0, 0, 2], count_there + 20);
    assert_eq!(there.len(), count_there, "8: in all");
    let each = (broker.resident_bytes() - before) / count as u64;
    assert!(each < 50 * 1024, "8: {each} bytes for each connection");
    for wire in here.iter_mut().chain(&mut there).step_by(100) {
        wire.call::<describe_cluster::Api>(&describe_cluster::Request::default());
    }
    drop((here, there));
    until("they are forgotten", || {
        let wire = Wire::connect(broker.address);
        wire.is_ok_and(|mut wire| wire.actors(Some("connection")).len() == 1)
    });
}

/// Writes until the broker takes no more, or until everything is written.
pub fn pour(wire: &Wire, bytes: &[u8]) {
    let mut socket = wire.writer();
    socket
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let mut written = 0;
    while written < bytes.len() {
        match socket.write(&bytes[written..]) {
            Ok(more) => written += more,
            Err(error) => {
                let kind = error.kind();
                assert!(
                    kind == ErrorKind::WouldBlock || kind == ErrorKind::TimedOut,
                    "{error}"
                );
                return;
            }
        }
    }
}

/// Writes as much of `bytes` as is taken at once.
fn push(wire: &Wire, bytes: &[u8]) {
    let mut socket = wire.writer();
    socket.set_nonblocking(true).unwrap();
    let mut written = 0;
    while written < bytes.len() {
        let Ok(more) = socket.write(&bytes[written..]) else {
            break;
        };
        written += more;
    }
    socket.set_nonblocking(false).unwrap();
}

#[test]
fn sixty_halves_of_large_frames_share_one_budget() {
    let home = Home::new()
        .with("listeners.queued_max_request_bytes", 32 << 20)
        .with("listeners.native.frame_timeout_ms", 2_000);
    let broker = home.start();
    let mut bystander = Bystander::of(&broker);
    let mut honest = broker.connect();
    honest.create_topic("orders", 1, &[]);
    let halves = crowd(&broker, 60);
    let length = (16u32 << 20).to_be_bytes();
    halves.iter().for_each(|wire| push(wire, &length));
    for part in [vec![0; 1 << 20]].iter().cycle().take(8) {
        halves.iter().for_each(|wire| push(wire, part));
    }
    bystander.is_served_after("60 halves of 16 MiB");
    // Who is slow while others wait is closed, so a large frame gets its turn.
    honest.append("orders", &[noise(1_000_000)]);
    bystander.is_served_after("a large frame between them");
    drop(halves);
    // Far more than the budget holds: it comes back with each answer.
    for _ in 0..50 {
        honest.append("orders", &[noise(1_000_000)]);
    }
    bystander.is_served_after("they have left");
}

#[test]
fn many_large_requests_take_turns_in_a_budget_that_holds_few() {
    let home = Home::new()
        .with("listeners.queued_max_request_bytes", 4 << 20)
        .with("listeners.native.in_flight_bytes_max", 4 << 20)
        .with("listeners.native.frame_bytes_max", 4 << 20)
        .with("listeners.kafka.in_flight_bytes_max", 4 << 20)
        .with("listeners.kafka.frame_bytes_max", 4 << 20);
    let broker = home.start();
    broker.connect().create_topic("orders", 4, &[]);
    // Large and small in one stream: what is charged before it is read, and what after.
    let requests: Vec<u8> = (0..12)
        .flat_map(|n| {
            let batch = batch(&[noise([1_000_000, 40_000, 10][n % 3])]);
            let request = produce_request("orders", n as i32 % 4, ACKS_ALL, batch);
            frame::<produce::Api>(n as i32, &request)
        })
        .collect();
    std::thread::scope(|scope| {
        for mut wire in crowd(&broker, 16) {
            let mut socket = wire.writer();
            let requests = &requests;
            scope.spawn(move || socket.write_all(requests).unwrap());
            scope.spawn(move || wire.correlation_ids(12));
        }
    });
}

#[test]
fn ten_thousand_requests_at_once_are_answered_one_after_the_other() {
    let broker = Home::new().start();
    let mut bystander = Bystander::of(&broker);
    let mut wire = broker.connect();
    let bytes = |n| frame::<describe_cluster::Api>(n, &describe_cluster::Request::default());
    let mut socket = wire.writer();
    let pouring = std::thread::spawn(move || {
        for n in 0..10_000 {
            socket.write_all(&bytes(n)).unwrap();
        }
    });
    let mut answered = wire.correlation_ids(10_000);
    pouring.join().unwrap();
    answered.sort();
    assert!(answered.into_iter().eq(0..10_000));
    bystander.is_served_after("10: 10,000 requests");
}

#[test]
fn who_never_reads_what_was_fetched_is_read_from_no_more() {
    let broker = Home::new().start();
    let mut bystander = Bystander::of(&broker);
    let mut wire = broker.connect();
    wire.create_topic("orders", 1, &[]);
    for _ in 0..16 {
        wire.append("orders", &[noise(1_000_000)]);
    }
    let requests: Vec<u8> = (0..20_000)
        .flat_map(|n| frame::<fetch::Api>(n, &fetch_request("orders", 0, 0)))
        .collect();
    pour(&wire, &requests);
    bystander.is_served_during("9: 20,000 fetches of 16 MB, and none is read");
    drop(wire);
    bystander.is_served_after("9: and then it leaves");
}

#[test]
fn who_never_reads_what_it_asked_for_is_read_from_no_more() {
    let broker = Home::new().start();
    let mut bystander = Bystander::of(&broker);
    let mut wire = broker.connect();
    wire.create_topic("orders", 1_000, &[]);
    let all = metadata::Request {
        topics: None,
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let requests: Vec<u8> = (0..20_000)
        .flat_map(|n| frame::<metadata::Api>(n, &all))
        .collect();
    pour(&wire, &requests);
    bystander.is_served_during("9: 20,000 times the metadata of 1,000 partitions");
}

#[test]
fn bombs_hold_up_nobody_else() {
    const BOMBS: usize = 200;
    let broker = Home::new().start();
    let mut bystander = Bystander::of(&broker);
    let mut wire = broker.connect();
    wire.create_topic("orders", 1, &[]);
    let bomb = zeros(4 * 1024 * 1024, Codec::Gzip);
    let request = produce_request("orders", 0, ACKS_ALL, bomb);
    let bombs: Vec<u8> = (0..BOMBS as i32)
        .flat_map(|n| frame::<produce::Api>(n, &request))
        .collect();
    let began = Instant::now();
    wire.send_bytes(&bombs).unwrap();
    let attack = std::thread::spawn(move || {
        wire.correlation_ids(BOMBS);
        began.elapsed()
    });
    let mut longest = Duration::ZERO;
    while !attack.is_finished() {
        let asked = Instant::now();
        bystander.is_served_after("25: 200 bombs");
        longest = longest.max(asked.elapsed());
    }
    let attack = attack.join().unwrap();
    assert!(longest < attack / 4, "waited {longest:?} of {attack:?}");
}
