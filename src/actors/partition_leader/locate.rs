//! Which offset belongs to a time, to the start or the end of the log, or to the end of a leader
//! epoch.

use actix::prelude::*;

use super::{refusal, EpochEnd, FindEpochEnd, FindOffset, PartitionLeader};
use crate::model::{ErrorCode, LeaderEpoch, Offset, Refusal, Timestamp};
use crate::protocol::list_offsets::{
    EARLIEST_LOCAL_TIMESTAMP, EARLIEST_TIMESTAMP, LATEST_TIERED_TIMESTAMP, LATEST_TIMESTAMP,
    MAX_TIMESTAMP,
};
use crate::storage::log::{LookFor, TimeLookup, TimestampedOffset};

/// The answer to a [`FindOffset`], or how to find it.
enum Located {
    At(TimestampedOffset),
    By(TimeLookup),
}

impl PartitionLeader {
    /// Answers at once what needs no look at the records, and plans what does.
    fn find_offset(&self, ask: &FindOffset) -> Result<Located, Refusal> {
        self.replica.check_epoch(ask.current_leader_epoch)?;
        let upper = self.replica.high_watermark();
        let at = |offset, leader_epoch| {
            Located::At(TimestampedOffset {
                offset,
                timestamp: Timestamp::NONE,
                leader_epoch,
            })
        };
        let look_for = match ask.timestamp {
            LATEST_TIMESTAMP => return Ok(at(upper, self.replica.epoch())),
            EARLIEST_TIMESTAMP | EARLIEST_LOCAL_TIMESTAMP => {
                let start = self.keeper.log.start_offset();
                let epoch = self
                    .keeper
                    .log
                    .epoch_of(start)
                    .unwrap_or(self.replica.epoch());
                return Ok(at(start, epoch));
            }
            LATEST_TIERED_TIMESTAMP => return Ok(at(Offset::NONE, LeaderEpoch::NONE)),
            MAX_TIMESTAMP => LookFor::Largest,
            timestamp if timestamp < Timestamp(0) => {
                return Err(Refusal::new(
                    ErrorCode::UnsupportedVersion,
                    format!("timestamp {timestamp} has no meaning"),
                ))
            }
            timestamp => LookFor::AtOrAfter(timestamp),
        };
        Ok(Located::By(self.keeper.log.plan_lookup(look_for, upper)))
    }

    /// An epoch that wrote nothing isn't in the log, and ends where the next one began to write.
    fn find_epoch_end(&self, ask: &FindEpochEnd) -> Result<Option<EpochEnd>, Refusal> {
        self.replica.check_epoch(ask.current_leader_epoch)?;
        let (asked, current) = (ask.leader_epoch, self.replica.epoch());
        if asked < LeaderEpoch(0) || asked > current {
            return Ok(None);
        }
        let log_end = self.keeper.log.end_offset();
        let found = match self.keeper.log.latest_epoch() {
            _ if asked == current => Some((current, log_end)),
            Some(latest) if asked >= latest => Some((latest, log_end)),
            _ => self.keeper.log.end_offset_of_epoch(asked),
        };
        Ok(found.map(|(leader_epoch, end_offset)| EpochEnd {
            leader_epoch,
            end_offset,
        }))
    }
}

impl Handler<FindOffset> for PartitionLeader {
    type Result = ResponseFuture<Result<TimestampedOffset, Refusal>>;

    /// What reads the log is carried out off the arbiter.
    fn handle(&mut self, ask: FindOffset, _: &mut Self::Context) -> Self::Result {
        let located = self.find_offset(&ask);
        let name = self.vitals.name().to_owned();
        Box::pin(async move {
            let lookup = match located? {
                Located::At(found) => return Ok(found),
                Located::By(lookup) => lookup,
            };
            let none = TimestampedOffset {
                offset: Offset::NONE,
                timestamp: Timestamp::NONE,
                leader_epoch: LeaderEpoch::NONE,
            };
            match actix_rt::task::spawn_blocking(move || lookup.run()).await {
                Ok(found) => found
                    .map(|found| found.unwrap_or(none))
                    .map_err(|error| refusal(&name, "offset look-up", &error)),
                Err(panic) => {
                    log::error!("{name}: offset look-up: {panic}");
                    Err(ErrorCode::UnknownServerError.into())
                }
            }
        })
    }
}

impl Handler<FindEpochEnd> for PartitionLeader {
    type Result = Result<Option<EpochEnd>, Refusal>;

    fn handle(&mut self, ask: FindEpochEnd, _: &mut Self::Context) -> Self::Result {
        self.find_epoch_end(&ask)
    }
}
