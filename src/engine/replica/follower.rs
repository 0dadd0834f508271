//! The follower's replica: what becomes of a push.

use super::check_epoch;
use super::progress::epoch_before;
use super::{Ack, Epochs, LogEnds, Mismatch, Push};
use crate::model::{ErrorCode, LeaderEpoch, Offset};

/// A batch of a push, as its header says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    pub base_offset: Offset,
    pub next_offset: Offset,
    pub leader_epoch: LeaderEpoch,
}

/// What is to be done about a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// First begin the log anew at `anew`, or cut it at `cut`, where they are told. Then append the
    /// batches from number `from` on, let go of what lies below `start`, and acknowledge.
    Append {
        anew: Option<Offset>,
        cut: Option<Offset>,
        from: usize,
        start: Offset,
    },
    /// Tell the leader.
    Mismatched(Mismatch),
    /// Of an earlier leader, who will hear of it from the metadata.
    Stale,
    /// Of a leader that the metadata haven't told here yet. It asks again.
    TooEarly,
    /// The batches don't begin at the push's offset, or don't continue each other.
    Broken,
}

/// The state of a partition's follower.
#[derive(Debug)]
pub struct FollowerReplica {
    epoch: LeaderEpoch,
    /// Up to where the log agrees with this epoch's leader, as far as is known.
    agreed: Option<Offset>,
    high_watermark: Offset,
    last_ack: Option<Ack>,
}

impl FollowerReplica {
    /// `high_watermark` is what the log knows of it.
    pub fn new(epoch: LeaderEpoch, high_watermark: Offset) -> FollowerReplica {
        FollowerReplica {
            epoch,
            agreed: None,
            high_watermark,
            last_ack: None,
        }
    }

    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Never above the leader's, nor above what is known to agree with its log.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Whether a consumer that believes in this leader epoch may read from `offset` on here (KIP-320, KIP-392).
    ///
    /// What lies beyond the log may be there at the leader: it is asked for there again, and isn't out of range.
    pub fn check_read(
        &self,
        believed: LeaderEpoch,
        offset: Offset,
        log: LogEnds,
    ) -> Result<(), ErrorCode> {
        check_epoch(believed, self.epoch)?;
        match offset > log.end {
            true => Err(ErrorCode::OffsetNotAvailable),
            false => Ok(()),
        }
    }

    /// The metadata say that there is a leader in this epoch.
    pub fn assign(&mut self, epoch: LeaderEpoch) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.agreed = None;
            self.last_ack = None;
        }
    }

    /// Decides what becomes of a push and its batches, on the log as it is now.
    pub fn take(&mut self, push: &Push, batches: &[Pushed], epochs: &impl Epochs) -> Taken {
        if push.leader_epoch < self.epoch {
            return Taken::Stale;
        }
        if push.leader_epoch > self.epoch {
            return Taken::TooEarly;
        }
        let mut next = push.offset;
        for batch in batches {
            if batch.base_offset != next || batch.next_offset <= next {
                return Taken::Broken;
            }
            next = batch.next_offset;
        }
        // What has agreed once in this epoch agrees: what was acknowledged of it is never given up.
        let is_agreed = self.agreed.is_some_and(|agreed| push.offset <= agreed);
        let place = match is_agreed {
            true => Place::Here,
            false => place(push, epochs),
        };
        let (anew, cut, from) = match place {
            Place::Unknown(found) => return Taken::Mismatched(found),
            Place::Nowhere => (Some(push.offset), None, 0),
            Place::Here => match parting(batches, epochs) {
                // What is cut begins below what is left of the log.
                (Some(cut), from) if cut < epochs.start_offset() => (Some(cut), None, from),
                (cut, from) => (None, cut.or_else(|| stray_tail(push, epochs)), from),
            },
        };
        let known = self.agreed.filter(|_| anew.is_none()).unwrap_or(next);
        let agreed = known.max(next);
        self.agreed = Some(agreed);
        // What was committed is never cut, unless a leader was elected that lacks it.
        let kept = anew.or(cut).unwrap_or(self.high_watermark);
        self.high_watermark = kept
            .min(self.high_watermark)
            .max(push.high_watermark.min(agreed));
        Taken::Append {
            anew,
            cut,
            from,
            start: push.log_start.min(self.high_watermark),
        }
    }

    /// A push could not be carried out: nothing is known any more of how the logs go together.
    pub fn failed(&mut self) {
        self.agreed = None;
    }

    /// What to acknowledge after a push was carried out.
    pub fn ack(&mut self, log: LogEnds) -> Option<Ack> {
        let agreed = self.agreed?.min(log.end);
        let ack = Ack {
            leader_epoch: self.epoch,
            written: agreed,
            synced: log.synced.min(agreed),
            log_start: log.start,
        };
        self.last_ack = Some(ack);
        Some(ack)
    }

    /// What to acknowledge after a sync, if that is news.
    pub fn synced(&mut self, log: LogEnds) -> Option<Ack> {
        let before = self.last_ack;
        self.ack(log).filter(|ack| Some(*ack) != before)
    }
}

/// How a push goes together with the log.
enum Place {
    /// It continues the log, or lies in it.
    Here,
    /// The leader has to ask further below.
    Unknown(Mismatch),
    /// The leader has nothing that lies below, and the log nothing that it could continue.
    Nowhere,
}

fn place(push: &Push, epochs: &impl Epochs) -> Place {
    let (start, end) = (epochs.start_offset(), epochs.end_offset());
    let is_in_log = push.offset > start && push.offset <= end;
    let is_common = is_in_log && epoch_before(epochs, push.offset) == Some(push.previous_epoch);
    // What lies below both starts was committed once, and deleted; unless the leader doesn't know of it.
    let is_below = push.offset <= start && push.log_end >= start;
    if is_common || is_below {
        return Place::Here;
    }
    if push.offset <= push.log_start {
        return Place::Nowhere;
    }
    Place::Unknown(match push.log_end < start {
        true => Mismatch {
            leader_epoch: push.leader_epoch,
            offset: push.offset,
            end: Offset::ZERO,
            epoch: LeaderEpoch::NONE,
            epoch_end: Offset::ZERO,
        },
        false => mismatch(push, epochs),
    })
}

/// Where the log and the batches part: what is to be cut, and the first batch that isn't there.
fn parting(batches: &[Pushed], epochs: &impl Epochs) -> (Option<Offset>, usize) {
    let (start, end) = (epochs.start_offset(), epochs.end_offset());
    for (at, batch) in batches.iter().enumerate() {
        if batch.base_offset >= end {
            return (None, at);
        }
        // What lies below the log's start was here, and was deleted.
        let is_gone = batch.next_offset <= start;
        let is_here = batch.next_offset <= end
            && epochs.epoch_of(batch.base_offset.max(start)) == Some(batch.leader_epoch);
        if !is_gone && !is_here {
            return (Some(batch.base_offset), at);
        }
    }
    (None, batches.len())
}

/// What an earlier leader has written beyond the end of this one's log: it never comes back.
fn stray_tail(push: &Push, epochs: &impl Epochs) -> Option<Offset> {
    let epoch = epochs.epoch_of(push.log_end)?;
    (epoch < push.leader_epoch).then_some(push.log_end)
}

fn mismatch(push: &Push, epochs: &impl Epochs) -> Mismatch {
    let end = epochs.end_offset();
    let (epoch, epoch_end) = epochs.end_of(push.previous_epoch).unwrap_or_else(|| {
        // Newer than all that is here.
        let latest = epochs.epoch_of(end + -1);
        (latest.unwrap_or(LeaderEpoch::NONE), end)
    });
    Mismatch {
        leader_epoch: push.leader_epoch,
        offset: push.offset,
        end,
        epoch,
        epoch_end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: LeaderEpoch = LeaderEpoch(9);

    /// The epochs of its records from `start` on, and of the last that is gone.
    struct Log {
        start: i64,
        epochs: Vec<i32>,
        latest: Option<i32>,
    }

    impl Log {
        fn new(start: i64, epochs: &[i32]) -> Log {
            Log {
                start,
                epochs: epochs.to_vec(),
                latest: epochs.last().copied(),
            }
        }
    }

    impl Epochs for Log {
        fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
            let at = usize::try_from(offset.0 - self.start).ok()?;
            self.epochs.get(at).copied().map(LeaderEpoch)
        }

        fn end_of(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
            let upper = self.epochs.partition_point(|known| *known <= epoch.0);
            let is_known = epoch.0 <= *self.epochs.last()?;
            let found = upper.checked_sub(1).map_or(epoch.0, |at| self.epochs[at]);
            is_known.then_some((LeaderEpoch(found), Offset(self.start + upper as i64)))
        }

        fn latest(&self) -> Option<LeaderEpoch> {
            self.latest.map(LeaderEpoch)
        }

        fn start_offset(&self) -> Offset {
            Offset(self.start)
        }

        fn end_offset(&self) -> Offset {
            Offset(self.start + self.epochs.len() as i64)
        }
    }

    fn push(offset: i64, previous: i32, log: std::ops::Range<i64>) -> Push {
        Push {
            leader_epoch: EPOCH,
            offset: Offset(offset),
            previous_epoch: LeaderEpoch(previous),
            high_watermark: Offset(log.end),
            log_start: Offset(log.start),
            log_end: Offset(log.end),
        }
    }

    fn batch(offsets: std::ops::Range<i64>, epoch: i32) -> Pushed {
        Pushed {
            base_offset: Offset(offsets.start),
            next_offset: Offset(offsets.end),
            leader_epoch: LeaderEpoch(epoch),
        }
    }

    fn take(log: &Log, high_watermark: i64, push: Push, batches: &[Pushed]) -> Taken {
        let mut follower = FollowerReplica::new(EPOCH, Offset(high_watermark));
        follower.take(&push, batches, log)
    }

    fn appends(anew: Option<i64>, cut: Option<i64>, from: usize, start: i64) -> Taken {
        Taken::Append {
            anew: anew.map(Offset),
            cut: cut.map(Offset),
            from,
            start: Offset(start),
        }
    }

    #[test]
    fn a_log_that_ends_below_the_leaders_start_is_begun_anew_there() {
        let log = Log::new(0, &[1, 1, 1]);
        let batches = [batch(10..15, 2)];
        let taken = take(&log, 3, push(10, -1, 10..20), &batches);
        assert_eq!(taken, appends(Some(10), None, 0, 10));
        // Elsewhere than at its start the leader has to look for a common point.
        let taken = take(&log, 3, push(15, 2, 10..20), &[]);
        assert!(matches!(taken, Taken::Mismatched(found) if found.end == Offset(3)));
    }

    #[test]
    fn the_batch_that_holds_the_leaders_start_may_begin_before_it() {
        // It was begun anew at 15, where the leader's log begins in the middle of a batch.
        let log = Log::new(15, &[]);
        let batches = [batch(13..18, 2)];
        let taken = take(&log, 15, push(13, -1, 15..18), &batches);
        assert_eq!(taken, appends(Some(13), None, 0, 15));
        // Once it is there, it is known again, though the log begins in its middle too.
        let log = Log::new(15, &[2, 2, 2]);
        let taken = take(&log, 18, push(13, -1, 15..18), &batches);
        assert_eq!(taken, appends(None, None, 1, 15));
    }

    #[test]
    fn what_cannot_be_told_to_agree_with_the_leaders_start_is_not_kept() {
        // Written by a leader of which nothing was committed.
        let log = Log::new(0, &[1, 1, 7, 7, 7]);
        let taken = take(&log, 1, push(3, -1, 3..9), &[batch(3..9, 8)]);
        assert_eq!(taken, appends(Some(3), None, 0, 3));
        // The leader's log is empty, but it knows who has written last.
        let log = Log::new(0, &[1, 1, 4]);
        assert_eq!(
            take(&log, 3, push(3, 4, 3..3), &[]),
            appends(None, None, 0, 3)
        );
        assert_eq!(
            take(&log, 3, push(3, 5, 3..3), &[]),
            appends(Some(3), None, 0, 3)
        );
    }

    #[test]
    fn a_leader_whose_log_ends_below_the_followers_start_is_followed_from_its_start() {
        // Somebody was made leader who lacked what was committed.
        let log = Log::new(20, &[4, 4]);
        let taken = take(&log, 22, push(12, 8, 5..12), &[]);
        let Taken::Mismatched(found) = taken else {
            panic!("{taken:?}");
        };
        assert_eq!((found.end, found.epoch_end), (Offset(0), Offset(0)));
        let mut follower = FollowerReplica::new(EPOCH, Offset(22));
        let taken = follower.take(&push(5, -1, 5..12), &[batch(5..12, 8)], &log);
        assert_eq!(taken, appends(Some(5), None, 0, 5));
        assert_eq!(follower.high_watermark(), Offset(12));
        let ends = LogEnds {
            start: Offset(5),
            end: Offset(12),
            synced: Offset(12),
        };
        let ack = follower.ack(ends).unwrap();
        assert_eq!(ack.written, Offset(12));
    }

    #[test]
    fn a_late_question_at_the_leaders_start_takes_nothing_back() {
        let mut follower = FollowerReplica::new(EPOCH, Offset(0));
        let log = Log::new(0, &[1, 1, 2]);
        follower.take(&push(3, 2, 0..6), &[batch(3..6, 2)], &log);
        // The leader has deleted what it took for all that is here, and asks where it starts now.
        let log = Log::new(0, &[1, 1, 2, 2, 2, 2]);
        let taken = follower.take(&push(4, -1, 4..6), &[batch(4..5, 2)], &log);
        assert_eq!(taken, appends(None, None, 1, 4));
        // In the next epoch it isn't known to agree.
        follower.assign(EPOCH.next());
        let asked = Push {
            leader_epoch: EPOCH.next(),
            ..push(4, -1, 4..6)
        };
        let taken = follower.take(&asked, &[batch(4..5, 2)], &log);
        assert_eq!(taken, appends(Some(4), None, 0, 4));
    }

    #[test]
    fn a_log_is_cut_at_the_first_record_of_another_epoch_and_what_is_there_is_passed_over() {
        let log = Log::new(0, &[1, 1, 5, 5, 7]);
        let batches = [batch(0..2, 1), batch(2..4, 5), batch(4..6, 8)];
        let taken = take(&log, 2, push(0, -1, 0..6), &batches);
        assert_eq!(taken, appends(None, Some(4), 2, 0));
        // Beyond the leader's end, too.
        let taken = take(&log, 2, push(4, 5, 0..4), &[]);
        assert_eq!(taken, appends(None, Some(4), 0, 0));
    }

    #[test]
    fn the_high_watermark_is_never_above_the_leaders_nor_what_is_here() {
        let log = Log::new(0, &[1, 1]);
        let mut follower = FollowerReplica::new(EPOCH, Offset(0));
        follower.take(&push(2, 1, 0..9), &[batch(2..4, 1)], &log);
        assert_eq!(follower.high_watermark(), Offset(4));
        let told = Push {
            high_watermark: Offset(3),
            ..push(2, 1, 0..9)
        };
        let mut follower = FollowerReplica::new(EPOCH, Offset(0));
        follower.take(&told, &[batch(2..4, 1)], &log);
        assert_eq!(follower.high_watermark(), Offset(3));
    }

    #[test]
    fn a_follower_lets_go_of_what_its_leader_has_deleted_once_that_is_committed_here_too() {
        let log = Log::new(0, &[1, 1]);
        let taken = take(&log, 2, push(2, 1, 1..9), &[]);
        assert_eq!(taken, appends(None, None, 0, 1));
        let taken = take(&log, 0, push(2, 1, 2..9), &[]);
        assert_eq!(taken, appends(None, None, 0, 2));
        let taken = take(&log, 0, push(2, 1, 3..9), &[]);
        assert_eq!(
            taken,
            appends(None, None, 0, 2),
            "up to where it is committed"
        );
        // It has nothing of the batch that the leader's log begins in.
        let taken = take(&log, 0, push(2, 1, 3..9), &[batch(2..3, 1)]);
        assert_eq!(taken, appends(None, None, 0, 3));
    }

    #[test]
    fn a_reader_is_told_which_of_us_is_behind_and_nothing_beyond_the_log_is_out_of_range() {
        let follower = FollowerReplica::new(EPOCH, Offset(5));
        let ends = LogEnds {
            start: Offset(3),
            end: Offset(8),
            synced: Offset(8),
        };
        let check = |epoch, offset| follower.check_read(LeaderEpoch(epoch), Offset(offset), ends);
        assert_eq!(check(-1, 4), Ok(()));
        assert_eq!(check(9, 8), Ok(()), "it waits for the high watermark");
        assert_eq!(check(9, 9), Err(ErrorCode::OffsetNotAvailable));
        assert_eq!(check(8, 4), Err(ErrorCode::FencedLeaderEpoch));
        assert_eq!(check(10, 4), Err(ErrorCode::UnknownLeaderEpoch));
    }

    #[test]
    fn pushes_of_another_epoch_are_not_taken() {
        let log = Log::new(0, &[1]);
        let of = |epoch| Push {
            leader_epoch: LeaderEpoch(epoch),
            ..push(1, 1, 0..1)
        };
        assert_eq!(take(&log, 0, of(8), &[]), Taken::Stale);
        assert_eq!(take(&log, 0, of(10), &[]), Taken::TooEarly);
    }
}
