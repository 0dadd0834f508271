//! Reads beyond the end of a leader's log.
//!
//! Such an offset is out of range, and a consumer that is told so goes where its `auto.offset.reset` says: to
//! the beginning, or past records that it never saw. But a leader that was cut off may have a successor of which
//! it hasn't heard, with a longer log, and the consumer comes from there. So it says so only when the metadata
//! have confirmed that it leads, after it was asked. Until then it says that the offset isn't available yet, and
//! the consumer asks again. Kafka's leader answers at once, and leaves it to clients to know the epoch in which
//! their offset was committed (KIP-320), which not all of them go by.

use crate::model::{Offset, Timestamp};

/// So long after it was confirmed that the leader leads, it says of the same offset that it is out of range.
const CONFIRMED_MS: i64 = 5_000;
/// The metadata are asked that often at most, whoever reads what.
const ASK_INTERVAL_MS: i64 = 200;

/// What a leader knows about offsets beyond its log's end.
#[derive(Debug, Default)]
pub struct BeyondEnd {
    asked: Option<Timestamp>,
    confirmed: Option<(Offset, Timestamp)>,
}

/// What is done with a read beyond the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    OutOfRange,
    /// Not available yet, and the metadata are to be asked whether this is the leader.
    Ask,
    /// Not available yet.
    Wait,
}

impl BeyondEnd {
    pub fn read(&mut self, offset: Offset, now: Timestamp) -> Beyond {
        let is_within = |at: Timestamp, ms: i64| (0..ms).contains(&(now - at));
        match (self.confirmed, self.asked) {
            (Some((confirmed, at)), _) if confirmed == offset && is_within(at, CONFIRMED_MS) => {
                Beyond::OutOfRange
            }
            (_, Some(at)) if is_within(at, ASK_INTERVAL_MS) => Beyond::Wait,
            _ => {
                self.asked = Some(now);
                Beyond::Ask
            }
        }
    }

    /// The metadata were asked on behalf of a read at this offset, and this is the leader.
    pub fn confirmed(&mut self, offset: Offset, now: Timestamp) {
        self.confirmed = Some((offset, now));
        self.asked = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_out_of_range_when_it_was_confirmed_that_the_leader_leads() {
        let mut beyond = BeyondEnd::default();
        let at = |ms| Timestamp(1_000 + ms);
        assert_eq!(beyond.read(Offset(7), at(0)), Beyond::Ask);
        assert_eq!(beyond.read(Offset(7), at(10)), Beyond::Wait);
        assert_eq!(beyond.read(Offset(8), at(20)), Beyond::Wait);
        // Nothing was heard: it is asked again.
        assert_eq!(beyond.read(Offset(8), at(ASK_INTERVAL_MS)), Beyond::Ask);
        beyond.confirmed(Offset(8), at(250));
        assert_eq!(beyond.read(Offset(8), at(260)), Beyond::OutOfRange);
        // Somebody else may come from a leader that there wasn't then.
        assert_eq!(beyond.read(Offset(7), at(270)), Beyond::Ask);
        assert_eq!(
            beyond.read(Offset(8), at(250 + CONFIRMED_MS)),
            Beyond::Ask,
            "and so may who comes later"
        );
    }

    #[test]
    fn a_clock_that_steps_back_holds_nobody_up() {
        let mut beyond = BeyondEnd::default();
        assert_eq!(beyond.read(Offset(7), Timestamp(9_000)), Beyond::Ask);
        assert_eq!(beyond.read(Offset(7), Timestamp(1_000)), Beyond::Ask);
    }
}
