//! One segment while its log is opened: taken as it is below the recovery point, scanned beyond it.

use super::super::indexer::Indexer;
use super::super::scan::{Check, Step};
use super::super::segment::{segment_path, Active, Largest, Sealed, Start, LOG_SUFFIX};
use super::super::LogError;
use super::Recovery;
use crate::model::Offset;
use crate::storage::fs::File;

/// A segment after its scan, ready to be appended to.
pub(super) struct Scanned {
    pub active: Active,
    /// The offset after its last.
    pub end: Offset,
    pub ended: Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Whole,
    Cut,
}

impl Recovery {
    /// A segment that lies below the recovery point. Of its content only the end is looked at: it
    /// must reach one of the `later` segments.
    pub(super) fn take_as_it_is(&self, base: Offset, later: &[Offset]) -> Result<Sealed, LogError> {
        let path = segment_path(&self.dir, base, LOG_SUFFIX);
        let found = Sealed::find(&*self.fs, &self.dir, base, later);
        match found.map_err(LogError::storage("look at", &path))? {
            Ok(sealed) => Ok(sealed),
            Err((at, reason)) => Err(LogError::corrupt(path, at, reason)),
        }
    }

    /// Walks over a segment: up to `from` only to find it, beyond it with all checks.
    pub(super) fn scan_segment(&mut self, base: Offset, from: Offset) -> Result<Scanned, LogError> {
        let path = segment_path(&self.dir, base, LOG_SUFFIX);
        let failed = |e| LogError::storage("read", &path)(e);
        let file = self.fs.open(&path).map_err(failed)?;
        let size = file.len().map_err(failed)?;
        let (mut indexer, start) = self.find_recovery_point(&*file, base, from, size)?;
        let mut scanner = start.scanner(&*file, size, Check::Checksums);
        let (ended, position) = loop {
            match scanner.next().map_err(failed)? {
                Step::Batch { position, header } => {
                    indexer.note(position, &header, self.config.index_interval_bytes);
                    self.epochs.assign(header.leader_epoch, header.base_offset);
                }
                Step::End => break (Ended::Whole, size),
                // Written ahead in an earlier life: this one begins as after a clean stop.
                Step::Zeros => {
                    let position = scanner.position();
                    file.set_len(position)
                        .map_err(LogError::storage("cut", &path))?;
                    break (Ended::Whole, position);
                }
                Step::Bad { position, reason } => {
                    let offset = scanner.expected();
                    self.check_may_cut(base, position, offset, &reason)?;
                    log::warn!(
                        "{}: cutting {} bytes at {position}, from offset {offset}: {reason}",
                        path.display(),
                        size - position,
                    );
                    file.set_len(position)
                        .map_err(LogError::storage("cut", &path))?;
                    break (Ended::Cut, position);
                }
            }
        };
        let end = scanner.expected();
        if ended == Ended::Cut || position < size || end > from {
            self.unsynced_files.push(file.clone());
        }
        let mut active = Active::new(file, path, position, indexer, self.now);
        active.find_first_timestamp()?;
        Ok(Scanned { active, end, ended })
    }

    /// Walks up to the recovery point, without looking at checksums; gives the indexes up to it.
    fn find_recovery_point(
        &self,
        file: &dyn File,
        base: Offset,
        point: Offset,
        size: u64,
    ) -> Result<(Indexer, Start), LogError> {
        let path = segment_path(&self.dir, base, LOG_SUFFIX);
        let failed = |e| LogError::storage("read", &path)(e);
        let mut indexer = Indexer::new(&self.fs, &self.dir, base);
        if point == base {
            return Ok((indexer, Start::of_segment(base)));
        }
        let largest = self.checkpoint.as_ref().and_then(|c| c.largest);
        if let Some(l) = largest.filter(|l| l.segment == base && l.offset < point) {
            let loaded = Indexer::load(&self.fs, &self.dir, base, point, size).map_err(failed)?;
            let start = loaded.start_for(point);
            let mut scanner = start.scanner(file, size, Check::Headers);
            if scanner.walk_to(point, |_, _| ()).map_err(failed)?.is_none() {
                indexer = loaded;
                indexer.largest = Some(Largest {
                    timestamp: l.timestamp,
                    offset: l.offset,
                });
                return Ok((indexer, scanner.here()));
            }
        }
        let mut scanner = Start::of_segment(base).scanner(file, size, Check::Headers);
        let interval_bytes = self.config.index_interval_bytes;
        let bad = scanner.walk_to(point, |position, header| {
            indexer.note(position, header, interval_bytes)
        });
        match bad.map_err(failed)? {
            None => Ok((indexer, scanner.here())),
            Some((position, reason)) => {
                Err(self.corrupt(base, position, scanner.expected(), reason))
            }
        }
    }
}
