//! Where leaders leave what they push.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::prelude::*;
use actix::WeakRecipient;

use super::PushMessage;
use crate::actors::peer::{Peers, PushError};
use crate::engine::replica::CatchUpTurns;
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

/// A push to a follower that catches up may be left, by the leader that has asked for it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct YourTurn(pub Turn);

/// The right to one push to a follower on this node that catches up. Dropped, it goes to the next one.
pub struct Turn {
    node: BrokerId,
    replicator: Replicator,
}

impl Turn {
    pub fn node(&self) -> BrokerId {
        self.node
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.replicator.give_back(self.node);
    }
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
    turns: Arc<Mutex<HashMap<BrokerId, CatchUpTurns<WeakRecipient<YourTurn>>>>>,
}

impl Replicator {
    pub fn new(peers: Option<Peers>) -> Replicator {
        Replicator {
            peers,
            waiting: Arc::default(),
            turns: Arc::default(),
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

    /// The right to a push to a follower that catches up; `None` if `leader` is told later. It must not ask
    /// again until then.
    pub fn turn(&self, node: BrokerId, leader: &Recipient<YourTurn>) -> Option<Turn> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = turns.entry(node).or_default().take(|| leader.downgrade());
        drop(turns);
        is_free.then(|| Turn {
            node,
            replicator: self.clone(),
        })
    }

    /// To the first who waits and is still there.
    fn give_back(&self, node: BrokerId) {
        loop {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(next) = turns.entry(node).or_default().give_back() else {
                return;
            };
            drop(turns);
            if let Some(next) = next.upgrade() {
                let replicator = self.clone();
                return next.do_send(YourTurn(Turn { node, replicator }));
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
