//! What can go wrong at a client, and whether trying again can help.

use std::time::Duration;

use thiserror::Error;

use crate::model::{ErrorCode, Offset};
use crate::record::RecordError;

/// Why a broker could not be asked, or did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClientError {
    #[error("can't connect to {address}: {reason}")]
    Connect { address: String, reason: String },
    #[error("no broker of {addresses} can be reached: {reason}")]
    NoBroker { addresses: String, reason: String },
    #[error("the connection to {address} is lost: {reason}")]
    ConnectionLost { address: String, reason: String },
    #[error("{address} has not answered {api} within {after:?}")]
    Timeout {
        address: String,
        api: &'static str,
        after: Duration,
    },
    /// The broker understood nothing of the request, or refused it as a whole.
    #[error("{address} refuses {api}: {code}{}{message}", separator(.message))]
    Refused {
        address: String,
        api: &'static str,
        code: ErrorCode,
        message: String,
    },
    #[error("{address} speaks no version of {api} that this client speaks")]
    UnsupportedApi { address: String, api: &'static str },
    #[error("{address} answers {api} with what can't be read: {reason}")]
    Garbled {
        address: String,
        api: &'static str,
        reason: String,
    },
    #[error("{address} belongs to cluster {is}, and not to {expected}")]
    ForeignCluster {
        address: String,
        is: String,
        expected: String,
    },
    #[error("topic {topic}: {code}{}{message}", separator(.message))]
    Topic {
        topic: String,
        code: ErrorCode,
        message: String,
    },
    #[error("partition {topic}-{partition}: {code}{}{message}", separator(.message))]
    Partition {
        topic: String,
        partition: i32,
        code: ErrorCode,
        message: String,
    },
    /// Only with `OffsetReset::Error`.
    #[error("partition {topic}-{partition} has no offset {offset} (any more)")]
    OffsetOutOfRange {
        topic: String,
        partition: i32,
        offset: Offset,
    },
    /// Only with `OffsetReset::Error`.
    #[error("group {group} has committed no offset of partition {topic}-{partition}")]
    NoCommittedOffset {
        group: String,
        topic: String,
        partition: i32,
    },
    /// A broker sent records that aren't what was written. They are not handed out.
    #[error("partition {topic}-{partition} is corrupt at or after offset {offset}: {error}")]
    Corrupt {
        topic: String,
        partition: i32,
        offset: Offset,
        /// A seek to here goes past the batch, as far as its header can be believed.
        next_offset: Offset,
        error: RecordError,
    },
    #[error("{0}")]
    Invalid(String),
}

impl ClientError {
    /// Whether the same call can succeed later.
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Connect { .. }
            | ClientError::NoBroker { .. }
            | ClientError::ConnectionLost { .. }
            | ClientError::Timeout { .. } => true,
            ClientError::Refused { code, .. }
            | ClientError::Topic { code, .. }
            | ClientError::Partition { code, .. } => code.is_retriable(),
            ClientError::UnsupportedApi { .. }
            | ClientError::Garbled { .. }
            | ClientError::ForeignCluster { .. }
            | ClientError::OffsetOutOfRange { .. }
            | ClientError::NoCommittedOffset { .. }
            | ClientError::Corrupt { .. }
            | ClientError::Invalid(_) => false,
        }
    }

    /// The broker's error code, if it was a broker that said no.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Refused { code, .. }
            | ClientError::Topic { code, .. }
            | ClientError::Partition { code, .. } => Some(*code),
            ClientError::OffsetOutOfRange { .. } => Some(ErrorCode::OffsetOutOfRange),
            _ => None,
        }
    }
}

fn separator(message: &str) -> &'static str {
    match message.is_empty() {
        true => "",
        false => ": ",
    }
}

/// Why a record was not delivered, or is not known to be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProduceError {
    /// The topic has no such partition, its metadata can't be had, and the like: the record was
    /// never sent.
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("a record of {size} bytes is larger than the {size_max} that are allowed")]
    RecordTooLarge { size: usize, size_max: usize },
    /// The broker has definitely not appended the record.
    #[error("partition {topic}-{partition} refuses the batch: {code}{}{message}", separator(.message))]
    Refused {
        topic: String,
        partition: i32,
        code: ErrorCode,
        message: String,
    },
    /// All retries were used up. Whether the record was appended isn't known, unless it was never
    /// sent.
    #[error("partition {topic}-{partition} has not acknowledged the batch within {after:?}: {last_error}")]
    DeliveryTimeout {
        topic: String,
        partition: i32,
        after: Duration,
        last_error: String,
    },
    /// The broker's memory of this producer doesn't fit to what was acknowledged: the partition
    /// has lost records, or another producer has fenced this one. This producer can send nothing
    /// more to the partition.
    #[error("producing to {topic}-{partition} can't go on: {code}{}{message}", separator(.message))]
    Fatal {
        topic: String,
        partition: i32,
        code: ErrorCode,
        message: String,
    },
    #[error("the producer is closed")]
    Closed,
}

impl ProduceError {
    /// Whether sending the same record again can succeed. It may be appended twice then.
    pub fn is_retriable(&self) -> bool {
        match self {
            ProduceError::Client(error) => error.is_retriable(),
            ProduceError::DeliveryTimeout { .. } => true,
            ProduceError::Refused { code, .. } => code.is_retriable(),
            ProduceError::RecordTooLarge { .. }
            | ProduceError::Fatal { .. }
            | ProduceError::Closed => false,
        }
    }
}
