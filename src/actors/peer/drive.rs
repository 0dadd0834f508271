//! The two loops of an open connection: what was left for the peer goes out, in as few writes as
//! possible, and what it says goes to whom it is for.
//!
//! Each side says something at least once in [`Timing::alive_interval`], whatever it reads meanwhile,
//! and takes the other for gone that has said nothing for [`Timing::silence`].

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::services::{PeerReceiver, Services};
use super::session::{Found, Received, Session};
use crate::protocol::frame::FRAME_LENGTH_BYTES;
use crate::protocol::peer::{
    CallError, CallErrorCode, FrameReader, FrameWriter, Kind, Lane, Message, Outgoing,
    PeerFrameError, Refusal,
};
use crate::protocol::Segments;

/// Requests of one kind that are served for one peer at a time; more are turned away.
const SERVED_MAX: usize = 64;
/// The least and the most that is asked of the socket at once. It grows while reads fill it.
const READ_BYTES_MIN: usize = 8 * 1024;
const READ_BYTES_MAX: usize = 256 * 1024;
/// A frame's length is believed up to here; beyond it the buffer grows as the bytes come.
const TRUSTED_FRAME_BYTES_MAX: usize = 2 * 1024 * 1024;

/// How patient the two sides are.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub alive_interval: Duration,
    /// A control link that is silent for so long is down. Also how long a peer has to answer when it
    /// is dialed.
    pub silent_after: Duration,
    /// The same for a data link. It shares its thread with the partitions, which may wait for the
    /// disk, and its control link is the one that tells whether a node lives: so it should be longer.
    pub data_silent_after: Duration,
}

impl Timing {
    /// How long a link of this lane may be silent.
    pub fn silence(&self, lane: Lane) -> Duration {
        match lane {
            Lane::Control => self.silent_after,
            Lane::Data => self.data_silent_after,
        }
    }
}

/// Why a connection has ended.
#[derive(Debug, Error)]
pub enum Ended {
    #[error("the peer closed it")]
    ByPeer,
    #[error("the peer said goodbye: {0}")]
    Goodbye(Refusal),
    #[error("this node closed it")]
    ByUs,
    #[error("nothing was heard for {0:?}")]
    Silent(Duration),
    #[error(transparent)]
    Unreadable(#[from] PeerFrameError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A connection after its handshake.
pub struct Opened {
    pub socket: TcpStream,
    /// What the peer has said already.
    pub buffer: BytesMut,
    pub writer: FrameWriter,
    pub reader: FrameReader,
}

/// Runs until the connection ends.
pub async fn drive(
    opened: Opened,
    session: &Arc<Session>,
    services: &Services,
    timing: Timing,
) -> Ended {
    let (read_half, mut write_half) = opened.socket.into_split();
    let reader = Reader {
        session,
        services,
        serving: Serving::default(),
        receiver: None,
        socket: read_half,
        frames: opened.reader,
        buffer: opened.buffer,
        read_bytes: READ_BYTES_MIN,
        silent_after: timing.silence(session.lane()),
    };
    let written = write_all(
        session,
        &mut write_half,
        opened.writer,
        timing.alive_interval,
    );
    tokio::select! {
        ended = reader.read_all() => ended,
        ended = written => ended,
    }
}

async fn write_all(
    session: &Session,
    socket: &mut OwnedWriteHalf,
    mut frames: FrameWriter,
    alive_interval: Duration,
) -> Ended {
    let mut messages = Vec::new();
    loop {
        let bytes = match session.take(&mut messages) {
            Found::Messages(bytes) => bytes,
            Found::End => return Ended::ByUs,
            Found::Nothing => {
                if timeout(alive_interval, session.woken()).await.is_ok() {
                    continue;
                }
                messages.push(Outgoing::Alive);
                0
            }
        };
        let count = messages.len();
        for message in messages.drain(..) {
            frames.put(message);
        }
        if let Err(error) = frames.pieces().write_all(socket).await {
            return gone(error);
        }
        session.written(count, bytes);
    }
}

/// A connection that was reset is one that the peer closed: the difference is what lay unread.
fn gone(error: io::Error) -> Ended {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionAborted => Ended::ByPeer,
        _ => Ended::Io(error),
    }
}

struct Reader<'a> {
    session: &'a Arc<Session>,
    services: &'a Services,
    serving: Serving,
    /// Once there is one.
    receiver: Option<Arc<dyn PeerReceiver>>,
    socket: OwnedReadHalf,
    frames: FrameReader,
    buffer: BytesMut,
    read_bytes: usize,
    silent_after: Duration,
}

impl Reader<'_> {
    async fn read_all(mut self) -> Ended {
        loop {
            match self.deliver().await {
                Ok(()) => {}
                Err(ended) => return ended,
            }
            self.session.may_read().await;
            if let Err(ended) = self.read().await {
                return ended;
            }
        }
    }

    /// Hands over all messages that are whole.
    async fn deliver(&mut self) -> Result<(), Ended> {
        let mut one_way: Vec<Received> = Vec::new();
        let mut count = 0;
        let end = loop {
            match self.frames.next(&mut self.buffer) {
                Ok(None) => break None,
                Ok(Some(message)) => {
                    count += 1;
                    match message {
                        Message::Request { id, kind, body } => self.serve(id, kind, body),
                        Message::Answer { id, outcome } => self.session.answered(id, outcome),
                        Message::OneWay { kind, body } => {
                            one_way.push(self.session.received(kind, body));
                        }
                        Message::Alive => {}
                        Message::Goodbye(refusal) => break Some(Ended::Goodbye(refusal)),
                    }
                }
                Err(error) => break Some(error.into()),
            }
        };
        self.session.heard(count, 0);
        if !one_way.is_empty() {
            let receiver = match self.receiver.take() {
                Some(receiver) => receiver,
                None => self.services.receiver().await,
            };
            receiver.receive(self.session, one_way);
            self.receiver = Some(receiver);
        }
        end.map_or(Ok(()), Err)
    }

    fn serve(&self, id: u64, kind: Kind, body: Bytes) {
        let mut reply = Reply {
            session: self.session.clone(),
            id,
            outcome: None,
        };
        let Some(service) = self.services.service(kind) else {
            let message = format!("it doesn't serve {kind}");
            reply.outcome = Some(Err(CallError::new(CallErrorCode::NotServed, message)));
            return;
        };
        let Some(place) = self.serving.enter(kind) else {
            reply.outcome = Some(Err(CallError::new(CallErrorCode::Overloaded, "")));
            return;
        };
        let from = *self.session.peer();
        actix_rt::spawn(async move {
            reply.outcome = Some(service.call(from, body).await);
            drop((reply, place));
        });
    }

    async fn read(&mut self) -> Result<(), Ended> {
        if self.buffer.is_empty() {
            // Holds on to no memory while nothing comes.
            self.buffer = BytesMut::new();
        }
        loop {
            let readable = timeout(self.silent_after, self.socket.readable()).await;
            readable.map_err(|_| Ended::Silent(self.silent_after))??;
            self.make_room();
            let room = self.buffer.capacity() - self.buffer.len();
            match self.socket.try_read_buf(&mut self.buffer) {
                Ok(0) => return Err(Ended::ByPeer),
                Ok(read) => {
                    self.adapt(read, room);
                    self.session.heard(0, read);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(gone(error)),
            }
        }
    }

    /// Room for the rest of the frame that has begun, as far as its length is believed.
    fn make_room(&mut self) {
        let begun = match self.buffer.first_chunk::<FRAME_LENGTH_BYTES>() {
            Some(prefix) => (u32::from_be_bytes(*prefix) as usize).saturating_add(prefix.len()),
            None => 0,
        };
        let believed = begun.min(TRUSTED_FRAME_BYTES_MAX.max(2 * self.buffer.len()));
        let missing = believed.saturating_sub(self.buffer.len());
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

/// The answer to one request, which is given in any case: also when its service panics.
struct Reply {
    session: Arc<Session>,
    id: u64,
    outcome: Option<Result<Segments, CallError>>,
}

impl Drop for Reply {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or_else(|| {
            let message = "who served it has ended without an answer";
            Err(CallError::new(CallErrorCode::Lost, message))
        });
        self.session.answer(self.id, outcome);
    }
}

/// How many requests of each kind are at work for one peer.
#[derive(Clone, Default)]
struct Serving(Arc<Mutex<HashMap<Kind, usize>>>);

struct Place {
    serving: Serving,
    kind: Kind,
}

impl Serving {
    fn enter(&self, kind: Kind) -> Option<Place> {
        let mut at_work = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = at_work.entry(kind).or_default();
        if *count >= SERVED_MAX {
            return None;
        }
        *count += 1;
        Some(Place {
            serving: self.clone(),
            kind,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let at_work = self.serving.0.lock();
        let mut at_work = at_work.unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = at_work.get_mut(&self.kind) {
            *count -= 1;
        }
    }
}
