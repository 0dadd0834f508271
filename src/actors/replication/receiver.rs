//! What comes in from other nodes, handed to the replica that it is for.

use std::sync::Arc;

use super::{AckMessage, LinkNews, PushMessage};
use crate::actors::partitions::Partitions;
use crate::actors::peer::{LinkState, PeerReceiver, Peers, Received, Session};
use crate::protocol::peer::{decode_body, Kind};

/// Hands pushes to followers and acknowledgements to leaders.
pub struct ReplicationReceiver {
    partitions: Partitions,
}

impl ReplicationReceiver {
    pub fn new(partitions: Partitions) -> ReplicationReceiver {
        ReplicationReceiver { partitions }
    }
}

impl PeerReceiver for ReplicationReceiver {
    /// Whatever can't be delivered is dropped: a leader asks again where its follower is.
    fn receive(&self, from: &Arc<Session>, messages: Vec<Received>) {
        let directory = self.partitions.current();
        let node = from.peer().node;
        for received in messages {
            let delivered = match received.kind {
                Kind::PUSH => decode_body::<PushMessage>(&received.body).map(|message| {
                    if let Some(partition) = directory.by_id(&message.partition) {
                        partition.pushed(message, from.clone(), received);
                    }
                }),
                Kind::ACK => decode_body::<AckMessage>(&received.body).map(|message| {
                    let partition = directory.by_id(&message.partition);
                    if let (Some(partition), Some(said)) = (partition, message.said()) {
                        partition.acked(from.peer(), said);
                    }
                }),
                other => {
                    log::debug!("broker {node} sends a message of {other}, which nobody takes");
                    Ok(())
                }
            };
            if let Err(error) = delivered {
                log::warn!("a message of broker {node} can't be read: {error}");
            }
        }
    }
}

/// Tells all leaders of each link that goes down or up, until the peers are gone.
pub fn follow_links(peers: &Peers, partitions: &Partitions) {
    for peer in peers.all() {
        let partitions = partitions.clone();
        let mut state = peer.data();
        let node = peer.node();
        actix_rt::spawn(async move {
            loop {
                let news = match *state.borrow_and_update() {
                    LinkState::Up { .. } => LinkNews::Up(node),
                    LinkState::Down { .. } => LinkNews::Lost(node),
                };
                for partition in partitions.current().partitions() {
                    partition.hear(news);
                }
                if state.changed().await.is_err() {
                    return;
                }
            }
        });
    }
}
