//! Why a node won't have a connection, or ends one.

use std::fmt;

use thiserror::Error;

/// Why a node won't have a connection. Both say it in their logs.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message} ({code})")]
pub struct Refusal {
    pub code: RefusalCode,
    /// In one line.
    pub message: String,
}

/// Its numbers stand on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RefusalCode {
    /// From a later version.
    Other = 0,
    Malformed = 1,
    UnsupportedVersion = 2,
    ForeignCluster = 3,
    /// The node isn't one of the cluster.
    UnknownNode = 4,
    /// The address leads to another node than the dialer means.
    WrongNode = 5,
    /// The other side doesn't know the secret.
    WrongSecret = 6,
    /// Another life of the same node has come since, and is there.
    Superseded = 7,
    TooManyConnections = 8,
    /// The node stops.
    Stopping = 9,
}

impl RefusalCode {
    const ALL: [RefusalCode; 9] = [
        RefusalCode::Malformed,
        RefusalCode::UnsupportedVersion,
        RefusalCode::ForeignCluster,
        RefusalCode::UnknownNode,
        RefusalCode::WrongNode,
        RefusalCode::WrongSecret,
        RefusalCode::Superseded,
        RefusalCode::TooManyConnections,
        RefusalCode::Stopping,
    ];

    pub(super) fn from_number(number: u8) -> RefusalCode {
        let mut known = RefusalCode::ALL.into_iter();
        known
            .find(|code| *code as u8 == number)
            .unwrap_or(RefusalCode::Other)
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RefusalCode::Other => "other",
            RefusalCode::Malformed => "malformed",
            RefusalCode::UnsupportedVersion => "unsupported version",
            RefusalCode::ForeignCluster => "foreign cluster",
            RefusalCode::UnknownNode => "unknown node",
            RefusalCode::WrongNode => "wrong node",
            RefusalCode::WrongSecret => "wrong secret",
            RefusalCode::Superseded => "superseded",
            RefusalCode::TooManyConnections => "too many connections",
            RefusalCode::Stopping => "stopping",
        })
    }
}

impl Refusal {
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            message: message.into(),
        }
    }
}
