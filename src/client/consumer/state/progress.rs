//! How far the application has come in each partition, for those who commit that.

use std::collections::{BTreeMap, BTreeSet};

use super::{Key, Needs, Phase, State};
use crate::client::ClientError;
use crate::model::Offset;

/// Of one partition. [`Offset::NONE`] is done until it is known where reading starts.
#[derive(Debug)]
pub(super) struct Progress {
    /// Where the application stood when its last poll began: all before is done.
    done: Offset,
    /// What the group was last told, by this consumer or whoever had the partition before.
    committed: Option<Offset>,
}

/// Which records count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client::consumer) enum Handed {
    /// All that were handed out.
    Out,
    /// Those that were handed out before the last poll began.
    Done,
}

impl Progress {
    pub fn at(start: Offset) -> Progress {
        Progress {
            done: start,
            committed: None,
        }
    }

    /// It is known now where reading starts.
    pub fn begin(&mut self, start: Offset) {
        if self.done == Offset::NONE {
            self.done = start;
        }
    }
}

impl State {
    /// Starts to read where the group has come to.
    pub fn place_committed(&mut self, key: Key, from: Offset) {
        self.place(key.clone(), from);
        self.committed(&key, from);
    }

    /// Starts to read where the config says, once the broker has told where that is.
    pub fn place_somewhere(&mut self, key: Key) {
        self.place(key.clone(), Offset::NONE);
        if let Some(assigned) = self.partitions.get_mut(&key) {
            assigned.needs = Needs::Offset;
        }
    }

    /// Doesn't read it before a seek, and tells why.
    pub fn place_halted(&mut self, key: Key, why: ClientError) {
        self.place(key.clone(), Offset::NONE);
        if let Some(assigned) = self.partitions.get_mut(&key) {
            assigned.phase = Phase::Halted;
            assigned.error = Some(why);
        }
        self.make_ready(&key);
    }

    /// All partitions that are read.
    pub fn assigned(&self) -> BTreeSet<Key> {
        self.partitions.keys().cloned().collect()
    }

    /// The application has done what was handed out to it.
    pub fn settle(&mut self) {
        for key in std::mem::take(&mut self.handed_out) {
            if let Some(assigned) = self.partitions.get_mut(&key) {
                assigned.progress.done = assigned.position();
            }
        }
    }

    /// How far the application has come where the group doesn't know it.
    pub fn uncommitted(&self, handed: Handed) -> BTreeMap<Key, Offset> {
        let all = self.partitions.iter().map(|(key, assigned)| {
            let offset = match handed {
                Handed::Out => assigned.position(),
                Handed::Done => assigned.progress.done,
            };
            (key, offset, assigned.progress.committed)
        });
        all.filter(|(_, offset, committed)| *offset >= Offset::ZERO && *committed != Some(*offset))
            .map(|(key, offset, _)| (key.clone(), offset))
            .collect()
    }

    /// The group knows this now.
    pub fn committed(&mut self, key: &Key, offset: Offset) {
        if let Some(assigned) = self.partitions.get_mut(key) {
            assigned.progress.committed = Some(offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    fn key() -> Key {
        ("t".into(), 0)
    }

    fn only(state: &State, handed: Handed) -> Option<i64> {
        let uncommitted = state.uncommitted(handed);
        uncommitted.get(&key()).map(|offset| offset.0)
    }

    #[test]
    fn what_is_handed_out_is_done_with_the_next_poll() {
        let mut state = State::default();
        state.place_committed(key(), Offset(5));
        assert_eq!(only(&state, Handed::Out), None, "the group knows it");
        // As if a batch had been polled.
        state.partitions.get_mut(&key()).unwrap().fetch_from = Offset(8);
        state.handed_out.push(key());
        assert_eq!(only(&state, Handed::Out), Some(8));
        assert_eq!(only(&state, Handed::Done), None, "it may be at work on it");
        state.settle();
        assert_eq!(only(&state, Handed::Done), Some(8));
        state.committed(&key(), Offset(8));
        assert_eq!(only(&state, Handed::Out), None);
    }

    #[test]
    fn where_it_starts_is_committed_once_it_is_known() {
        let mut state = State::default();
        state.place_somewhere(key());
        assert_eq!(only(&state, Handed::Out), None);
        assert_eq!(state.position(&key()), None);
        let wanted = state.due(Instant::now()).pop().unwrap();
        assert_eq!(wanted.needs, Needs::Offset);
        state.begin(&wanted);
        state.reset(&wanted, Offset(100), Instant::now());
        assert_eq!(only(&state, Handed::Done), Some(100));
        assert_eq!(state.position(&key()), Some(Offset(100)));
    }
}
