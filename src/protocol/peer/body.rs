//! What a frame carries for somebody else: one MessagePack value, with serde, as in every API.
//!
//! Records in it stay pieces of their own on the way out, and become slices of the frame on the way
//! in.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::Serialize;
use thiserror::Error;

use crate::protocol::codec::{self, EncodeError};
use crate::protocol::frame::Segments;
use crate::protocol::records::with_frame;
use crate::protocol::scan::{scan, Payload, ScanError, REQUEST_VALUES_MAX};
use crate::protocol::sink::Sink;

/// Why a body can't be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BodyError {
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// Names the field.
    #[error("{0}")]
    Field(String),
}

/// A struct as an array of its fields.
pub fn encode_body<T: Serialize>(body: &T) -> Result<Segments, EncodeError> {
    let mut sink = Sink::of_part();
    body.serialize(&mut rmp_serde::Serializer::new(&mut sink))
        .map_err(|error| EncodeError(error.to_string()))?;
    sink.into_segments()
}

/// Exactly one value; how many values it may hold and how deep is bounded as for a request.
pub fn decode_body<T: DeserializeOwned>(body: &Bytes) -> Result<T, BodyError> {
    scan(body, REQUEST_VALUES_MAX, Payload::Bytes)?;
    with_frame(body, || codec::decode_body(body)).map_err(BodyError::Field)
}
