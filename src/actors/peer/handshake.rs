//! The handshake over a socket, from both sides: `protocol::peer` has its frames and its proof.

use std::io;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::drive::Opened;
use super::PeerIdentity;
use crate::model::{BrokerId, ClusterId, Incarnation};
use crate::protocol::peer::{
    decode_ready, decode_welcome, ready, split_handshake_frame, welcome, Challenge, FrameReader,
    FrameWriter, Hello, Lane, PeerFrameError, PeerSecret, Proof, Refusal, RefusalCode, Said,
    Unexpected,
};

/// How long, and for how many bytes, one that was refused is listened to: closed while bytes lie
/// unread, a socket is reset, and the reason might not arrive.
const LINGER: Duration = Duration::from_millis(200);
const LINGER_BYTES_MAX: usize = 64 * 1024;

/// What this node says of itself, and what it wants to hear.
#[derive(Clone, Debug)]
pub struct Introduction {
    pub node: BrokerId,
    pub incarnation: Incarnation,
    pub cluster_id: Option<ClusterId>,
    pub secret: PeerSecret,
    pub versions: RangeInclusive<u16>,
    /// For the frames after the handshake.
    pub frame_bytes_max: usize,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// By this node, which has told its peer.
    #[error("refused: {0}")]
    Refused(Refusal),
    #[error("the peer refuses: {0}")]
    RefusedByPeer(Refusal),
    #[error("the peer closed the connection in the handshake")]
    ByPeer,
    #[error(transparent)]
    Unreadable(PeerFrameError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Unexpected> for HandshakeError {
    fn from(error: Unexpected) -> HandshakeError {
        match error {
            Unexpected::Refused(refusal) => HandshakeError::RefusedByPeer(refusal),
            Unexpected::Unreadable(error) => HandshakeError::Unreadable(error),
        }
    }
}

impl From<PeerFrameError> for HandshakeError {
    fn from(error: PeerFrameError) -> HandshakeError {
        HandshakeError::Unreadable(error)
    }
}

/// Who has been met, and on which lane.
pub struct Met {
    pub peer: PeerIdentity,
    pub lane: Lane,
    pub opened: Opened,
}

/// The dialer's side. `admit` says whether this life of the node is wanted.
pub async fn greet(
    socket: TcpStream,
    me: &Introduction,
    to: BrokerId,
    lane: Lane,
    admit: impl Fn(&PeerIdentity) -> Result<(), Refusal>,
) -> Result<Met, HandshakeError> {
    let mut wire = Wire::new(socket);
    let hello = Hello {
        versions: me.versions.clone(),
        cluster_id: me.cluster_id.clone(),
        node: me.node,
        incarnation: me.incarnation,
        to,
        lane,
        nonce: nonce(),
    };
    let hello = hello.encode();
    wire.write(&hello).await?;
    let mut said = Said::hello(&me.secret, without_length(&hello));
    let challenge = wire.read().await?;
    let (challenge, is_proved) = said.challenged(&challenge)?;
    let peer = PeerIdentity {
        node: challenge.node,
        incarnation: challenge.incarnation,
        version: challenge.version,
    };
    let checked = check_challenge(&challenge, is_proved, me, to).and_then(|()| admit(&peer));
    if let Err(refusal) = checked {
        return Err(wire.refuse(refusal).await);
    }
    wire.write(&said.proof().encode()).await?;
    decode_welcome(&wire.read().await?)?;
    wire.write(&ready()).await?;
    let keys = said.session_keys();
    Ok(Met {
        peer,
        lane,
        opened: wire.opened(keys.of_dialer, keys.of_acceptor, me.frame_bytes_max),
    })
}

fn check_challenge(
    challenge: &Challenge,
    is_proved: bool,
    me: &Introduction,
    to: BrokerId,
) -> Result<(), Refusal> {
    // Nothing that it says is believed before this.
    if !is_proved {
        return Err(wrong_secret("acceptor"));
    }
    if challenge.node != to {
        return Err(wrong_node(challenge.node, to));
    }
    check_cluster(me, challenge.cluster_id.as_ref())?;
    if !me.versions.contains(&challenge.version) {
        return Err(Refusal::new(
            RefusalCode::UnsupportedVersion,
            format!("version {} was not offered", challenge.version),
        ));
    }
    Ok(())
}

/// The acceptor's side. `admit` says whether this life of the node is wanted.
pub async fn receive(
    socket: TcpStream,
    me: &Introduction,
    admit: impl Fn(&PeerIdentity) -> Result<(), Refusal>,
) -> Result<Met, HandshakeError> {
    let mut wire = Wire::new(socket);
    let greeting = match wire.read().await {
        Err(HandshakeError::Unreadable(error)) => return Err(wire.refuse(malformed(&error)).await),
        read => read?,
    };
    let hello = match Hello::decode(&greeting) {
        Ok(hello) => hello,
        Err(error) => return Err(wire.refuse(malformed(&error)).await),
    };
    let peer = match check_hello(&hello, me).and_then(|peer| admit(&peer).map(|()| peer)) {
        Ok(peer) => peer,
        Err(refusal) => return Err(wire.refuse(refusal).await),
    };
    let mut said = Said::hello(&me.secret, &greeting);
    let challenge = said.challenge(&Challenge {
        version: peer.version,
        cluster_id: me.cluster_id.clone(),
        node: me.node,
        incarnation: me.incarnation,
        nonce: nonce(),
    });
    wire.write(&challenge).await?;
    let proof = Proof::decode(&wire.read().await?)?;
    if !said.is_proved_by(&proof) {
        return Err(wire.refuse(wrong_secret("dialer")).await);
    }
    wire.write(&welcome()).await?;
    decode_ready(&wire.read().await?)?;
    let keys = said.session_keys();
    Ok(Met {
        peer,
        lane: hello.lane,
        opened: wire.opened(keys.of_acceptor, keys.of_dialer, me.frame_bytes_max),
    })
}

fn check_hello(hello: &Hello, me: &Introduction) -> Result<PeerIdentity, Refusal> {
    let version = hello.version(&me.versions)?;
    if hello.to != me.node {
        return Err(wrong_node(me.node, hello.to));
    }
    if hello.node == me.node {
        return Err(Refusal::new(
            RefusalCode::UnknownNode,
            format!("this node is node {} itself", me.node),
        ));
    }
    check_cluster(me, hello.cluster_id.as_ref())?;
    Ok(PeerIdentity {
        node: hello.node,
        incarnation: hello.incarnation,
        version,
    })
}

/// A node that hasn't joined a cluster yet may meet one that has.
fn check_cluster(me: &Introduction, theirs: Option<&ClusterId>) -> Result<(), Refusal> {
    match (&me.cluster_id, theirs) {
        (Some(ours), Some(theirs)) if ours != theirs => Err(Refusal::new(
            RefusalCode::ForeignCluster,
            format!(
                "node {} belongs to cluster {ours}, and its peer to cluster {theirs}",
                me.node
            ),
        )),
        _ => Ok(()),
    }
}

fn wrong_node(is: BrokerId, meant: BrokerId) -> Refusal {
    Refusal::new(
        RefusalCode::WrongNode,
        format!("this address is node {is}'s, and node {meant} was meant"),
    )
}

fn wrong_secret(side: &str) -> Refusal {
    Refusal::new(
        RefusalCode::WrongSecret,
        format!("the {side} doesn't know this cluster's secret: is cluster.secret the same on both nodes?"),
    )
}

fn malformed(error: &PeerFrameError) -> Refusal {
    Refusal::new(RefusalCode::Malformed, error.to_string())
}

fn nonce() -> [u8; 16] {
    Uuid::new_v4().into_bytes()
}

fn without_length(frame: &[u8]) -> &[u8] {
    frame.get(4..).unwrap_or_default()
}

/// A socket whose frames are small yet.
struct Wire {
    socket: TcpStream,
    buffer: BytesMut,
}

impl Wire {
    fn new(socket: TcpStream) -> Wire {
        Wire {
            socket,
            buffer: BytesMut::with_capacity(1024),
        }
    }

    async fn write(&mut self, frame: &[u8]) -> Result<(), HandshakeError> {
        self.socket.write_all(frame).await.map_err(gone)
    }

    async fn read(&mut self) -> Result<Bytes, HandshakeError> {
        loop {
            if let Some(frame) = split_handshake_frame(&mut self.buffer)? {
                return Ok(frame);
            }
            let read = self.socket.read_buf(&mut self.buffer).await;
            if read.map_err(gone)? == 0 {
                return Err(HandshakeError::ByPeer);
            }
        }
    }

    /// Tells the peer why, and gives it the time to hear it.
    async fn refuse(&mut self, refusal: Refusal) -> HandshakeError {
        let telling = async {
            self.socket.write_all(&refusal.encode()).await?;
            self.socket.shutdown().await?;
            let mut heard = self.buffer.len();
            while heard < LINGER_BYTES_MAX {
                self.buffer.clear();
                match self.socket.read_buf(&mut self.buffer).await? {
                    0 => break,
                    read => heard += read,
                }
            }
            io::Result::Ok(())
        };
        // It may have gone, which is what it is to do.
        let _ = tokio::time::timeout(LINGER, telling).await;
        HandshakeError::Refused(refusal)
    }

    fn opened(self, write_key: u32, read_key: u32, frame_bytes_max: usize) -> Opened {
        Opened {
            socket: self.socket,
            buffer: self.buffer,
            writer: FrameWriter::new(write_key),
            reader: FrameReader::new(read_key, frame_bytes_max),
        }
    }
}

fn gone(error: io::Error) -> HandshakeError {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => HandshakeError::ByPeer,
        _ => HandshakeError::Io(error),
    }
}
