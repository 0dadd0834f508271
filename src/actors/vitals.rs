//! What can be seen of each actor: state, mailbox, restarts, and what it tells of itself.
//!
//! An actor's [`Vitals`] outlive it: they stay with its handle when it panics and is rebuilt, and
//! are read without asking it, so that an actor which hangs can be seen to hang.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::Timestamp;

/// The kinds of actors, as `DescribeActors` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Connection,
    Controller,
    GroupCoordinator,
    Guardian,
    PartitionFollower,
    PartitionLeader,
    /// What a peer has opened.
    PeerConnection,
    /// The link to a peer, which this node dials.
    PeerLink,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Connection => "connection",
            Kind::Controller => "controller",
            Kind::GroupCoordinator => "group_coordinator",
            Kind::Guardian => "guardian",
            Kind::PartitionFollower => "partition_follower",
            Kind::PartitionLeader => "partition_leader",
            Kind::PeerConnection => "peer_connection",
            Kind::PeerLink => "peer_link",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().fmt(f)
    }
}

/// Where in its life an actor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Not there yet: its log is being opened.
    Starting,
    Running,
    /// Died, and is being rebuilt.
    Restarting,
    /// Can't be had until an operator mends what its detail names.
    Offline,
    Stopped,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Running => "running",
            State::Restarting => "restarting",
            State::Offline => "offline",
            State::Stopped => "stopped",
        }
    }

    fn from_code(code: u8) -> State {
        [
            State::Starting,
            State::Running,
            State::Restarting,
            State::Offline,
        ]
        .into_iter()
        .find(|state| *state as u8 == code)
        .unwrap_or(State::Stopped)
    }
}

/// What an actor keeps up to date of itself, for others to read at any time.
pub trait Gauges: Send + Sync {
    /// In one line.
    fn detail(&self) -> String;
}

/// One actor's observable state, through all its lives.
pub struct Vitals {
    /// A partition's replica leads at one time and follows at another.
    kind: Mutex<Kind>,
    name: String,
    state: AtomicU8,
    sent: AtomicU64,
    handled: AtomicU64,
    restarts: AtomicU64,
    alive_since_ms: AtomicI64,
    offline_reason: Mutex<Option<String>>,
    gauges: Arc<dyn Gauges>,
    #[cfg(feature = "chaos")]
    pub(crate) fault_line: super::chaos::FaultLine,
}

impl Vitals {
    pub fn new(kind: Kind, name: String, gauges: Arc<dyn Gauges>) -> Arc<Vitals> {
        Arc::new(Vitals {
            kind: Mutex::new(kind),
            name,
            state: AtomicU8::new(State::Starting as u8),
            sent: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            alive_since_ms: AtomicI64::new(Timestamp::now().0),
            offline_reason: Mutex::new(None),
            gauges,
            #[cfg(feature = "chaos")]
            fault_line: Default::default(),
        })
    }

    pub fn kind(&self) -> Kind {
        *locked(&self.kind)
    }

    /// The next life is one of this kind.
    pub fn becomes(&self, kind: Kind) {
        *locked(&self.kind) = kind;
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn state(&self) -> State {
        State::from_code(self.state.load(Relaxed))
    }

    /// A life begins: the mailbox is empty.
    pub fn started(&self) {
        self.sent.store(self.handled.load(Relaxed), Relaxed);
        self.alive_since_ms.store(Timestamp::now().0, Relaxed);
        self.state.store(State::Running as u8, Relaxed);
    }

    /// A life has ended, and the next is being prepared.
    pub fn restarting(&self) {
        self.restarts.fetch_add(1, Relaxed);
        self.state.store(State::Restarting as u8, Relaxed);
    }

    pub fn stopped(&self) {
        self.state.store(State::Stopped as u8, Relaxed);
    }

    /// The actor can't be had, for this reason.
    pub fn offline(&self, reason: String) {
        *locked(&self.offline_reason) = Some(reason);
        self.state.store(State::Offline as u8, Relaxed);
    }

    /// Why it is offline, if it is.
    pub fn offline_reason(&self) -> Option<String> {
        match self.state() {
            State::Offline => locked(&self.offline_reason).clone(),
            _ => None,
        }
    }

    pub(super) fn message_sent(&self) {
        self.sent.fetch_add(1, Relaxed);
    }

    /// The actor has taken a message out of its mailbox.
    pub(super) fn message_handled(&self) {
        self.handled.fetch_add(1, Relaxed);
    }

    /// Messages that wait in the mailbox.
    pub fn mailbox_depth(&self) -> u64 {
        let handled = self.handled.load(Relaxed);
        self.sent.load(Relaxed).saturating_sub(handled)
    }

    pub fn messages_handled(&self) -> u64 {
        self.handled.load(Relaxed)
    }

    pub fn restarts(&self) -> u64 {
        self.restarts.load(Relaxed)
    }

    /// How long its present life has lasted.
    pub fn age_ms(&self, now: Timestamp) -> i64 {
        now - Timestamp(self.alive_since_ms.load(Relaxed))
    }

    /// What it tells of itself, or why it is offline.
    pub fn detail(&self) -> String {
        self.offline_reason()
            .unwrap_or_else(|| self.gauges.detail())
    }
}

/// By when they were registered.
type Actors = BTreeMap<u64, Arc<Vitals>>;

/// All actors of this node.
#[derive(Clone, Default)]
pub struct Registry {
    actors: Arc<Mutex<Actors>>,
    registered: Arc<AtomicU64>,
}

impl Registry {
    /// Lists the actor for as long as the registration lives.
    pub fn register(&self, vitals: Arc<Vitals>) -> Registration {
        let number = self.registered.fetch_add(1, Relaxed);
        locked(&self.actors).insert(number, vitals);
        Registration {
            registry: self.clone(),
            number,
        }
    }

    /// Sorted by kind and name.
    pub fn all(&self) -> Vec<Arc<Vitals>> {
        let mut all: Vec<_> = locked(&self.actors).values().cloned().collect();
        all.sort_by_cached_key(|vitals| (vitals.kind(), vitals.name.clone()));
        all
    }

    /// The newest of them, if there are namesakes: a topic that was deleted and created again.
    pub fn find(&self, kind: &str, name: &str) -> Option<Arc<Vitals>> {
        let actors = locked(&self.actors);
        let mut newest_first = actors.values().rev();
        let found = newest_first.find(|vitals| vitals.name == name && vitals.kind().name() == kind);
        found.cloned()
    }
}

/// Keeps an actor in the [`Registry`].
pub struct Registration {
    registry: Registry,
    number: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        locked(&self.registry.actors).remove(&self.number);
    }
}

/// A panic of a holder leaves nothing half-done in what these locks guard.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Gauges for Nothing {
        fn detail(&self) -> String {
            String::new()
        }
    }

    fn vitals(name: &str) -> Arc<Vitals> {
        Vitals::new(Kind::PartitionLeader, name.into(), Arc::new(Nothing))
    }

    #[test]
    fn a_namesake_stays_listed_when_the_first_one_leaves() {
        let registry = Registry::default();
        let first = registry.register(vitals("orders-0"));
        let _second = registry.register(vitals("orders-0"));
        drop(first);
        assert!(registry.find("partition_leader", "orders-0").is_some());
    }

    #[test]
    fn a_new_life_starts_with_an_empty_mailbox_and_keeps_the_counts() {
        let vitals = vitals("orders-0");
        vitals.started();
        for _ in 0..3 {
            vitals.message_sent();
        }
        vitals.message_handled();
        assert_eq!(vitals.mailbox_depth(), 2);
        vitals.restarting();
        vitals.started();
        assert_eq!(vitals.mailbox_depth(), 0);
        assert_eq!((vitals.messages_handled(), vitals.restarts()), (1, 1));
    }
}
