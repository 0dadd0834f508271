//! How far a leader is with one of its followers.

use std::collections::VecDeque;

use super::{Ack, CommitRule, Epochs, Mismatch, Pace, ReadableReplica};
use crate::model::{BrokerId, LeaderEpoch, Offset, Timestamp};

/// Bytes that may be on their way to a follower, beyond which nothing more is sent until it has said
/// that it has some of them.
const WINDOW_BYTES: usize = 8 * 1024 * 1024;
/// Pushes that may be on their way, however small.
const WINDOW_LEN: usize = 1024;
/// Pushes that may be on their way to a follower that catches up: one that it writes, and the next.
const CATCH_UP_WINDOW_LEN: usize = 2;
/// A question that isn't answered within this time is asked again: the follower may not have known
/// the leader's epoch yet, and said nothing.
const ASK_AGAIN_MS: i64 = 100;
/// One that says nothing for so long about what it was sent is asked what it has.
const SILENCE_MAX_MS: i64 = 2_000;

/// What is known of how a follower's log goes together with the leader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing: where do they agree? The time is that of the last question, if one is on its way.
    Asking(Option<Timestamp>),
    /// They agree up to what was acknowledged; what is sent continues it.
    Streaming,
}

/// A push that isn't acknowledged yet.
struct InFlight {
    end: Offset,
    bytes: usize,
    pace: Pace,
}

pub(super) struct Progress {
    pub id: BrokerId,
    stage: Stage,
    /// Of the question that is on its way, if records go along with it.
    asked_with: Option<Pace>,
    pace: Pace,
    /// Where the next push begins.
    next: Offset,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    /// What it has acknowledged in this epoch.
    acked: Option<Ack>,
    /// The high watermark that it was told.
    told: Offset,
    last_sent: Timestamp,
    /// When it has last had everything.
    caught_up: Timestamp,
    /// When its last acknowledgement came, and where the leader's log ended then.
    last_ack: (Timestamp, Offset),
}

impl Progress {
    /// A follower of which nothing is known in this epoch, whose log may end where the leader's does.
    pub fn new(id: BrokerId, log_end: Offset, now: Timestamp) -> Progress {
        Progress {
            id,
            stage: Stage::Asking(None),
            asked_with: None,
            pace: Pace::CatchUp,
            next: log_end,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            acked: None,
            told: Offset::NONE,
            last_sent: now,
            caught_up: now,
            last_ack: (now, log_end),
        }
    }

    /// Up to where it counts for the high watermark.
    pub fn position(&self, rule: CommitRule) -> Option<Offset> {
        self.acked.map(|acked| match rule {
            CommitRule::Synced => acked.synced,
            CommitRule::Written => acked.written,
        })
    }

    /// Whether a consumer can read on at `offset` here.
    pub fn readable_at(&self, offset: Offset) -> Option<ReadableReplica> {
        let has = |acked: &Ack| acked.log_start <= offset && offset <= acked.written;
        let acked = self.acked.filter(has)?;
        Some(ReadableReplica {
            id: self.id,
            log_end: acked.written,
            caught_up: self.caught_up,
        })
    }

    /// Where the next push begins, and whether it may carry records; `None` while nothing may be sent.
    pub fn next(
        &self,
        (log_start, log_end): (Offset, Offset),
        high_watermark: Offset,
        pace: Pace,
        now: Timestamp,
    ) -> Option<(Offset, bool)> {
        match self.stage {
            // There is nothing below to agree on. It isn't sent again and again to one that isn't there.
            Stage::Asking(None) => Some((self.next, self.next == log_start && self.next < log_end)),
            Stage::Asking(Some(asked)) if now - asked < ASK_AGAIN_MS => None,
            Stage::Asking(Some(_)) => Some((self.next, false)),
            Stage::Streaming if self.next < log_end => {
                self.has_room(pace).then_some((self.next, true))
            }
            Stage::Streaming => {
                let has_news = self.told < high_watermark && self.in_flight.is_empty();
                has_news.then_some((self.next, false))
            }
        }
    }

    fn has_room(&self, pace: Pace) -> bool {
        let len_max = match pace {
            Pace::Live => WINDOW_LEN,
            Pace::CatchUp => CATCH_UP_WINDOW_LEN,
        };
        self.in_flight_bytes < WINDOW_BYTES && self.in_flight.len() < len_max
    }

    /// That of a follower which isn't in sync.
    pub fn pace(&self) -> Pace {
        self.pace
    }

    pub fn turns_in_use(&self) -> usize {
        let pushes = self.in_flight.iter().map(|push| push.pace);
        let all = pushes.chain(self.asked_with);
        all.filter(|pace| *pace == Pace::CatchUp).count()
    }

    /// Records up to `end` were sent.
    pub fn sent(
        &mut self,
        (end, log_end): (Offset, Offset),
        bytes: usize,
        pace: Pace,
        high_watermark: Offset,
        now: Timestamp,
    ) {
        self.told = high_watermark;
        self.last_sent = now;
        if let Stage::Asking(_) = self.stage {
            self.stage = Stage::Asking(Some(now));
            self.asked_with = (bytes > 0).then_some(pace);
            return;
        }
        if bytes > 0 {
            self.in_flight.push_back(InFlight { end, bytes, pace });
            self.in_flight_bytes += bytes;
            self.next = end;
            if end >= log_end {
                self.pace = Pace::Live;
            } else if !self.has_room(Pace::Live) {
                self.pace = Pace::CatchUp;
            }
        }
    }

    /// Takes an acknowledgement of this epoch.
    pub fn acked(&mut self, ack: Ack, log_end: Offset, now: Timestamp) {
        if ack.written > log_end {
            // It agrees with a log that is longer than this one: it can't be this leader's.
            return;
        }
        if let Stage::Asking(_) = self.stage {
            self.stage = Stage::Streaming;
            self.asked_with = None;
            self.next = ack.written;
        }
        while self
            .in_flight
            .front()
            .is_some_and(|first| first.end <= ack.written)
        {
            let first = self.in_flight.pop_front();
            self.in_flight_bytes -= first.map_or(0, |first| first.bytes);
        }
        let known = self.acked.unwrap_or(ack);
        self.acked = Some(Ack {
            leader_epoch: ack.leader_epoch,
            written: known.written.max(ack.written),
            synced: known.synced.max(ack.synced),
            log_start: known.log_start.max(ack.log_start),
        });
        self.next = self.next.max(ack.written);
        // As Kafka reckons it: it had everything that was there when it last spoke.
        let (last_time, last_end) = self.last_ack;
        if ack.written >= log_end {
            self.caught_up = now;
        } else if ack.written >= last_end {
            self.caught_up = self.caught_up.max(last_time);
        }
        self.last_ack = (now, log_end);
    }

    /// The logs don't agree where was asked: finds where to ask next. Answers to earlier questions
    /// are passed over.
    pub fn mismatched(&mut self, found: &Mismatch, epochs: &impl Epochs) {
        if found.offset != self.next && !matches!(self.stage, Stage::Streaming) {
            return;
        }
        // It may have lost what it had acknowledged, and then that doesn't count any more.
        self.acked = None;
        self.forget_in_flight();
        self.stage = Stage::Asking(None);
        let ours = match epochs.end_of(found.epoch) {
            Some((_, end)) => end,
            None => epochs.end_offset(),
        };
        let try_next = found.epoch_end.min(ours).min(found.end);
        // Each question lies below the one before it, so that they come to an end.
        let below = Offset(self.next.0.min(found.offset.0));
        self.next = match try_next < below {
            true => try_next,
            false => Offset(below.0 - 1).min(found.end),
        }
        .max(epochs.start_offset());
    }

    /// Who has everything until now lags from now on at the earliest.
    pub fn log_grows(&mut self, log_end: Offset, now: Timestamp) {
        if self.acked.is_some_and(|acked| acked.written >= log_end) {
            self.caught_up = now;
        }
    }

    /// What was on its way may be lost, and what the follower has by now isn't known.
    pub fn link_lost(&mut self) {
        self.forget_in_flight();
        // In another life it may have another disk.
        if let Some(acked) = self.acked.take() {
            self.next = acked.written;
        }
        self.stage = Stage::Asking(None);
    }

    /// What it was sent may have been passed over, for example because its mailbox was full; and what it has
    /// said may be lost: its replica may have died before it could say that all is on disk.
    pub fn tick(&mut self, rule: CommitRule, now: Timestamp) {
        self.forget_the_future(now);
        let (last_ack, _) = self.last_ack;
        let silent_since = self.last_sent.max(last_ack);
        let lacks = self.position(rule).is_some_and(|has| has < self.next);
        let owes = !self.in_flight.is_empty() || (self.stage == Stage::Streaming && lacks);
        if owes && now - silent_since > SILENCE_MAX_MS {
            self.forget_in_flight();
            self.next = self.acked.map_or(self.next, |acked| acked.written);
            self.stage = Stage::Asking(None);
        }
    }

    /// The clock may have been set back: what has happened hasn't happened later than now. Else a question
    /// would wait until then to be asked again, and nobody would lag.
    fn forget_the_future(&mut self, now: Timestamp) {
        if let Stage::Asking(Some(asked)) = &mut self.stage {
            *asked = (*asked).min(now);
        }
        self.last_sent = self.last_sent.min(now);
        self.caught_up = self.caught_up.min(now);
        self.last_ack.0 = self.last_ack.0.min(now);
    }

    pub fn has_everything(&self, log_end: Offset, high_watermark: Offset) -> bool {
        let has_all = self.acked.is_some_and(|acked| acked.synced >= log_end);
        self.stage == Stage::Streaming && has_all && self.told >= high_watermark
    }

    fn forget_in_flight(&mut self) {
        self.asked_with = None;
        self.pace = Pace::CatchUp;
        self.in_flight.clear();
        self.in_flight_bytes = 0;
    }

    /// Whether the log was cut below where the next push would begin.
    pub fn start_at_least(&mut self, log_start: Offset) {
        if self.next < log_start {
            self.next = log_start;
            self.stage = Stage::Asking(None);
            self.forget_in_flight();
        }
    }

    /// Whether it has been without something for longer than this.
    pub fn lags(&self, log_end: Offset, lag_max_ms: i64, now: Timestamp) -> bool {
        let has_all = self.acked.is_some_and(|acked| acked.written >= log_end);
        !has_all && now - self.caught_up > lag_max_ms
    }

    /// Whether it has all that was committed, and all that was there when the epoch began.
    pub fn may_join(&self, rule: CommitRule, high_watermark: Offset, epoch_start: Offset) -> bool {
        let position = self.position(rule);
        position.is_some_and(|position| position >= high_watermark && position >= epoch_start)
    }
}

/// Of the record before `offset`, as far as the log knows it.
pub(super) fn epoch_before(epochs: &impl Epochs, offset: Offset) -> Option<LeaderEpoch> {
    match offset > epochs.start_offset() {
        true => epochs.epoch_of(offset + -1),
        false if offset == epochs.end_offset() => epochs.latest(),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_written_all_and_never_says_that_it_is_on_disk_is_asked() {
        let end = Offset(10);
        for (rule, asks) in [(CommitRule::Synced, true), (CommitRule::Written, false)] {
            let mut follower = Progress::new(BrokerId(2), end, Timestamp(0));
            let ack = Ack {
                leader_epoch: LeaderEpoch(0),
                written: end,
                synced: Offset(8),
                log_start: Offset(0),
            };
            follower.acked(ack, end, Timestamp(0));
            let mut next_at = |ms| {
                let now = Timestamp(ms);
                follower.tick(rule, now);
                follower.next((Offset(0), end), Offset::NONE, Pace::Live, now)
            };
            assert_eq!(next_at(SILENCE_MAX_MS), None);
            let question = next_at(SILENCE_MAX_MS + 1);
            assert_eq!(question, asks.then_some((end, false)));
        }
    }

    #[test]
    fn a_clock_that_is_set_back_holds_up_no_question_and_nobody_is_in_sync_by_it() {
        let end = Offset(10);
        let hour_ms = 3_600_000;
        let (before, after) = (Timestamp(hour_ms), Timestamp(1_000));
        let mut follower = Progress::new(BrokerId(2), end, before);
        follower.sent((end, end), 0, Pace::Live, Offset(0), before);
        follower.tick(CommitRule::Synced, after);
        let next =
            |follower: &Progress, now| follower.next((Offset(0), end), Offset(0), Pace::Live, now);
        assert_eq!(next(&follower, after), None);
        let later = Timestamp(after.0 + ASK_AGAIN_MS);
        assert_eq!(next(&follower, later), Some((end, false)));
        assert!(!follower.lags(end, 10_000, later));
        assert!(follower.lags(end, 10_000, Timestamp(after.0 + 10_001)));
    }
}
