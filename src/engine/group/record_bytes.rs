//! How the fields of the records of `__consumer_offsets` are written: as Kafka writes its message files, with
//! lengths of fixed size.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

/// No string of ours is longer: names come with a length of 16 bits.
pub(super) fn put_string(out: &mut Vec<u8>, text: &str) {
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

pub(super) fn put_nullable(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => put_string(out, text),
        None => out.put_i16(-1),
    }
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_i32(bytes.len() as i32);
    out.put_slice(bytes);
}

/// Each error names the field that isn't there.
pub(super) struct Reader<'a>(pub &'a [u8]);

macro_rules! numbers {
    ($($number:ident $get:ident)*) => {$(
        pub fn $number(&mut self, field: &str) -> Result<$number, String> {
            self.0.$get().map_err(|_| format!("{field} is cut off"))
        }
    )*};
}

impl Reader<'_> {
    numbers! { i8 try_get_i8 i16 try_get_i16 i32 try_get_i32 i64 try_get_i64 }

    pub fn take(&mut self, length: usize, field: &str) -> Result<&[u8], String> {
        let split = self.0.split_at_checked(length);
        let (taken, rest) = split.ok_or_else(|| format!("{field} is cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn nullable(&mut self, field: &str) -> Result<Option<Arc<str>>, String> {
        let length = self.i16(field)?;
        let Ok(length) = usize::try_from(length) else {
            return Ok(None);
        };
        let text = std::str::from_utf8(self.take(length, field)?);
        text.map(|text| Some(text.into()))
            .map_err(|_| format!("{field} isn't UTF-8"))
    }

    pub fn string(&mut self, field: &str) -> Result<Arc<str>, String> {
        let text = self.nullable(field)?;
        text.ok_or_else(|| format!("{field} can't be null"))
    }

    pub fn bytes(&mut self, field: &str) -> Result<Bytes, String> {
        let length = self.i32(field)?;
        let length = usize::try_from(length).map_err(|_| format!("{field} can't be null"))?;
        Ok(Bytes::copy_from_slice(self.take(length, field)?))
    }
}
