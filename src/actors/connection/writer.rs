//! The writing half of a connection: responses in, as few system calls as possible out.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::listener::Place;
use crate::protocol::{Pieces, Segments};

/// Stop collecting responses for one write here.
const WRITE_BYTES_MAX: usize = 1024 * 1024;

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

/// Writes until the outbox is closed and empty, or until the peer is gone. Until then the
/// connection keeps its place.
pub async fn write_all(
    mut socket: OwnedWriteHalf,
    mut outbox: UnboundedReceiver<Outgoing>,
    in_flight: Arc<Semaphore>,
    patience: Duration,
    _place: Place,
) {
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
        let written = tokio::time::timeout(patience, pieces.write_all(&mut socket)).await;
        match written {
            Ok(Ok(())) => in_flight.add_permits(charge),
            Ok(Err(error)) => {
                log::debug!("a response could not be written: {error}");
                break;
            }
            Err(_) => {
                log::debug!("a peer has not read its responses for {patience:?}");
                break;
            }
        }
    }
    // Whoever waits for room in a connection that is gone need not wait longer.
    in_flight.close();
}
