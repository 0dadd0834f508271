//! Nodes that have nothing but their links.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::{Arbiter, System};
use async_trait::async_trait;
use bytes::Bytes;
use klamm::actors::peer::{
    Down, LinkState, PeerHandle, PeerIdentity, PeerReceiver, PeerService, PeerSettings, Peers,
    Received, Services, Session, Timing,
};
use klamm::actors::vitals::Registry;
use klamm::model::{BrokerId, ClusterId, Incarnation};
use klamm::protocol::peer::{CallError, Kind, PeerSecret, VERSIONS};
use klamm::protocol::Segments;
use tokio::sync::{mpsc, watch};

/// Nothing here takes so long, unless it never comes.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const SECRET: &[u8] = b"a secret for tests, and long enough";
pub const ECHO: Kind = Kind(100);
pub const ONE: BrokerId = BrokerId(1);
pub const TWO: BrokerId = BrokerId(2);

/// Runs a test on an actix system.
pub fn run(test: impl std::future::Future<Output = ()>) {
    let _ = env_logger::builder().is_test(true).try_init();
    System::new().block_on(async {
        tokio::time::timeout(3 * PATIENCE, test).await.unwrap();
    });
}

/// What a test sets otherwise than usual.
pub fn settings(node: BrokerId) -> PeerSettings {
    PeerSettings {
        node,
        incarnation: Incarnation::random(),
        cluster_id: Some(ClusterId("ours".into())),
        secret: PeerSecret::new(SECRET),
        versions: VERSIONS,
        timing: Timing {
            alive_interval: Duration::from_millis(50),
            silent_after: Duration::from_millis(400),
            data_silent_after: Duration::from_millis(800),
        },
        connections_max: 16,
        frame_bytes_max: 1024 * 1024,
        in_flight_bytes_max: 1024 * 1024,
        handshake_timeout: Duration::from_millis(500),
    }
}

/// A node, on threads of its own.
pub struct TestNode {
    pub address: SocketAddr,
    pub peers: Peers,
    pub services: Services,
    pub registry: Registry,
    pub received: mpsc::UnboundedReceiver<(Arc<Session>, Received)>,
    threads: Vec<Arbiter>,
}

impl TestNode {
    pub fn start(settings: PeerSettings) -> TestNode {
        TestNode::start_at(settings, "127.0.0.1:0".parse().unwrap())
    }

    pub fn start_at(settings: PeerSettings, address: SocketAddr) -> TestNode {
        let socket = Peers::bind(address).unwrap();
        let address = socket.local_address().unwrap();
        let services = Services::default();
        let (receiver, received) = mpsc::unbounded_channel();
        services.receive(Arc::new(Inbox(Mutex::new(receiver))));
        services.serve(ECHO, Arc::new(Echo));
        let registry = Registry::default();
        let threads = vec![Arbiter::new(), Arbiter::new()];
        let peers = Peers::start(
            settings,
            socket,
            services.clone(),
            &registry,
            threads[0].handle(),
            &[threads[1].handle()],
        );
        TestNode {
            address,
            peers,
            services,
            registry,
            received,
            threads,
        }
    }

    pub fn knows(&self, node: BrokerId, address: SocketAddr) {
        self.peers.introduce(node, address.to_string());
    }

    pub fn peer(&self, node: BrokerId) -> PeerHandle {
        self.peers.peer(node).unwrap()
    }

    /// Ends it without a word, as kill -9 does: its sockets are closed by the system.
    pub fn kill(self) {
        for thread in &self.threads {
            thread.stop();
        }
        for thread in self.threads {
            thread.join().unwrap();
        }
    }

    /// Forgets it at the end of a test.
    pub fn end(self) {
        for thread in &self.threads {
            thread.stop();
        }
    }
}

/// Two nodes that know each other, and are linked.
pub async fn two() -> (TestNode, TestNode) {
    let one = TestNode::start(settings(ONE));
    let two = TestNode::start(settings(TWO));
    one.knows(TWO, two.address);
    two.knows(ONE, one.address);
    up(&one.peer(TWO)).await;
    up(&two.peer(ONE)).await;
    (one, two)
}

/// Waits until both links are there.
pub async fn up(peer: &PeerHandle) {
    for state in [peer.control(), peer.data()] {
        until(state, |state| matches!(state, LinkState::Up { .. })).await;
    }
}

pub async fn down(state: watch::Receiver<LinkState>, why: Down) {
    until(
        state,
        |state| matches!(state, LinkState::Down { why: is, .. } if *is == why),
    )
    .await;
}

pub async fn until(
    mut state: watch::Receiver<LinkState>,
    holds: impl Fn(&LinkState) -> bool,
) -> LinkState {
    let mut seen = Vec::new();
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            let now = *state.borrow_and_update();
            seen.push(now);
            if holds(&now) {
                return now;
            }
            state.changed().await.unwrap();
        }
    });
    match waited.await {
        Ok(state) => state,
        Err(_) => panic!("only saw {seen:?}"),
    }
}

pub fn segments(bytes: &[u8]) -> Segments {
    Bytes::copy_from_slice(bytes).into()
}

struct Inbox(Mutex<mpsc::UnboundedSender<(Arc<Session>, Received)>>);

impl PeerReceiver for Inbox {
    fn receive(&self, from: &Arc<Session>, messages: Vec<Received>) {
        let inbox = self.0.lock().unwrap();
        for message in messages {
            let _ = inbox.send((from.clone(), message));
        }
    }
}

struct Echo;

#[async_trait]
impl PeerService for Echo {
    async fn call(&self, from: PeerIdentity, body: Bytes) -> Result<Segments, CallError> {
        let mut answer = format!("{}: ", from.node).into_bytes();
        answer.extend_from_slice(&body);
        Ok(segments(&answer))
    }
}
