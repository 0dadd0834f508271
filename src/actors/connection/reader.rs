//! The reading half of a connection: bytes in, whole frames out, within limits of size, memory and
//! time.

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

use crate::protocol::frame::{
    split_frame, FrameError, FRAME_BYTES_MAX_UNGREETED, FRAME_LENGTH_BYTES,
};

/// The least and the most that is asked of the socket at once. It grows while reads fill it, and
/// shrinks while they don't, so that an idle connection costs little.
const READ_BYTES_MIN: usize = 4 * 1024;
const READ_BYTES_MAX: usize = 256 * 1024;
/// A frame's length is believed up to here; beyond it the buffer grows as the bytes come.
const TRUSTED_FRAME_BYTES_MAX: usize = 2 * 1024 * 1024;
/// What a request costs beside its bytes, while it is in flight.
const REQUEST_OVERHEAD_BYTES: usize = 2 * 1024;

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
    #[error("it was idle for too long")]
    Idle,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the connection's actor has ended")]
    Closed,
}

/// A frame, and what it was charged; to be given back to the semaphore when it is answered.
pub struct Received {
    pub frame: Bytes,
    pub charge: u32,
}

/// All whole frames of one read, or the end.
pub type Arrival = Result<Vec<Received>, Ended>;

/// Reads frames until the connection ends; the last item is the end.
pub fn arrivals(
    socket: OwnedReadHalf,
    limits: ConnectionLimits,
    greeted: Rc<Cell<bool>>,
    in_flight: Arc<Semaphore>,
) -> impl Stream<Item = Arrival> {
    let reader = Reader {
        socket,
        greeting_deadline: Instant::now() + limits.greeting_timeout,
        limits,
        greeted,
        in_flight,
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
    socket: OwnedReadHalf,
    limits: ConnectionLimits,
    greeting_deadline: Instant,
    greeted: Rc<Cell<bool>>,
    in_flight: Arc<Semaphore>,
    buffer: BytesMut,
    /// Frames that are there, and not yet handed out.
    whole: VecDeque<Bytes>,
    read_bytes: usize,
}

impl Reader {
    async fn next(&mut self) -> Result<Vec<Received>, Ended> {
        let mut frame_deadline = None;
        loop {
            self.split()?;
            if !self.whole.is_empty() {
                return self.charge().await;
            }
            if !self.buffer.is_empty() && frame_deadline.is_none() {
                frame_deadline = Some(Instant::now() + self.limits.frame_timeout);
            }
            self.read(frame_deadline).await?;
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

    /// Waits until the requests in flight leave room, and hands out as many frames as can have it
    /// at once.
    async fn charge(&mut self) -> Result<Vec<Received>, Ended> {
        let all = self.limits.in_flight_bytes_max;
        let mut received = Vec::with_capacity(self.whole.len());
        let mut sum = 0;
        while let Some(frame) = self.whole.front() {
            let charge = (frame.len() + REQUEST_OVERHEAD_BYTES).min(all);
            if sum + charge > all {
                break;
            }
            sum += charge;
            received.extend(self.whole.pop_front().map(|frame| Received {
                frame,
                charge: charge as u32,
            }));
        }
        let permits = self.in_flight.acquire_many(sum as u32).await;
        permits.map_err(|_| Ended::Closed)?.forget();
        Ok(received)
    }

    async fn read(&mut self, frame_deadline: Option<Instant>) -> Result<(), Ended> {
        let (mut deadline, late) = match frame_deadline {
            _ if !self.greeted.get() => (self.greeting_deadline, Ended::NoGreeting),
            Some(deadline) => (deadline, Ended::SlowFrame),
            None => (Instant::now() + self.limits.idle_timeout, Ended::Idle),
        };
        if self.buffer.is_empty() {
            // Holds on to no memory while nothing comes.
            self.buffer = BytesMut::new();
        }
        loop {
            match timeout_at(deadline, self.socket.readable()).await {
                Ok(ready) => ready?,
                // Whoever waits for an answer isn't idle.
                Err(_) if matches!(late, Ended::Idle) && self.is_owed_an_answer() => {
                    deadline = Instant::now() + self.limits.idle_timeout;
                    continue;
                }
                Err(_) => return Err(late),
            }
            self.make_room();
            let room = self.buffer.capacity() - self.buffer.len();
            match self.socket.try_read_buf(&mut self.buffer) {
                Ok(0) if self.buffer.is_empty() => return Err(Ended::ByPeer),
                Ok(0) => return Err(Ended::InFrame),
                Ok(read) => {
                    self.adapt(read, room);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn is_owed_an_answer(&self) -> bool {
        // The writer closes it when the peer can't be answered any more.
        !self.in_flight.is_closed()
            && self.in_flight.available_permits() < self.limits.in_flight_bytes_max
    }

    /// Room for the rest of the frame that has begun, as far as its length is believed.
    fn make_room(&mut self) {
        let missing = match self.buffer.first_chunk::<FRAME_LENGTH_BYTES>() {
            Some(length) => {
                let whole = u32::from_be_bytes(*length) as usize + FRAME_LENGTH_BYTES;
                whole.min(TRUSTED_FRAME_BYTES_MAX.max(2 * self.buffer.len()))
            }
            None => 0,
        };
        let missing = missing.saturating_sub(self.buffer.len());
        self.buffer.reserve(missing.max(self.read_bytes));
    }

    fn adapt(&mut self, read: usize, room: usize) {
        if read == room {
            self.read_bytes = (2 * self.read_bytes).min(READ_BYTES_MAX);
        } else if read < self.read_bytes / 4 {
            self.read_bytes = (self.read_bytes / 2).max(READ_BYTES_MIN);
        }
    }
}
