//! The snapshots of the producers: files that spare recovery and truncation a replay of the log.
//!
//! A snapshot is named by its offset and holds the producers as they were there. It is never synced:
//! one that is damaged or missing costs only a longer replay, from an older one.

use super::producer_state::{written_at, ProducerState};
use super::scan::Check;
use super::segment::{base_of, segment_path, Start, LOG_SUFFIX, SNAPSHOT_SUFFIX};
use super::{Log, LogError};
use crate::model::{Offset, Timestamp};
use crate::record::BatchHeader;
use crate::storage::fs::{read_all, replace_unsynced};

/// The producers as they are at the log's end: from the newest snapshot that can be read, and the
/// batches since. None of them wrote below `from`.
pub(super) fn load_producers(log: &Log, from: Offset) -> Result<ProducerState, LogError> {
    let mut producers = ProducerState::default();
    // What lies below the first segment is gone: a snapshot from there would leave a gap, by which
    // producers would be refused that did nothing wrong.
    let first = log.sealed.front().map_or(log.active.base, |s| s.base);
    let from = from.max(first);
    let mut next = from;
    for offset in log.snapshots()?.into_iter().rev() {
        let path = segment_path(&log.dir, offset, SNAPSHOT_SUFFIX);
        if offset > log.end_offset || offset < from {
            continue;
        }
        let snapshot = read_all(&*log.fs, &path).ok();
        if let Some(snapshot) = snapshot.as_deref().and_then(ProducerState::decode) {
            producers = snapshot;
            next = offset;
            break;
        }
        log::warn!(
            "{} isn't whole: replaying from an older one",
            path.display()
        );
    }
    while next < log.end_offset {
        next = log.replay_segment(next, |header, file_written| {
            let written = written_at(header, file_written);
            producers.record(header, header.base_offset, written);
        })?;
    }
    Ok(producers)
}

impl Log {
    /// Writes the producers as they are at `offset`. It isn't synced: one that is damaged or
    /// missing costs only a longer replay.
    pub(super) fn write_snapshot(&self, offset: Offset) {
        let path = segment_path(&self.dir, offset, SNAPSHOT_SUFFIX);
        if let Err(e) = replace_unsynced(&*self.fs, &path, &self.producers.encode()) {
            log::warn!("can't write {}: {e}", path.display());
        }
    }

    /// The offsets of the producers' snapshots, ascending.
    fn snapshots(&self) -> Result<Vec<Offset>, LogError> {
        let names = self.fs.list(&self.dir);
        let names = names.map_err(LogError::storage("list", &self.dir))?;
        let mut offsets: Vec<Offset> = names
            .iter()
            .filter_map(|name| base_of(name, SNAPSHOT_SUFFIX))
            .collect();
        offsets.sort_unstable();
        Ok(offsets)
    }

    /// Removes snapshots of what isn't there any more; says whether there were any.
    pub(super) fn remove_snapshots_beyond(&self, end: Offset) -> Result<bool, LogError> {
        let mut removed = false;
        for offset in self.snapshots()?.into_iter().filter(|offset| *offset > end) {
            let path = segment_path(&self.dir, offset, SNAPSHOT_SUFFIX);
            self.fs
                .remove(&path)
                .map_err(LogError::storage("remove", &path))?;
            removed = true;
        }
        Ok(removed)
    }

    /// Shows each batch of the segment that holds `from` whose base offset is `from` or above,
    /// with the time when the segment was written last; gives the offset where the next segment starts.
    fn replay_segment(
        &self,
        from: Offset,
        mut each: impl FnMut(&BatchHeader, Timestamp),
    ) -> Result<Offset, LogError> {
        let sealed = self.sealed_with(from);
        let (base, size, next) = match sealed {
            Some(sealed) => (sealed.base, sealed.size, sealed.next),
            None => (self.active.base, self.active.size, self.end_offset),
        };
        let path = segment_path(&self.dir, base, LOG_SUFFIX);
        let file = self.segment_file(base)?;
        let written = file.modified();
        let written = written.map_err(LogError::storage("look at", &path))?;
        let mut start = self.start_for(from);
        loop {
            let mut scanner = start.scanner(&*file, size, Check::Headers);
            let walked = scanner.walk_to(next, |_, header| {
                if header.base_offset >= from {
                    each(header, written)
                }
            });
            match walked.map_err(LogError::storage("read", &path))? {
                None => return Ok(next),
                // The index was wrong: nothing was shown yet.
                Some((position, _)) if position == start.position && position != 0 => {
                    start = Start::of_segment(base);
                }
                Some((_, reason)) => return Err(LogError::corrupt(path, scanner.here(), reason)),
            }
        }
    }
}
