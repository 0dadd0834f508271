//! Frames: how messages are cut out of a stream of bytes, and put into one.
//!
//! A frame is a big-endian `u32` length and as many bytes, which are one MessagePack value. An
//! incomplete frame is `None`, and nothing is allocated for it here. What is reserved for it on its
//! length alone is for the reader to say; the broker's reserves up to 2 MiB.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

/// The largest frame that is accepted without any configuration.
pub const FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;
/// The largest frame before a connection has greeted with ApiVersions: strangers get no more.
pub const FRAME_BYTES_MAX_UNGREETED: usize = 512 * 1024;
/// The bytes of the length in front of each frame.
pub const FRAME_LENGTH_BYTES: usize = 4;

/// Why the stream can't be read on: the connection has to be closed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrameError {
    #[error("a frame of length 0")]
    Empty,
    #[error("a frame of {length} bytes, where at most {bytes_max} are allowed")]
    TooLarge { length: usize, bytes_max: usize },
    #[error("this looks like {0}, and not like Klamm's MessagePack frames")]
    Foreign(&'static str),
}

/// Takes one whole frame (without its length) from the front of `buffer`; `None` if more bytes
/// are needed. The frame shares the buffer's memory.
pub fn split_frame(buffer: &mut BytesMut, bytes_max: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(prefix) = buffer.first_chunk::<FRAME_LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*prefix) as usize;
    if length == 0 {
        return Err(FrameError::Empty);
    }
    if let Some(protocol) = foreign_protocol(prefix) {
        return Err(FrameError::Foreign(protocol));
    }
    if length > bytes_max {
        return Err(FrameError::TooLarge { length, bytes_max });
    }
    if buffer.len() - FRAME_LENGTH_BYTES < length {
        return Ok(None);
    }
    buffer.advance(FRAME_LENGTH_BYTES);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// Other protocols that are often spoken to a wrong port. Read as a length, each of these starts
/// is above [`FRAME_BYTES_MAX`].
fn foreign_protocol(prefix: &[u8; FRAME_LENGTH_BYTES]) -> Option<&'static str> {
    match prefix {
        b"GET " | b"POST" | b"PUT " | b"HEAD" | b"OPTI" | b"DELE" | b"PATC" | b"CONN" | b"PRI " => {
            Some("HTTP")
        }
        [0x16, 0x03, 0..=4, _] => Some("TLS"),
        b"SSH-" => Some("SSH"),
        _ => None,
    }
}

/// A frame to be written, its length in front, as a list of pieces for a vectored write: large
/// payloads are pieces of their own and were never copied.
#[derive(Debug, Clone, Default)]
pub struct Segments {
    pieces: Vec<Bytes>,
    len: usize,
}

impl Segments {
    pub(super) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.len += piece.len();
            self.pieces.push(piece);
        }
    }

    /// All bytes together.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// One piece, copied together: for tests and for tools that don't mind.
    pub fn to_bytes(&self) -> Bytes {
        let mut all = BytesMut::with_capacity(self.len);
        for piece in &self.pieces {
            all.extend_from_slice(piece);
        }
        all.freeze()
    }
}

/// One piece.
impl From<Bytes> for Segments {
    fn from(bytes: Bytes) -> Segments {
        let mut segments = Segments::default();
        segments.push(bytes);
        segments
    }
}

impl IntoIterator for Segments {
    type Item = Bytes;
    type IntoIter = std::vec::IntoIter<Bytes>;

    fn into_iter(self) -> Self::IntoIter {
        self.pieces.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(bytes: &[u8]) -> BytesMut {
        BytesMut::from(bytes)
    }

    #[test]
    fn frames_are_cut_out_one_after_the_other() {
        let mut stream = buffer(b"\0\0\0\x02ab\0\0\0\x01c\0\0\0\x05de");
        let mut frames = Vec::new();
        while let Some(frame) = split_frame(&mut stream, 10).unwrap() {
            frames.push(frame);
        }
        assert_eq!(frames, [&b"ab"[..], b"c"]);
        assert_eq!(&stream[..], b"\0\0\0\x05de", "the incomplete one stays");
    }

    #[test]
    fn nothing_is_allocated_for_a_length_whose_bytes_are_not_there() {
        let mut stream = buffer(b"\x06\0\0\0abc");
        let before = stream.capacity();
        assert_eq!(split_frame(&mut stream, FRAME_BYTES_MAX + 1), Ok(None));
        assert_eq!(stream.capacity(), before);
    }

    #[test]
    fn lengths_that_cannot_be_are_refused_at_once() {
        let refused = |bytes: &[u8]| split_frame(&mut buffer(bytes), FRAME_BYTES_MAX).unwrap_err();
        assert_eq!(refused(b"\0\0\0\0"), FrameError::Empty);
        for length in [-1i32, i32::MAX, i32::MIN, FRAME_BYTES_MAX as i32 + 1] {
            let error = refused(&length.to_be_bytes());
            assert!(matches!(error, FrameError::TooLarge { .. }), "{error}");
        }
    }

    #[test]
    fn other_protocols_are_recognised_by_name() {
        for (bytes, name) in [
            (&b"GET / HTTP/1.1\r\n"[..], "HTTP"),
            (b"POST /topics", "HTTP"),
            (b"\x16\x03\x01\x02\x00\x01", "TLS"),
            (b"SSH-2.0-OpenSSH", "SSH"),
        ] {
            let error = split_frame(&mut buffer(bytes), FRAME_BYTES_MAX).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
