//! Where both encodings write: small fields into one buffer, large payloads as pieces of their own.

use bytes::{Bytes, BytesMut};

use super::codec::EncodeError;
use super::frame::{Segments, FRAME_LENGTH_BYTES};
use super::records::{take_announced, OWN_PIECE_BYTES_MIN};

/// The room that a message without payload usually needs.
const HEAD_BYTES: usize = 256;

/// Collects small writes in one buffer, and remembers where a payload belongs between them.
pub(super) struct Sink {
    small: BytesMut,
    /// Each with the length of `small` that stands before it.
    payloads: Vec<(usize, Bytes)>,
    payload_bytes: usize,
    /// What has no wire form.
    failure: Option<EncodeError>,
}

impl Sink {
    /// For one frame, which [`Self::finish`] makes: there is room for its length.
    pub fn of_frame() -> Sink {
        let mut sink = Sink::of_part();
        sink.put(&[0; FRAME_LENGTH_BYTES]);
        sink
    }

    /// For a part of a message, to be appended to another sink.
    pub fn of_part() -> Sink {
        Sink {
            small: BytesMut::new(),
            payloads: Vec::new(),
            payload_bytes: 0,
            failure: None,
        }
    }

    /// The bytes that were put so far.
    pub fn len(&self) -> usize {
        self.small.len() + self.payload_bytes
    }

    pub fn put(&mut self, bytes: &[u8]) {
        if self.small.capacity() == 0 {
            self.small.reserve(HEAD_BYTES);
        }
        self.small.extend_from_slice(bytes);
    }

    /// A payload is copied only if it is so small that a piece of its own costs more.
    pub fn put_payload(&mut self, payload: &Bytes) {
        if payload.len() < OWN_PIECE_BYTES_MIN {
            return self.put(payload);
        }
        self.payload_bytes += payload.len();
        self.payloads.push((self.small.len(), payload.clone()));
    }

    /// Puts what another sink has collected.
    pub fn append(&mut self, other: Sink) {
        let before = self.small.len();
        self.small.extend_from_slice(&other.small);
        let payloads = other.payloads.into_iter();
        self.payloads
            .extend(payloads.map(|(at, payload)| (before + at, payload)));
        self.payload_bytes += other.payload_bytes;
        self.failure = self.failure.take().or(other.failure);
    }

    /// The message can't be sent; the first reason counts.
    pub fn fail(&mut self, reason: String) {
        self.failure.get_or_insert(EncodeError(reason));
    }

    /// The frame: the length of all that was put, and it.
    pub fn finish(mut self) -> Result<Segments, EncodeError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let length = self.len() - FRAME_LENGTH_BYTES;
        let length = u32::try_from(length)
            .map_err(|_| EncodeError(format!("{length} bytes don't fit into a frame")))?;
        self.small[..FRAME_LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        Ok(self.cut())
    }

    /// What was put, without a length of its own.
    #[cfg(feature = "broker")]
    pub fn into_segments(self) -> Result<Segments, EncodeError> {
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok(self.cut()),
        }
    }

    fn cut(self) -> Segments {
        let small = self.small.freeze();
        let mut segments = Segments::default();
        let mut from = 0;
        for (to, payload) in self.payloads {
            segments.push(small.slice(from..to));
            segments.push(payload);
            from = to;
        }
        segments.push(small.slice(from..));
        segments
    }
}

/// What serde writes: a payload that was announced stays a piece of its own.
impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match take_announced(bytes) {
            Some(payload) => self.put_payload(&payload),
            None => self.put(bytes),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
