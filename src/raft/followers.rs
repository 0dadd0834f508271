//! What a leader knows of the other voters, by their answers in its present term.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_raft::NodeId;
use tokio::time::Instant;

#[derive(Clone, Copy, Debug, Default)]
struct Follower {
    /// It has our log up to here; not known until it says so in this term.
    acknowledged: Option<u64>,
    /// When the last request was sent that it has answered as a follower of ours.
    heard: Option<Instant>,
}

#[derive(Debug)]
struct Inner {
    term: u64,
    followers: BTreeMap<NodeId, Follower>,
}

#[derive(Debug)]
pub(super) struct Followers {
    inner: Mutex<Inner>,
}

impl Followers {
    pub fn new(others: impl IntoIterator<Item = NodeId>) -> Followers {
        let followers = others
            .into_iter()
            .map(|voter| (voter, Follower::default()))
            .collect();
        Followers {
            inner: Mutex::new(Inner { term: 0, followers }),
        }
    }

    /// A voter follows us in this term: it has answered what was sent then.
    pub fn heard(&self, term: u64, voter: NodeId, sent: Instant) {
        self.update(term, voter, |follower| {
            follower.heard = follower.heard.max(Some(sent));
        });
    }

    /// A voter has our log up to this index.
    pub fn acknowledged(&self, term: u64, voter: NodeId, index: u64) {
        self.update(term, voter, |follower| {
            follower.acknowledged = follower.acknowledged.max(Some(index));
        });
    }

    /// Up to where all of them have our log, or 0 if one hasn't said so.
    pub fn smallest(&self, term: u64) -> u64 {
        let inner = self.inner();
        let known = inner.followers.values().map(|f| f.acknowledged);
        match known.min() {
            Some(Some(smallest)) if inner.term == term => smallest,
            _ => 0,
        }
    }

    /// Whether one of them may lack some of our log.
    pub fn lag(&self, term: u64, last: u64) -> bool {
        !self.inner().followers.is_empty() && self.smallest(term) < last
    }

    /// Whether a majority of all voters, of which we are one, has followed us since then.
    pub fn majority_since(&self, term: u64, since: Instant) -> bool {
        let inner = self.inner();
        let voters = inner.followers.len() + 1;
        let recent = inner.followers.values();
        let recent = recent.filter(|follower| follower.heard >= Some(since));
        let following = if inner.term == term {
            recent.count()
        } else {
            0
        };
        following + 1 > voters / 2
    }

    fn update(&self, term: u64, voter: NodeId, change: impl FnOnce(&mut Follower)) {
        let mut inner = self.inner();
        if term > inner.term {
            inner.term = term;
            inner.followers.values_mut().for_each(|follower| {
                *follower = Follower::default();
            });
        }
        if term < inner.term {
            return;
        }
        if let Some(follower) = inner.followers.get_mut(&voter) {
            change(follower);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
