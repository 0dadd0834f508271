//! The two encodings behind one face: what a listener speaks, so that nobody behind it needs to
//! know.

use bytes::Bytes;

use super::kafka::{self, KafkaError};
use super::{codec, EncodeError, Request, Response, Segments};

/// What the frames of a listener hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `docs/PROTOCOL.md`: answers come in any order.
    MessagePack,
    /// Apache Kafka's own: answers come in the order of the requests.
    Kafka,
}

/// What of a request its answer is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub version: i16,
    pub correlation_id: i32,
}

/// What a frame holds.
#[derive(Debug)]
pub struct Decoded {
    pub envelope: Envelope,
    /// The client's name for itself.
    pub client_id: Option<String>,
    pub request: Request,
}

/// A request that isn't understood.
#[derive(Debug)]
pub struct Refused {
    pub reason: String,
    /// What the client is told; without it the connection has to be closed.
    pub answer: Option<Segments>,
}

impl Encoding {
    /// Decodes a frame, without its length.
    pub fn decode(self, frame: &Bytes) -> Result<Decoded, Refused> {
        match self {
            Encoding::MessagePack => match codec::decode_request(frame) {
                Ok((header, request)) => Ok(Decoded {
                    envelope: Envelope {
                        version: header.api_version,
                        correlation_id: header.correlation_id,
                    },
                    client_id: header.client_id,
                    request,
                }),
                Err(error) => Err(Refused {
                    reason: error.to_string(),
                    answer: error.encode(),
                }),
            },
            Encoding::Kafka => match kafka::decode_request(frame) {
                Ok((header, request)) => Ok(Decoded {
                    envelope: Envelope {
                        version: header.version,
                        correlation_id: header.correlation_id,
                    },
                    client_id: header.client_id,
                    request,
                }),
                Err(error) => Err(Refused {
                    reason: error.to_string(),
                    answer: KafkaError::encode(&error),
                }),
            },
        }
    }

    /// Encodes the answer. The client of one that has no wire form can only be told by closing its
    /// connection.
    pub fn encode(self, envelope: Envelope, response: &Response) -> Result<Segments, EncodeError> {
        let Envelope {
            version,
            correlation_id,
        } = envelope;
        match self {
            Encoding::MessagePack => codec::encode_response(correlation_id, response),
            Encoding::Kafka => kafka::encode_response(version, correlation_id, response),
        }
    }
}
