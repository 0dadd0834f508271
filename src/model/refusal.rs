//! Why a request is not fulfilled.

use thiserror::Error;

use super::ErrorCode;

/// What a client is told when it can't have what it asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
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

    /// The message, unless it is empty.
    pub fn into_message(self) -> Option<String> {
        Some(self.message).filter(|message| !message.is_empty())
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Refusal {
        Refusal::new(code, "")
    }
}
