//! Which offset belongs to a time, or to the start or the end of the log.

use actix::prelude::*;

use super::{refusal, FindOffset, PartitionLeader};
use crate::model::{ErrorCode, LeaderEpoch, Offset, Refusal, Timestamp};
use crate::protocol::list_offsets::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, MAX_TIMESTAMP};
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
            EARLIEST_TIMESTAMP => {
                let start = self.log.start_offset();
                let epoch = self.log.epoch_of(start).unwrap_or(self.replica.epoch());
                return Ok(at(start, epoch));
            }
            MAX_TIMESTAMP => LookFor::Largest,
            timestamp if timestamp < Timestamp(0) => {
                return Err(Refusal::new(
                    ErrorCode::InvalidRequest,
                    format!("timestamp {timestamp} has no meaning"),
                ))
            }
            timestamp => LookFor::AtOrAfter(timestamp),
        };
        Ok(Located::By(self.log.plan_lookup(look_for, upper)))
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
