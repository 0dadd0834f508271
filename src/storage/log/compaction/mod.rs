//! Compaction: of each key at least the last record stays (`cleanup.policy=compact`).
//!
//! # What it does
//!
//! The log has a clean beginning and a dirty rest. When enough of it is dirty, a cleaner notes the last
//! offset of each key of the dirty part, as many as its memory holds, and then writes all segments up to
//! there anew without the records that are superseded. Small segments become one. Offsets never change,
//! and neither the active segment is touched, nor what lies above the high watermark or isn't on disk.
//!
//! # Nothing is missing
//!
//! Kafka leaves gaps between offsets. Here an empty batch, a header alone, stands for the offsets that
//! have gone, as Kafka has one for a producer's last sequence. So batches follow each other without gaps in
//! a compacted log too: recovery, readers, followers and `klamm log verify` find a lost batch there as
//! everywhere, and know nothing of compaction.
//!
//! # Who does what, and what a crash leaves
//!
//! 1. The log's owner plans ([`Log::plan_compaction`]).
//! 2. A cleaner's thread ([`Compaction::run`]) writes a cleaned segment under temporary names and syncs it.
//!    After a crash these are rubbish.
//! 3. The owner lets it take the place of the segments that it was made from ([`Log::replace`]): without
//!    waiting for the disk it removes the indexes of the first, and renames. The exchange of the data files'
//!    names is the one step that counts: the old one has the temporary name then. After a crash before it,
//!    all is as it was; an index is made anew when it is missing.
//! 4. The cleaner puts these names on disk, and then removes the old files. After a crash before that
//!    the first one reaches beyond where the next begin: they are removed when the log is opened.
//! 5. When no segment is left, the owner notes up to where the log is clean. That is in the checkpoint, and
//!    only a hint: what is clean can be cleaned again.

mod clean;
mod offset_map;
mod output;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use clean::Compacted;

use self::output::{remove_temporary, temporary_path, Cleaned, SUFFIXES};
use super::index::{Entry, OffsetEntry, TimeEntry};
use super::scan::{Check, Step};
use super::segment::{segment_path, Sealed, LOG_SUFFIX, SNAPSHOT_SUFFIX};
use super::{Log, LogError};
use crate::model::{Offset, Timestamp};
use crate::storage::fs::{FileSystem, Removed};
use crate::storage::lease::Lease;

/// What a topic's logs are cleaned by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionConfig {
    /// So much of the log must be dirty, in millionths (`min.cleanable.dirty.ratio`).
    pub dirty_millionths_min: u32,
    /// Younger records aren't touched (`min.compaction.lag.ms`).
    pub lag_ms_min: i64,
    /// Older ones make the log be cleaned, however little is dirty (`max.compaction.lag.ms`).
    pub lag_ms_max: i64,
    /// How long a tombstone stays after it was first met (`delete.retention.ms`).
    pub delete_retention_ms: i64,
}

impl Default for CompactionConfig {
    /// Kafka's defaults.
    fn default() -> CompactionConfig {
        CompactionConfig {
            dirty_millionths_min: 500_000,
            lag_ms_min: 0,
            lag_ms_max: i64::MAX,
            delete_retention_ms: 24 * 60 * 60 * 1000,
        }
    }
}

/// What becomes of a log's old records (`cleanup.policy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    Delete,
    Compact(CompactionConfig),
    CompactAndDelete(CompactionConfig),
}

impl Cleanup {
    /// Whether old segments go by retention.
    pub fn deletes(self) -> bool {
        matches!(self, Cleanup::Delete | Cleanup::CompactAndDelete(_))
    }

    pub fn compaction(self) -> Option<CompactionConfig> {
        match self {
            Cleanup::Delete => None,
            Cleanup::Compact(config) | Cleanup::CompactAndDelete(config) => Some(config),
        }
    }
}

/// Ends a compaction whose log has been closed, dropped or begun anew.
#[derive(Clone, Debug, Default)]
pub(super) struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The log's own: dropped with it.
#[derive(Debug, Default)]
pub(super) struct CancelOnDrop(pub Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// A compaction that was planned.
#[derive(Debug)]
pub struct Compaction {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    /// Those that are still to be cleaned.
    segments: VecDeque<Arc<Sealed>>,
    dirty_from: Offset,
    cleanable_to: Offset,
    map_bytes: usize,
    segment_bytes: u64,
    index_interval_bytes: u64,
    now: Timestamp,
    delete_horizon: Timestamp,
    /// The base offset of the last batch of each producer that the log remembers.
    last_of_producers: HashMap<i64, Offset>,
    cancelled: Cancel,
    /// Of an earlier one that didn't come to its end.
    leftovers: Leftovers,
    lease: Lease,
}

/// A cleaned segment that can take the place of those that it was made from. Dropped, it is removed.
#[derive(Debug)]
pub struct Replacement {
    group: Vec<Arc<Sealed>>,
    cleaned: Cleaned,
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    _lease: Lease,
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // When it has taken its place, these names are free, or those of the next one's files.
        if !self.group.is_empty() {
            remove_temporary(&*self.fs, &self.dir, self.group[0].base);
        }
    }
}

/// The files of segments whose place another one has taken: the first one's data file under the temporary name
/// of what took its place, the others as they were. They are removed once that is on disk: by the
/// cleaner, or by the log's owner when it cuts the log before, since new segments may get their names.
#[derive(Clone, Debug, Default)]
pub(super) struct Leftovers(Arc<Mutex<Vec<PathBuf>>>);

impl Leftovers {
    fn lock(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, and nothing if there is nothing.
    pub(super) fn remove_any(&self, fs: &dyn FileSystem, dir: &Path) -> Result<(), LogError> {
        let is_empty = self.lock().is_empty();
        match is_empty {
            true => Ok(()),
            false => self.remove(fs, dir),
        }
    }

    fn remove(&self, fs: &dyn FileSystem, dir: &Path) -> Result<(), LogError> {
        let sync = || {
            let synced = fs.sync_dir(dir);
            synced.map_err(LogError::storage("sync", dir))
        };
        // Freed when the lock is: the log's owner may wait for it.
        let mut removed = Vec::new();
        let mut files = self.lock();
        sync()?;
        if files.is_empty() {
            return Ok(());
        }
        for path in &*files {
            removed.extend(remove_if_there(fs, path)?);
        }
        // One that came back later could fit what is written after a truncation.
        sync()?;
        files.clear();
        drop(files);
        drop(removed);
        Ok(())
    }
}

/// A segment has taken the place of others.
#[derive(Debug)]
#[must_use = "the others' files stay until finish() is called"]
pub struct Replaced {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    leftovers: Leftovers,
    _lease: Lease,
}

impl Replaced {
    /// Puts the names on disk, and removes the files that are left over.
    fn finish(self) -> Result<(), LogError> {
        self.leftovers.remove(&*self.fs, &self.dir)
    }
}

fn remove_if_there(fs: &dyn FileSystem, path: &Path) -> Result<Option<Removed>, LogError> {
    match fs.remove(path) {
        Ok(removed) => Ok(Some(removed)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(LogError::storage("remove", path)(e)),
    }
}

impl Log {
    /// Plans a compaction if the log is dirty enough; `map_bytes` is what its map of keys may take. One
    /// at a time.
    pub fn plan_compaction(
        &self,
        now: Timestamp,
        map_bytes: usize,
    ) -> Result<Option<Compaction>, LogError> {
        let Some(config) = self.config.cleanup.compaction() else {
            return Ok(None);
        };
        if self.failure.is_some() {
            return Ok(None);
        }
        let cleanable = self.cleanable_segments(config, now)?;
        let Some(cleanable_to) = cleanable.back().map(|s| s.next) else {
            return Ok(None);
        };
        let first = cleanable[0].base;
        let dirty_from = self.clean_to.max(first).min(cleanable_to);
        let dirty = cleanable.iter().filter(|s| s.next > dirty_from);
        let dirty_bytes: u64 = dirty.map(|s| s.size).sum();
        let bytes: u64 = cleanable.iter().map(|s| s.size).sum();
        if dirty_bytes == 0 {
            return Ok(None);
        }
        let min = u128::from(config.dirty_millionths_min);
        let is_dirty = u128::from(dirty_bytes) * 1_000_000 >= u128::from(bytes) * min;
        if !is_dirty && !self.is_overdue(&cleanable, dirty_from, config, now)? {
            return Ok(None);
        }
        Ok(Some(Compaction {
            fs: self.fs.clone(),
            dir: self.dir.clone(),
            segments: cleanable,
            dirty_from,
            cleanable_to,
            map_bytes,
            segment_bytes: self.config.segment_bytes,
            index_interval_bytes: self.config.index_interval_bytes,
            now,
            delete_horizon: Timestamp(now.0.saturating_add(config.delete_retention_ms)),
            last_of_producers: self.producers.last_batches(),
            cancelled: self.compaction.0.clone(),
            leftovers: self.leftovers.clone(),
            lease: self.lease.clone(),
        }))
    }

    /// The segments that may be cleaned, from the first on: on disk with their indexes, committed, and old
    /// enough.
    fn cleanable_segments(
        &self,
        config: CompactionConfig,
        now: Timestamp,
    ) -> Result<VecDeque<Arc<Sealed>>, LogError> {
        let on_disk = self.unsynced.recovery_point(self.synced_offset);
        let limit = self.high_watermark.min(on_disk);
        let mut cleanable = VecDeque::new();
        for sealed in self.sealed.iter().filter(|s| s.next > self.start_offset) {
            if sealed.next > limit {
                break;
            }
            if config.lag_ms_min > 0 {
                let largest = sealed.largest(&self.fs, &self.dir)?;
                let newest = largest.map_or(Timestamp::NONE, |l| l.timestamp);
                if now - newest < config.lag_ms_min {
                    break;
                }
            }
            cleanable.push_back(sealed.clone());
        }
        Ok(cleanable)
    }

    /// Whether the first dirty record is older than `max.compaction.lag.ms`.
    fn is_overdue(
        &self,
        cleanable: &VecDeque<Arc<Sealed>>,
        dirty_from: Offset,
        config: CompactionConfig,
        now: Timestamp,
    ) -> Result<bool, LogError> {
        if config.lag_ms_max == i64::MAX {
            return Ok(false);
        }
        let Some(first) = cleanable.iter().find(|s| s.next > dirty_from) else {
            return Ok(false);
        };
        let path = segment_path(&self.dir, first.base, LOG_SUFFIX);
        let failed = |e| LogError::storage("read", &path)(e);
        let file = self.segment_file(first.base)?;
        let start = self.start_for(dirty_from.max(first.base));
        let mut scanner = start.scanner(&*file, first.size, Check::Headers);
        while let Step::Batch { header, .. } = scanner.next().map_err(failed)? {
            if header.next_offset() > dirty_from && header.max_timestamp.0 >= 0 {
                return Ok(now - header.max_timestamp > config.lag_ms_max);
            }
        }
        Ok(false)
    }

    /// Lets a cleaned segment take the place of those that it was made from; the compaction knows what is
    /// left to do then. `Err(Superseded)` where the log isn't what it was, or somebody is making an index of
    /// these segments just now: the compaction ends then, and the next one does its work.
    pub fn replace(&mut self, mut replacement: Replacement) -> Result<Replaced, LogError> {
        let group = &replacement.group;
        let first = self.sealed.partition_point(|s| s.base < group[0].base);
        let there = self.sealed.range(first..).take(group.len());
        let same = there.len() == group.len() && there.zip(group).all(|(a, b)| Arc::ptr_eq(a, b));
        if self.failure.is_some() || !same || !Sealed::retire(group) {
            return Err(LogError::Superseded);
        }
        let group = std::mem::take(&mut replacement.group);
        let (base, next) = (group[0].base, group[group.len() - 1].next);
        self.sealed.drain(first..first + group.len());
        let renamed = self.rename_cleaned(base);
        match &renamed {
            Ok(indexes) => {
                let sealed = Sealed::new(base, next, replacement.cleaned.size);
                sealed.know(replacement.cleaned.largest, *indexes);
                self.sealed.insert(first, Arc::new(sealed));
            }
            Err(_) => {
                remove_temporary(&*self.fs, &self.dir, base);
                for (at, old) in group.iter().enumerate() {
                    let same = Sealed::new(old.base, old.next, old.size);
                    self.sealed.insert(first + at, Arc::new(same));
                }
            }
        }
        // What they say of places in the file isn't so any more.
        self.hints.retire();
        self.hints = Default::default();
        self.last_read.replace(None);
        renamed?;
        let others = group[1..].iter().flat_map(|s| {
            let suffixes = SUFFIXES.into_iter().chain([SNAPSHOT_SUFFIX]);
            suffixes.map(|suffix| segment_path(&self.dir, s.base, suffix))
        });
        let mut leftovers = self.leftovers.lock();
        leftovers.push(temporary_path(&self.dir, base, LOG_SUFFIX));
        leftovers.extend(others);
        drop(leftovers);
        Ok(Replaced {
            fs: self.fs.clone(),
            dir: self.dir.clone(),
            leftovers: self.leftovers.clone(),
            _lease: self.lease.clone(),
        })
    }

    /// Before the log is cut: what compaction has left over goes first.
    pub(super) fn remove_leftovers(&self) -> Result<(), LogError> {
        self.leftovers.remove_any(&*self.fs, &self.dir)
    }

    /// Gives the cleaned files their names, and the old data file that of the cleaned one. After an error the
    /// log's data file is the old one.
    fn rename_cleaned(&self, base: Offset) -> Result<IndexNames, LogError> {
        for suffix in [OffsetEntry::SUFFIX, TimeEntry::SUFFIX] {
            remove_if_there(&*self.fs, &segment_path(&self.dir, base, suffix))?;
        }
        let put = |suffix, step: fn(&dyn FileSystem, &Path, &Path) -> io::Result<()>| {
            let path = segment_path(&self.dir, base, suffix);
            let cleaned = temporary_path(&self.dir, base, suffix);
            step(&*self.fs, &cleaned, &path).map_err(LogError::storage("replace", &path))
        };
        put(LOG_SUFFIX, |fs, from, to| fs.replace(from, to))?;
        let rename = |suffix| put(suffix, |fs, from, to| fs.rename(from, to));
        let indexes = rename(OffsetEntry::SUFFIX).and_then(|()| rename(TimeEntry::SUFFIX));
        Ok(match indexes {
            Ok(()) => IndexNames::InPlace,
            Err(e) => {
                log::warn!("{e}: the indexes are made anew");
                IndexNames::Missing
            }
        })
    }

    /// Notes that a compaction has come to its end. The next checkpoint says so.
    pub fn complete_compaction(&mut self, compacted: &Compacted) {
        if !compacted.cancelled.is_set() {
            self.clean_to = self.clean_to.max(compacted.clean_to.min(self.end_offset));
        }
    }
}

/// Whether a cleaned segment's indexes have their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IndexNames {
    InPlace,
    Missing,
}
