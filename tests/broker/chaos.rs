//! Actors that are stopped, made to panic or stalled by name, under load: each is back, nothing
//! that was acknowledged is lost, and callers see a retriable error or a wait and nothing else.
//!
//! These need a build with the feature `chaos`, the only one that can be told to break.

use std::io;

use klamm::model::{ErrorCode, LeaderEpoch};
use klamm::protocol::describe_actors::ActorDescription;
use klamm::protocol::inject_fault;
use klamm::protocol::{create_topics, describe_cluster, produce, Answer};

use crate::batches::batch;
use crate::calls::{create_request, only_result, produce_request, ACKS_ALL};
use crate::client_load::ClientLoad;
use crate::harness::{Broker, Home};
use crate::history::{check, Copies};
use crate::load::{until, Load, Plan};
use crate::seed::Seed;
use crate::wire::Wire;

const PLAN: Plan = Plan {
    topic: "orders",
    partitions: 2,
    writers: 4,
    window: 1,
};

/// Batches that are acknowledged before and after each fault.
const BATCHES: usize = 30;
const STALL_MS: i32 = 300;
/// Far longer than it takes to fill a mailbox.
const LONG_STALL_MS: i32 = 3_000;
/// The least that the config allows.
const MAILBOX_CAPACITY: usize = 256;

fn inject(wire: &mut Wire, kind: &str, name: &str, fault: &str) -> ErrorCode {
    inject_for(wire, kind, name, fault, STALL_MS)
}

/// `amount`: milliseconds of a stall, bytes of a disk.
pub fn inject_for(wire: &mut Wire, kind: &str, name: &str, fault: &str, amount: i32) -> ErrorCode {
    let request = inject_fault::Request {
        kind: kind.into(),
        name: name.into(),
        fault: fault.into(),
        amount: amount.into(),
    };
    wire.call::<inject_fault::Api>(&request).error_code
}

fn actor(wire: &mut Wire, kind: &str, name: &str) -> ActorDescription {
    let actors = wire.actors(Some(kind));
    let found = actors.iter().find(|actor| actor.name == name);
    found
        .unwrap_or_else(|| panic!("no {name} in {actors:?}"))
        .clone()
}

fn epoch_of(wire: &mut Wire, partition: usize) -> LeaderEpoch {
    wire.topic(PLAN.topic).partitions[partition].leader_epoch
}

/// A broker under load.
struct Scene {
    home: Home,
    broker: Broker,
    load: Load,
    wire: Wire,
}

impl Scene {
    fn begin() -> Scene {
        let home = Home::new();
        let broker = home.start();
        let mut wire = broker.connect();
        wire.create_topic(PLAN.topic, PLAN.partitions, &[]);
        let load = Load::start(PLAN);
        load.broker_is_at(broker.address);
        load.wait_for_acknowledged(BATCHES);
        Scene {
            home,
            broker,
            load,
            wire,
        }
    }

    /// Breaks the actor, and waits until it is back and everybody gets on.
    fn break_and_await(&mut self, kind: &str, name: &str, fault: &str) {
        let before = actor(&mut self.wire, kind, name).restarts;
        assert_eq!(inject(&mut self.wire, kind, name, fault), ErrorCode::None);
        let restarts = before + u64::from(fault != "stall");
        let wire = &mut self.wire;
        until("the actor is back", || {
            let now = actor(wire, kind, name);
            now.restarts == restarts && now.state == "running"
        });
        self.load.wait_for_acknowledged(BATCHES);
    }

    /// Ends the load, and compares what is there with what was acknowledged. Returns how often a
    /// writer lost its connection, or gave up an answer that didn't come.
    fn end(mut self) -> usize {
        self.load.finish();
        for partition in 0..PLAN.partitions {
            let read = self.wire.read_all(PLAN.topic, partition);
            let history = self.load.history(partition);
            if let Err(violation) = check(&history, &read, Copies::AsOftenAsSent) {
                panic!("partition {partition}: {violation}\n{}", self.broker.log());
            }
        }
        let codes = self.load.codes();
        let fatal = codes.iter().find(|code| !code.is_retriable());
        assert_eq!(fatal, None, "{codes:?}\n{}", self.broker.log());
        self.load.disconnects()
    }
}

#[test]
fn a_partition_leader_that_panics_or_stops_is_rebuilt_in_the_next_epoch() {
    for fault in ["panic", "stop"] {
        let mut scene = Scene::begin();
        for _ in 0..3 {
            let before = epoch_of(&mut scene.wire, 1);
            let other = epoch_of(&mut scene.wire, 0);
            scene.break_and_await("partition_leader", "orders-1", fault);
            assert_eq!(epoch_of(&mut scene.wire, 1), before.next(), "{fault}");
            assert_eq!(epoch_of(&mut scene.wire, 0), other, "{fault}");
        }
        assert_eq!(scene.end(), 0);
    }
}

#[test]
fn a_controller_that_panics_or_stops_is_started_again() {
    for fault in ["panic", "stop"] {
        let mut scene = Scene::begin();
        for n in 0..3 {
            scene.break_and_await("controller", "controller", fault);
            scene.wire.create_topic(&format!("after-{n}"), 1, &[]);
        }
        assert_eq!(scene.load.codes(), [], "writers don't need the controller");
        assert_eq!(scene.end(), 0);
    }
}

#[test]
fn a_guardian_that_panics_or_stops_is_started_again_and_partitions_live_on() {
    for fault in ["panic", "stop"] {
        let mut scene = Scene::begin();
        let epochs = [0, 1].map(|partition| epoch_of(&mut scene.wire, partition));
        for n in 0..3 {
            scene.break_and_await("guardian", "guardian", fault);
            scene.wire.create_topic(&format!("after-{n}"), 1, &[]);
            scene.wire.append(&format!("after-{n}"), &["a"]);
        }
        let after = [0, 1].map(|partition| epoch_of(&mut scene.wire, partition));
        assert_eq!(after, epochs, "partitions have nothing to do with it");
        assert_eq!(scene.load.codes(), []);
        // And it still watches over those of the guardian before it.
        scene.break_and_await("partition_leader", "orders-0", "panic");
        scene.break_and_await("controller", "controller", "panic");
        assert_eq!(scene.end(), 0);
    }
}

#[test]
fn a_partition_leader_that_dies_while_there_is_no_guardian_is_found_by_the_next_one() {
    let mut scene = Scene::begin();
    for _ in 0..3 {
        let before = actor(&mut scene.wire, "partition_leader", "orders-0").restarts;
        inject(&mut scene.wire, "guardian", "guardian", "panic");
        inject(&mut scene.wire, "partition_leader", "orders-0", "panic");
        let wire = &mut scene.wire;
        until("both are back", || {
            let leader = actor(wire, "partition_leader", "orders-0");
            leader.restarts == before + 1
                && leader.state == "running"
                && actor(wire, "guardian", "guardian").state == "running"
        });
        scene.load.wait_for_acknowledged(BATCHES);
    }
    assert_eq!(scene.end(), 0);
}

#[test]
fn a_connection_that_panics_or_stops_is_closed_and_its_client_comes_back() {
    for fault in ["panic", "stop"] {
        let mut scene = Scene::begin();
        let me = scene.wire.local_address().to_string();
        let connections = scene.wire.actors(Some("connection"));
        let others = connections.iter().filter(|actor| actor.name != me);
        for other in others {
            let injected = inject(&mut scene.wire, "connection", &other.name, fault);
            assert_eq!(injected, ErrorCode::None);
        }
        let load = &scene.load;
        until("all writers have come back", || {
            load.disconnects() >= PLAN.writers
        });
        scene.load.wait_for_acknowledged(BATCHES);
        assert_eq!(scene.end(), PLAN.writers);
    }
}

#[test]
fn a_stalled_actor_makes_its_callers_wait_and_nothing_else() {
    let mut scene = Scene::begin();
    for (kind, name) in [
        ("partition_leader", "orders-0"),
        ("controller", "controller"),
        ("guardian", "guardian"),
    ] {
        scene.break_and_await(kind, name, "stall");
    }
    assert_eq!(scene.load.codes(), []);
    assert_eq!(scene.end(), 0);
}

#[test]
fn what_an_overloaded_partition_can_not_take_is_answered_at_once_and_not_queued() {
    let home = Home::new().with("actors.partition_mailbox_capacity", MAILBOX_CAPACITY);
    let broker = home.start();
    let (mut wire, mut other) = (broker.connect(), broker.connect());
    wire.create_topic(PLAN.topic, 1, &[]);
    inject_for(
        &mut other,
        "partition_leader",
        "orders-0",
        "stall",
        LONG_STALL_MS,
    );
    let mut results = Vec::new();
    let mut answered = |answer: io::Result<(i32, Answer<produce::Response>)>| {
        results.push(only_result(answer.unwrap().1.unwrap()).error_code);
    };
    let sends = MAILBOX_CAPACITY + 100;
    for n in 0..sends {
        let request = produce_request(PLAN.topic, 0, ACKS_ALL, batch(&[n.to_string()]));
        wire.send::<produce::Api>(&request).unwrap();
        // One message in the mailbox for each: the broker has taken this one before the next.
        until("the broker has taken it", || {
            let depth = actor(&mut other, "partition_leader", "orders-0").mailbox_depth;
            depth as usize >= (n + 1).min(MAILBOX_CAPACITY)
        });
    }
    for _ in 0..sends {
        answered(wire.receive::<produce::Api>());
    }
    let count = |code| results.iter().filter(|result| **result == code).count();
    let (taken, refused) = (
        count(ErrorCode::None),
        count(ErrorCode::ThrottlingQuotaExceeded),
    );
    assert_eq!(taken + refused, sends, "{results:?}");
    assert!(refused >= 90, "{refused} of {sends} were refused");
    // Those who were refused did not wait for those who were taken.
    assert_eq!(results[0], ErrorCode::ThrottlingQuotaExceeded);
    assert_eq!(wire.read_all(PLAN.topic, 0).len(), taken);
}

#[test]
fn changes_that_a_dying_controller_had_before_it_are_refused_as_retriable() {
    let broker = Home::new().start();
    let (mut wire, mut other) = (broker.connect(), broker.connect());
    assert_eq!(
        inject(&mut other, "controller", "controller", "stall"),
        ErrorCode::None
    );
    let ask = |wire: &mut Wire, name: &str| {
        wire.send::<create_topics::Api>(&create_request(name, 1, &[]))
            .unwrap();
    };
    ask(&mut wire, "first");
    ask(&mut wire, "second");
    // Both wait behind the stall; the panic comes after them or before, as the mailbox has it.
    inject(&mut other, "controller", "controller", "panic");
    for _ in 0..2 {
        let (_, answer) = wire.receive::<create_topics::Api>().unwrap();
        let code = answer.unwrap().topics[0].error_code;
        assert!(code.is_ok() || code.is_retriable(), "{code}");
    }
    until("the controller is back", || {
        other.try_create_topic("third", 1, &[]).error_code.is_ok()
    });
}

#[test]
fn faults_at_random_under_load_lose_nothing() {
    let mut seed = Seed::from_environment();
    let mut scene = Scene::begin();
    for _ in 0..12 {
        let (kind, name) = match seed.below(5) {
            0 => ("controller", "controller"),
            1 => ("guardian", "guardian"),
            2 | 3 => ("partition_leader", "orders-0"),
            _ => ("partition_leader", "orders-1"),
        };
        let fault = ["panic", "stop", "stall"][seed.below(3) as usize];
        // An actor that is just being rebuilt can't be broken.
        let injected = inject(&mut scene.wire, kind, name, fault);
        let refused = [ErrorCode::None, ErrorCode::InvalidRequest];
        assert!(refused.contains(&injected), "{injected}");
        scene
            .load
            .wait_for_acknowledged(seed.below(BATCHES as u64) as usize);
    }
    let wire = &mut scene.wire;
    until("all actors run", || {
        let actors = wire.actors(None);
        actors.iter().all(|actor| actor.state == "running")
    });
    assert_eq!(scene.end(), 0);
}

#[test]
fn the_client_library_delivers_once_and_in_order_whatever_dies() {
    let mut seed = Seed::from_environment();
    let broker = Home::new().start();
    let mut wire = broker.connect();
    wire.create_topic(PLAN.topic, PLAN.partitions, &[]);
    let load = ClientLoad::start(broker.address, PLAN.topic, PLAN.partitions);
    for round in 0..12 {
        load.wait_for_acknowledged(seed.below(BATCHES as u64) as usize);
        let partition = format!("orders-{}", round % PLAN.partitions);
        // One that is just being rebuilt can't be broken.
        inject(&mut wire, "partition_leader", &partition, "panic");
        if round % 4 == 0 {
            let me = wire.local_address().to_string();
            let connections = wire.actors(Some("connection"));
            for other in connections.iter().filter(|actor| actor.name != me) {
                inject(&mut wire, "connection", &other.name, "panic");
            }
        }
    }
    load.wait_for_acknowledged(BATCHES);
    load.end_and_check(&mut wire);
}

#[test]
fn a_broker_whose_actors_have_died_stops_in_good_order() {
    let mut scene = Scene::begin();
    scene.break_and_await("partition_leader", "orders-0", "panic");
    scene.break_and_await("guardian", "guardian", "panic");
    scene.load.finish();
    scene.broker.stop();
    assert!(scene.home.data().join("clean-shutdown").exists());
    let broker = scene.home.start();
    let mut wire = broker.connect();
    let epoch = epoch_of(&mut wire, 0);
    assert!(epoch > LeaderEpoch(0), "{epoch}");
    wire.call::<describe_cluster::Api>(&describe_cluster::Request::default());
    for partition in 0..PLAN.partitions {
        let read = wire.read_all(PLAN.topic, partition);
        let history = scene.load.history(partition);
        assert_eq!(check(&history, &read, Copies::AsOftenAsSent), Ok(()));
    }
}

#[test]
fn a_topic_that_is_deleted_while_its_leader_is_dead_is_gone() {
    let home = Home::new();
    let broker = home.start();
    let mut wire = broker.connect();
    for round in 0..5 {
        wire.create_topic(PLAN.topic, 1, &[]);
        wire.append(PLAN.topic, &["a"]);
        inject(&mut wire, "partition_leader", "orders-0", "panic");
        assert_eq!(wire.delete_topic(PLAN.topic), ErrorCode::None, "{round}");
        let logs = home.data().join("logs");
        let count = || std::fs::read_dir(&logs).unwrap().count();
        until("its data is gone", || count() == 0);
        until("its actor is gone", || {
            wire.actors(Some("partition_leader")).is_empty()
        });
    }
}

#[test]
fn who_is_not_there_can_not_be_broken() {
    let broker = Home::new().start();
    let mut wire = broker.connect();
    for (kind, name, fault) in [
        ("partition_leader", "orders-0", "panic"),
        ("demon", "controller", "panic"),
        ("controller", "controller", "bless"),
    ] {
        assert_eq!(
            inject(&mut wire, kind, name, fault),
            ErrorCode::InvalidRequest
        );
    }
}
