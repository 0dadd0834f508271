//! Which offset is the last of each key, in bounded memory.
//!
//! Of a key 16 bytes of its SHA-256 are kept: two keys that share them would make one record of a log
//! disappear, and nobody can look for such keys. A slot takes 24 bytes, whatever a key's size.

use sha2::{Digest, Sha256};

use crate::model::Offset;

/// Up to so many of a hundred slots are taken: beyond it, look-ups walk too far.
const LOAD_PERCENT_MAX: usize = 75;

#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: [u64; 2],
    /// `Offset::NONE` in an empty slot.
    offset: Offset,
}

const EMPTY: Slot = Slot {
    hash: [0; 2],
    offset: Offset::NONE,
};

/// There is no room for another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The map: a table with linear probing, which never grows.
#[derive(Debug)]
pub(super) struct OffsetMap {
    slots: Vec<Slot>,
    taken: usize,
    taken_max: usize,
}

impl OffsetMap {
    /// What a slot takes in memory.
    pub const SLOT_BYTES: usize = size_of::<Slot>();

    /// A map of at most `bytes`, and no larger than `keys` need; for one key at least.
    pub fn new(bytes: usize, keys: u64) -> OffsetMap {
        let wanted = usize::try_from(keys).unwrap_or(usize::MAX);
        let wanted = (wanted / LOAD_PERCENT_MAX)
            .saturating_mul(100)
            .saturating_add(128);
        let slots = (bytes / Self::SLOT_BYTES).min(wanted).max(2);
        OffsetMap {
            slots: vec![EMPTY; slots],
            taken: 0,
            taken_max: (slots * LOAD_PERCENT_MAX / 100).max(1),
        }
    }

    /// Notes that a key's record is at `offset`, which is above all that were noted.
    pub fn note(&mut self, key: &[u8], offset: Offset) -> Result<(), Full> {
        let hash = hash_of(key);
        let at = self.find(hash);
        if self.slots[at].offset == Offset::NONE {
            if self.taken == self.taken_max {
                return Err(Full);
            }
            self.taken += 1;
        }
        self.slots[at] = Slot { hash, offset };
        Ok(())
    }

    /// Where the key's last record is, as far as it was noted.
    pub fn last_of(&self, key: &[u8]) -> Option<Offset> {
        let offset = self.slots[self.find(hash_of(key))].offset;
        (offset != Offset::NONE).then_some(offset)
    }

    /// The slot that holds the hash, or the empty one that could: there is always an empty one.
    fn find(&self, hash: [u64; 2]) -> usize {
        let mut at = (hash[0] % self.slots.len() as u64) as usize;
        loop {
            let slot = &self.slots[at];
            if slot.offset == Offset::NONE || slot.hash == hash {
                return at;
            }
            at = (at + 1) % self.slots.len();
        }
    }
}

fn hash_of(key: &[u8]) -> [u64; 2] {
    let digest = Sha256::digest(key);
    let word = |at: usize| {
        let bytes = digest[at..at + 8].iter();
        bytes.fold(0, |word, byte| word << 8 | u64::from(*byte))
    };
    [word(0), word(8)]
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_map_says_so_and_keeps_what_it_has() {
        let mut map = OffsetMap::new(40 * OffsetMap::SLOT_BYTES, u64::MAX);
        let noted = (0..).take_while(|n: &u32| map.note(&n.to_be_bytes(), Offset(1)).is_ok());
        assert_eq!(noted.count(), 30);
        // A key that is there can be moved on.
        assert_eq!(map.note(&7_u32.to_be_bytes(), Offset(9)), Ok(()));
        assert_eq!(map.last_of(&7_u32.to_be_bytes()), Some(Offset(9)));
        assert_eq!(map.last_of(&30_u32.to_be_bytes()), None);
    }

    #[test]
    fn it_is_no_larger_than_it_must_be() {
        let map = OffsetMap::new(128 << 20, 1_000);
        assert!(map.slots.len() < 2_000);
        assert!(map.taken_max >= 1_000);
        assert_eq!(OffsetMap::new(0, 10).taken_max, 1);
    }

    proptest! {
        #[test]
        fn it_knows_the_last_offset_of_each_key(
            keys in proptest::collection::vec(proptest::collection::vec(0..4_u8, 0..4), 0..300),
        ) {
            let mut map = OffsetMap::new(1 << 20, keys.len() as u64);
            let mut model = HashMap::new();
            for (offset, key) in keys.iter().enumerate() {
                prop_assert_eq!(map.note(key, Offset(offset as i64)), Ok(()));
                model.insert(key.clone(), Offset(offset as i64));
            }
            for (key, offset) in &model {
                prop_assert_eq!(map.last_of(key), Some(*offset));
            }
            prop_assert_eq!(map.last_of(b"another"), None);
        }
    }
}
