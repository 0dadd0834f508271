//! The links between the nodes of a cluster.
//!
//! Each node dials each other one, twice: the *control* link carries requests and their answers (Raft,
//! heartbeats, what the controller is asked), and lives on a thread of its own, which a busy data
//! plane never holds up; the *data* link carries records to followers and their acknowledgements back,
//! and lives on an arbiter. Who has dialed asks and pushes; the other one answers. So between two nodes
//! there are four connections, and what a node acknowledges never waits behind what it pushes itself.
//!
//! | File | What is there |
//! |---|---|
//! | `handle` | [`Peers`] and [`PeerHandle`]: what the rest of the node uses |
//! | `link` | `PeerLink`, the actor that dials, again and again |
//! | `state` | [`LinkState`]: whether a link is there, and if not, why |
//! | `connection` | `PeerConnection`, the actor of what a peer has opened |
//! | `drive` | the loops of an open connection, whoever opened it |
//! | `session` | what is left to be said on it, within a bound, and who waits for an answer |
//! | `handshake` | who is there, and the proof of it |
//! | `roster` | who belongs to the cluster, and in which life each node is here |
//! | `services` | who serves what peers ask for |
//! | `raft_transport` | Raft's way to the other voters |
//!
//! The link is the failure detector too: a process that has ended resets its connections and refuses
//! new ones, which [`LinkState`] says within milliseconds; one that hangs is silent, which takes
//! [`Timing::silent_after`].

mod backoff;
mod connection;
mod drive;
mod gauges;
mod handle;
mod handshake;
mod hub;
mod link;
mod raft_transport;
mod roster;
mod services;
mod session;
mod state;
#[cfg(all(test, feature = "chaos"))]
mod tests;

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::Config;
use crate::model::{BrokerId, ClusterId, Incarnation};
use crate::protocol::peer::{PeerSecret, VERSIONS};

pub use drive::Timing;
pub use handle::{PeerError, PeerHandle, PeerSocket, Peers};
pub use raft_transport::RaftLinks;
pub use services::{PeerReceiver, PeerService, Services};
pub use session::{PushError, Received, Session, SessionLimits};
pub use state::{Down, LinkState};

/// Who a peer has proved to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    pub node: BrokerId,
    pub incarnation: Incarnation,
    /// Of the peers' protocol, as agreed.
    pub version: u16,
}

/// How this node meets its peers.
#[derive(Clone, Debug)]
pub struct PeerSettings {
    pub node: BrokerId,
    pub incarnation: Incarnation,
    /// `None` before this node has joined one; see [`Peers::join`].
    pub cluster_id: Option<ClusterId>,
    pub secret: PeerSecret,
    /// [`crate::protocol::peer::VERSIONS`], but in tests.
    pub versions: RangeInclusive<u16>,
    pub timing: Timing,
    pub connections_max: usize,
    pub frame_bytes_max: usize,
    pub in_flight_bytes_max: usize,
    pub handshake_timeout: Duration,
}

/// A data link may be silent for so many times as long as a control link.
const DATA_SILENCE: u32 = 5;

impl PeerSettings {
    /// What the config says, for this life of the node, if it is one of a cluster.
    pub fn of(config: &Config, incarnation: Incarnation) -> Option<PeerSettings> {
        let cluster = &config.cluster;
        let secret = cluster
            .secret
            .as_ref()
            .filter(|_| cluster.is_configured())?;
        let listener = &config.listeners.peer;
        let silent_after = Duration::from_millis(cluster.broker_session_timeout_ms);
        Some(PeerSettings {
            node: config.node.id,
            incarnation,
            cluster_id: None,
            secret: PeerSecret::new(secret.as_bytes()),
            versions: VERSIONS,
            timing: Timing {
                alive_interval: Duration::from_millis(cluster.broker_heartbeat_interval_ms),
                silent_after,
                data_silent_after: silent_after * DATA_SILENCE,
            },
            connections_max: listener.connections_max,
            frame_bytes_max: listener.frame_bytes_max,
            in_flight_bytes_max: listener.in_flight_bytes_max,
            handshake_timeout: Duration::from_millis(listener.handshake_timeout_ms),
        })
    }

    fn session_limits(&self) -> SessionLimits {
        SessionLimits {
            frame_bytes_max: self.frame_bytes_max,
            in_flight_bytes_max: self.in_flight_bytes_max,
        }
    }
}
