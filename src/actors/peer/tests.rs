//! Links whose actors die. What else links do is tested from outside, in `tests/peer_links`.

use std::sync::Arc;
use std::time::Duration;

use actix::{Arbiter, System};

use super::*;
use crate::actors::chaos::Fault;
use crate::actors::vitals::{Registry, State, Vitals};

const PATIENCE: Duration = Duration::from_secs(20);

struct TestNode {
    peers: Peers,
    registry: Registry,
    address: String,
}

fn node(id: i32) -> TestNode {
    let settings = PeerSettings {
        node: BrokerId(id),
        incarnation: Incarnation::random(),
        cluster_id: None,
        secret: PeerSecret::new(b"a secret for tests, and long enough"),
        versions: VERSIONS,
        timing: Timing {
            alive_interval: Duration::from_millis(50),
            silent_after: Duration::from_millis(400),
            data_silent_after: Duration::from_millis(400),
        },
        connections_max: 16,
        frame_bytes_max: 1024 * 1024,
        in_flight_bytes_max: 1024 * 1024,
        handshake_timeout: Duration::from_millis(500),
    };
    let socket = Peers::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_address().unwrap().to_string();
    let registry = Registry::default();
    let [control, data] = [(); 2].map(|()| Arbiter::new().handle());
    let services = Services::default();
    let peers = Peers::start(settings, socket, services, &registry, control, &[data]);
    TestNode {
        peers,
        registry,
        address,
    }
}

async fn two() -> (TestNode, TestNode) {
    let (one, two) = (node(1), node(2));
    one.peers.introduce(BrokerId(2), two.address.clone());
    two.peers.introduce(BrokerId(1), one.address.clone());
    for (node, other) in [(&one, 2), (&two, 1)] {
        let peer = node.peers.peer(BrokerId(other)).unwrap();
        for mut state in [peer.control(), peer.data()] {
            let up = state.wait_for(|state| matches!(state, LinkState::Up { .. }));
            tokio::time::timeout(PATIENCE, up).await.unwrap().unwrap();
        }
    }
    (one, two)
}

/// Breaks an actor of node 1, and returns why the link went down; it is up again then.
async fn broken(kind: &str, name: &str, fault: Fault) -> (Down, Arc<Vitals>) {
    let (one, two) = two().await;
    // A connection is there when its peer has said that it is ready, which the dialer doesn't see.
    let vitals = loop {
        match one.registry.find(kind, name) {
            Some(vitals) if vitals.state() == State::Running => break vitals,
            _ => tokio::task::yield_now().await,
        }
    };
    // The link in question is dialed by node 1, or accepted by it.
    let peer = match kind {
        "peer_link" => one.peers.peer(BrokerId(2)),
        _ => two.peers.peer(BrokerId(1)),
    };
    let peer = peer.unwrap();
    let mut state = match name.ends_with("control") {
        true => peer.control(),
        false => peer.data(),
    };
    let LinkState::Up { since: before, .. } = *state.borrow() else {
        panic!("it was up");
    };
    while !vitals.fault_line.inject(fault) {
        tokio::task::yield_now().await;
    }
    let down = state.wait_for(|state| matches!(state, LinkState::Down { .. }));
    let lost = match tokio::time::timeout(PATIENCE, down).await {
        Ok(Ok(state)) => match *state {
            LinkState::Down { lost, .. } => lost,
            LinkState::Up { .. } => unreachable!(),
        },
        _ => panic!("it stays up"),
    };
    let again =
        state.wait_for(|state| matches!(state, LinkState::Up { since, .. } if *since != before));
    tokio::time::timeout(PATIENCE, again)
        .await
        .unwrap()
        .unwrap();
    (lost, vitals)
}

#[test]
fn a_link_whose_actor_dies_breaks_and_is_dialed_by_its_next_life() {
    System::new().block_on(async {
        for name in ["2-control", "2-data"] {
            for fault in [Fault::Panic, Fault::Stop] {
                let (lost, vitals) = broken("peer_link", name, fault).await;
                assert_eq!(lost, Down::Broken);
                assert_eq!(vitals.restarts(), 1);
            }
        }
    });
}

#[test]
fn a_connection_whose_actor_dies_is_closed_and_its_peer_dials_again() {
    System::new().block_on(async {
        for name in ["2-control", "2-data"] {
            for fault in [Fault::Panic, Fault::Stop] {
                let (lost, _) = broken("peer_connection", name, fault).await;
                assert_eq!(lost, Down::Reset);
            }
        }
    });
}

#[test]
fn a_stalled_connection_is_a_silent_one() {
    System::new().block_on(async {
        let stall = Fault::Stall(Duration::from_secs(1));
        let (lost, _) = broken("peer_connection", "2-control", stall).await;
        assert_eq!(lost, Down::Silent);
    });
}
