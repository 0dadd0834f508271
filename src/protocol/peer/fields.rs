//! The fields of an array, read one after the other.
//!
//! What was read may borrow from the frame. Nothing is allocated on the word of a length.

use super::PeerFrameError;

pub(super) struct Fields<'a> {
    at: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of the array that `frame` is, and how many there are.
    pub fn of(frame: &'a [u8]) -> Result<(Fields<'a>, u32), PeerFrameError> {
        let mut at = frame;
        let fields = rmp::decode::read_array_len(&mut at);
        let fields = fields.map_err(|_| PeerFrameError::Malformed("it isn't an array"))?;
        Ok((Fields { at }, fields))
    }

    /// What follows the fields that were read.
    pub fn rest(&self) -> &'a [u8] {
        self.at
    }

    pub fn int<T: TryFrom<i64>>(&mut self, field: &'static str) -> Result<T, PeerFrameError> {
        let value: i64 = rmp::decode::read_int(&mut self.at).map_err(|_| malformed(field))?;
        T::try_from(value).map_err(|_| malformed(field))
    }

    /// A number that is always written in 5 bytes.
    pub fn fixed_u32(&mut self, field: &'static str) -> Result<u32, PeerFrameError> {
        rmp::decode::read_u32(&mut self.at).map_err(|_| malformed(field))
    }

    pub fn str(&mut self, field: &'static str) -> Result<&'a str, PeerFrameError> {
        let len = rmp::decode::read_str_len(&mut self.at).map_err(|_| malformed(field))?;
        let text = self.take(len, field)?;
        std::str::from_utf8(text).map_err(|_| malformed(field))
    }

    pub fn optional_str(&mut self, field: &'static str) -> Result<Option<&'a str>, PeerFrameError> {
        match self.at.strip_prefix(&[rmp::Marker::Null.to_u8()]) {
            Some(rest) => {
                self.at = rest;
                Ok(None)
            }
            None => self.str(field).map(Some),
        }
    }

    pub fn bin(&mut self, field: &'static str) -> Result<&'a [u8], PeerFrameError> {
        let len = rmp::decode::read_bin_len(&mut self.at).map_err(|_| malformed(field))?;
        self.take(len, field)
    }

    pub fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], PeerFrameError> {
        self.bin(field)?.try_into().map_err(|_| malformed(field))
    }

    /// Nothing may follow.
    pub fn end(self) -> Result<(), PeerFrameError> {
        match self.at.is_empty() {
            true => Ok(()),
            false => Err(malformed("bytes follow it")),
        }
    }

    fn take(&mut self, len: u32, field: &'static str) -> Result<&'a [u8], PeerFrameError> {
        let split = self.at.split_at_checked(len as usize);
        let (taken, rest) = split.ok_or_else(|| malformed(field))?;
        self.at = rest;
        Ok(taken)
    }
}

pub(super) fn malformed(field: &'static str) -> PeerFrameError {
    PeerFrameError::Malformed(field)
}
