//! Where leaders leave what they push.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::prelude::*;
use actix::WeakRecipient;

use super::{CatchUp, PushMessage};
use crate::actors::peer::{Peers, PushError};
use crate::model::BrokerId;
use crate::protocol::peer::{encode_body, Kind};

/// What a leader hears of the link to a follower's node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub enum LinkNews {
    /// It is down: what was on its way is lost, and what the follower has isn't known any more.
    Lost(BrokerId),
    /// It is up again.
    Up(BrokerId),
    /// It takes messages again.
    Room(BrokerId),
}

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    OnItsWay,
    /// The link takes nothing now; [`LinkNews`] comes when it does.
    Later,
}

/// The way to the followers' nodes. Clones share it.
#[derive(Clone, Default)]
pub struct Replicator {
    /// `None` on a node that is alone.
    peers: Option<Peers>,
    waiting: Arc<Mutex<HashMap<BrokerId, Vec<WeakRecipient<LinkNews>>>>>,
    pub catch_up: CatchUp,
}

impl Replicator {
    pub fn new(peers: Option<Peers>) -> Replicator {
        Replicator {
            peers,
            waiting: Arc::default(),
            catch_up: CatchUp::default(),
        }
    }

    /// Leaves a push for a follower's node. `leader` is told when that makes sense again, if it doesn't
    /// now.
    pub fn push(&self, to: BrokerId, message: &PushMessage, leader: Recipient<LinkNews>) -> Left {
        let Some(peer) = self.peers.as_ref().and_then(|peers| peers.peer(to)) else {
            return Left::Later;
        };
        let body = match encode_body(message) {
            Ok(body) => body,
            Err(error) => {
                log::error!("a push of {} can't be encoded: {error}", message.partition);
                return Left::Later;
            }
        };
        match peer.push(Kind::PUSH, body) {
            Ok(()) => Left::OnItsWay,
            // Its being up again is told to all leaders.
            Err(PushError::Down) => Left::Later,
            Err(PushError::Full) => {
                self.wait_for_room(to, leader);
                Left::Later
            }
            Err(error @ PushError::TooLarge) => {
                log::error!("a push of {} to broker {to}: {error}", message.partition);
                Left::Later
            }
        }
    }

    /// The first who waits for a link waits for all.
    fn wait_for_room(&self, to: BrokerId, leader: Recipient<LinkNews>) {
        let mut waiting = self.waiting();
        let leaders = waiting.entry(to).or_default();
        leaders.push(leader.downgrade());
        if leaders.len() > 1 {
            return;
        }
        let replicator = self.clone();
        actix_rt::spawn(async move {
            if let Some(peer) = replicator.peers.as_ref().and_then(|peers| peers.peer(to)) {
                peer.room().await;
            }
            let leaders = replicator.waiting().remove(&to).unwrap_or_default();
            for leader in leaders.iter().filter_map(WeakRecipient::upgrade) {
                leader.do_send(LinkNews::Room(to));
            }
        });
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<BrokerId, Vec<WeakRecipient<LinkNews>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
