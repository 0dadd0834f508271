//! The reading half of a connection: bytes in, whole frames out, within limits of size, memory and
//! time.
//!
//! A large frame is charged when its length is there, and only then is the rest of it read. Small
//! ones are read first, and charged together. Either waits until the requests in flight leave room,
//! those of this connection and those of all ([`Account`]); meanwhile nothing is read.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, Stream};
use thiserror::Error;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::Semaphore;
use tokio::time::{timeout_at, Instant};

use super::budget::{Account, OWN_BYTES};
use crate::protocol::frame::{
    split_frame, FrameError, FRAME_BYTES_MAX_UNGREETED, FRAME_LENGTH_BYTES,
};

/// The least and the most that is asked of the socket at once, beside the rest of a large frame. It grows while
/// reads fill it, and shrinks while they don't, so that an idle connection costs little. Behind a large frame it is
/// the least: what comes then is likely large too, and all that is read before its length is known is copied.
const READ_BYTES_MIN: usize = 4 * 1024;
const READ_BYTES_MAX: usize = 256 * 1024;
/// A frame's length is believed up to here, unless memory is scarce; beyond it the buffer grows as
/// the bytes come.
const TRUSTED_FRAME_BYTES_MAX: usize = 2 * 1024 * 1024;
/// What a request costs beside its bytes, while it is in flight.
const REQUEST_OVERHEAD_BYTES: usize = 2 * 1024;

/// While others wait for the broker's memory, a frame that holds some of it has only one part in so
/// many of its time.
const HURRY: u32 = 10;

/// What a peer may cost, and how long it may take.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    pub frame_bytes_max: usize,
    /// Requests that are not answered yet, and answers that are not yet sent: for each so many.
    pub in_flight_bytes_max: usize,
    pub greeting_timeout: Duration,
    pub frame_timeout: Duration,
    pub idle_timeout: Duration,
}

/// Why a connection has ended.
#[derive(Debug, Error)]
pub enum Ended {
    #[error("the peer closed it")]
    ByPeer,
    #[error("the peer closed it in the middle of a frame")]
    InFrame,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("no ApiVersions came in time")]
    NoGreeting,
    #[error("the rest of a frame did not come in time")]
    SlowFrame,
    #[error("the rest of a frame was slow to come, while others waited for the broker's memory")]
    Crowded,
    #[error("it was idle for too long")]
    Idle,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the connection's actor has ended")]
    Closed,
}

/// What a request was charged.
#[derive(Clone, Copy)]
pub struct Charge {
    /// Of what the connection may have in flight, until the answer is written.
    pub in_flight: u32,
    /// Of what all connections may hold, until the request is answered.
    pub share: u32,
}

pub struct Received {
    pub frame: Bytes,
    pub charge: Charge,
}

/// A frame that is charged, and isn't whole yet.
struct Admitted {
    charge: Charge,
    since: Instant,
}

/// All whole frames of one read, or the end.
pub type Arrival = Result<Vec<Received>, Ended>;

/// Reads frames until the connection ends; the last item is the end.
pub fn arrivals(
    socket: Rc<OwnedReadHalf>,
    limits: ConnectionLimits,
    greeted: Rc<Cell<bool>>,
    in_flight: Arc<Semaphore>,
    account: Rc<Account>,
) -> impl Stream<Item = Arrival> {
    let reader = Reader {
        socket,
        greeting_deadline: Instant::now() + limits.greeting_timeout,
        limits,
        greeted,
        in_flight,
        account,
        admitted: None,
        buffer: BytesMut::new(),
        whole: VecDeque::new(),
        read_bytes: READ_BYTES_MIN,
    };
    stream::unfold(Some(reader), |reader| async {
        let mut reader = reader?;
        match reader.next().await {
            Ok(received) => Some((Ok(received), Some(reader))),
            Err(ended) => Some((Err(ended), None)),
        }
    })
}

struct Reader {
    socket: Rc<OwnedReadHalf>,
    limits: ConnectionLimits,
    greeting_deadline: Instant,
    greeted: Rc<Cell<bool>>,
    in_flight: Arc<Semaphore>,
    account: Rc<Account>,
    /// The frame that has begun, if it is a large one.
    admitted: Option<Admitted>,
    buffer: BytesMut,
    /// Frames that are there, and not yet handed out.
    whole: VecDeque<Bytes>,
    read_bytes: usize,
}

impl Reader {
    async fn next(&mut self) -> Result<Vec<Received>, Ended> {
        let mut frame_begun = None;
        loop {
            let split = self.split();
            if !self.whole.is_empty() {
                // What can't be a frame is found again when those before it are handed out.
                return self.hand_out().await;
            }
            split?;
            if self.admitted.is_none() && self.begun_bytes() > OWN_BYTES {
                self.admit().await?;
                // Its peer had no part in the waiting.
                frame_begun = Some(Instant::now());
            } else if !self.buffer.is_empty() && frame_begun.is_none() {
                frame_begun = Some(Instant::now());
            }
            self.read(frame_begun).await?;
        }
    }

    fn split(&mut self) -> Result<(), FrameError> {
        loop {
            let bytes_max = self.frame_bytes_max();
            let Some(frame) = split_frame(&mut self.buffer, bytes_max)? else {
                return Ok(());
            };
            self.whole.push_back(frame);
            if !self.greeted.get() {
                // Whether it is a greeting, and so what the next one may have, is the actor's to say.
                return Ok(());
            }
        }
    }

    fn frame_bytes_max(&self) -> usize {
        if self.greeted.get() {
            self.limits.frame_bytes_max
        } else {
            self.limits.frame_bytes_max.min(FRAME_BYTES_MAX_UNGREETED)
        }
    }

    /// What the frame that has begun will have, with its length; 0 if that isn't known yet.
    fn begun_bytes(&self) -> usize {
        let length = self.buffer.first_chunk::<FRAME_LENGTH_BYTES>();
        length.map_or(0, |length| {
            u32::from_be_bytes(*length) as usize + FRAME_LENGTH_BYTES
        })
    }

    /// Charges the large frame that has begun.
    async fn admit(&mut self) -> Result<(), Ended> {
        let in_flight = self.cost(self.begun_bytes() - FRAME_LENGTH_BYTES);
        self.charge_connection(in_flight).await?;
        let share = self.account.take(in_flight).await?;
        self.admitted = Some(Admitted {
            charge: Charge { in_flight, share },
            since: Instant::now(),
        });
        Ok(())
    }

    /// Hands out the frame that was charged, or as many others as can be charged at once.
    async fn hand_out(&mut self) -> Result<Vec<Received>, Ended> {
        let Some(Admitted { charge, .. }) = self.admitted.take() else {
            return self.charge().await;
        };
        self.read_bytes = READ_BYTES_MIN;
        let frame = self.whole.pop_front();
        let received = frame.map(|frame| Received { frame, charge });
        Ok(Vec::from_iter(received))
    }

    /// Charges as many frames as can be in flight together.
    async fn charge(&mut self) -> Result<Vec<Received>, Ended> {
        let all = self.limits.in_flight_bytes_max as u32;
        let mut received = Vec::with_capacity(self.whole.len());
        let mut sum = 0;
        while let Some(frame) = self.whole.front() {
            let in_flight = self.cost(frame.len());
            if sum + in_flight > all {
                break;
            }
            sum += in_flight;
            let charge = Charge {
                in_flight,
                share: 0,
            };
            let frame = self.whole.pop_front();
            received.extend(frame.map(|frame| Received { frame, charge }));
        }
        self.charge_connection(sum).await?;
        if self.in_flight_bytes() > OWN_BYTES {
            self.account.take(sum).await?;
            for Received { charge, .. } in &mut received {
                charge.share = charge.in_flight;
            }
        }
        Ok(received)
    }

    /// What a request takes while it is in flight.
    fn cost(&self, frame_bytes: usize) -> u32 {
        (frame_bytes + REQUEST_OVERHEAD_BYTES).min(self.limits.in_flight_bytes_max) as u32
    }

    fn in_flight_bytes(&self) -> usize {
        let all = self.limits.in_flight_bytes_max;
        all.saturating_sub(self.in_flight.available_permits())
    }

    /// Waits until this connection's requests in flight leave room.
    async fn charge_connection(&self, bytes: u32) -> Result<(), Ended> {
        let permits = self.in_flight.acquire_many(bytes).await;
        permits.map_err(|_| Ended::Closed)?.forget();
        Ok(())
    }

    async fn read(&mut self, frame_begun: Option<Instant>) -> Result<(), Ended> {
        if self.buffer.is_empty() {
            // Holds on to no memory while nothing comes.
            self.buffer = BytesMut::new();
        }
        loop {
            self.readable(frame_begun).await?;
            self.make_room();
            let room = self.buffer.capacity() - self.buffer.len();
            match self.socket.try_read_buf(&mut self.buffer) {
                Ok(0) if self.buffer.is_empty() => return Err(Ended::ByPeer),
                Ok(0) => return Err(Ended::InFrame),
                Ok(read) => {
                    if self.admitted.is_none() {
                        self.adapt(read, room);
                    }
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for more bytes, as long as the peer may take.
    async fn readable(&self, frame_begun: Option<Instant>) -> Result<(), Ended> {
        loop {
            let deadline = self.deadline(frame_begun)?;
            if let Ok(ready) = timeout_at(deadline, self.socket.readable()).await {
                return Ok(ready?);
            }
            let idle = self.greeted.get() && frame_begun.is_none();
            // Whoever waits for an answer isn't idle.
            if idle && !self.is_owed_an_answer() {
                return Err(Ended::Idle);
            }
        }
    }

    /// When to look again what the peer has done, if it hasn't taken too long already.
    fn deadline(&self, frame_begun: Option<Instant>) -> Result<Instant, Ended> {
        let now = Instant::now();
        let (end, late) = match frame_begun {
            _ if !self.greeted.get() => (self.greeting_deadline, Ended::NoGreeting),
            Some(begun) => (begun + self.limits.frame_timeout, Ended::SlowFrame),
            None => return Ok(now + self.limits.idle_timeout),
        };
        if now >= end {
            return Err(late);
        }
        let Some(admitted) = &self.admitted else {
            return Ok(end);
        };
        let hurry = self.limits.frame_timeout / HURRY;
        if now >= admitted.since + hurry && self.account.budget().is_wanted() {
            return Err(Ended::Crowded);
        }
        Ok(end.min(now + hurry))
    }

    fn is_owed_an_answer(&self) -> bool {
        // The writer closes it when the peer can't be answered any more.
        !self.in_flight.is_closed() && self.in_flight_bytes() > 0
    }

    /// Room for the rest of the frame that has begun, as far as its length is believed.
    fn make_room(&mut self) {
        let (trusted, read_bytes) = match self.account.budget().is_scarce() {
            true => (OWN_BYTES, self.read_bytes.min(OWN_BYTES)),
            false => (TRUSTED_FRAME_BYTES_MAX, self.read_bytes),
        };
        let believed = self.begun_bytes().min(trusted.max(2 * self.buffer.len()));
        let missing = believed.saturating_sub(self.buffer.len());
        self.buffer.reserve(missing.max(read_bytes));
    }

    fn adapt(&mut self, read: usize, room: usize) {
        if read == room {
            self.read_bytes = (2 * self.read_bytes).min(READ_BYTES_MAX);
        } else if read < self.read_bytes / 4 {
            self.read_bytes = (self.read_bytes / 2).max(READ_BYTES_MIN);
        }
    }
}
