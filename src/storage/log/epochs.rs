//! Which leader wrote which offsets (KIP-101): each leader epoch with its first offset.
//!
//! Followers and leaders find the point up to which their logs agree by it, instead of by the
//! high watermark, which lags behind and would cut acknowledged records.

use std::sync::Arc;

use crate::model::{LeaderEpoch, Offset};

/// Leader epochs and their first offsets; both ascend strictly, except that the first offset of
/// an epoch that wrote nothing may equal its successor's, and then it isn't kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeaderEpochs {
    /// Shared with the reads that are under way, which check batches against it.
    entries: Arc<Vec<(LeaderEpoch, Offset)>>,
}

impl LeaderEpochs {
    pub fn new(entries: Vec<(LeaderEpoch, Offset)>) -> LeaderEpochs {
        LeaderEpochs {
            entries: Arc::new(entries),
        }
    }

    pub fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|(epoch, _)| *epoch)
    }

    /// Notes that `epoch` wrote a batch at `offset`, which is the end of the log.
    pub fn assign(&mut self, epoch: LeaderEpoch, offset: Offset) {
        if self.latest().is_none_or(|latest| latest < epoch) {
            Arc::make_mut(&mut self.entries).push((epoch, offset));
        }
    }

    /// The epoch that wrote `offset`; `None` below the first.
    pub fn of(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|(_, start)| *start <= offset);
        Some(self.entries.get(after.checked_sub(1)?)?.0)
    }

    /// The largest epoch not above `epoch`, and the offset after its last (KIP-279). `None` where
    /// this log knows nothing about it: it is newer than all, or the log knows no epoch.
    pub fn end_offset_of(
        &self,
        epoch: LeaderEpoch,
        log_end: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        let latest = self.latest()?;
        if epoch > latest {
            return None;
        }
        let after = self.entries.partition_point(|(e, _)| *e <= epoch);
        let end = self.entries.get(after).map_or(log_end, |(_, start)| *start);
        match after.checked_sub(1).and_then(|at| self.entries.get(at)) {
            Some((found, _)) => Some((*found, end)),
            // Older than all that is kept: nothing of it is here.
            None => Some((epoch, end)),
        }
    }

    /// Forgets what was written at `end` and beyond.
    pub fn truncate_end(&mut self, end: Offset) {
        if self.entries.last().is_some_and(|(_, start)| *start >= end) {
            Arc::make_mut(&mut self.entries).retain(|(_, start)| *start < end);
        }
    }

    /// Forgets epochs that ended at or before `start`; the one that holds it begins there.
    pub fn truncate_start(&mut self, start: Offset) {
        let after = self.entries.partition_point(|(_, s)| *s <= start);
        let Some(holds) = after.checked_sub(1) else {
            return;
        };
        if holds == 0 && self.entries[0].1 == start {
            return;
        }
        let entries = Arc::make_mut(&mut self.entries);
        entries.drain(..holds);
        entries[0].1 = start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        LeaderEpochs::new(
            entries
                .iter()
                .map(|(e, o)| (LeaderEpoch(*e), Offset(*o)))
                .collect(),
        )
    }

    fn end(epochs: &LeaderEpochs, epoch: i32) -> Option<(i32, i64)> {
        epochs
            .end_offset_of(LeaderEpoch(epoch), Offset(50))
            .map(|(e, o)| (e.0, o.0))
    }

    #[test]
    fn an_epoch_ends_where_the_next_larger_one_starts() {
        let epochs = epochs(&[(1, 0), (4, 10), (5, 30)]);
        assert_eq!(end(&epochs, 0), Some((0, 0)));
        assert_eq!(end(&epochs, 1), Some((1, 10)));
        assert_eq!(end(&epochs, 3), Some((1, 10)));
        assert_eq!(end(&epochs, 5), Some((5, 50)));
        assert_eq!(end(&epochs, 6), None);
        assert_eq!(end(&LeaderEpochs::default(), 0), None);
    }

    #[test]
    fn an_offset_belongs_to_the_last_epoch_that_starts_at_or_below_it() {
        let epochs = epochs(&[(1, 5), (4, 10)]);
        assert_eq!(epochs.of(Offset(4)), None);
        assert_eq!(epochs.of(Offset(9)), Some(LeaderEpoch(1)));
        assert_eq!(epochs.of(Offset(10)), Some(LeaderEpoch(4)));
    }

    #[test]
    fn truncation_keeps_what_lies_between_start_and_end() {
        let mut epochs = epochs(&[(1, 0), (4, 10), (5, 30)]);
        epochs.truncate_end(Offset(30));
        assert_eq!(epochs.latest(), Some(LeaderEpoch(4)));
        epochs.truncate_start(Offset(15));
        assert_eq!(epochs.entries(), [(LeaderEpoch(4), Offset(15))]);
        epochs.assign(LeaderEpoch(4), Offset(40));
        epochs.assign(LeaderEpoch(7), Offset(41));
        assert_eq!(epochs.of(Offset(41)), Some(LeaderEpoch(7)));
    }
}
