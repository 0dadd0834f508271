//! What a voter knows of the nodes without a vote, by what they have asked it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_raft::NodeId;
use tokio::time::Instant;

use crate::model::DirectoryId;

/// Who hasn't asked for so long follows somebody else, or is gone (Kafka's observer session).
const SESSION: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug)]
pub(super) struct Observer {
    /// The copy of the metadata that it has.
    pub directory: DirectoryId,
    /// It has all entries up to this one.
    pub last: u64,
    /// When it has asked last.
    pub heard: Instant,
    /// When it has asked last while it had all that was committed.
    pub caught_up: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Observers {
    known: Mutex<BTreeMap<NodeId, Observer>>,
}

impl Observers {
    /// A node that has the entries up to `last` asks for more, while those up to `committed` are committed.
    pub fn note(
        &self,
        node: NodeId,
        directory: DirectoryId,
        last: u64,
        committed: u64,
        now: Instant,
    ) {
        let mut known = self.known();
        known.retain(|_, observer| is_recent(observer, now));
        let before = known.get(&node).and_then(|observer| observer.caught_up);
        let caught_up = (last >= committed).then_some(now).or(before);
        let observer = Observer {
            directory,
            last,
            heard: now,
            caught_up,
        };
        known.insert(node, observer);
    }

    /// Those that were heard lately, by id.
    pub fn recent(&self, now: Instant) -> Vec<(NodeId, Observer)> {
        let known = self.known();
        let recent = known
            .iter()
            .filter(|(_, observer)| is_recent(observer, now));
        recent.map(|(node, observer)| (*node, *observer)).collect()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<NodeId, Observer>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_recent(observer: &Observer, now: Instant) -> bool {
    now.saturating_duration_since(observer.heard) < SESSION
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_known_by_what_it_asked_last_until_it_is_silent_for_a_session() {
        let observers = Observers::default();
        let copy = DirectoryId::random();
        let begin = Instant::now();
        observers.note(4, copy, 5, 9, begin);
        let known = observers.recent(begin);
        assert_eq!((known[0].0, known[0].1.last), (4, 5));
        assert_eq!((known[0].1.heard, known[0].1.caught_up), (begin, None));
        observers.note(4, copy, 9, 9, begin);
        let later = begin + SESSION / 2;
        observers.note(4, copy, 9, 12, later);
        observers.note(5, copy, 12, 12, later);
        assert_eq!(observers.recent(later)[0].1.caught_up, Some(begin));
        let late = later + SESSION;
        assert!(observers.recent(late).is_empty());
        observers.note(5, copy, 12, 12, late);
        assert_eq!(observers.recent(late).len(), 1);
    }
}
