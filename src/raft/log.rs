//! The Raft log on disk, with the hard state (term and vote).
//!
//! What is appended or voted is flushed before the call returns, because the leader counts itself
//! as a holder at once.
//!
//! Invariants: the entries are those from just above the cut up to the last one, without holes,
//! and their terms never fall. Nothing at or below what is applied is ever removed but by a cut.
//!
//! A cut goes no further than a snapshot, and stays behind the latest one, because other nodes may still
//! need the entries. So where the log begins is kept under a key of its own.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_raft::raft::Entry;
use async_raft::storage::HardState;
use serde::{Deserialize, Serialize};

use super::codec::{decode, encode, LogBatch};
use super::RaftError;
use crate::storage::meta::{MetaBatch, MetaTree};

mod parts;

use parts::{bytes_of, entry_key, keys_of, parse_key, put_entries, EntryInfo, PREFIX_ENTRY};

const KEY_HARD_STATE: &[u8] = b"h";
/// The index that was applied when the last entry was appended.
const KEY_APPLIED: &[u8] = b"a";
/// Up to where the entries are removed.
const KEY_CUT: &[u8] = b"t";
/// How many removals go into one batch of a cut.
const CUT_BATCH_LEN: usize = 1_000;

/// A place in the log: the entry's index, from 1, and its term. 0 and 0 stand for the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct LogPosition {
    pub index: u64,
    pub term: u64,
}

#[derive(Debug)]
struct Inner {
    entries: BTreeMap<u64, EntryInfo>,
    /// Up to here the entries are removed; a snapshot holds what they did.
    cut: LogPosition,
    hard_state: HardState,
    bytes: u64,
}

/// Keys of entries that nobody finds any more.
#[derive(Debug, Default)]
pub(super) struct Forgotten(Vec<Vec<u8>>);

#[derive(Debug)]
pub(super) struct Log {
    tree: MetaTree,
    inner: Mutex<Inner>,
}

/// Whether the store of a log was ever written to by one who took part.
pub(super) fn has_entries_or_votes(tree: &MetaTree) -> Result<bool, RaftError> {
    let first = tree.scan_prefix(&[PREFIX_ENTRY]).next().transpose()?;
    Ok(first.is_some() || tree.get(KEY_HARD_STATE)?.is_some())
}

impl Log {
    /// Reads and checks the log, which reaches up to a snapshot's position at least. The second
    /// value is the index that was applied, at least, when the node stopped.
    pub fn open(tree: MetaTree, snapshot: LogPosition) -> Result<(Log, u64), RaftError> {
        let hard_state = match tree.get(KEY_HARD_STATE)? {
            Some(bytes) => decode("the hard state", &bytes)?,
            None => HardState {
                current_term: 0,
                voted_for: None,
            },
        };
        let cut = match tree.get(KEY_CUT)? {
            Some(bytes) => decode("the log's beginning", &bytes)?,
            None => {
                // Until now the log was cut at the snapshot. From now on it may begin below one.
                let mut batch = MetaBatch::default();
                batch.put(KEY_CUT, encode(&snapshot)?);
                tree.apply(batch)?;
                snapshot
            }
        };
        let mut inner = Inner {
            entries: BTreeMap::new(),
            cut,
            hard_state,
            bytes: 0,
        };
        let mut left_over = Vec::new();
        for key_value in tree.scan_prefix(&[PREFIX_ENTRY]) {
            let (key, value) = key_value?;
            let (index, part) = parse_key(&key)?;
            if index <= cut.index {
                left_over.push(key);
                continue;
            }
            inner.add_part(index, part, value.len())?;
        }
        let log = Log {
            tree,
            inner: Mutex::new(inner),
        };
        log.check_terms()?;
        log.remove_keys(left_over)?;
        let applied = match log.tree.get(KEY_APPLIED)? {
            Some(bytes) => decode("the applied index", &bytes)?,
            None => 0,
        };
        let applied = snapshot.index.max(applied);
        let last = log.last().index;
        if applied > last {
            let what = format!("entry {applied} was applied, and the log ends at {last}");
            return Err(RaftError::Damaged(what));
        }
        Ok((log, applied))
    }

    /// Reads each entry once, so that damage shows now and not in the middle of the work.
    fn check_terms(&self) -> Result<(), RaftError> {
        let mut before = self.inner().cut.term;
        let indexes: Vec<u64> = self.inner().entries.keys().copied().collect();
        for index in indexes {
            let entry = self.entry(index)?;
            if entry.term < before || entry.index != index {
                let what = format!("entry {index} says {} in term {}", entry.index, entry.term);
                return Err(RaftError::Damaged(what));
            }
            before = entry.term;
            if let Some(info) = self.inner().entries.get_mut(&index) {
                info.term = entry.term;
            }
        }
        Ok(())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn hard_state(&self) -> HardState {
        self.inner().hard_state.clone()
    }

    /// The last entry, or where the log was cut if nothing follows.
    pub fn last(&self) -> LogPosition {
        let inner = self.inner();
        let last = inner.entries.last_key_value();
        last.map_or(inner.cut, |(index, info)| LogPosition {
            index: *index,
            term: info.term,
        })
    }

    /// How many bytes the entries above the cut take.
    pub fn bytes(&self) -> u64 {
        self.inner().bytes
    }

    /// How many entries lie above the cut.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.inner().entries.len()
    }

    /// Blocks until it is on disk.
    pub fn save_hard_state(&self, hard_state: &HardState) -> Result<(), RaftError> {
        let mut batch = MetaBatch::default();
        batch.put(KEY_HARD_STATE, encode(hard_state)?);
        self.tree.apply(batch)?;
        self.tree.flush()?;
        self.inner().hard_state = hard_state.clone();
        Ok(())
    }

    /// Replaces what lies from the first of the entries on by these. Blocks until it is on disk.
    /// `applied` goes along, so that a restart knows what was committed without asking anyone.
    pub fn append(&self, entries: &[Entry<LogBatch>], applied: u64) -> Result<(), RaftError> {
        let Some(first) = entries.first().map(|entry| entry.index) else {
            return Ok(());
        };
        self.check_removable(first, applied)?;
        let last = self.last().index;
        if first > last + 1 {
            let what = format!("entry {first} would follow entry {last}");
            return Err(RaftError::Damaged(what));
        }
        let mut batch = MetaBatch::default();
        for key in self.keys_from(first) {
            batch.remove(&key);
        }
        let mut added = put_entries(&mut batch, first, entries)?;
        batch.put(KEY_APPLIED, encode(&applied)?);
        self.tree.apply(batch)?;
        self.tree.flush()?;
        let mut inner = self.inner();
        inner.forget_from(first);
        inner.bytes += bytes_of(added.values());
        inner.entries.append(&mut added);
        Ok(())
    }

    /// Begins the log anew after a cut that others have made: with entries up to one that is applied. What is
    /// in the batch already takes effect together with it. Blocks until it is on disk.
    pub fn replace(
        &self,
        mut batch: MetaBatch,
        cut: LogPosition,
        entries: &[Entry<LogBatch>],
        hard_state: &HardState,
    ) -> Result<(), RaftError> {
        for key in self.keys_from(0) {
            batch.remove(&key);
        }
        let added = put_entries(&mut batch, cut.index + 1, entries)?;
        let applied = cut.index + entries.len() as u64;
        batch.put(KEY_CUT, encode(&cut)?);
        batch.put(KEY_APPLIED, encode(&applied)?);
        batch.put(KEY_HARD_STATE, encode(hard_state)?);
        self.tree.apply(batch)?;
        self.tree.flush()?;
        *self.inner() = Inner {
            bytes: bytes_of(added.values()),
            entries: added,
            cut,
            hard_state: hard_state.clone(),
        };
        Ok(())
    }

    /// Removes the entries from an index on. Blocks until it is on disk.
    pub fn truncate(&self, from: u64, applied: u64) -> Result<(), RaftError> {
        self.check_removable(from, applied)?;
        let mut batch = MetaBatch::default();
        for key in self.keys_from(from) {
            batch.remove(&key);
        }
        self.tree.apply(batch)?;
        self.tree.flush()?;
        self.inner().forget_from(from);
        Ok(())
    }

    fn check_removable(&self, from: u64, applied: u64) -> Result<(), RaftError> {
        if from <= applied {
            let what = format!("entry {from} would be replaced, but {applied} is applied");
            return Err(RaftError::Damaged(what));
        }
        Ok(())
    }

    pub fn entry(&self, index: u64) -> Result<Entry<LogBatch>, RaftError> {
        let info = self.inner().entries.get(&index).copied();
        let missing = || RaftError::Damaged(format!("entry {index} is missing"));
        let info = info.ok_or_else(missing)?;
        let mut bytes = Vec::with_capacity(info.bytes as usize);
        for part in 0..info.parts {
            let chunk = self.tree.get(&entry_key(index, part))?;
            bytes.extend_from_slice(&chunk.ok_or_else(missing)?);
        }
        decode(&format!("entry {index}"), &bytes)
    }

    /// The term of an entry, if it is known: of the entries below the cut it isn't.
    pub fn term(&self, index: u64) -> Option<u64> {
        let inner = self.inner();
        if index == inner.cut.index {
            return Some(inner.cut.term);
        }
        inner.entries.get(&index).map(|info| info.term)
    }

    /// Up to where the entries are removed.
    pub fn beginning(&self) -> LogPosition {
        self.inner().cut
    }

    /// The first entry that is there, if others were cut before it; it is applied. A follower that lacks it can't be
    /// brought up to date by entries.
    pub fn floor(&self) -> LogPosition {
        let inner = self.inner();
        if inner.cut.index == 0 {
            return LogPosition::default();
        }
        let first = inner.entries.first_key_value();
        first.map_or(inner.cut, |(index, info)| LogPosition {
            index: *index,
            term: info.term,
        })
    }

    /// Up to where the entries from `start` to below `stop` have so many bytes together; one at least.
    pub fn fitting(&self, start: u64, stop: u64, bytes_max: u64) -> u64 {
        let inner = self.inner();
        let mut bytes = 0;
        let is_too_much = |(index, info): &(&u64, &EntryInfo)| {
            bytes += u64::from(info.bytes);
            bytes > bytes_max && **index > start
        };
        let beyond = inner
            .entries
            .range(start..stop.max(start))
            .find(is_too_much);
        beyond.map_or(stop, |(index, _)| *index)
    }

    /// The entries from `start` to below `stop`: all of them, or none if the first of them are cut.
    /// async-raft would take a part for the whole, and send a log with a hole.
    pub fn entries(&self, start: u64, stop: u64) -> Result<Vec<Entry<LogBatch>>, RaftError> {
        let mut entries = Vec::new();
        for index in start..stop {
            match self.entry(index) {
                Ok(entry) => entries.push(entry),
                // A cut can go on meanwhile.
                Err(_) if start <= self.beginning().index => return Ok(Vec::new()),
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }

    /// Forgets the entries up to an index that a snapshot on disk covers; what is forgotten already stays so. From
    /// now on nobody finds them, and [`Log::remove`] takes them from the disk.
    pub fn forget(&self, to: u64) -> Forgotten {
        let mut inner = self.inner();
        let info = inner.entries.get(&to).copied();
        let Some(info) = info.filter(|_| to > inner.cut.index) else {
            return Forgotten::default();
        };
        let kept = inner.entries.split_off(&(to + 1));
        let removed = std::mem::replace(&mut inner.entries, kept);
        inner.cut = LogPosition {
            index: to,
            term: info.term,
        };
        inner.bytes -= bytes_of(removed.values());
        Forgotten(keys_of(&removed))
    }

    /// Removes what was forgotten from the disk. The beginning is written first: what a crash leaves below it is
    /// dropped at the next start.
    pub fn remove(&self, Forgotten(keys): Forgotten) -> Result<(), RaftError> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut batch = MetaBatch::default();
        batch.put(KEY_CUT, encode(&self.beginning())?);
        self.tree.apply(batch)?;
        self.remove_keys(keys)
    }

    /// How many bytes the entries up to an index take.
    pub fn bytes_up_to(&self, index: u64) -> u64 {
        bytes_of(self.inner().entries.range(..=index).map(|(_, info)| info))
    }

    fn remove_keys(&self, keys: Vec<Vec<u8>>) -> Result<(), RaftError> {
        for some in keys.chunks(CUT_BATCH_LEN) {
            let mut batch = MetaBatch::default();
            for key in some {
                batch.remove(key);
            }
            self.tree.apply(batch)?;
        }
        Ok(())
    }

    fn keys_from(&self, index: u64) -> Vec<Vec<u8>> {
        let inner = self.inner();
        let from = inner.entries.range(index..);
        keys_of(&from.map(|(index, info)| (*index, *info)).collect())
    }
}

impl Inner {
    fn add_part(&mut self, index: u64, part: u16, bytes: usize) -> Result<(), RaftError> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let last = self.entries.last_key_value();
        let (last_index, parts) = last.map_or((self.cut.index, 0), |(i, info)| (*i, info.parts));
        self.bytes += u64::from(bytes);
        if index == last_index && part == parts && part > 0 {
            if let Some(info) = self.entries.get_mut(&index) {
                info.parts += 1;
                info.bytes = info.bytes.saturating_add(bytes);
            }
            return Ok(());
        }
        if index != last_index + 1 || part != 0 {
            let what = format!("part {part} of entry {index} follows entry {last_index}");
            return Err(RaftError::Damaged(what));
        }
        let info = EntryInfo {
            term: 0,
            parts: 1,
            bytes,
        };
        self.entries.insert(index, info);
        Ok(())
    }

    fn forget_from(&mut self, index: u64) {
        let gone = self.entries.split_off(&index);
        self.bytes -= bytes_of(gone.values());
    }
}
