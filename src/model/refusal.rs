//! Why a request is not fulfilled.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::ErrorCode;

/// The longest message that a response carries; the rest is cut. A message may repeat what it was
/// sent, and Kafka's encoding has no strings of 32 KiB.
pub const ERROR_MESSAGE_BYTES_MAX: usize = 1024;

/// What a client is told when it can't have what it asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("{code}: {message}")]
pub struct Refusal {
    pub code: ErrorCode,
    /// In one line. May be empty: then the code says it all.
    pub message: String,
}

impl Refusal {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            message: message.into(),
        }
    }

    /// The message as a response carries it, unless it is empty.
    pub fn into_message(mut self) -> Option<String> {
        self.message.truncate(cut_message(&self.message).len());
        Some(self.message).filter(|message| !message.is_empty())
    }
}

/// The longest start of `message` that a response may carry.
pub fn cut_message(message: &str) -> &str {
    let mut end = message.len().min(ERROR_MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Refusal {
        Refusal::new(code, "")
    }
}
