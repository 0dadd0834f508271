//! Cutting the end of a log: what a follower does with records that its leader doesn't have.

use super::index::{Entry, OffsetEntry, TimeEntry};
use super::indexer::Indexer;
use super::producer_snapshots::load_producers;
use super::scan::{ends_too_early, Check, Step};
use super::segment::{segment_path, Active, Start, LOG_SUFFIX};
use super::{Log, LogError};
use crate::model::Offset;

impl Log {
    /// Cuts everything from the batch that holds `offset` on; where `offset` lies within a batch
    /// the whole batch goes. Waits for the disk: followers only, and seldom.
    ///
    /// First the checkpoint is written with a recovery point that the cut can't undercut, if it has to be, then
    /// the newest segments go first: a crash in between leaves a log that is whole.
    pub fn truncate_to(&mut self, offset: Offset) -> Result<(), LogError> {
        if offset >= self.end_offset {
            return Ok(());
        }
        if let Some(reason) = &self.failure {
            return Err(LogError::Failed(reason.clone()));
        }
        let offset = offset.max(self.start_offset);
        let cut = self
            .cut_segments(offset)
            .and_then(|()| self.reload_producers());
        if let Err(e) = &cut {
            self.failure = Some(format!("can't cut the log at {offset}: {e}"));
        }
        cut
    }

    /// Does the cutting, of all but the producers. After an error the log and its files don't agree.
    pub(super) fn cut_segments(&mut self, offset: Offset) -> Result<(), LogError> {
        let segment = self
            .sealed_with(offset)
            .map_or(self.active.base, |s| s.base);
        let (end, position, indexer) = self.find_cut(segment, offset)?;
        // Above the synced point no checkpoint has promised anything; and a full disk takes none.
        if end < self.synced_offset {
            self.write_checkpoint(self.unsynced.recovery_point(end))?;
        }
        self.retire_reads();
        self.remove_leftovers()?;

        let mut file = self.active.file.clone();
        if segment < self.active.base {
            file = self
                .fs
                .open(&segment_path(&self.dir, segment, LOG_SUFFIX))
                .map_err(LogError::storage("open", &self.dir))?;
            self.remove_segment(self.active.base)?;
            while let Some(last) = self.sealed.pop_back() {
                if last.base == segment {
                    break;
                }
                self.remove_segment(last.base)?;
            }
        }
        let path = segment_path(&self.dir, segment, LOG_SUFFIX);
        file.set_len(position)
            .map_err(LogError::storage("cut", &path))?;
        self.remove_snapshots_beyond(end)?;
        // Else what is gone could come back after a crash, and fit what is written next.
        file.sync_data().map_err(LogError::sync_failed(&path))?;
        self.fs
            .sync_dir(&self.dir)
            .map_err(LogError::sync_failed(&self.dir))?;

        let since = self.active.since;
        self.active = Active::new(file, path, position, indexer, since);
        self.active.find_first_timestamp()?;
        self.end_offset = end;
        self.clean_to = self.clean_to.min(end);
        self.synced_offset = self.synced_offset.min(end);
        self.high_watermark = self.high_watermark.min(end);
        self.epochs.truncate_end(end);
        self.unsynced.truncate(end);
        Ok(())
    }

    /// Makes the producers what they are at the log's end.
    fn reload_producers(&mut self) -> Result<(), LogError> {
        let mut producers = load_producers(self, Offset::ZERO)?;
        producers.keep_times_of(&self.producers);
        self.producers = producers;
        Ok(())
    }

    /// Where the batch that holds `offset` begins, and the indexes up to there, made anew.
    fn find_cut(
        &self,
        segment: Offset,
        offset: Offset,
    ) -> Result<(Offset, u64, Indexer), LogError> {
        let path = segment_path(&self.dir, segment, LOG_SUFFIX);
        let failed = |e| LogError::storage("read", &path)(e);
        let (size, next) = match self.sealed_with(segment) {
            Some(sealed) => (sealed.size, sealed.next),
            None => (self.active.size, self.end_offset),
        };
        let file = self.segment_file(segment)?;
        let mut indexer = Indexer::new(&self.fs, &self.dir, segment);
        let mut scanner = Start::of_segment(segment).scanner(&*file, size, Check::Headers);
        loop {
            let at = (scanner.expected(), scanner.position());
            match scanner.next().map_err(failed)? {
                Step::Batch { header, .. } if header.last_offset() >= offset => {
                    return Ok((at.0, at.1, indexer));
                }
                Step::Batch { position, header } => {
                    indexer.note(position, &header, self.config.index_interval_bytes)
                }
                Step::End | Step::Zeros if at.0 == next => return Ok((at.0, at.1, indexer)),
                Step::End | Step::Zeros => {
                    let (at, reason) = (scanner.here(), ends_too_early(next));
                    return Err(LogError::corrupt(path, at, reason));
                }
                Step::Bad { reason, .. } => {
                    return Err(LogError::corrupt(path, scanner.here(), reason))
                }
            }
        }
    }

    /// Removes a segment's file and indexes.
    fn remove_segment(&self, base: Offset) -> Result<(), LogError> {
        for suffix in [LOG_SUFFIX, OffsetEntry::SUFFIX, TimeEntry::SUFFIX] {
            let path = segment_path(&self.dir, base, suffix);
            match self.fs.remove(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(LogError::storage("remove", &path)(e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads that are under way may find half of the old and half of the new.
    pub(super) fn retire_reads(&mut self) {
        self.truncations += 1;
        self.hints.retire();
        self.hints = Default::default();
        self.last_read.replace(None);
    }
}
