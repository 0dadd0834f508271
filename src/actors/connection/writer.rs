//! The writing half of a connection: responses in, as few system calls as possible out.
//!
//! It also closes the socket. One that is closed while bytes lie in it unread, or come later, is
//! reset by the kernel, and the peer may never see the answers that it had. So the last answer is
//! followed by the end of the stream, and what the peer still sends is read for a while and thrown
//! away.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::listener::Place;
use crate::protocol::{Pieces, Segments};

/// Stop collecting responses for one write here.
const WRITE_BYTES_MAX: usize = 1024 * 1024;

/// How long, and for how many bytes, a peer is listened to after the last answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;
const LINGER_READ_BYTES: usize = 16 * 1024;

/// A response on its way out.
pub struct Outgoing {
    pub segments: Segments,
    /// What the request was charged when it came in: given back once the response is out.
    pub charge: u32,
    /// What the response takes up of the connection's room.
    pub room: Option<OwnedSemaphorePermit>,
}

/// Where responses are left. What can queue here is bounded by what requests and responses are
/// charged, so the channel need not be.
pub type Outbox = UnboundedSender<Outgoing>;

/// Writes until the outbox is closed and empty, or until the peer is gone, and closes the socket.
/// Until then the connection keeps its place.
pub async fn write_and_close(
    mut socket: OwnedWriteHalf,
    read_half: Rc<OwnedReadHalf>,
    outbox: UnboundedReceiver<Outgoing>,
    in_flight: Arc<Semaphore>,
    patience: Duration,
    _place: Place,
) {
    let written = write_all(&mut socket, outbox, &in_flight, patience).await;
    // Whoever waits for room in a connection that is gone need not wait longer.
    in_flight.close();
    if let Err(error) = written {
        log::debug!("a response could not be written: {error}");
        return;
    }
    let closing = async {
        socket.shutdown().await?;
        listen(&read_half).await
    };
    match tokio::time::timeout(LINGER, closing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::debug!("a peer has gone: {error}"),
        Err(_) => log::debug!("a peer goes on although its connection is closed"),
    }
}

async fn write_all(
    socket: &mut OwnedWriteHalf,
    mut outbox: UnboundedReceiver<Outgoing>,
    in_flight: &Semaphore,
    patience: Duration,
) -> io::Result<()> {
    let mut pieces = Pieces::default();
    while let Some(first) = outbox.recv().await {
        let mut charge = 0;
        let mut rooms = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(outgoing) = next {
            charge += outgoing.charge as usize;
            rooms.extend(outgoing.room);
            bytes += outgoing.segments.len();
            pieces.push(outgoing.segments);
            next = if bytes < WRITE_BYTES_MAX {
                outbox.try_recv().ok()
            } else {
                None
            };
        }
        tokio::time::timeout(patience, pieces.write_all(socket)).await??;
        in_flight.add_permits(charge);
    }
    Ok(())
}

/// Reads what the peer still sends, until it is done too.
async fn listen(socket: &OwnedReadHalf) -> io::Result<()> {
    let mut ignored = vec![0; LINGER_READ_BYTES];
    let mut heard = 0;
    while heard < LINGER_BYTES_MAX {
        socket.readable().await?;
        match socket.try_read(&mut ignored) {
            Ok(0) => return Ok(()),
            Ok(read) => heard += read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
