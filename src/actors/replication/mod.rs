//! Records on their way from a leader to its followers on other nodes, and what these say of them.
//!
//! A leader leaves its pushes with the [`Replicator`], which has the links; what comes in on a link is
//! handed to the replica that it is for ([`ReplicationReceiver`]). Nothing waits in between: a link that
//! is full or down says so, and wakes the leader when it isn't any more.

mod catch_up;
mod receiver;
mod replicator;

use serde::{Deserialize, Serialize};

use crate::engine::replica::{Ack, Mismatch, Push};
use crate::model::PartitionId;
use crate::protocol::Records;

pub use catch_up::{keep_throttles, CatchUp, Turn, YourTurn};
pub use receiver::{follow_links, ReplicationReceiver};
pub use replicator::{Left, LinkNews, Replicator};

/// Records for a follower.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PushMessage {
    pub partition: PartitionId,
    pub push: Push,
    /// Whole batches, as they lie in the leader's log.
    pub records: Records,
}

/// What a follower says to its leader.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AckMessage {
    pub partition: PartitionId,
    ack: Option<Ack>,
    mismatch: Option<Mismatch>,
}

impl AckMessage {
    pub fn new(partition: PartitionId, said: Said) -> AckMessage {
        let (ack, mismatch) = match said {
            Said::Ack(ack) => (Some(ack), None),
            Said::Mismatch(found) => (None, Some(found)),
        };
        AckMessage {
            partition,
            ack,
            mismatch,
        }
    }

    /// `None` where it says nothing.
    pub fn said(&self) -> Option<Said> {
        let ack = self.ack.map(Said::Ack);
        ack.or(self.mismatch.map(Said::Mismatch))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Ack(Ack),
    Mismatch(Mismatch),
}
