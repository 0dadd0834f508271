//! Proposals: commands that are committed together, and at most once.
//!
//! Raft's answer to a write can be "unknown": it may or may not be committed. The proposer then
//! sends the same proposal again, under the same id, and replay skips it if it was there already.
//!
//! What is remembered for that is bounded: for each proposer (a voter) the id of its last proposal,
//! nothing else. It suffices because a proposer numbers its proposals upwards, appends them to its
//! own log in that order, and gives a number up before it takes the next; so once a number is
//! committed, none below it from the same session can follow. A session is one life of the
//! proposer: nobody sends proposals of an earlier life again.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{MetadataCommand, MetadataImage};
use crate::model::BrokerId;

/// One life of a proposer, drawn at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub Uuid);

/// What tells one proposal from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProposalId {
    pub proposer: BrokerId,
    pub session: SessionId,
    /// Rises by each proposal of a session.
    pub sequence: u64,
}

/// Commands that take effect together. One without commands changes nothing: a barrier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    pub id: ProposalId,
    pub commands: Vec<MetadataCommand>,
}

/// What became of a committed proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    Applied,
    /// It was replayed before; nothing has changed.
    Duplicate,
}

impl MetadataImage {
    /// Replays a committed proposal, unless it was replayed before.
    pub fn replay_proposal(&mut self, proposal: &Proposal) -> Replayed {
        let id = proposal.id;
        if let Some(last) = self.last_proposals.get(&id.proposer) {
            if last.session == id.session && id.sequence <= last.sequence {
                return Replayed::Duplicate;
            }
        }
        std::sync::Arc::make_mut(&mut self.last_proposals).insert(id.proposer, id);
        for command in &proposal.commands {
            self.replay(command);
        }
        Replayed::Applied
    }
}
