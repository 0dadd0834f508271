//! Who has answered lately, and how far each voter's log is known to go.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_raft::NodeId;
use tokio::time::{Duration, Instant};

/// What a leader knows of the other voters.
#[derive(Debug)]
pub(in crate::raft) struct Quorum {
    others: Mutex<BTreeMap<NodeId, Voter>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Voter {
    /// The term that it has last acknowledged, and when.
    acknowledged: Option<(u64, Instant)>,
    /// Its log agrees with ours up to here, and is on disk.
    matched: u64,
}

impl Quorum {
    pub fn new(others: impl Iterator<Item = NodeId>) -> Quorum {
        let others = others.map(|id| (id, Voter::default())).collect();
        Quorum {
            others: Mutex::new(others),
        }
    }

    /// A voter has taken a request of this term.
    pub fn acknowledged(&self, voter: NodeId, term: u64, matched: u64) {
        if let Some(voter) = self.others().get_mut(&voter) {
            voter.acknowledged = Some((term, Instant::now()));
            voter.matched = voter.matched.max(matched);
        }
    }

    /// Whether a majority, with ourselves, has acknowledged the term within this time.
    pub fn is_recent(&self, term: u64, within: Duration) -> bool {
        let others = self.others();
        let is_recent = |voter: &&Voter| {
            let acknowledged = voter.acknowledged;
            acknowledged.is_some_and(|(of, at)| of == term && at.elapsed() <= within)
        };
        let recent = 1 + others.values().filter(is_recent).count();
        2 * recent > 1 + others.len()
    }

    /// Every voter has all entries up to here.
    pub fn matched_by_all(&self) -> u64 {
        let others = self.others();
        others.values().map(|v| v.matched).min().unwrap_or(u64::MAX)
    }

    fn others(&self) -> MutexGuard<'_, BTreeMap<NodeId, Voter>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
