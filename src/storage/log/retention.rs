//! Removing the beginning of a log: by size, by time, and by an admin's delete-records.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use super::index::{Entry, OffsetEntry, TimeEntry};
use super::segment::{segment_path, Sealed, LOG_SUFFIX, SNAPSHOT_SUFFIX};
use super::{Log, LogError};
use crate::model::{Offset, Timestamp};
use crate::storage::checkpoint::CheckpointJob;

/// What went out of a log. Its files are still there: [`Removed::remove`] unlinks them, off the
/// arbiter.
///
/// Kafka renames such files to `.deleted` at once. Here they keep their names until the
/// checkpoint with the new start is on disk: after a crash in between, either the segments are all
/// there, or the checkpoint says that they are rubbish. There is no moment with a hole.
#[derive(Debug)]
#[must_use = "the files stay until remove() is called"]
pub struct Removed {
    /// It holds the lease on the directory, also for the unlinking.
    checkpoint: CheckpointJob,
    files: Vec<PathBuf>,
    /// The log's start by now.
    start_offset: Offset,
    /// Whether the start moved, by however little.
    moved: Moved,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moved {
    Start,
    Nothing,
}

impl Removed {
    /// Whether the log is as it was: there is nothing to carry out.
    pub fn is_empty(&self) -> bool {
        self.moved == Moved::Nothing
    }

    pub fn start_offset(&self) -> Offset {
        self.start_offset
    }

    /// Makes the new start durable, then unlinks the files. When it returns, what was deleted
    /// doesn't come back.
    pub fn remove(self) -> Result<(), LogError> {
        if self.is_empty() {
            return Ok(());
        }
        let removed = self.checkpoint.run_and_remove(&self.files);
        removed.map_err(|(file, source)| LogError::Storage {
            operation: "write or remove",
            file,
            source,
        })
    }
}

impl Log {
    /// Moves the log's start to `offset` (DeleteRecords): what lies below can't be read any more,
    /// and segments that lie below as a whole go. `offset` may not be above the high watermark.
    pub fn delete_records_before(&mut self, offset: Offset) -> Result<Removed, LogError> {
        if offset > self.high_watermark {
            return Err(LogError::OffsetOutOfRange {
                asked: offset,
                start: self.start_offset,
                end: self.high_watermark,
            });
        }
        Ok(self.move_start(offset))
    }

    /// Removes the oldest segments: those beyond `retention.bytes`, and those whose largest
    /// timestamp is older than `retention.ms`. A log that is only compacted keeps them. Never beyond the high watermark. The active segment
    /// is sealed when it is too old as well. Silent producers are forgotten.
    pub fn apply_retention(&mut self, now: Timestamp) -> Result<Removed, LogError> {
        self.producers
            .expire(now, self.config.producer_expiration_ms);
        if self.failure.is_none() && self.active_is_expired(now)? {
            self.roll(now)?;
        }
        let mut start = self.start_offset;
        if !self.config.cleanup.deletes() {
            return Ok(self.move_start(start));
        }
        let mut size = self.size_bytes();
        for sealed in &self.sealed {
            let too_large = self
                .config
                .retention_bytes
                .is_some_and(|keep| size - sealed.size >= keep);
            if sealed.next > self.high_watermark || !(too_large || self.is_expired(sealed, now)?) {
                break;
            }
            size -= sealed.size;
            start = sealed.next;
        }
        Ok(self.move_start(start))
    }

    fn is_expired(&self, sealed: &Sealed, now: Timestamp) -> Result<bool, LogError> {
        let Some(retention_ms) = self.config.retention_ms else {
            return Ok(false);
        };
        let largest = sealed.largest(&self.fs, &self.dir)?;
        let newest = match largest.map(|l| l.timestamp).filter(|t| t.0 >= 0) {
            Some(timestamp) => timestamp,
            // Records without timestamps are as old as their file.
            None => {
                let path = segment_path(&self.dir, sealed.base, LOG_SUFFIX);
                let file = self.fs.open_read_only(&path);
                file.and_then(|f| f.modified())
                    .map_err(LogError::storage("look at", &path))?
            }
        };
        Ok(now - newest > retention_ms)
    }

    /// Whether everything is too old, up to the end, so that the active segment may go as well.
    fn active_is_expired(&self, now: Timestamp) -> Result<bool, LogError> {
        let Some(retention_ms) = self.config.retention_ms else {
            return Ok(false);
        };
        if !self.config.cleanup.deletes() {
            return Ok(false);
        }
        let newest = match self.active.largest().map(|l| l.timestamp) {
            Some(timestamp) if timestamp.0 >= 0 => timestamp,
            _ => self.active.since,
        };
        let expired = now - newest > retention_ms;
        let all_committed = self.high_watermark >= self.end_offset;
        if self.active.size == 0 || !expired || !all_committed {
            return Ok(false);
        }
        for sealed in &self.sealed {
            if !self.is_expired(sealed, now)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn move_start(&mut self, start: Offset) -> Removed {
        let moved = match start > self.start_offset {
            true => Moved::Start,
            false => Moved::Nothing,
        };
        self.start_offset = self.start_offset.max(start);
        self.high_watermark = self.high_watermark.max(self.start_offset);
        let files = if moved == Moved::Start {
            self.epochs.truncate_start(self.start_offset);
            let gone = self.sealed.partition_point(|s| s.next <= self.start_offset);
            let gone: VecDeque<Arc<Sealed>> = self.sealed.drain(..gone).collect();
            self.unsynced.forget_below(self.start_offset);
            gone.iter().flat_map(|s| self.files_of(s.base)).collect()
        } else {
            Vec::new()
        };
        Removed {
            checkpoint: self.checkpoint(),
            files,
            start_offset: self.start_offset,
            moved,
        }
    }

    fn files_of(&self, base: Offset) -> impl Iterator<Item = PathBuf> + '_ {
        let suffixes = [
            LOG_SUFFIX,
            OffsetEntry::SUFFIX,
            TimeEntry::SUFFIX,
            SNAPSHOT_SUFFIX,
        ];
        suffixes
            .into_iter()
            .map(move |suffix| segment_path(&self.dir, base, suffix))
    }
}
