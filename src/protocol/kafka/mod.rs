//! Kafka's binary encoding of the same messages.
//!
//! Each struct of an API describes its fields as Kafka's message files do (`#[derive(Kafka)]`, see
//! `crates/kafka-derive`): in which versions a field is there, where it may be null, whether it is
//! tagged. From that the derive makes [`Field`], and nothing is read or written by hand. The list
//! in [`super::api`] says which versions of an API this build speaks, and from which on it is
//! *flexible* (KIP-482): compact lengths, and tagged fields after each struct.
//!
//! Decoding trusts nothing. A length is believed only as far as there are bytes for it, what a
//! message takes up when decoded is charged before it is allocated, and each failure says what is
//! wrong with which field. Records are slices of the frame on the way in, and pieces of their own
//! in a vectored write on the way out.

mod decoder;
mod encoder;
mod field;
mod message;
#[cfg(test)]
mod tests;

pub use decoder::{DecodeError, Decoder, Tag};
pub use encoder::Encoder;
pub use field::{
    decode_nullable_struct, decode_option, encode_nullable_struct, encode_option, is_same, Adapt,
    Field, NullableField,
};
pub use message::{decode_request, encode_response, KafkaError, KafkaHeader};
