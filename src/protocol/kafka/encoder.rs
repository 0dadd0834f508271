//! Writing: fields into one buffer, and records between its parts.

use bytes::Bytes;

use crate::protocol::frame::Segments;
use crate::protocol::sink::Sink;
use crate::protocol::EncodeError;

/// Writes one message of one version.
pub struct Encoder {
    sink: Sink,
    version: i16,
    flexible: bool,
}

impl Encoder {
    /// An encoder whose frame is still empty.
    pub fn new() -> Encoder {
        Encoder {
            sink: Sink::of_frame(),
            version: 0,
            flexible: false,
        }
    }

    /// From here on the fields are those of this version.
    pub fn set_version(&mut self, version: i16, flexible: bool) {
        self.version = version;
        self.flexible = flexible;
    }

    pub fn version(&self) -> i16 {
        self.version
    }

    /// Whether lengths are compact, and structs end with tagged fields (KIP-482).
    pub fn is_flexible(&self) -> bool {
        self.flexible
    }

    pub fn put(&mut self, bytes: &[u8]) {
        self.sink.put(bytes);
    }

    /// Writes a payload, which isn't copied if it is large.
    pub fn put_payload(&mut self, payload: &Bytes) {
        self.sink.put_payload(payload);
    }

    pub fn put_unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.put(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.put(&[value as u8]);
    }

    /// The length of a string; `None` for null.
    pub fn put_string_length(&mut self, length: Option<usize>) {
        match length.map(i16::try_from) {
            Some(Err(_)) => self
                .sink
                .fail("a string of more than 32,767 bytes".to_owned()),
            _ if self.flexible => self.put_compact_length(length),
            None => self.put(&(-1i16).to_be_bytes()),
            Some(Ok(length)) => self.put(&length.to_be_bytes()),
        }
    }

    /// The length of bytes or of an array; `None` for null.
    pub fn put_long_length(&mut self, length: Option<usize>) {
        match (self.flexible, length) {
            (true, _) => self.put_compact_length(length),
            (false, None) => self.put(&(-1i32).to_be_bytes()),
            (false, Some(length)) => match i32::try_from(length) {
                Ok(length) => self.put(&length.to_be_bytes()),
                Err(_) => self.sink.fail(format!("an array of length {length}")),
            },
        }
    }

    fn put_compact_length(&mut self, length: Option<usize>) {
        let plus_one = length.map_or(0, |length| length + 1);
        match i32::try_from(plus_one) {
            Ok(plus_one) => self.put_unsigned_varint(plus_one as u32),
            Err(_) => self.sink.fail(format!("a length of {}", plus_one - 1)),
        }
    }

    /// How many tagged fields follow.
    pub fn tagged_count(&mut self, count: u32) {
        self.put_unsigned_varint(count);
    }

    /// Writes one tagged field: tag, size, and what `write` writes.
    pub fn tagged(&mut self, tag: u32, write: impl FnOnce(&mut Encoder)) {
        let outer = std::mem::replace(&mut self.sink, Sink::of_part());
        write(self);
        let field = std::mem::replace(&mut self.sink, outer);
        self.put_unsigned_varint(tag);
        match u32::try_from(field.len()) {
            Ok(size) => self.put_unsigned_varint(size),
            Err(_) => self
                .sink
                .fail(format!("the tagged field {tag} is too long")),
        }
        self.sink.append(field);
    }

    /// The whole frame, its length in front.
    pub fn finish(self) -> Result<Segments, EncodeError> {
        self.sink.finish()
    }
}

impl Default for Encoder {
    fn default() -> Encoder {
        Encoder::new()
    }
}
