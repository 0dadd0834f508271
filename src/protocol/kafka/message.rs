//! Whole messages: a header, and behind it the body of a request or response.
//!
//! A request's header is `[api_key i16, api_version i16, correlation_id i32, client_id nullable
//! string]`, followed by tagged fields where the API's version is flexible; the client id's length
//! is an `i16` in all of them. A response's is the correlation id, and the tagged fields too, but
//! for ApiVersions: a client reads that before it knows what the broker speaks (KIP-511).

use bytes::Bytes;
use thiserror::Error;

use super::{DecodeError, Decoder, Encoder, Field, NullableField, Tag};
use crate::model::ErrorCode;
use crate::protocol::{api_versions, ApiKey, EncodeError, Request, Response, Segments};

/// What stands in front of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaHeader {
    pub api: ApiKey,
    pub version: i16,
    /// Chosen by the client, and echoed in the response.
    pub correlation_id: i32,
    /// The client's name for itself, for logs and quotas.
    pub client_id: Option<String>,
}

/// Why a request can't be understood. Kafka's encoding has no place for an error of the request as a
/// whole, so the connection is closed, but for a greeting in an unknown version.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KafkaError {
    #[error("the request's header can't be read: {0}")]
    Header(DecodeError),
    #[error("API key {0} isn't known here")]
    UnknownApi(i16),
    #[error("{} has versions {from} to {to} here, and not {version}", api.name())]
    UnsupportedVersion {
        api: ApiKey,
        version: i16,
        from: i16,
        to: i16,
        correlation_id: i32,
    },
    #[error("the {} request of version {version} can't be read: {error}", api.name())]
    Body {
        api: ApiKey,
        version: i16,
        error: DecodeError,
    },
}

/// Decodes a frame of the Kafka listener. What follows the body is passed over, as Kafka does:
/// librdkafka 2.12 sends three bytes too many when it asks for the metadata of all topics.
pub fn decode_request(frame: &Bytes) -> Result<(KafkaHeader, Request), KafkaError> {
    let mut input = Decoder::new(frame);
    let header = decode_header(&mut input)?;
    let KafkaHeader { api, version, .. } = header;
    match Request::decode_kafka(api, &mut input) {
        Ok(request) => Ok((header, request)),
        Err(error) => Err(KafkaError::Body {
            api,
            version,
            error,
        }),
    }
}

fn decode_header(input: &mut Decoder<'_>) -> Result<KafkaHeader, KafkaError> {
    let mut ids = || -> Result<(i16, i16, i32), DecodeError> {
        let key = i16::decode(input).map_err(|e| e.inside("api_key"))?;
        let version = i16::decode(input).map_err(|e| e.inside("api_version"))?;
        let id = i32::decode(input).map_err(|e| e.inside("correlation_id"))?;
        Ok((key, version, id))
    };
    let (key, version, correlation_id) = ids().map_err(KafkaError::Header)?;
    let known = ApiKey::from_code(key).and_then(|api| Some((api, api.kafka_versions()?)));
    let Some((api, versions)) = known else {
        return Err(KafkaError::UnknownApi(key));
    };
    if !versions.contains(&version) {
        return Err(KafkaError::UnsupportedVersion {
            api,
            version,
            from: *versions.start(),
            to: *versions.end(),
            correlation_id,
        });
    }
    let mut rest = || -> Result<Option<String>, DecodeError> {
        let client_id = String::decode_nullable(input).map_err(|e| e.inside("client_id"))?;
        input.set_version(version, api.is_flexible(version));
        input.tagged_fields(|_, _| Ok(Tag::Unknown))?;
        Ok(client_id)
    };
    Ok(KafkaHeader {
        api,
        version,
        correlation_id,
        client_id: rest().map_err(KafkaError::Header)?,
    })
}

/// Encodes the response to a request of this version.
pub fn encode_response(
    version: i16,
    correlation_id: i32,
    response: &Response,
) -> Result<Segments, EncodeError> {
    let api = response.key();
    let mut out = Encoder::new();
    correlation_id.encode(&mut out);
    let flexible = api.is_flexible(version);
    if flexible && api != ApiKey::ApiVersions {
        out.tagged_count(0);
    }
    out.set_version(version, flexible);
    response.encode_kafka(&mut out);
    out.finish()
}

impl KafkaError {
    /// The answer, if there is one: a client that greets in a version from the future learns in
    /// version 0 which versions there are (KIP-511).
    pub fn encode(&self) -> Option<Segments> {
        match self {
            KafkaError::UnsupportedVersion {
                api: ApiKey::ApiVersions,
                correlation_id,
                ..
            } => {
                let response = api_versions::Response::of_kafka(ErrorCode::UnsupportedVersion);
                encode_response(0, *correlation_id, &response.into()).ok()
            }
            _ => None,
        }
    }
}
