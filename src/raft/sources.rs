//! Which voter a node without a vote follows: the leader, who knows first what is committed, or whoever answers.

use std::collections::BTreeMap;
use std::time::Duration;

use async_raft::NodeId;
use tokio::time::Instant;

/// A leader that hasn't answered is left alone for so long, as others may go on to name it.
const AVOIDED: Duration = Duration::from_secs(1);

/// Whether it is time for a rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Another voter may answer.
    No,
    /// All have failed, one after the other.
    Yes,
}

#[derive(Debug)]
pub(super) struct Sources {
    voters: Vec<NodeId>,
    current: usize,
    /// How many have failed in a row.
    failures: usize,
    failed_at: BTreeMap<NodeId, Instant>,
}

impl Sources {
    /// There must be one voter at least.
    pub fn new(voters: Vec<NodeId>) -> Sources {
        Sources {
            voters,
            current: 0,
            failures: 0,
            failed_at: BTreeMap::new(),
        }
    }

    /// Whom to ask.
    pub fn current(&self) -> NodeId {
        self.voters[self.current]
    }

    /// It has answered, and says who leads. One who knows nobody may be cut off from the others.
    pub fn answered(&mut self, leader: Option<NodeId>, now: Instant) {
        self.failures = 0;
        self.failed_at.remove(&self.current());
        match leader {
            None => self.turn(),
            Some(leader) => {
                let failed_at = self.failed_at.get(&leader);
                let is_avoided = failed_at.is_some_and(|at| now.duration_since(*at) < AVOIDED);
                let place = self.voters.iter().position(|voter| *voter == leader);
                self.current = place.filter(|_| !is_avoided).unwrap_or(self.current);
            }
        }
    }

    /// It hasn't answered, or not to the point.
    pub fn failed(&mut self, now: Instant) -> Rest {
        self.failed_at.insert(self.current(), now);
        self.failures += 1;
        self.turn();
        match self.failures.is_multiple_of(self.voters.len()) {
            true => Rest::Yes,
            false => Rest::No,
        }
    }

    fn turn(&mut self) {
        self.current = (self.current + 1) % self.voters.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_is_followed_unless_it_has_just_failed() {
        let mut sources = Sources::new(vec![1, 2, 3]);
        let begin = Instant::now();
        assert_eq!(sources.current(), 1);
        sources.answered(Some(3), begin);
        assert_eq!(sources.current(), 3);
        sources.answered(Some(3), begin);
        assert_eq!(sources.current(), 3);
        assert_eq!(sources.failed(begin), Rest::No);
        assert_eq!(sources.current(), 1);
        // It doesn't know yet that the leader is gone.
        sources.answered(Some(3), begin);
        assert_eq!(sources.current(), 1);
        sources.answered(Some(3), begin + AVOIDED);
        assert_eq!(sources.current(), 3);
        // One that isn't configured is nobody.
        sources.answered(Some(9), begin);
        assert_eq!(sources.current(), 3);
    }

    #[test]
    fn who_knows_no_leader_is_left_for_the_next_one() {
        let mut sources = Sources::new(vec![1, 2, 3]);
        sources.answered(None, Instant::now());
        assert_eq!(sources.current(), 2);
    }

    #[test]
    fn a_rest_follows_when_nobody_has_answered() {
        let mut sources = Sources::new(vec![1, 2]);
        let now = Instant::now();
        let rests = [(); 4].map(|()| sources.failed(now));
        assert_eq!(rests, [Rest::No, Rest::Yes, Rest::No, Rest::Yes]);
        sources.failed(now);
        sources.answered(Some(2), now);
        assert_eq!(sources.failed(now), Rest::No);
    }
}
