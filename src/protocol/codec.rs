//! Messages to frames and back.
//!
//! A request is `[api_key, api_version, correlation_id, client_id, body]`, a response
//! `[correlation_id, error_code, error_message, body]`. What is wrong with a request as a whole
//! is said in the response's own error, with a nil body; what is wrong with one topic or
//! partition stands in the body.
//!
//! Decoding trusts nothing: see [`super::scan`]. It never fails but with a named error.

use bytes::Bytes;
use rmp_serde::decode::Deserializer;
use serde::de::DeserializeOwned;
use serde::Serialize;
use thiserror::Error;

use super::frame::Segments;
use super::records::with_frame;
use super::scan::{scan, Payload, ScanError, DEPTH_MAX, REQUEST_VALUES_MAX, RESPONSE_VALUES_MAX};
use super::sink::Sink;
use super::{api_versions, path, Api, ApiKey, Request, Response};
use crate::model::{cut_message, ErrorCode};

/// The longest client id; a longer one is refused.
pub const CLIENT_ID_BYTES_MAX: usize = 255;

const REQUEST_FIELDS: u32 = 5;
const RESPONSE_FIELDS: u32 = 4;

/// What stands in front of each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    pub api_key: i16,
    pub api_version: i16,
    /// Chosen by the client, and echoed in the response.
    pub correlation_id: i32,
    /// The client's name for itself, for logs and quotas.
    pub client_id: Option<String>,
}

/// Why a request can't be understood. With a correlation id the client is answered
/// ([`RequestError::encode`]); without one the connection has to be closed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{code}: {message}")]
pub struct RequestError {
    pub correlation_id: Option<i32>,
    /// What the request's header says, as far as it could be read.
    pub api_key: Option<i16>,
    pub code: ErrorCode,
    pub message: String,
}

impl RequestError {
    /// The response; `None` if there is no correlation id to answer to.
    ///
    /// A client that greets in a version from the future learns which versions there are, as in
    /// KIP-511: the error then comes with the body of version 0.
    pub fn encode(&self) -> Option<Segments> {
        let correlation_id = self.correlation_id?;
        let greeting = self.api_key == Some(ApiKey::ApiVersions as i16);
        if greeting && self.code == ErrorCode::UnsupportedVersion {
            let body = api_versions::Response::of_message_pack(String::new(), self.code);
            let message = Some(cut_message(&self.message));
            return write_message(&(correlation_id, self.code, message, body)).ok();
        }
        Some(encode_error(correlation_id, self.code, &self.message))
    }
}

/// A request-level error, as a client reads it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{code}{}{}", if message.is_empty() { "" } else { ": " }, message)]
pub struct ErrorResponse {
    pub code: ErrorCode,
    /// May be empty.
    pub message: String,
}

/// What a response says: its body, or the error of the request as a whole.
pub type Answer<R> = Result<R, ErrorResponse>;

/// Or the field that can't be read.
type HeaderAndBody<'a> = Result<(RequestHeader, &'a [u8]), &'static str>;

/// A frame that isn't a response.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    #[error(transparent)]
    Scan(#[from] ScanError),
    #[error("the response's header can't be read: {0}")]
    Header(&'static str),
    #[error("the {api} response can't be read: {message}")]
    Body { api: &'static str, message: String },
}

/// A message that has no wire form. None of ours is such; but a list of 2³² elements would be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the message can't be encoded: {0}")]
pub struct EncodeError(pub(super) String);

/// Encodes a request to the API's highest version that is in `header`.
pub fn encode_request<A: Api>(
    header: &RequestHeader,
    request: &A::Request,
) -> Result<Segments, EncodeError> {
    write_message(&(
        header.api_key,
        header.api_version,
        header.correlation_id,
        header.client_id.as_deref(),
        request,
    ))
}

/// Encodes a response to the request that had this correlation id.
pub fn encode_response(correlation_id: i32, response: &Response) -> Result<Segments, EncodeError> {
    write_message(&(correlation_id, ErrorCode::None, None::<&str>, response))
}

/// Encodes an error that concerns the request as a whole.
pub fn encode_error(correlation_id: i32, code: ErrorCode, message: &str) -> Segments {
    let message = Some(cut_message(message));
    // Three scalars and a short string always have a wire form.
    write_message(&(correlation_id, code, message, ())).unwrap_or_default()
}

/// Decodes a frame of a listener.
pub fn decode_request(frame: &Bytes) -> Result<(RequestHeader, Request), RequestError> {
    let (correlation_id, header) = read_request_header(frame);
    let refused = |api_key: Option<i16>, code: ErrorCode, message: String| RequestError {
        correlation_id,
        api_key,
        code,
        message,
    };
    let (header, body) = header.map_err(|what| {
        let message = format!("the request's header can't be read: {what}");
        refused(None, ErrorCode::InvalidRequest, message)
    })?;
    let invalid = |code, message| Err(refused(Some(header.api_key), code, message));
    let Some(api) = ApiKey::from_code(header.api_key) else {
        let message = format!("API key {} isn't known", header.api_key);
        return invalid(ErrorCode::UnsupportedVersion, message);
    };
    let versions = api.versions();
    if !versions.contains(&header.api_version) {
        let message = format!(
            "{} has versions {} to {} here, and not {}",
            api.name(),
            versions.start(),
            versions.end(),
            header.api_version
        );
        return invalid(ErrorCode::UnsupportedVersion, message);
    }
    let payload = match api {
        ApiKey::Produce | ApiKey::JoinGroup | ApiKey::SyncGroup => Payload::Bytes,
        _ => Payload::None,
    };
    let decoded = scan(frame, REQUEST_VALUES_MAX, payload)
        .map_err(|error| error.to_string())
        .and_then(|()| with_frame(frame, || Request::decode(api, body)));
    match decoded {
        Ok(request) => Ok((header, request)),
        Err(message) => {
            let message = format!("the {} request can't be read: {message}", api.name());
            invalid(ErrorCode::InvalidRequest, message)
        }
    }
}

/// The correlation id of a response frame, from which a client learns whose response it is.
pub fn response_correlation_id(frame: &[u8]) -> Result<i32, DecodeError> {
    let mut at = frame;
    read_array(&mut at, RESPONSE_FIELDS)
        .and_then(|()| read_int(&mut at, "correlation_id"))
        .map_err(DecodeError::Header)
}

/// Decodes a frame that a broker sent, as the response of the API that was asked.
pub fn decode_response<A: Api>(frame: &Bytes) -> Result<(i32, Answer<A::Response>), DecodeError> {
    let payload = match A::KEY {
        ApiKey::Fetch | ApiKey::JoinGroup | ApiKey::SyncGroup | ApiKey::DescribeGroups => {
            Payload::Bytes
        }
        _ => Payload::None,
    };
    scan(frame, RESPONSE_VALUES_MAX, payload)?;
    let mut at = &frame[..];
    read_array(&mut at, RESPONSE_FIELDS).map_err(DecodeError::Header)?;
    let correlation_id = read_int(&mut at, "correlation_id").map_err(DecodeError::Header)?;
    let code: i16 = read_int(&mut at, "error_code").map_err(DecodeError::Header)?;
    let message = read_optional_str(&mut at, "error_message").map_err(DecodeError::Header)?;
    let code = ErrorCode::from(code);
    if code != ErrorCode::None {
        let message = message.unwrap_or_default().to_string();
        return Ok((correlation_id, Err(ErrorResponse { code, message })));
    }
    let response = with_frame(frame, || decode_body(at)).map_err(|message| DecodeError::Body {
        api: A::KEY.name(),
        message,
    })?;
    Ok((correlation_id, Ok(response)))
}

/// Decodes one struct from exactly these bytes. The error names the field.
pub(super) fn decode_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let mut deserializer = Deserializer::from_read_ref(body);
    deserializer.set_max_depth(DEPTH_MAX);
    T::deserialize(&mut deserializer).map_err(|_| path::explain::<T>(body))
}

/// Reads a request's header as far as it goes: the correlation id even when the rest is bad.
/// What follows the header is the body, which isn't checked here.
fn read_request_header(frame: &[u8]) -> (Option<i32>, HeaderAndBody<'_>) {
    let mut at = frame;
    let mut ids = || -> Result<(i16, i16, i32), &'static str> {
        read_array(&mut at, REQUEST_FIELDS)?;
        let api_key = read_int(&mut at, "api_key")?;
        let api_version = read_int(&mut at, "api_version")?;
        Ok((api_key, api_version, read_int(&mut at, "correlation_id")?))
    };
    let (api_key, api_version, correlation_id) = match ids() {
        Ok(ids) => ids,
        Err(what) => return (None, Err(what)),
    };
    let header = read_optional_str(&mut at, "client_id").and_then(|client_id| {
        if client_id.is_some_and(|id| id.len() > CLIENT_ID_BYTES_MAX) {
            return Err("client_id is longer than 255 bytes");
        }
        let header = RequestHeader {
            api_key,
            api_version,
            correlation_id,
            client_id: client_id.map(str::to_string),
        };
        Ok((header, at))
    });
    (Some(correlation_id), header)
}

fn read_array(at: &mut &[u8], fields: u32) -> Result<(), &'static str> {
    match rmp::decode::read_array_len(at) {
        Ok(len) if len == fields => Ok(()),
        Ok(_) => Err("an array of another length"),
        Err(_) => Err("not a MessagePack array"),
    }
}

fn read_int<T: TryFrom<i64>>(at: &mut &[u8], field: &'static str) -> Result<T, &'static str> {
    let value: i64 = rmp::decode::read_int(at).map_err(|_| field)?;
    T::try_from(value).map_err(|_| field)
}

fn read_optional_str<'a>(
    at: &mut &'a [u8],
    field: &'static str,
) -> Result<Option<&'a str>, &'static str> {
    if let Some(rest) = at.strip_prefix(&[rmp::Marker::Null.to_u8()]) {
        *at = rest;
        return Ok(None);
    }
    let len = rmp::decode::read_str_len(at).map_err(|_| field)? as usize;
    let (text, rest) = at.split_at_checked(len).ok_or(field)?;
    *at = rest;
    std::str::from_utf8(text).map(Some).map_err(|_| field)
}

/// Writes a message and its length; announced payloads become pieces of their own.
fn write_message<T: Serialize>(message: &T) -> Result<Segments, EncodeError> {
    let mut sink = Sink::of_frame();
    message
        .serialize(&mut rmp_serde::Serializer::new(&mut sink))
        .map_err(|error| EncodeError(error.to_string()))?;
    sink.finish()
}
