//! The bound on what a consumer fetches ahead: each fetch takes its share before it is sent, and
//! gives it back when the last of what it brought was polled or thrown away.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

/// The bytes that may be on their way or wait to be polled.
#[derive(Debug)]
pub(super) struct Room {
    bytes_max: usize,
    taken: AtomicUsize,
}

/// A part of the room, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    pub(super) fn new(bytes_max: usize) -> Arc<Room> {
        Arc::new(Room {
            bytes_max,
            taken: AtomicUsize::new(0),
        })
    }

    /// How much each of so many fetches may take, so that none waits for another's room.
    pub(super) fn share(&self, fetches: usize) -> usize {
        (self.bytes_max / fetches.max(1)).max(1)
    }

    /// Takes room, if there is as much. An empty room has enough for anything: else a bound that
    /// is too small would stop everything. Only the consumer's driver takes.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        let taken = self.taken.load(Ordering::Acquire);
        if taken > 0 && taken.saturating_add(bytes) > self.bytes_max {
            return None;
        }
        self.taken.fetch_add(bytes, Ordering::AcqRel);
        Some(Charge {
            room: self.clone(),
            bytes,
        })
    }

    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
}

impl Charge {
    /// What was expected is there, and takes so many bytes.
    pub(super) fn settle(&mut self, bytes: usize) {
        self.room.taken.fetch_add(bytes, Ordering::AcqRel);
        self.room.taken.fetch_sub(self.bytes, Ordering::AcqRel);
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_up_to_its_bound_and_given_back() {
        let room = Room::new(100);
        let first = room.take(60).unwrap();
        assert!(room.take(60).is_none());
        let mut second = room.take(40).unwrap();
        second.settle(10);
        assert!(room.take(40).is_none());
        let third = room.take(30).unwrap();
        drop((first, second, third));
        assert_eq!(room.taken(), 0);
        let mut whole = room.take(1000).expect("an empty room takes anything");
        whole.settle(2000);
        assert!(room.take(1).is_none(), "and then nothing more");
    }
}
