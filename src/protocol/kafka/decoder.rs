//! Reading: a cursor over one frame that hands out nothing that isn't there.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

/// What one message may take up in memory beside the bytes of its frame. 60,000 partitions of a
/// Produce fit.
pub const DECODED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Tagged fields that this build doesn't know, in one message.
pub const UNKNOWN_TAGGED_FIELDS_MAX: usize = 1_000;

/// What is wrong, and where: the path of the field, as `topic_data[0].name`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{path}{}{reason}", if path.is_empty() { "" } else { ": " })]
pub struct DecodeError {
    path: Box<str>,
    reason: Box<str>,
}

impl DecodeError {
    pub fn new(reason: impl fmt::Display) -> DecodeError {
        DecodeError {
            path: "".into(),
            reason: reason.to_string().into(),
        }
    }

    /// The same error, of a field of this name.
    pub fn inside(self, field: &str) -> DecodeError {
        let dot = match self.path.chars().next() {
            None | Some('[') => "",
            Some(_) => ".",
        };
        DecodeError {
            path: format!("{field}{dot}{}", self.path).into(),
            ..self
        }
    }

    /// The same error, of an element of an array.
    pub fn at(self, index: usize) -> DecodeError {
        self.inside(&format!("[{index}]"))
    }
}

/// Whether a tag is one that the struct has in this version.
pub enum Tag {
    Known,
    Unknown,
}

/// A cursor over one frame.
pub struct Decoder<'f> {
    frame: &'f Bytes,
    at: usize,
    end: usize,
    version: i16,
    flexible: bool,
    /// What may still be allocated.
    budget: usize,
    unknown_tags_left: usize,
}

impl<'f> Decoder<'f> {
    /// Reads `frame` from its start.
    pub fn new(frame: &'f Bytes) -> Decoder<'f> {
        Decoder {
            frame,
            at: 0,
            end: frame.len(),
            version: 0,
            flexible: false,
            budget: DECODED_BYTES_MAX,
            unknown_tags_left: UNKNOWN_TAGGED_FIELDS_MAX,
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

    fn left(&self) -> usize {
        self.end - self.at
    }

    /// Takes so many bytes.
    pub fn take(&mut self, count: usize) -> Result<&'f [u8], DecodeError> {
        let frame: &'f [u8] = self.frame;
        if count > self.left() {
            return Err(DecodeError::new(format_args!(
                "{count} bytes are needed, and {} are left",
                self.left()
            )));
        }
        let taken = &frame[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    pub fn take_array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// Takes so many bytes as a slice of the frame.
    pub fn take_slice(&mut self, count: usize) -> Result<Bytes, DecodeError> {
        let taken = self.take(count)?;
        Ok(self.frame.slice_ref(taken))
    }

    /// An unsigned varint of at most 32 bits, in as few bytes as it needs.
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let [byte] = self.take_array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value)
                    .map_err(|_| DecodeError::new("a varint above 2³² - 1"));
            }
        }
        Err(DecodeError::new("a varint of more than 5 bytes"))
    }

    /// The length of a string: `None` for null. A compact one is no longer than any other.
    pub fn string_length(&mut self) -> Result<Option<usize>, DecodeError> {
        let length = match self.flexible {
            true => i64::from(self.unsigned_varint()?) - 1,
            false => i64::from(i16::from_be_bytes(self.take_array()?)),
        };
        if length > i64::from(i16::MAX) {
            let limit = i16::MAX;
            return Err(DecodeError::new(format_args!(
                "the string has {length} bytes, and at most {limit} are allowed"
            )));
        }
        self.length(length)
    }

    /// The length of bytes or of an array: `None` for null.
    pub fn long_length(&mut self) -> Result<Option<usize>, DecodeError> {
        let length = match self.flexible {
            true => i64::from(self.unsigned_varint()?) - 1,
            false => i64::from(i32::from_be_bytes(self.take_array()?)),
        };
        self.length(length)
    }

    /// Each byte and each element of an array takes at least a byte of the frame.
    fn length(&self, length: i64) -> Result<Option<usize>, DecodeError> {
        match length {
            -1 => Ok(None),
            ..-1 => Err(DecodeError::new(format_args!("the length is {length}"))),
            _ => match usize::try_from(length).ok().filter(|l| *l <= self.left()) {
                Some(length) => Ok(Some(length)),
                None => Err(DecodeError::new(format_args!(
                    "the length is {length}, and {} bytes are left",
                    self.left()
                ))),
            },
        }
    }

    /// Charges what is about to be allocated.
    pub fn charge(&mut self, bytes: usize) -> Result<(), DecodeError> {
        self.budget = self.budget.checked_sub(bytes).ok_or_else(|| {
            DecodeError::new(format_args!(
                "the message takes more than {DECODED_BYTES_MAX} bytes when decoded"
            ))
        })?;
        Ok(())
    }

    /// Reads the tagged fields that end a struct; `read` is given those that come, and says
    /// whether it knows them.
    pub fn tagged_fields(
        &mut self,
        mut read: impl FnMut(u32, &mut Self) -> Result<Tag, DecodeError>,
    ) -> Result<(), DecodeError> {
        if !self.flexible {
            return Ok(());
        }
        let count = self.unsigned_varint()?;
        let mut last = None;
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            if last.is_some_and(|last| tag <= last) {
                return Err(DecodeError::new(format_args!(
                    "the tagged field {tag} comes after {}",
                    last.unwrap_or_default()
                )));
            }
            last = Some(tag);
            let size = self.unsigned_varint()? as usize;
            self.tagged_field(tag, size, &mut read)?;
        }
        Ok(())
    }

    fn tagged_field(
        &mut self,
        tag: u32,
        size: usize,
        read: &mut impl FnMut(u32, &mut Self) -> Result<Tag, DecodeError>,
    ) -> Result<(), DecodeError> {
        if size > self.left() {
            return Err(DecodeError::new(format_args!(
                "the tagged field {tag} has {size} bytes, and {} are left",
                self.left()
            )));
        }
        let (outer_end, field_end) = (self.end, self.at + size);
        self.end = field_end;
        match read(tag, self)? {
            Tag::Known if self.at != field_end => {
                let left = self.left();
                return Err(DecodeError::new(format_args!(
                    "{left} bytes are left of the tagged field {tag}"
                )));
            }
            Tag::Known => {}
            Tag::Unknown => {
                self.unknown_tags_left =
                    self.unknown_tags_left.checked_sub(1).ok_or_else(|| {
                        DecodeError::new(format_args!(
                            "more than {UNKNOWN_TAGGED_FIELDS_MAX} tagged fields that aren't known"
                        ))
                    })?;
                self.at = field_end;
            }
        }
        self.end = outer_end;
        Ok(())
    }

    /// That nothing follows.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.left() {
            0 => Ok(()),
            left => Err(DecodeError::new(format_args!("{left} bytes follow it"))),
        }
    }
}
