//! Rolling: the active segment is sealed and another one begins.

use std::sync::Arc;

use super::segment::Active;
use super::{Log, LogError};
use crate::model::Timestamp;
use crate::record::BatchHeader;

/// How far the last offset of a segment may lie from its first: Kafka's indexes hold an i32.
const OFFSETS_A_SEGMENT_MAX: i64 = i32::MAX as i64;

impl Log {
    /// Whether the active segment must end before a batch, which comes after `staged` ones of
    /// `staged_bytes`: it would grow too large, is too old, or has too many offsets.
    ///
    /// As in Kafka, a segment's age is what lies between its first batch's timestamp and this
    /// one's; where batches have none, the wall clock counts.
    pub(super) fn must_roll(
        &self,
        header: &BatchHeader,
        staged_bytes: u64,
        staged: &[BatchHeader],
        now: Timestamp,
    ) -> bool {
        let size = self.active.size + staged_bytes;
        if size == 0 {
            return false;
        }
        if size + header.size() as u64 > self.config.segment_bytes {
            return true;
        }
        if header.next_offset() - self.active.base > OFFSETS_A_SEGMENT_MAX {
            return true;
        }
        let staged_first = || staged.first().map(|h| h.max_timestamp);
        let first = self.active.first_timestamp.or_else(staged_first);
        let age_ms = match first {
            Some(first) if first.0 >= 0 => header.max_timestamp - first,
            _ => now - self.active.since,
        };
        // What is in the active segment isn't compacted.
        let compaction = self.config.cleanup.compaction();
        let lag_ms_max = compaction.map_or(i64::MAX, |config| config.lag_ms_max);
        age_ms > self.config.segment_ms.min(lag_ms_max)
    }

    /// Seals the active segment and begins another one at the log's end.
    pub(super) fn roll(&mut self, now: Timestamp) -> Result<(), LogError> {
        let base = self.end_offset;
        if self.unsynced.is_new_log() {
            // Only a log of one segment may be without a checkpoint: recovery tells a log that was
            // never synced from one whose checkpoint was lost by that.
            self.write_checkpoint(self.synced_offset)?;
        }
        let mut active = Active::create(&self.fs, &self.dir, base, now)?;
        active.continue_from(&self.active);
        let before = std::mem::replace(&mut self.active, active);
        let (sealed, files) = before.seal(&*self.fs, &self.dir, base);
        self.unsynced.note_roll(sealed.base, base, files);
        self.sealed.push_back(Arc::new(sealed));
        self.write_snapshot(base);
        Ok(())
    }
}
