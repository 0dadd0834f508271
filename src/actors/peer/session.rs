//! One open connection with a peer, as everybody sees it who says something on it.
//!
//! What is left here is written by the connection's own task. It queues up to a bound in bytes;
//! beyond it whoever pushes is told so. When the connection ends, all that still waits here is
//! dropped, and those who wait for an answer learn that it won't come.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{oneshot, Notify};

use super::PeerIdentity;
use crate::protocol::peer::{CallError, Kind, Lane, Outgoing, Refusal};
use crate::protocol::Segments;

/// Requests of one link that wait for their answers.
const CALLS_MAX: usize = 1024;
/// Stop collecting messages for one write here. What is being written counts as in flight until all
/// of it is out.
const WRITE_BYTES_MAX: usize = 256 * 1024;
/// What a frame has beside its body.
const FRAME_OVERHEAD_BYTES: usize = 64;

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PushError {
    #[error("there is no connection with the node")]
    Down,
    /// As much is in flight as may be; [`Session::room`] says when there is room again.
    #[error("too much is in flight to the node")]
    Full,
    #[error("the message is larger than a frame may be")]
    TooLarge,
}

/// How much may wait to be sent, and to be dealt with.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    pub frame_bytes_max: usize,
    pub in_flight_bytes_max: usize,
}

/// What has come and gone, through all connections of a link.
#[derive(Debug, Default)]
pub struct Traffic {
    pub sent_messages: AtomicU64,
    pub sent_bytes: AtomicU64,
    pub received_messages: AtomicU64,
    pub received_bytes: AtomicU64,
}

/// The connection. It is over for good once it is closed.
pub struct Session {
    peer: PeerIdentity,
    lane: Lane,
    limits: SessionLimits,
    outbox: Mutex<Outbox>,
    /// The writer has something to do.
    wake: Notify,
    /// There is room again.
    room: Notify,
    calls: Mutex<Calls>,
    received: Arc<InFlight>,
    traffic: Arc<Traffic>,
}

#[derive(Default)]
struct Outbox {
    messages: VecDeque<Outgoing>,
    /// Of these, and of those that are being written.
    bytes: usize,
    writer: Writer,
    state: State,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Writer {
    #[default]
    AtWork,
    /// To be woken.
    Waits,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum State {
    #[default]
    Open,
    /// What is there is still written, and nothing is added.
    Closing,
    Closed,
}

#[derive(Default)]
struct Calls {
    last: u64,
    waiting: HashMap<u64, oneshot::Sender<Result<Bytes, CallError>>>,
}

/// What the writer finds.
pub(super) enum Found {
    /// Messages of so many bytes together.
    Messages(usize),
    Nothing,
    /// There will be none any more.
    End,
}

/// A one-way message that has come. Its bytes are in flight until it is dropped.
#[derive(Debug)]
pub struct Received {
    pub kind: Kind,
    pub body: Bytes,
    _charge: Charge,
}

/// Bytes that have come and aren't dealt with.
#[derive(Debug, Default)]
struct InFlight {
    bytes: AtomicUsize,
    dealt_with: Notify,
}

#[derive(Debug)]
struct Charge {
    bytes: usize,
    in_flight: Arc<InFlight>,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.in_flight.bytes.fetch_sub(self.bytes, Relaxed);
        self.in_flight.dealt_with.notify_one();
    }
}

impl Session {
    pub(super) fn new(
        peer: PeerIdentity,
        lane: Lane,
        limits: SessionLimits,
        traffic: Arc<Traffic>,
    ) -> Arc<Session> {
        Arc::new(Session {
            peer,
            lane,
            limits,
            outbox: Mutex::default(),
            wake: Notify::new(),
            room: Notify::new(),
            calls: Mutex::default(),
            received: Arc::default(),
            traffic,
        })
    }

    /// Who is at the other end: it has proved it.
    pub fn peer(&self) -> &PeerIdentity {
        &self.peer
    }

    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// Leaves a one-way message. It arrives behind those that were left before, or not at all.
    pub fn push(&self, kind: Kind, body: Segments) -> Result<(), PushError> {
        self.leave(Outgoing::OneWay { kind, body })
    }

    /// Returns when half of what may be in flight isn't, or when the connection has ended.
    pub async fn room(&self) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            {
                let outbox = self.outbox();
                if outbox.state == State::Closed || self.has_room(&outbox) {
                    return;
                }
            }
            room.await;
        }
    }

    /// Whether it takes messages.
    pub fn is_open(&self) -> bool {
        self.outbox().state == State::Open
    }

    /// Bytes that wait to be sent.
    pub fn in_flight_bytes(&self) -> usize {
        self.outbox().bytes
    }

    /// Requests that wait for their answers.
    pub fn calls(&self) -> usize {
        self.waiting().waiting.len()
    }

    fn has_room(&self, outbox: &Outbox) -> bool {
        outbox.bytes <= self.limits.in_flight_bytes_max / 2
    }

    /// Sends a request. The answer comes out of the receiver, unless the connection ends before.
    pub(super) fn ask(self: &Arc<Session>, kind: Kind, body: Segments) -> Result<Asked, PushError> {
        let (answer, answered) = oneshot::channel();
        let id = {
            let mut calls = self.waiting();
            if calls.waiting.len() >= CALLS_MAX {
                return Err(PushError::Full);
            }
            calls.last += 1;
            let id = calls.last;
            calls.waiting.insert(id, answer);
            id
        };
        let asked = Asked {
            session: self.clone(),
            id,
            answered,
        };
        self.leave(Outgoing::Request { id, kind, body })?;
        Ok(asked)
    }

    /// An answer has come. One that nobody waits for is passed over: its asker had no patience.
    pub(super) fn answered(&self, id: u64, outcome: Result<Bytes, CallError>) {
        let waiting = self.waiting().waiting.remove(&id);
        if let Some(waiting) = waiting {
            // It may have left meanwhile.
            let _ = waiting.send(outcome);
        }
    }

    /// Leaves the answer to a request. It isn't held against the bound: a peer that doesn't take its
    /// answers isn't read from ([`Self::may_read`]).
    pub(super) fn answer(&self, id: u64, outcome: Result<Segments, CallError>) {
        let answer = Outgoing::Answer { id, outcome };
        let bytes = answer.bytes();
        self.add(&mut self.outbox(), answer, bytes);
    }

    fn leave(&self, message: Outgoing) -> Result<(), PushError> {
        let bytes = message.bytes();
        if bytes + FRAME_OVERHEAD_BYTES > self.limits.frame_bytes_max {
            return Err(PushError::TooLarge);
        }
        let mut outbox = self.outbox();
        if outbox.state != State::Open {
            return Err(PushError::Down);
        }
        if outbox.bytes + bytes > self.limits.in_flight_bytes_max {
            return Err(PushError::Full);
        }
        self.add(&mut outbox, message, bytes);
        Ok(())
    }

    fn add(&self, outbox: &mut Outbox, message: Outgoing, bytes: usize) {
        if outbox.state != State::Open {
            return;
        }
        outbox.messages.push_back(message);
        outbox.bytes += bytes;
        if outbox.writer == Writer::Waits {
            outbox.writer = Writer::AtWork;
            self.wake.notify_one();
        }
    }

    /// Says goodbye, if there is anything to say, and ends the connection when that is written.
    pub(super) fn close(&self, goodbye: Option<Refusal>) {
        let mut outbox = self.outbox();
        if let Some(refusal) = goodbye {
            self.add(&mut outbox, Outgoing::Goodbye(refusal), 0);
        }
        if outbox.state == State::Open {
            outbox.state = State::Closing;
        }
        outbox.writer = Writer::AtWork;
        drop(outbox);
        self.wake.notify_one();
    }

    /// The connection is gone.
    pub(super) fn closed(&self) {
        let mut outbox = self.outbox();
        outbox.state = State::Closed;
        outbox.messages.clear();
        outbox.bytes = 0;
        drop(outbox);
        self.waiting().waiting.clear();
        self.room.notify_waiters();
        self.wake.notify_one();
    }

    /// The writer's: takes what waits, up to as much as one write holds.
    pub(super) fn take(&self, into: &mut Vec<Outgoing>) -> Found {
        let mut outbox = self.outbox();
        let mut bytes = 0;
        while bytes < WRITE_BYTES_MAX {
            let Some(message) = outbox.messages.pop_front() else {
                break;
            };
            bytes += message.bytes();
            into.push(message);
        }
        if !into.is_empty() {
            return Found::Messages(bytes);
        }
        if outbox.state != State::Open {
            return Found::End;
        }
        outbox.writer = Writer::Waits;
        Found::Nothing
    }

    /// The writer's: waits for something to do.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The writer's: so many messages and bytes are out.
    pub(super) fn written(&self, messages: usize, bytes: usize) {
        let traffic = &self.traffic;
        traffic.sent_messages.fetch_add(messages as u64, Relaxed);
        traffic.sent_bytes.fetch_add(bytes as u64, Relaxed);
        let mut outbox = self.outbox();
        outbox.bytes = outbox.bytes.saturating_sub(bytes);
        let has_room = self.has_room(&outbox);
        drop(outbox);
        if has_room {
            self.room.notify_waiters();
        }
    }

    /// The reader's: waits until what has come leaves room, and what is to be answered too.
    pub(super) async fn may_read(&self) {
        let bytes_max = self.limits.in_flight_bytes_max;
        while self.received.bytes.load(Relaxed) >= bytes_max {
            self.received.dealt_with.notified().await;
        }
        if self.in_flight_bytes() > bytes_max {
            self.room().await;
        }
    }

    /// The reader's: a one-way message, charged.
    pub(super) fn received(&self, kind: Kind, body: Bytes) -> Received {
        let bytes = body.len() + FRAME_OVERHEAD_BYTES;
        self.received.bytes.fetch_add(bytes, Relaxed);
        Received {
            kind,
            body,
            _charge: Charge {
                bytes,
                in_flight: self.received.clone(),
            },
        }
    }

    /// The reader's: so many messages and bytes have come.
    pub(super) fn heard(&self, messages: usize, bytes: usize) {
        let traffic = &self.traffic;
        let messages = messages as u64;
        traffic.received_messages.fetch_add(messages, Relaxed);
        traffic.received_bytes.fetch_add(bytes as u64, Relaxed);
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is on its way. Dropped, nobody waits for its answer any more.
pub(super) struct Asked {
    session: Arc<Session>,
    id: u64,
    answered: oneshot::Receiver<Result<Bytes, CallError>>,
}

impl Asked {
    /// `None`: the connection has ended.
    pub async fn answer(&mut self) -> Option<Result<Bytes, CallError>> {
        (&mut self.answered).await.ok()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.session.waiting().waiting.remove(&self.id);
    }
}

impl std::fmt::Display for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "sent {} messages {} bytes, received {} messages {} bytes",
            self.sent_messages.load(Relaxed),
            self.sent_bytes.load(Relaxed),
            self.received_messages.load(Relaxed),
            self.received_bytes.load(Relaxed),
        )
    }
}
