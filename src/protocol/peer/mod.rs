//! What the nodes of a cluster say to each other.
//!
//! Frames as everywhere: a big-endian `u32` length, and one MessagePack value. Two connections lead
//! from each node to each other one, its *lanes*; who has dialed asks and pushes, and the other one
//! answers and acknowledges. So what answers is never stuck behind what asks.
//!
//! | File | What is there |
//! |---|---|
//! | `handshake` | the first five frames: who is there, in which version, and the proof of it |
//! | `refusal` | why a node won't have another |
//! | `frame` | all frames after them, each with a checksum |
//! | `body` | what a frame carries: opaque here, decoded by whoever it is for |
//!
//! The proof is of a shared secret, both ways (HMAC-SHA256 over everything that was said before it,
//! nonces of both sides included). It says who opened the connection. It doesn't hide what is said,
//! and doesn't protect it from somebody who can change bytes on the way: that takes TLS, or a network
//! that is one's own. What changes by accident is found by the checksums.

mod body;
mod fields;
mod frame;
mod handshake;
mod refusal;

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::RangeInclusive;

use super::frame::FrameError;
use super::scan::ScanError;

pub use body::{decode_body, encode_body, BodyError};
pub use frame::{CallError, CallErrorCode, FrameReader, FrameWriter, Message, Outgoing};
pub use handshake::{
    decode_ready, decode_welcome, ready, split_handshake_frame, welcome, Challenge, Hello,
    PeerSecret, Proof, Said, SessionKeys, Unexpected, HANDSHAKE_FRAME_BYTES_MAX,
};
pub use refusal::{Refusal, RefusalCode};

/// The versions of this protocol that this build speaks.
///
/// A cluster is upgraded one node at a time, so a build must share one version with the build before
/// it, and what is sent must be what the other end can read:
///
/// | what may come | how a build takes it that doesn't know it |
/// |---|---|
/// | another field at the end of a hello | passes it over |
/// | another field of a body on the control lane, which is a map with names | passes it over; so its default, which isn't written, has to mean what its absence did |
/// | another variant there: a change of the metadata, a question of Raft's | answers that it can't read it, and nothing has happened: whoever asks has to go on without |
/// | another kind | answers a request that it isn't served, and drops a one-way message |
/// | another field of a body on the data lane, which is an array | can't read it: so it comes at the end, in a new version, and is sent only where the connection has that version, which its session and the link's state tell |
/// | a frame of another form, or another meaning of what there is | needs a new version too |
///
/// What is written to the metadata's log goes by the metadata version instead, on which all nodes agree.
pub const VERSIONS: RangeInclusive<u16> = 1..=1;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Lane {
    /// Requests and their answers, small and urgent: Raft, heartbeats, what the controller is asked.
    Control = 0,
    /// Records on their way to a follower, and its acknowledgements on their way back.
    Data = 1,
}

impl Lane {
    pub const ALL: [Lane; 2] = [Lane::Control, Lane::Data];

    fn from_code(code: u8) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| *lane as u8 == code)
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lane::Control => "control",
            Lane::Data => "data",
        })
    }
}

/// For whom a body is. A number that a node doesn't serve is answered so, and closes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u8);

impl Kind {
    /// A Raft rpc.
    pub const RAFT: Kind = Kind(1);
    /// A request to the active controller.
    pub const CONTROLLER: Kind = Kind(2);
    /// A broker's heartbeat to the active controller.
    pub const HEARTBEAT: Kind = Kind(3);
    /// Asks the node that leads the metadata for its voters.
    pub const QUORUM: Kind = Kind(4);
    /// Records for a follower. One-way.
    pub const PUSH: Kind = Kind(16);
    /// What a follower has of them. One-way.
    pub const ACK: Kind = Kind(17);
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Kind::RAFT => f.write_str("raft"),
            Kind::CONTROLLER => f.write_str("controller"),
            Kind::HEARTBEAT => f.write_str("heartbeat"),
            Kind::QUORUM => f.write_str("quorum"),
            Kind::PUSH => f.write_str("push"),
            Kind::ACK => f.write_str("ack"),
            Kind(other) => write!(f, "kind {other}"),
        }
    }
}

/// Why what a peer sends can't be read on: its connection has to be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerFrameError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Scan(#[from] ScanError),
    #[error("a frame's checksum is wrong: bytes were changed, lost or repeated on the way")]
    Checksum,
    #[error("a message can't be read: {0}")]
    Malformed(&'static str),
}
