//! What each type of field looks like on the wire.

use std::mem::size_of;

use bytes::Bytes;
use uuid::Uuid;

use super::{DecodeError, Decoder, Encoder};
use crate::model::{BrokerId, DirectoryId, ErrorCode, LeaderEpoch, Offset, Timestamp, TopicId};
use crate::protocol::{Opaque, Records};

/// A value that has a place in a message.
pub trait Field: Sized {
    fn encode(&self, out: &mut Encoder);
    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError>;
}

/// A value that can be null: each kind has its own mark for it.
pub trait NullableField: Field {
    fn encode_nullable(this: Option<&Self>, out: &mut Encoder);
    fn decode_nullable(input: &mut Decoder<'_>) -> Result<Option<Self>, DecodeError>;
}

/// A struct whose versions differ by more than which fields there are. In memory it always has the
/// form of the newest version.
pub trait Adapt {
    /// It has the fields of `version`, and gets the form of the newest.
    fn upgrade(&mut self, version: i16);
    /// It has the form of the newest version, and gets the fields of `version`.
    fn downgrade(&mut self, version: i16);
}

/// Null where this version allows it.
pub fn encode_option<T: NullableField + Default>(
    value: &Option<T>,
    nullable: bool,
    out: &mut Encoder,
) {
    match (value, nullable) {
        (Some(value), false) => value.encode(out),
        (None, false) => T::default().encode(out),
        (value, true) => T::encode_nullable(value.as_ref(), out),
    }
}

/// Null where this version allows it; elsewhere it is refused.
pub fn decode_option<T: NullableField>(
    input: &mut Decoder<'_>,
    nullable: bool,
) -> Result<Option<T>, DecodeError> {
    match nullable {
        true => T::decode_nullable(input),
        false => T::decode(input).map(Some),
    }
}

/// Whether a tagged field has its default.
pub fn is_same<T: PartialEq>(value: &T, default: &T) -> bool {
    value == default
}

/// A byte in front of a struct that may be null.
pub fn encode_nullable_struct<T: Field>(value: Option<&T>, out: &mut Encoder) {
    match value {
        None => (-1i8).encode(out),
        Some(value) => {
            1i8.encode(out);
            value.encode(out);
        }
    }
}

/// See [`encode_nullable_struct`].
pub fn decode_nullable_struct<T: Field>(input: &mut Decoder<'_>) -> Result<Option<T>, DecodeError> {
    match i8::decode(input)? {
        ..0 => Ok(None),
        _ => T::decode(input).map(Some),
    }
}

impl<T: NullableField> Field for Option<T> {
    fn encode(&self, out: &mut Encoder) {
        T::encode_nullable(self.as_ref(), out);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        T::decode_nullable(input)
    }
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Field for $number {
            fn encode(&self, out: &mut Encoder) {
                out.put(&self.to_be_bytes());
            }

            fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                input.take_array().map(<$number>::from_be_bytes)
            }
        }
    )*};
}

numbers! { i8 i16 i32 i64 u16 u32 u64 }

macro_rules! newtypes {
    ($($name:ident)*) => {$(
        impl Field for $name {
            fn encode(&self, out: &mut Encoder) {
                self.0.encode(out);
            }

            fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                Field::decode(input).map($name)
            }
        }
    )*};
}

newtypes! { BrokerId DirectoryId LeaderEpoch Offset Timestamp TopicId }

impl Field for bool {
    fn encode(&self, out: &mut Encoder) {
        out.put(&[u8::from(*self)]);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        input.take_array().map(|[byte]| byte != 0)
    }
}

impl Field for Uuid {
    fn encode(&self, out: &mut Encoder) {
        out.put(self.as_bytes());
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        input.take_array().map(Uuid::from_bytes)
    }
}

impl Field for ErrorCode {
    fn encode(&self, out: &mut Encoder) {
        self.code().encode(out);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        i16::decode(input).map(ErrorCode::from)
    }
}

fn not_null<T>(value: Option<T>) -> Result<T, DecodeError> {
    value.ok_or_else(|| DecodeError::new("it can't be null"))
}

impl Field for String {
    fn encode(&self, out: &mut Encoder) {
        String::encode_nullable(Some(self), out);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        not_null(String::decode_nullable(input)?)
    }
}

impl NullableField for String {
    fn encode_nullable(this: Option<&Self>, out: &mut Encoder) {
        out.put_string_length(this.map(String::len));
        out.put(this.map_or(&[], |text| text.as_bytes()));
    }

    fn decode_nullable(input: &mut Decoder<'_>) -> Result<Option<Self>, DecodeError> {
        let Some(length) = input.string_length()? else {
            return Ok(None);
        };
        let text = std::str::from_utf8(input.take(length)?)
            .map_err(|_| DecodeError::new("it isn't UTF-8"))?;
        input.charge(length)?;
        Ok(Some(text.to_string()))
    }
}

impl<T: Field> Field for Vec<T> {
    fn encode(&self, out: &mut Encoder) {
        Vec::encode_nullable(Some(self), out);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        not_null(Vec::decode_nullable(input)?)
    }
}

impl<T: Field> NullableField for Vec<T> {
    fn encode_nullable(this: Option<&Self>, out: &mut Encoder) {
        out.put_long_length(this.map(Vec::len));
        for element in this.into_iter().flatten() {
            element.encode(out);
        }
    }

    fn decode_nullable(input: &mut Decoder<'_>) -> Result<Option<Self>, DecodeError> {
        let Some(count) = input.long_length()? else {
            return Ok(None);
        };
        input.charge(count.saturating_mul(size_of::<T>()))?;
        let mut elements = Vec::with_capacity(count);
        for index in 0..count {
            elements.push(T::decode(input).map_err(|error| error.at(index))?);
        }
        Ok(Some(elements))
    }
}

/// Record batches. Null means none, as Kafka reads it.
impl Field for Records {
    fn encode(&self, out: &mut Encoder) {
        out.put_long_length(Some(self.0.len()));
        out.put_payload(&self.0);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        match input.long_length()? {
            None => Ok(Records::default()),
            Some(length) => input.take_slice(length).map(Records),
        }
    }
}

/// Null means none.
impl Field for Opaque {
    fn encode(&self, out: &mut Encoder) {
        out.put_long_length(Some(self.0.len()));
        out.put(&self.0);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let length = input.long_length()?.unwrap_or_default();
        input.charge(length)?;
        Ok(Opaque(Bytes::copy_from_slice(input.take(length)?)))
    }
}
