//! A connection that a peer has opened: its requests are served, and its messages taken.
//!
//! All handshakes run on the control links' thread, where they take turns: in which order two lives of
//! a node come is decided in one place. Then a data connection moves to an arbiter.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::drive::{drive, Opened};
use super::handshake::{receive, HandshakeError, Met};
use super::hub::{stopping, Hub};
use super::roster::Side;
use super::session::{Session, Traffic};
use crate::actors::vitals::{Gauges, Kind, Registration, Vitals};
use crate::protocol::peer::{FrameReader, FrameWriter, Outgoing, Refusal, RefusalCode};

/// Handshakes that are under way. One more ends the oldest: a peer's takes a moment, and those that
/// take longer are strangers'.
const HANDSHAKES_MAX: usize = 64;
/// How long accepting rests after an error that will not go away at once: no free descriptors.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);
/// How long one that is turned away gets to hear why.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(200);
/// Strangers that are refused are named in the log at most so often.
const COMPLAINTS_INTERVAL: Duration = Duration::from_secs(1);
const COMPLAINTS_MAX: u32 = 10;

/// Accepts until the future is dropped.
pub async fn accept_all(socket: TcpListener, hub: Arc<Hub>) {
    let places = Arc::new(Semaphore::new(hub.settings.connections_max));
    let complaints = Arc::new(std::sync::Mutex::new(Complaints::default()));
    let mut handshakes = Handshakes::default();
    loop {
        let (socket, address) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                log::warn!("a peer's connection could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_BACK_OFF).await;
                continue;
            }
        };
        let hub = hub.clone();
        let places = places.clone();
        let complaints = complaints.clone();
        let handshake = actix_rt::spawn(async move {
            if let Err(error) = admit(socket, &hub, &places).await {
                let mut complaints = complaints
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                complaints.log(address, &error);
            }
        });
        handshakes.add(handshake.abort_handle());
    }
}

async fn admit(
    socket: TcpStream,
    hub: &Arc<Hub>,
    places: &Arc<Semaphore>,
) -> Result<(), HandshakeError> {
    socket.set_nodelay(true)?;
    let introduction = hub.introduction();
    let handshake = receive(socket, &introduction, |peer| match hub.is_closing() {
        true => Err(stopping()),
        false => hub.check(peer),
    });
    let patience = hub.settings.handshake_timeout;
    let met = tokio::time::timeout(patience, handshake).await;
    let met = met.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let Ok(place) = places.clone().try_acquire_owned() else {
        let message = "this node has as many peers' connections as it may have";
        let refusal = Refusal::new(RefusalCode::TooManyConnections, message);
        return Err(turn_away(met.opened, refusal).await);
    };
    let traffic = Arc::new(Traffic::default());
    let limits = hub.settings.session_limits();
    let session = Session::new(met.peer, met.lane, limits, traffic.clone());
    if let Err(refusal) = hub.enter(Side::Acceptor, &session) {
        return Err(turn_away(met.opened, refusal).await);
    }
    hub.encourage(met.peer.node);
    start(met, session, traffic, hub.clone(), place)
}

/// Says goodbye to one that has proved who it is.
async fn turn_away(mut opened: Opened, refusal: Refusal) -> HandshakeError {
    opened.writer.put(Outgoing::Goodbye(refusal.clone()));
    let telling = opened.writer.pieces().write_all(&mut opened.socket);
    // It may have gone, which is what it is to do.
    let _ = tokio::time::timeout(GOODBYE_TIMEOUT, telling).await;
    HandshakeError::Refused(refusal)
}

/// Starts the actor where its lane lives.
fn start(
    met: Met,
    session: Arc<Session>,
    traffic: Arc<Traffic>,
    hub: Arc<Hub>,
    place: OwnedSemaphorePermit,
) -> Result<(), HandshakeError> {
    let Opened {
        socket,
        buffer,
        writer,
        reader,
    } = met.opened;
    let life = Life {
        session: session.clone(),
        hub: hub.clone(),
    };
    // The socket leaves this thread's runtime.
    let socket = socket.into_std()?;
    let parts = Parts {
        socket,
        buffer,
        writer,
        reader,
    };
    let name = format!("{}-{}", met.peer.node, met.lane);
    let gauges = Arc::new(ConnectionGauges {
        session: session.clone(),
        traffic,
        since: Instant::now(),
    });
    let vitals = Vitals::new(Kind::PeerConnection, name, gauges);
    let registration = hub.registry.register(vitals.clone());
    let arbiter = hub.arbiter(met.peer.node, met.lane);
    let actor = PeerConnection {
        parts: Some(parts),
        life: Some(life),
        hub,
        vitals,
        _registration: registration,
        _place: place,
    };
    PeerConnection::start_in_arbiter(&arbiter, move |_| actor);
    Ok(())
}

/// An open connection on its way to another thread.
struct Parts {
    socket: std::net::TcpStream,
    buffer: bytes::BytesMut,
    writer: FrameWriter,
    reader: FrameReader,
}

/// A session that lives; it is closed when this is dropped.
struct Life {
    session: Arc<Session>,
    hub: Arc<Hub>,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.session.closed();
        self.hub.leave(&self.session);
    }
}

/// The actor.
pub struct PeerConnection {
    parts: Option<Parts>,
    life: Option<Life>,
    hub: Arc<Hub>,
    vitals: Arc<Vitals>,
    _registration: Registration,
    _place: OwnedSemaphorePermit,
}

impl Actor for PeerConnection {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.vitals.started();
        #[cfg(feature = "chaos")]
        self.vitals
            .fault_line
            .connect(context.address().recipient());
        let (Some(parts), Some(life)) = (self.parts.take(), self.life.take()) else {
            return context.stop();
        };
        let served = serve(parts, life, self.hub.clone()).into_actor(self);
        context.spawn(served.map(|(), _, context| context.stop()));
    }
}

#[cfg(feature = "chaos")]
impl Handler<crate::actors::chaos::Fault> for PeerConnection {
    type Result = ();

    fn handle(&mut self, fault: crate::actors::chaos::Fault, context: &mut Self::Context) {
        crate::actors::chaos::suffer(fault, self, context);
    }
}

async fn serve(parts: Parts, life: Life, hub: Arc<Hub>) {
    let session = &life.session;
    let peer = session.peer();
    let (node, lane) = (peer.node, session.lane());
    let socket = match TcpStream::from_std(parts.socket) {
        Ok(socket) => socket,
        Err(error) => return log::error!("node {node}'s {lane} connection: {error}"),
    };
    log::info!(
        "node {node} has opened its {lane} link: incarnation {}, version {}",
        peer.incarnation,
        peer.version
    );
    let opened = Opened {
        socket,
        buffer: parts.buffer,
        writer: parts.writer,
        reader: parts.reader,
    };
    let ended = drive(opened, session, &hub.services, hub.settings.timing).await;
    log::info!("node {node}'s {lane} link has ended: {ended}");
}

/// Those under way, oldest first; some may have ended.
#[derive(Default)]
struct Handshakes(VecDeque<AbortHandle>);

impl Handshakes {
    fn add(&mut self, handshake: AbortHandle) {
        self.0.retain(|handshake| !handshake.is_finished());
        if self.0.len() >= HANDSHAKES_MAX {
            if let Some(oldest) = self.0.pop_front() {
                oldest.abort();
            }
        }
        self.0.push_back(handshake);
    }
}

/// Keeps strangers from filling the log.
#[derive(Default)]
struct Complaints {
    since: Option<Instant>,
    count: u32,
}

impl Complaints {
    fn log(&mut self, address: SocketAddr, error: &HandshakeError) {
        let now = Instant::now();
        let is_over = |since| now - since >= COMPLAINTS_INTERVAL;
        if self.since.is_none_or(is_over) {
            self.since = Some(now);
            self.count = 0;
        }
        self.count += 1;
        if self.count <= COMPLAINTS_MAX {
            log::warn!("{address} wanted to be a peer: {error}");
        } else {
            log::debug!("{address} wanted to be a peer: {error}");
        }
    }
}

struct ConnectionGauges {
    session: Arc<Session>,
    traffic: Arc<Traffic>,
    since: Instant,
}

impl Gauges for ConnectionGauges {
    fn detail(&self) -> String {
        format!(
            "up {} ms, incarnation {}, in flight {} bytes, {}",
            self.since.elapsed().as_millis(),
            self.session.peer().incarnation,
            self.session.in_flight_bytes(),
            self.traffic
        )
    }
}
