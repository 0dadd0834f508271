//! What a leader knows of the other voters, by their answers in its present term.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_raft::NodeId;
use tokio::time::Instant;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Follower {
    /// It has our log up to here; not known until it says so in this term.
    pub acknowledged: Option<u64>,
    /// When the last request was sent that it has answered as a follower of ours.
    pub heard: Option<Instant>,
    /// When the last request was sent after which it had all that we had then.
    pub caught_up: Option<Instant>,
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

    /// A voter has all of our log, as it was when this was sent.
    pub fn caught_up(&self, term: u64, voter: NodeId, sent: Instant) {
        self.update(term, voter, |follower| {
            follower.caught_up = follower.caught_up.max(Some(sent));
        });
    }

    /// What is known of each in this term.
    pub fn all(&self, term: u64) -> Vec<(NodeId, Follower)> {
        let inner = self.inner();
        let known = |(voter, follower): (&NodeId, &Follower)| match inner.term == term {
            true => (*voter, *follower),
            false => (*voter, Follower::default()),
        };
        inner.followers.iter().map(known).collect()
    }

    /// Whether one of those that were heard since then may lack some of our log. Whoever isn't heard gets
    /// nothing anyway.
    pub fn lag(&self, term: u64, last: u64, since: Instant) -> bool {
        let inner = self.inner();
        let lags = |follower: &&Follower| {
            follower.heard >= Some(since) && follower.acknowledged < Some(last)
        };
        inner.term == term && inner.followers.values().any(|follower| lags(&follower))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_isnt_heard_doesnt_lag() {
        let followers = Followers::new([2, 3]);
        let began = Instant::now();
        let later = began + Duration::from_secs(5);
        assert!(!followers.lag(1, 10, began), "nobody was heard");
        followers.heard(1, 2, began);
        followers.heard(1, 3, began);
        assert!(followers.lag(1, 10, began));
        followers.acknowledged(1, 2, 10);
        assert!(followers.lag(1, 10, began), "3 lacks all");
        assert!(!followers.lag(1, 10, later), "3 is gone");
        followers.heard(1, 3, later);
        assert!(followers.lag(1, 10, later), "3 is there again");
        followers.acknowledged(1, 3, 10);
        assert!(!followers.lag(1, 10, later));
        assert!(!followers.lag(2, 11, later), "of another term");
    }
}
