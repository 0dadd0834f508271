//! Appending what a leader has stamped: a follower's log is the leader's, byte for byte.

use super::append::{Staged, STAMP_END};
use super::producer_state::Undo;
use super::{Log, LogError};
use crate::model::{Offset, Timestamp};
use crate::record::Batch;

impl Log {
    /// Appends batches as they are, and returns where the log ends then.
    ///
    /// They must continue the log: the first begins at its end, and no leader epoch falls. Else nothing
    /// is appended, nor after an error of the disk.
    pub fn append_replicated(
        &mut self,
        batches: &[Batch],
        now: Timestamp,
    ) -> Result<Offset, LogError> {
        self.all_or_nothing(|log, undo| log.replicate(batches, now, undo))
    }

    fn replicate(
        &mut self,
        batches: &[Batch],
        now: Timestamp,
        undo: &mut Vec<Undo>,
    ) -> Result<Offset, LogError> {
        let mut staged = Staged::default();
        let mut next = self.end_offset;
        let mut epoch = self.epochs.latest();
        for batch in batches {
            let header = *batch.header();
            if header.base_offset != next || epoch.is_some_and(|epoch| header.leader_epoch < epoch)
            {
                return Err(LogError::Discontinuous {
                    end: next,
                    got: header.base_offset,
                    epoch: header.leader_epoch,
                });
            }
            if self.must_roll(&header, staged.bytes, &staged.headers, now) {
                self.write(&mut staged)?;
                self.roll(now)?;
            }
            undo.extend(self.producers.record(&header, next, now));
            staged.push(header, &batch.bytes()[..STAMP_END], batch.bytes());
            next = header.next_offset();
            epoch = Some(header.leader_epoch);
        }
        self.write(&mut staged)?;
        Ok(next)
    }
}
