//! The way to the other nodes.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix::ArbiterHandle;
use bytes::Bytes;
use thiserror::Error;
use tokio::sync::watch;

use super::connection::accept_all;
use super::hub::{Hub, Links};
use super::services::Services;
use super::session::PushError;
use super::state::{Down, LinkState};
use super::PeerSettings;
use crate::actors::vitals::Registry;
use crate::model::{BrokerId, ClusterId};
use crate::protocol::peer::{CallError, Kind};
use crate::protocol::Segments;

/// How long a peer gets to hear that this node stops.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);

/// Why a request wasn't answered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PeerError {
    /// Nothing has happened.
    #[error(transparent)]
    NotSent(PushError),
    /// The connection ended before the answer came. It may have happened.
    #[error("the connection with the node ended before it answered")]
    Lost,
    /// It may have happened, or happen yet.
    #[error("the node didn't answer within {0:?}")]
    TimedOut(Duration),
    #[error("the node answers: {0}")]
    Refused(CallError),
}

/// A bound socket, which doesn't accept yet.
pub struct PeerSocket(TcpListener);

impl PeerSocket {
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// This node's links with all others. Clones share them.
#[derive(Clone)]
pub struct Peers {
    hub: Arc<Hub>,
}

impl Peers {
    /// Binds the socket for peers.
    pub fn bind(address: SocketAddr) -> io::Result<PeerSocket> {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(PeerSocket(socket))
    }

    /// Accepts peers from now on, and dials those that are introduced. Control links and all
    /// handshakes live on `control`, which nothing else should use, and data links on `data`.
    pub fn start(
        settings: PeerSettings,
        socket: PeerSocket,
        services: Services,
        registry: &Registry,
        control: ArbiterHandle,
        data: &[ArbiterHandle],
    ) -> Peers {
        let hub = Hub::new(
            settings,
            services,
            registry.clone(),
            control.clone(),
            data.to_vec(),
        );
        let accepting = hub.clone();
        control.spawn_fn(move || match tokio::net::TcpListener::from_std(socket.0) {
            Ok(socket) => {
                actix_rt::spawn(async move {
                    tokio::select! {
                        () = accept_all(socket, accepting.clone()) => {}
                        () = accepting.closing() => {}
                    }
                });
            }
            Err(error) => log::error!("the listener for peers: {error}"),
        });
        Peers { hub }
    }

    /// The node belongs to the cluster and is reached at `address`, `host:port`. Nobody else is let
    /// in. A known node gets the new address, which counts from the next time that it is dialed.
    pub fn introduce(&self, node: BrokerId, address: impl Into<String>) {
        self.hub.introduce(node, address.into());
    }

    /// From now on peers of another cluster are refused. Connections that are open stay.
    pub fn join(&self, cluster_id: ClusterId) {
        self.hub.join(cluster_id);
    }

    /// The way to a node that was introduced.
    pub fn peer(&self, node: BrokerId) -> Option<PeerHandle> {
        let links = self.hub.links(node)?;
        Some(PeerHandle { node, links })
    }

    /// All nodes that were introduced but this one, by id.
    pub fn all(&self) -> Vec<PeerHandle> {
        let nodes = self.hub.nodes();
        nodes.iter().filter_map(|node| self.peer(*node)).collect()
    }

    /// Accepts and dials no more, and says goodbye to all peers. Returns when that is said, or when
    /// some have not taken it in time.
    pub async fn close(&self) {
        let closed = tokio::time::timeout(GOODBYE_TIMEOUT, self.hub.close()).await;
        if closed.is_err() {
            log::debug!("some peers didn't hear that this node stops");
        }
    }
}

/// How long a node whose link is down may be believed to be there by others: some elections long.
const JUST_LOST: Duration = Duration::from_secs(3);

/// The way to one other node.
#[derive(Clone)]
pub struct PeerHandle {
    node: BrokerId,
    links: Links,
}

impl PeerHandle {
    pub fn node(&self) -> BrokerId {
        self.node
    }

    /// Sends a request over the control link, and waits for its answer for so long.
    pub async fn call(
        &self,
        kind: Kind,
        body: Segments,
        patience: Duration,
    ) -> Result<Bytes, PeerError> {
        let session = self.links.control.session();
        let session = session.ok_or(PeerError::NotSent(PushError::Down))?;
        let mut asked = session.ask(kind, body).map_err(PeerError::NotSent)?;
        match tokio::time::timeout(patience, asked.answer()).await {
            Ok(Some(Ok(body))) => Ok(body),
            Ok(Some(Err(error))) => Err(PeerError::Refused(error)),
            Ok(None) => Err(PeerError::Lost),
            Err(_) => Err(PeerError::TimedOut(patience)),
        }
    }

    /// Leaves a one-way message for the data link. Those of one sender arrive in order, as long as
    /// the link is up; what was on its way when it went down may have arrived or not.
    pub fn push(&self, kind: Kind, body: Segments) -> Result<(), PushError> {
        self.links.data.push(kind, body)
    }

    /// Returns when the data link takes messages again after [`PushError::Full`], or when it is
    /// down.
    pub async fn room(&self) {
        if let Some(session) = self.links.data.session() {
            session.room().await;
        }
    }

    /// Whether a link to the node was lost a moment ago and isn't there again: it may have ended, and the
    /// active controller may not have said so yet.
    pub fn is_just_lost(&self) -> bool {
        let is_just_lost = |state: LinkState| match state {
            LinkState::Up { .. }
            | LinkState::Down {
                lost: Down::New, ..
            } => false,
            LinkState::Down { since, .. } => since.elapsed() < JUST_LOST,
        };
        let (control, data) = (self.control(), self.data());
        let states = [*control.borrow(), *data.borrow()];
        states.into_iter().any(is_just_lost)
    }

    /// Bytes that wait to be sent over the data link.
    pub fn in_flight_bytes(&self) -> usize {
        let session = self.links.data.session();
        session.map_or(0, |session| session.in_flight_bytes())
    }

    /// The control link's state, which is the news of the node itself: changes as it happens.
    pub fn control(&self) -> watch::Receiver<LinkState> {
        self.links.control.state()
    }

    /// The data link's state: after each `Up`, what was pushed before has to be settled anew.
    pub fn data(&self) -> watch::Receiver<LinkState> {
        self.links.data.state()
    }
}
