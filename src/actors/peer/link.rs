//! The link to one peer on one lane: a connection that is dialed again whenever it breaks.
//!
//! The actor lives as long as the node wants the link, and its mailbox hears only that it is to end
//! (and of faults); what goes over the link passes beside it, through the [`Session`] of the moment.
//! Its loop runs inside the actor's context: whatever ends the actor ends the connection, and one
//! that is stalled is silent. Nothing is resumed: the next life dials anew.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use arc_swap::ArcSwapOption;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch, Notify};
use tokio::time::Instant;

use super::backoff::{Attempt, Backoff};
use super::drive::{drive, Ended};
use super::gauges::LinkGauges;
use super::handshake::{greet, HandshakeError, Met};
use super::hub::Hub;
use super::roster::Side;
use super::session::{PushError, Session};
use super::state::{down_after, down_after_dialing, DialError, Down, LinkState};
use crate::actors::handle::Handle;
use crate::actors::vitals::{Kind, Registration, Vitals};
use crate::model::BrokerId;
use crate::protocol::peer::{Kind as MessageKind, Lane};
use crate::protocol::Segments;

/// What the mailbox holds: the end, and faults.
const MAILBOX_CAPACITY: usize = 16;
/// A connection that has lasted so long was one.
const HELD_MIN: Duration = Duration::from_secs(1);
/// How long a link's actor that has died stays dead.
const RESTART_DELAY: Duration = Duration::from_millis(10);

/// The link, through all lives of its actor.
pub struct Link {
    pub(super) node: BrokerId,
    pub(super) lane: Lane,
    session: ArcSwapOption<Session>,
    state: watch::Sender<LinkState>,
    /// The peer is there: dial now.
    encouraged: Notify,
    gauges: Arc<LinkGauges>,
    actor: Handle<PeerLink>,
    _registration: Registration,
}

impl Link {
    pub(super) fn new(node: BrokerId, lane: Lane, hub: &Hub) -> Arc<Link> {
        let state = LinkState::Down {
            lost: Down::New,
            why: Down::New,
            since: Instant::now(),
        };
        let state = watch::Sender::new(state);
        let gauges = Arc::new(LinkGauges::new(state.subscribe()));
        let name = format!("{node}-{lane}");
        let vitals = Vitals::new(Kind::PeerLink, name, gauges.clone());
        Arc::new(Link {
            node,
            lane,
            session: ArcSwapOption::empty(),
            state,
            encouraged: Notify::new(),
            gauges,
            _registration: hub.registry.register(vitals.clone()),
            actor: Handle::new(vitals, MAILBOX_CAPACITY),
        })
    }

    /// The connection of the moment, if there is one.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.session.load_full()
    }

    /// Leaves a one-way message on it.
    pub(super) fn push(&self, kind: MessageKind, body: Segments) -> Result<(), PushError> {
        match &*self.session.load() {
            Some(session) => session.push(kind, body),
            None => Err(PushError::Down),
        }
    }

    pub(super) fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// The peer was heard of: it is worth dialing.
    pub(super) fn encourage(&self) {
        if self.session.load().is_none() {
            self.encouraged.notify_one();
        }
    }

    fn up(&self, session: &Arc<Session>) {
        let peer = session.peer();
        self.session.store(Some(session.clone()));
        self.gauges.connected(session);
        self.state.send_replace(LinkState::Up {
            incarnation: peer.incarnation,
            version: peer.version,
            since: Instant::now(),
        });
        log::info!(
            "the {} link to node {} is up: incarnation {}, version {}",
            self.lane,
            self.node,
            peer.incarnation,
            peer.version
        );
    }

    /// Says so once, and not again at each attempt that comes to the same.
    fn down(&self, why: Down, reason: &dyn fmt::Display) {
        self.session.store(None);
        let before = *self.state.borrow();
        let (lost, since) = match before {
            LinkState::Up { .. } => (why, Instant::now()),
            LinkState::Down { lost, since, .. } => (lost, since),
        };
        let reason = reason.to_string();
        let is_news = self.gauges.failed(&reason);
        if is_news || matches!(before, LinkState::Up { .. }) {
            log::warn!(
                "the {} link to node {} is down: {reason}",
                self.lane,
                self.node
            );
        }
        let now = LinkState::Down { lost, why, since };
        self.state.send_if_modified(|state| {
            let is_other = *state != now;
            *state = now;
            is_other
        });
    }

    /// Keeps an actor alive until the node closes its links.
    pub(super) async fn keep(self: Arc<Link>, hub: Arc<Hub>, arbiter: ArbiterHandle) {
        loop {
            let (alive, ended) = oneshot::channel();
            let actor = PeerLink {
                link: self.clone(),
                hub: hub.clone(),
                _alive: alive,
            };
            let address = PeerLink::start_in_arbiter(&arbiter, move |_| actor);
            self.actor.connect(address);
            // An error says that the other end was dropped: the actor has ended.
            let _ = ended.await;
            self.actor.disconnect();
            if hub.is_closing() {
                self.actor.vitals().stopped();
                return;
            }
            self.actor.vitals().restarting();
            log::error!(
                "the {} link to node {} has died, and is started again",
                self.lane,
                self.node
            );
            tokio::time::sleep(RESTART_DELAY).await;
        }
    }

    /// Dials, and drives the connection until it ends, again and again.
    async fn run(self: Arc<Link>, hub: Arc<Hub>) {
        let mut backoff = Backoff::default();
        while !hub.is_closing() {
            let dialed = tokio::select! {
                dialed = self.dial(&hub) => dialed,
                () = hub.closing() => return,
            };
            let attempt = match dialed {
                Ok(met) => self.live(met, &hub).await,
                Err(error) => {
                    self.down(down_after_dialing(&error), &error);
                    match error {
                        DialError::Handshake(
                            HandshakeError::Refused(_) | HandshakeError::RefusedByPeer(_),
                        ) => Attempt::Rejected,
                        _ => Attempt::Failed,
                    }
                }
            };
            let pause = backoff.after(attempt, chance());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.encouraged.notified() => backoff.encourage(),
                () = hub.closing() => {}
            }
        }
    }

    async fn dial(&self, hub: &Hub) -> Result<Met, DialError> {
        let address = hub.address(self.node).ok_or(DialError::NoAddress)?;
        let patience = hub.settings.timing.silent_after;
        let introduction = hub.introduction();
        let dialing = async {
            let socket = TcpStream::connect(&*address).await;
            let socket = socket.map_err(|error| DialError::Connect(address.clone(), error))?;
            let nodelay = socket.set_nodelay(true);
            nodelay.map_err(|error| DialError::Connect(address.clone(), error))?;
            let met = greet(socket, &introduction, self.node, self.lane, |peer| {
                hub.check(peer)
            });
            Ok(met.await?)
        };
        let dialed = tokio::time::timeout(patience, dialing).await;
        dialed.unwrap_or(Err(DialError::NoAnswer(patience)))
    }

    async fn live(&self, met: Met, hub: &Hub) -> Attempt {
        let since = Instant::now();
        let limits = hub.settings.session_limits();
        let traffic = self.gauges.traffic.clone();
        let session = Session::new(met.peer, self.lane, limits, traffic);
        if let Err(refusal) = hub.enter(Side::Dialer, &session) {
            self.down(Down::Rejected(refusal.code), &refusal);
            return Attempt::Rejected;
        }
        let mut life = Life {
            link: self,
            hub,
            session: &session,
            ended: None,
        };
        self.up(&session);
        let timing = hub.settings.timing;
        life.ended = Some(drive(met.opened, &session, &hub.services, timing).await);
        drop(life);
        match since.elapsed() >= HELD_MIN {
            true => Attempt::Held,
            false => Attempt::Failed,
        }
    }
}

/// A session that lives. Dropped, it is over: also when that is because its actor has died.
struct Life<'a> {
    link: &'a Link,
    hub: &'a Hub,
    session: &'a Arc<Session>,
    ended: Option<Ended>,
}

impl Drop for Life<'_> {
    fn drop(&mut self) {
        self.session.closed();
        self.hub.leave(self.session);
        match &self.ended {
            Some(ended) => self.link.down(down_after(ended), ended),
            None => self.link.down(Down::Broken, &"its actor has ended"),
        }
    }
}

/// Any number.
fn chance() -> u32 {
    uuid::Uuid::new_v4().as_fields().0
}

/// The actor.
pub struct PeerLink {
    link: Arc<Link>,
    hub: Arc<Hub>,
    /// Dropped with the actor: whoever holds the other end starts the next one.
    _alive: oneshot::Sender<()>,
}

impl Actor for PeerLink {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        #[cfg(feature = "chaos")]
        {
            let vitals = self.link.actor.vitals();
            vitals.fault_line.connect(context.address().recipient());
        }
        let run = self.link.clone().run(self.hub.clone());
        let run = run.into_actor(self);
        context.spawn(run.map(|(), _, context| context.stop()));
    }
}

#[cfg(feature = "chaos")]
impl Handler<crate::actors::chaos::Fault> for PeerLink {
    type Result = ();

    fn handle(&mut self, fault: crate::actors::chaos::Fault, context: &mut Self::Context) {
        crate::actors::chaos::suffer(fault, self, context);
    }
}
