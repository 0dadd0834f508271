//! The first frames of a connection between nodes: who is there, in which version, and the proof.
//!
//! ```text
//! dialer                               acceptor
//!   Hello      who I am, whom I want  →
//!              ←  Challenge  who I am, the version that we speak, my proof
//!   Proof      mine                   →
//!              ←  Welcome
//!   Ready                             →     now the acceptor takes the connection for open
//! ```
//!
//! Each may say `Refused` instead, with the reason, and close. A proof is the HMAC-SHA256, with the
//! secret as its key, of a name for the side and of the frames that were said before it; both sides
//! have put a nonce there, so an old proof proves nothing, and neither does one's own come back.
//! `Ready` proves that the dialer was alive after it was welcomed: of two lives of a node whose
//! handshakes overlap, the one that is over never gets there.
//!
//! A hello from a later version may have more fields, which are passed over: it is read before the
//! version is known.

use std::fmt;
use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use uuid::Uuid;

use super::fields::{malformed, Fields};
use super::refusal::{Refusal, RefusalCode};
use super::{Lane, PeerFrameError};
use crate::model::{cut_message, BrokerId, ClusterId, Incarnation};
use crate::protocol::frame::{split_frame, FRAME_LENGTH_BYTES};
use crate::protocol::scan::{scan, Payload};

/// The largest frame of a peer that hasn't proved who it is.
pub const HANDSHAKE_FRAME_BYTES_MAX: usize = 4 * 1024;
/// What a frame of the handshake holds at most, fields of later versions included.
const VALUES_MAX: usize = 64;
/// A cluster's id is 32 characters; others make them longer.
const CLUSTER_ID_BYTES_MAX: usize = 255;

/// What a hello begins with, so that whoever comes to the wrong port is told so.
const MAGIC: &str = "klamm peer";
const HELLO_FIELDS: u32 = 9;

const NONCE_BYTES: usize = 16;
const MAC_BYTES: usize = 32;
type Nonce = [u8; NONCE_BYTES];
type MacBytes = [u8; MAC_BYTES];

/// Names for what a proof is about, so that none can be taken for another.
const ACCEPTOR_PROOF: &[u8] = b"klamm peer 1: the acceptor's proof";
const DIALER_PROOF: &[u8] = b"klamm peer 1: the dialer's proof";
const SESSION_KEYS: &[u8] = b"klamm peer 1: the session's keys";

/// What stands first in each frame but the hello.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Tag {
    Challenge = 1,
    Proof = 2,
    Welcome = 3,
    Ready = 4,
    Refused = 5,
}

/// What all nodes of a cluster know and nobody else.
#[derive(Clone)]
pub struct PeerSecret(Bytes);

impl PeerSecret {
    pub fn new(secret: &[u8]) -> PeerSecret {
        PeerSecret(Bytes::copy_from_slice(secret))
    }

    fn mac(&self, about: &[u8], said: &Transcript) -> Hmac<Sha256> {
        // A key may have any length. The type's error is for other MACs.
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.0)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        mac.update(about);
        mac.update(&said.0);
        mac
    }
}

impl fmt::Debug for PeerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerSecret(hidden)")
    }
}

/// The frames that both sides have seen, one after the other, with their lengths.
#[derive(Clone, Debug, Default)]
struct Transcript(BytesMut);

impl Transcript {
    fn add(&mut self, frame: &[u8]) {
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(frame);
    }
}

/// What the frames' checksums of one connection begin with, for each direction another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionKeys {
    pub of_dialer: u32,
    pub of_acceptor: u32,
}

/// The dialer's first words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub versions: RangeInclusive<u16>,
    /// `None` before a node has joined one: it takes the other's word.
    pub cluster_id: Option<ClusterId>,
    pub node: BrokerId,
    pub incarnation: Incarnation,
    /// The node that the dialer means to reach.
    pub to: BrokerId,
    pub lane: Lane,
    pub nonce: Nonce,
}

impl Hello {
    pub fn encode(&self) -> Bytes {
        let mut frame = Frame::of(HELLO_FIELDS);
        frame.str(MAGIC);
        frame.int((*self.versions.start()).into());
        frame.int((*self.versions.end()).into());
        frame.optional_str(self.cluster_id.as_ref().map(|id| id.0.as_str()));
        frame.int(self.node.0.into());
        frame.bin(self.incarnation.0.as_bytes());
        frame.int(self.to.0.into());
        frame.int((self.lane as u8).into());
        frame.bin(&self.nonce);
        frame.finish()
    }

    /// Reads a frame, without its length.
    pub fn decode(frame: &[u8]) -> Result<Hello, PeerFrameError> {
        scan(frame, VALUES_MAX, Payload::Bytes)?;
        let foreign = || malformed("it doesn't begin as Klamm's peers do");
        let (mut fields, count) = Fields::of(frame).map_err(|_| foreign())?;
        if fields.str("magic").map_err(|_| foreign())? != MAGIC {
            return Err(foreign());
        }
        if count < HELLO_FIELDS {
            return Err(malformed("a hello with too few fields"));
        }
        let versions = fields.int("version_min")?..=fields.int("version_max")?;
        Ok(Hello {
            versions,
            cluster_id: cluster_id(&mut fields)?,
            node: BrokerId(fields.int("node")?),
            incarnation: incarnation(&mut fields)?,
            to: BrokerId(fields.int("to")?),
            lane: Lane::from_code(fields.int("lane")?).ok_or_else(|| malformed("lane"))?,
            nonce: fields.array("nonce")?,
        })
    }

    /// The highest version that both speak.
    pub fn version(&self, ours: &RangeInclusive<u16>) -> Result<u16, Refusal> {
        let version = *self.versions.end().min(ours.end());
        let lowest = *self.versions.start().max(ours.start());
        if version >= lowest {
            return Ok(version);
        }
        Err(Refusal::new(
            RefusalCode::UnsupportedVersion,
            format!(
                "the dialer speaks the versions {} to {} of the peers' protocol, and the acceptor {} to {}",
                self.versions.start(),
                self.versions.end(),
                ours.start(),
                ours.end()
            ),
        ))
    }
}

/// The acceptor's answer to a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    pub version: u16,
    pub cluster_id: Option<ClusterId>,
    pub node: BrokerId,
    pub incarnation: Incarnation,
    pub nonce: Nonce,
}

/// A conversation as both sides have seen it, from which they draw their proofs.
///
/// One's own side and the other's hold the same after the same frames.
#[derive(Clone, Debug)]
pub struct Said {
    secret: PeerSecret,
    transcript: Transcript,
}

/// A proof, whose text depends on everything that was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof(MacBytes);

impl Said {
    /// `hello` is the frame without its length.
    pub fn hello(secret: &PeerSecret, hello: &[u8]) -> Said {
        let mut transcript = Transcript::default();
        transcript.add(hello);
        Said {
            secret: secret.clone(),
            transcript,
        }
    }

    /// The acceptor's side: its challenge, with its proof at the end, as a frame.
    pub fn challenge(&mut self, challenge: &Challenge) -> Bytes {
        let mut frame = Frame::of(7);
        frame.int(Tag::Challenge as i64);
        frame.int(challenge.version.into());
        frame.optional_str(challenge.cluster_id.as_ref().map(|id| id.0.as_str()));
        frame.int(challenge.node.0.into());
        frame.bin(challenge.incarnation.0.as_bytes());
        frame.bin(&challenge.nonce);
        self.transcript.add(frame.said());
        let proof = self.secret.mac(ACCEPTOR_PROOF, &self.transcript).finalize();
        frame.bin(&proof.into_bytes());
        frame.finish()
    }

    /// The dialer's side: what the acceptor has answered, and whether it knows the secret.
    pub fn challenged(&mut self, frame: &[u8]) -> Result<(Challenge, bool), Unexpected> {
        let (mut fields, _) = answer(frame, Tag::Challenge)?;
        let challenge = Challenge {
            version: fields.int("version")?,
            cluster_id: cluster_id(&mut fields)?,
            node: BrokerId(fields.int("node")?),
            incarnation: incarnation(&mut fields)?,
            nonce: fields.array("nonce")?,
        };
        let said = frame.len() - fields.rest().len();
        let proof: MacBytes = fields.array("proof")?;
        fields.end()?;
        self.transcript.add(&frame[..said]);
        let mac = self.secret.mac(ACCEPTOR_PROOF, &self.transcript);
        // In constant time.
        Ok((challenge, mac.verify_slice(&proof).is_ok()))
    }

    /// The dialer's proof. Both sides can make it.
    pub fn proof(&self) -> Proof {
        let mac = self.secret.mac(DIALER_PROOF, &self.transcript);
        Proof(mac.finalize().into_bytes().into())
    }

    /// Whether the dialer's proof is right, which takes the same time whatever is wrong with it.
    pub fn is_proved_by(&self, proof: &Proof) -> bool {
        let mac = self.secret.mac(DIALER_PROOF, &self.transcript);
        mac.verify_slice(&proof.0).is_ok()
    }

    /// What the checksums begin with from here on.
    pub fn session_keys(&self) -> SessionKeys {
        let mac = self.secret.mac(SESSION_KEYS, &self.transcript).finalize();
        let [a, b, c, d, e, f, g, h, ..] = MacBytes::from(mac.into_bytes());
        SessionKeys {
            of_dialer: u32::from_be_bytes([a, b, c, d]),
            of_acceptor: u32::from_be_bytes([e, f, g, h]),
        }
    }
}

impl Proof {
    pub fn encode(&self) -> Bytes {
        let mut frame = Frame::of(2);
        frame.int(Tag::Proof as i64);
        frame.bin(&self.0);
        frame.finish()
    }

    pub fn decode(frame: &[u8]) -> Result<Proof, Unexpected> {
        let (mut fields, _) = answer(frame, Tag::Proof)?;
        let proof = Proof(fields.array("proof")?);
        fields.end()?;
        Ok(proof)
    }
}

/// The acceptor's last word, as a frame.
pub fn welcome() -> Bytes {
    bare(Tag::Welcome)
}

pub fn decode_welcome(frame: &[u8]) -> Result<(), Unexpected> {
    Ok(answer(frame, Tag::Welcome)?.0.end()?)
}

/// The dialer's last word, as a frame.
pub fn ready() -> Bytes {
    bare(Tag::Ready)
}

pub fn decode_ready(frame: &[u8]) -> Result<(), Unexpected> {
    Ok(answer(frame, Tag::Ready)?.0.end()?)
}

fn bare(tag: Tag) -> Bytes {
    let mut frame = Frame::of(1);
    frame.int(tag as i64);
    frame.finish()
}

/// Not the frame that was due.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unexpected {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Unreadable(#[from] PeerFrameError),
}

impl Refusal {
    /// As a frame of the handshake.
    pub fn encode(&self) -> Bytes {
        let mut frame = Frame::of(3);
        frame.int(Tag::Refused as i64);
        frame.int((self.code as u8).into());
        frame.str(cut_message(&self.message));
        frame.finish()
    }
}

/// The fields of a frame behind its tag.
fn answer(frame: &[u8], due: Tag) -> Result<(Fields<'_>, u32), Unexpected> {
    scan(frame, VALUES_MAX, Payload::Bytes).map_err(PeerFrameError::from)?;
    let (mut fields, count) = Fields::of(frame)?;
    let tag: u8 = fields.int("tag")?;
    if tag == Tag::Refused as u8 {
        let code = RefusalCode::from_number(fields.int("code")?);
        let message = one_line(cut_message(fields.str("message")?));
        return Err(Refusal::new(code, message).into());
    }
    if tag != due as u8 {
        return Err(malformed("another frame of the handshake was due").into());
    }
    Ok((fields, count))
}

/// What a stranger has written, fit for a log.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn cluster_id(fields: &mut Fields) -> Result<Option<ClusterId>, PeerFrameError> {
    let id = fields.optional_str("cluster_id")?;
    if id.is_some_and(|id| id.len() > CLUSTER_ID_BYTES_MAX || id.chars().any(char::is_control)) {
        return Err(malformed("cluster_id"));
    }
    Ok(id.map(|id| ClusterId(id.to_owned())))
}

fn incarnation(fields: &mut Fields) -> Result<Incarnation, PeerFrameError> {
    let bytes = fields.array("incarnation")?;
    Ok(Incarnation(Uuid::from_bytes(bytes)))
}

/// Takes one whole frame of the handshake, without its length, from the front of `buffer`.
pub fn split_handshake_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, PeerFrameError> {
    Ok(split_frame(buffer, HANDSHAKE_FRAME_BYTES_MAX)?)
}

/// A frame that is being written: an array of so many fields behind its length.
struct Frame(BytesMut);

impl Frame {
    fn of(fields: u32) -> Frame {
        let mut frame = Frame(BytesMut::with_capacity(256));
        frame.0.extend_from_slice(&[0; FRAME_LENGTH_BYTES]);
        frame.put(|out| rmp::encode::write_array_len(out, fields).map(|_| ()));
        frame
    }

    /// What stands there, without the length.
    fn said(&self) -> &[u8] {
        &self.0[FRAME_LENGTH_BYTES..]
    }

    fn int(&mut self, value: i64) {
        self.put(|out| rmp::encode::write_sint(out, value).map(|_| ()));
    }

    fn str(&mut self, text: &str) {
        self.put(|out| rmp::encode::write_str(out, text));
    }

    fn optional_str(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.str(text),
            None => self.0.extend_from_slice(&[rmp::Marker::Null.to_u8()]),
        }
    }

    fn bin(&mut self, bytes: &[u8]) {
        self.put(|out| rmp::encode::write_bin(out, bytes));
    }

    fn put<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) {
        let mut out = Vec::new();
        // Writing to memory doesn't fail.
        let _ = write(&mut out);
        self.0.extend_from_slice(&out);
    }

    fn finish(mut self) -> Bytes {
        let length = u32::try_from(self.said().len()).unwrap_or(u32::MAX);
        self.0[..FRAME_LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        self.0.freeze()
    }
}
