//! The frames of an open connection between nodes.
//!
//! ```text
//! [checksum, 0, id, kind, body]      request
//! [checksum, 1, id, body]            its answer
//! [checksum, 2, id, code, message]   its answer, if there is none
//! [checksum, 3, kind, body]          one-way
//! [checksum, 4]                      alive: nothing else was to be said for a while
//! [checksum, 5, code, message]       goodbye
//! ```
//!
//! The checksum, always a `uint 32`, is the CRC-32C of all bytes behind it. It doesn't begin with 0 as
//! usual, but with the session's key for that direction plus the frame's number. So a frame is found
//! that was changed on the way, and also one that is missing, comes twice, or comes from another
//! connection: a proxy or a network card in between can do all of that, and a Raft rpc has no other
//! protection.
//!
//! A body is `bin`. Large pieces of it are never copied on their way out, and a body that comes in is
//! a slice of what was read.

use bytes::{Bytes, BytesMut};
use crc32c::crc32c_append;

use super::fields::{malformed, Fields};
use super::refusal::{Refusal, RefusalCode};
use super::{Kind, PeerFrameError};
use crate::model::cut_message;
use crate::protocol::frame::{split_frame, Segments, FRAME_LENGTH_BYTES};
use crate::protocol::Pieces;

/// Pieces of a body from this size on are pieces of their own in a vectored write.
const OWN_PIECE_BYTES_MIN: usize = 4 * 1024;
/// The array's marker and the checksum.
const CHECKSUM_END: usize = 6;
/// A marker and at most 8 bytes.
const SCALAR_BYTES_MAX: usize = 9;
/// The room that is made for small frames at once.
const SMALL_BYTES: usize = 16 * 1024;

const REQUEST: u8 = 0;
const ANSWER: u8 = 1;
const NO_ANSWER: u8 = 2;
const ONE_WAY: u8 = 3;
const ALIVE: u8 = 4;
const GOODBYE: u8 = 5;

/// What a peer has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Request {
        id: u64,
        kind: Kind,
        body: Bytes,
    },
    Answer {
        /// That of the request.
        id: u64,
        outcome: Result<Bytes, CallError>,
    },
    OneWay {
        kind: Kind,
        body: Bytes,
    },
    Alive,
    Goodbye(Refusal),
}

/// What is to be said to a peer.
#[derive(Clone, Debug)]
pub enum Outgoing {
    Request {
        id: u64,
        kind: Kind,
        body: Segments,
    },
    Answer {
        id: u64,
        outcome: Result<Segments, CallError>,
    },
    OneWay {
        kind: Kind,
        body: Segments,
    },
    Alive,
    Goodbye(Refusal),
}

/// Why a peer didn't do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}{}{message}", if message.is_empty() { "" } else { ": " })]
pub struct CallError {
    pub code: CallErrorCode,
    /// In one line. May be empty.
    pub message: String,
}

/// Its numbers stand on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[repr(u8)]
pub enum CallErrorCode {
    /// It was tried, and failed.
    #[error("it failed")]
    Failed = 0,
    /// The node doesn't serve this kind: not yet, or not in its version. Nothing has happened.
    #[error("the node doesn't serve this kind of request")]
    NotServed = 1,
    /// Nothing has happened.
    #[error("the node serves too many requests of this kind already")]
    Overloaded = 2,
    /// The body can't be read. Nothing has happened.
    #[error("the request can't be read")]
    Malformed = 3,
    /// The one who served it ended meanwhile. It may have happened.
    #[error("the node has lost the request")]
    Lost = 4,
}

impl CallErrorCode {
    fn from_number(number: u8) -> CallErrorCode {
        [
            CallErrorCode::NotServed,
            CallErrorCode::Overloaded,
            CallErrorCode::Malformed,
            CallErrorCode::Lost,
        ]
        .into_iter()
        .find(|code| *code as u8 == number)
        .unwrap_or(CallErrorCode::Failed)
    }
}

impl CallError {
    pub fn new(code: CallErrorCode, message: impl Into<String>) -> CallError {
        CallError {
            code,
            message: message.into(),
        }
    }
}

impl Outgoing {
    /// What it takes up while it waits, about.
    pub fn bytes(&self) -> usize {
        const OVERHEAD_BYTES: usize = 32;
        OVERHEAD_BYTES
            + match self {
                Outgoing::Request { body, .. } | Outgoing::OneWay { body, .. } => body.len(),
                Outgoing::Answer { outcome, .. } => match outcome {
                    Ok(body) => body.len(),
                    Err(error) => error.message.len(),
                },
                Outgoing::Alive | Outgoing::Goodbye(_) => 0,
            }
    }
}

/// Writes one direction's frames, as few pieces as possible: small ones share a buffer.
#[derive(Debug)]
pub struct FrameWriter {
    checksums: Checksums,
    small: BytesMut,
    pieces: Pieces,
}

impl FrameWriter {
    /// `key` is the session's, for this direction.
    pub fn new(key: u32) -> FrameWriter {
        FrameWriter {
            checksums: Checksums::new(key),
            small: BytesMut::new(),
            pieces: Pieces::default(),
        }
    }

    pub fn put(&mut self, message: Outgoing) {
        match message {
            Outgoing::Request { id, kind, body } => self.frame(5, REQUEST, body, |head| {
                head.uint(id);
                head.uint(kind.0.into());
            }),
            Outgoing::Answer {
                id,
                outcome: Ok(body),
            } => self.frame(4, ANSWER, body, |head| head.uint(id)),
            Outgoing::Answer {
                id,
                outcome: Err(error),
            } => self.bare(5, NO_ANSWER, |head| {
                head.uint(id);
                head.uint(error.code as u64);
                head.str(cut_message(&error.message));
            }),
            Outgoing::OneWay { kind, body } => {
                self.frame(4, ONE_WAY, body, |head| head.uint(kind.0.into()));
            }
            Outgoing::Alive => self.bare(2, ALIVE, |_| {}),
            Outgoing::Goodbye(refusal) => self.bare(4, GOODBYE, |head| {
                head.uint(refusal.code as u64);
                head.str(cut_message(&refusal.message));
            }),
        }
    }

    /// What is to be written.
    pub fn pieces(&mut self) -> &mut Pieces {
        self.pieces.push_bytes(self.small.split().freeze());
        &mut self.pieces
    }

    /// A frame that ends with a body.
    fn frame(&mut self, fields: u8, tag: u8, body: Segments, fill: impl FnOnce(&mut Head)) {
        let (start, seed) = self.begin(fields, tag, fill);
        Head(&mut self.small).bin_len(body.len());
        let head = start + FRAME_LENGTH_BYTES + CHECKSUM_END;
        let mut checksum = crc32c_append(seed, &self.small[head..]);
        for piece in body.pieces() {
            checksum = crc32c_append(checksum, piece);
        }
        self.close(start, checksum, body.len());
        for piece in body {
            if piece.len() < OWN_PIECE_BYTES_MIN {
                self.small.extend_from_slice(&piece);
            } else {
                self.pieces.push_bytes(self.small.split().freeze());
                self.pieces.push_bytes(piece);
            }
        }
    }

    fn bare(&mut self, fields: u8, tag: u8, fill: impl FnOnce(&mut Head)) {
        let (start, seed) = self.begin(fields, tag, fill);
        let head = start + FRAME_LENGTH_BYTES + CHECKSUM_END;
        let checksum = crc32c_append(seed, &self.small[head..]);
        self.close(start, checksum, 0);
    }

    /// Where the frame starts, and what its checksum does.
    fn begin(&mut self, fields: u8, tag: u8, fill: impl FnOnce(&mut Head)) -> (usize, u32) {
        if self.small.capacity() - self.small.len() < SMALL_BYTES / 4 {
            self.small.reserve(SMALL_BYTES);
        }
        let start = self.small.len();
        self.small.extend_from_slice(&[0; FRAME_LENGTH_BYTES]);
        let array = rmp::Marker::FixArray(fields).to_u8();
        let number = rmp::Marker::U32.to_u8();
        self.small.extend_from_slice(&[array, number, 0, 0, 0, 0]);
        let mut head = Head(&mut self.small);
        head.uint(tag.into());
        fill(&mut head);
        (start, self.checksums.next())
    }

    /// Fills in the length, of which `more` bytes follow, and the checksum.
    fn close(&mut self, start: usize, checksum: u32, more: usize) {
        let length = self.small.len() - start - FRAME_LENGTH_BYTES + more;
        // What is to be sent was held against the largest frame before.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let checksum_at = start + FRAME_LENGTH_BYTES + CHECKSUM_END - 4;
        self.small[start..start + FRAME_LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        self.small[checksum_at..checksum_at + 4].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// The small fields of a frame.
struct Head<'a>(&'a mut BytesMut);

impl Head<'_> {
    fn uint(&mut self, value: u64) {
        self.put(|out| rmp::encode::write_uint(out, value).map(|_| ()));
    }

    fn str(&mut self, text: &str) {
        self.put(|out| rmp::encode::write_str_len(out, text.len() as u32).map(|_| ()));
        self.0.extend_from_slice(text.as_bytes());
    }

    fn bin_len(&mut self, len: usize) {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.put(|out| rmp::encode::write_bin_len(out, len).map(|_| ()));
    }

    fn put<E>(&mut self, write: impl FnOnce(&mut &mut [u8]) -> Result<(), E>) {
        let mut scalar = [0; SCALAR_BYTES_MAX];
        let mut rest = &mut scalar[..];
        // There is room for it.
        let _ = write(&mut rest);
        let left = rest.len();
        self.0.extend_from_slice(&scalar[..SCALAR_BYTES_MAX - left]);
    }
}

/// Reads the other direction's frames.
#[derive(Debug)]
pub struct FrameReader {
    checksums: Checksums,
    bytes_max: usize,
}

impl FrameReader {
    /// `key` is the session's, for this direction.
    pub fn new(key: u32, bytes_max: usize) -> FrameReader {
        FrameReader {
            checksums: Checksums::new(key),
            bytes_max,
        }
    }

    /// Takes one message from the front of `buffer`; `None` if more bytes are needed.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Message>, PeerFrameError> {
        let Some(frame) = split_frame(buffer, self.bytes_max)? else {
            return Ok(None);
        };
        let (mut fields, count) = Fields::of(&frame)?;
        let checksum = fields.fixed_u32("checksum")?;
        if crc32c_append(self.checksums.next(), fields.rest()) != checksum {
            return Err(PeerFrameError::Checksum);
        }
        let tag: u8 = fields.int("tag")?;
        let message = match (tag, count) {
            (REQUEST, 5) => Message::Request {
                id: fields.int::<i64>("id")? as u64,
                kind: Kind(fields.int("kind")?),
                body: frame.slice_ref(fields.bin("body")?),
            },
            (ANSWER, 4) => Message::Answer {
                id: fields.int::<i64>("id")? as u64,
                outcome: Ok(frame.slice_ref(fields.bin("body")?)),
            },
            (NO_ANSWER, 5) => Message::Answer {
                id: fields.int::<i64>("id")? as u64,
                outcome: Err(CallError {
                    code: CallErrorCode::from_number(fields.int("code")?),
                    message: fields.str("message")?.to_owned(),
                }),
            },
            (ONE_WAY, 4) => Message::OneWay {
                kind: Kind(fields.int("kind")?),
                body: frame.slice_ref(fields.bin("body")?),
            },
            (ALIVE, 2) => Message::Alive,
            (GOODBYE, 4) => Message::Goodbye(Refusal {
                code: RefusalCode::from_number(fields.int("code")?),
                message: fields.str("message")?.to_owned(),
            }),
            _ => return Err(malformed("no such message")),
        };
        fields.end()?;
        Ok(Some(message))
    }
}

/// What the checksums of one direction begin with, frame by frame.
#[derive(Debug)]
struct Checksums(u32);

impl Checksums {
    fn new(key: u32) -> Checksums {
        Checksums(key)
    }

    fn next(&mut self) -> u32 {
        let seed = self.0;
        self.0 = self.0.wrapping_add(1);
        seed
    }
}
