//! Whether a link is there, and if not, why: what those who watch a node go by.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

use super::drive::Ended;
use super::handshake::HandshakeError;
use crate::model::Incarnation;
use crate::protocol::peer::RefusalCode;

/// Whether there is a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    Up {
        /// Of the peer.
        incarnation: Incarnation,
        /// The version that both speak.
        version: u16,
        since: Instant,
    },
    Down {
        /// Why the last connection ended; [`Down::New`] if there was none. A process that has ended is
        /// one whose connection was [`Down::Reset`], and that is [`Down::Refused`] now.
        lost: Down,
        /// What the latest attempt has come to.
        why: Down,
        /// When it went down, however often it was dialed since.
        since: Instant,
    },
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// It wasn't tried yet.
    New,
    /// Nobody listens at the peer's address: its process isn't there.
    Refused,
    /// The connection ended, as it does when the peer's process ends.
    Reset,
    /// Nothing is heard: the peer hangs, or the way to it is cut.
    Silent,
    /// One side won't have the other, for this reason.
    Rejected(RefusalCode),
    /// The peer has ended it in good order.
    Left,
    /// Something else, which the log and the link's detail name.
    Broken,
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Down::New => f.write_str("not tried yet"),
            Down::Refused => f.write_str("refused: nobody listens"),
            Down::Reset => f.write_str("reset"),
            Down::Silent => f.write_str("silent"),
            Down::Rejected(code) => write!(f, "rejected: {code}"),
            Down::Left => f.write_str("left"),
            Down::Broken => f.write_str("broken"),
        }
    }
}

/// Why an attempt has failed.
#[derive(Debug, Error)]
pub enum DialError {
    #[error("its address isn't known")]
    NoAddress,
    #[error("{0}: {1}")]
    Connect(Arc<str>, std::io::Error),
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

pub fn down_after_dialing(error: &DialError) -> Down {
    match error {
        DialError::Connect(_, error) => match error.kind() {
            std::io::ErrorKind::ConnectionRefused => Down::Refused,
            std::io::ErrorKind::ConnectionReset => Down::Reset,
            std::io::ErrorKind::TimedOut => Down::Silent,
            _ => Down::Broken,
        },
        DialError::NoAnswer(_) => Down::Silent,
        DialError::Handshake(error) => match error {
            HandshakeError::Refused(refusal) | HandshakeError::RefusedByPeer(refusal) => {
                Down::Rejected(refusal.code)
            }
            HandshakeError::ByPeer => Down::Reset,
            HandshakeError::Unreadable(_) | HandshakeError::Io(_) => Down::Broken,
        },
        DialError::NoAddress => Down::Broken,
    }
}

pub fn down_after(ended: &Ended) -> Down {
    match ended {
        Ended::ByPeer => Down::Reset,
        Ended::Silent(_) => Down::Silent,
        Ended::Goodbye(refusal) if refusal.code == RefusalCode::Stopping => Down::Left,
        Ended::Goodbye(refusal) => Down::Rejected(refusal.code),
        Ended::ByUs => Down::Reset,
        Ended::Unreadable(_) | Ended::Io(_) => Down::Broken,
    }
}
