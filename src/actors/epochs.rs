//! A log, as the replicas' state machines look at it.

use crate::engine::replica::Epochs;
use crate::model::{LeaderEpoch, Offset};
use crate::storage::log::Log;

pub struct LogEpochs<'a>(pub &'a Log);

impl Epochs for LogEpochs<'_> {
    fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        let is_here = offset >= self.0.start_offset() && offset < self.0.end_offset();
        is_here.then(|| self.0.epoch_of(offset)).flatten()
    }

    fn end_of(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.0.end_offset_of_epoch(epoch)
    }

    fn latest(&self) -> Option<LeaderEpoch> {
        self.0.latest_epoch()
    }

    fn start_offset(&self) -> Offset {
        self.0.start_offset()
    }

    fn end_offset(&self) -> Offset {
        self.0.end_offset()
    }
}
