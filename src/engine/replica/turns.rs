//! Turns of the followers that catch up: what is on its way to a node for them is bounded, however many of
//! its partitions are behind.
//!
//! All partitions share one link to a node, and what is left there is sent in order. A node that comes back
//! after a while lacks something of each of its partitions, and the pushes of those that are in sync there
//! would wait behind the backlog of all others, and with them every producer. So each push to a follower that
//! catches up needs a turn, from when it is left until it is acknowledged. There are
//! [`CATCH_UP_PUSHES_MAX`] of them for each node, in the order in which they are asked for: whoever has much
//! to send asks again, behind the others.
//!
//! A push also keeps busy what nobody can look into: the disks and cores at both ends, and whatever is between
//! them. Who writes at the same time waits behind it there. So such a push is small
//! ([`CATCH_UP_PUSH_BYTES_MAX`]), and after it its turn rests ([`rest_after`]), the longer the more the nodes have
//! to do.

use std::collections::VecDeque;
use std::time::Duration;

/// Pushes that are on their way to one node for all its followers that catch up.
pub const CATCH_UP_PUSHES_MAX: usize = 4;

/// What a push to a follower that catches up carries at most, unless a single batch is larger.
pub const CATCH_UP_PUSH_BYTES_MAX: usize = 256 << 10;
/// A push of less is no burden.
const LARGE_PUSH_BYTES: usize = 64 << 10;
/// How often longer than its push a turn rests: a third of the time is for who catches up.
const REST_FACTOR: u32 = 2;
/// A node that has hung is no reason to wait for longer.
const REST_MAX: Duration = Duration::from_secs(1);

/// How long a turn rests after a push that has carried so many bytes, and was acknowledged after so long.
pub fn rest_after(carried: usize, took: Duration) -> Duration {
    match carried < LARGE_PUSH_BYTES {
        true => Duration::ZERO,
        false => took.saturating_mul(REST_FACTOR).min(REST_MAX),
    }
}

/// The turns of one node. `W` is somebody who waits for one.
#[derive(Debug)]
pub struct CatchUpTurns<W> {
    taken: usize,
    waiting: VecDeque<W>,
}

impl<W> Default for CatchUpTurns<W> {
    fn default() -> CatchUpTurns<W> {
        CatchUpTurns {
            taken: 0,
            waiting: VecDeque::new(),
        }
    }
}

impl<W> CatchUpTurns<W> {
    /// Whether there is a turn for whoever asks; it has to be given back. Else `waits` gets one later, and
    /// must not ask again before it does.
    pub fn take(&mut self, waits: impl FnOnce() -> W) -> bool {
        let is_free = self.taken < CATCH_UP_PUSHES_MAX;
        match is_free {
            true => self.taken += 1,
            false => self.waiting.push_back(waits()),
        }
        is_free
    }

    /// A turn is over. Whoever is told has it next; if that one is gone, it is given back again.
    pub fn give_back(&mut self) -> Option<W> {
        let next = self.waiting.pop_front();
        if next.is_none() {
            self.taken = self.taken.saturating_sub(1);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::engine::replica::{
        Ack, CommitRule, Epochs, LeaderReplica, LeaderStart, Membership, Mismatch, Pace, Patience,
    };
    use crate::model::{BrokerId, LeaderEpoch, Offset, Timestamp};

    const NOW: Timestamp = Timestamp(0);
    const LEADER: BrokerId = BrokerId(1);
    const FOLLOWER: BrokerId = BrokerId(2);
    const EPOCH: LeaderEpoch = LeaderEpoch(0);
    /// How many records one push carries at most.
    const PUSH_LEN: i64 = 10;

    struct Reader;

    impl Patience for Reader {
        fn is_gone(&self) -> bool {
            false
        }
    }

    /// A log of one epoch.
    struct Log(Offset);

    impl Epochs for Log {
        fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
            (offset >= Offset::ZERO && offset < self.0).then_some(EPOCH)
        }

        fn end_of(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
            (epoch <= EPOCH).then_some((epoch, self.0))
        }

        fn latest(&self) -> Option<LeaderEpoch> {
            Some(EPOCH)
        }

        fn start_offset(&self) -> Offset {
            Offset::ZERO
        }

        fn end_offset(&self) -> Offset {
            self.0
        }
    }

    struct Partition {
        replica: LeaderReplica<(), Reader>,
        log: Log,
        sent: usize,
    }

    impl Partition {
        /// Its follower has nothing yet, and says so.
        fn new(log_end: i64, in_sync: &[BrokerId]) -> Partition {
            let start = LeaderStart {
                node: LEADER,
                epoch: EPOCH,
                rule: CommitRule::Synced,
                log_end: Offset(log_end),
                synced: Offset(log_end),
                high_watermark: Offset(0),
            };
            let membership = Membership {
                replicas: vec![LEADER, FOLLOWER],
                in_sync: in_sync.to_vec(),
                partition_epoch: 0,
                min_in_sync: 1,
                has_eligible_leaders: false,
            };
            let mut partition = Partition {
                replica: LeaderReplica::new(start, membership, NOW),
                log: Log(Offset(log_end)),
                sent: 0,
            };
            partition.acked(0);
            partition
        }

        fn acked(&mut self, to: i64) {
            let ack = Ack {
                leader_epoch: EPOCH,
                written: Offset(to),
                synced: Offset(to),
                log_start: Offset(0),
            };
            self.replica.acked(FOLLOWER, ack, NOW);
        }
    }

    /// A link with its pushes in order, each with its partition and its end.
    #[derive(Default)]
    struct Link {
        queue: VecDeque<(usize, i64, Pace)>,
        turns: CatchUpTurns<usize>,
        /// Partitions that wait for a turn, and those that have got one.
        waiting: Vec<usize>,
        granted: Vec<usize>,
    }

    impl Link {
        /// As the leader's actor does.
        fn push(&mut self, number: usize, partition: &mut Partition) {
            loop {
                let Partition { replica, log, .. } = partition;
                let Some(plan) = replica.next_push(FOLLOWER, log, NOW) else {
                    return;
                };
                if plan.pace == Pace::CatchUp && !self.has_turn(number) {
                    return;
                }
                let end = Offset((plan.push.offset.0 + PUSH_LEN).min(log.0 .0));
                replica.sent(FOLLOWER, end, 1 << 20, NOW);
                partition.sent += 1;
                self.queue.push_back((number, end.0, plan.pace));
            }
        }

        fn has_turn(&mut self, number: usize) -> bool {
            if let Some(at) = self.granted.iter().position(|granted| *granted == number) {
                self.granted.remove(at);
                return true;
            }
            if self.waiting.contains(&number) {
                return false;
            }
            let has_turn = self.turns.take(|| number);
            if !has_turn {
                self.waiting.push(number);
            }
            has_turn
        }

        fn deliver(&mut self, partitions: &mut [Partition]) {
            let Some((number, end, pace)) = self.queue.pop_front() else {
                return;
            };
            partitions[number].acked(end);
            if pace == Pace::CatchUp {
                if let Some(next) = self.turns.give_back() {
                    self.waiting.retain(|waiting| *waiting != next);
                    self.granted.push(next);
                    self.push(next, &mut partitions[next]);
                }
            }
            self.push(number, &mut partitions[number]);
        }

        fn catching_up(&self) -> usize {
            let of_backlog = |(_, _, pace): &&(usize, i64, Pace)| *pace == Pace::CatchUp;
            self.queue.iter().filter(of_backlog).count()
        }
    }

    #[test]
    fn a_push_to_a_live_follower_is_never_behind_the_backlog_of_those_that_catch_up() {
        let mut partitions: Vec<Partition> =
            (0..50).map(|_| Partition::new(1_000, &[LEADER])).collect();
        let live = partitions.len();
        partitions.push(Partition::new(0, &[LEADER, FOLLOWER]));
        let mut link = Link::default();
        for (number, partition) in partitions.iter_mut().enumerate() {
            link.push(number, partition);
        }
        for round in 1..=2_000 {
            let end = Offset(round);
            partitions[live].log = Log(end);
            partitions[live].replica.appended(end, NOW);
            let before = link.queue.len();
            link.push(live, &mut partitions[live]);
            assert!(link.queue.len() > before, "the live push waits");
            assert!(link.catching_up() <= CATCH_UP_PUSHES_MAX);
            // The link takes what came with this round, and one push of the backlog.
            for _ in 0..2 {
                link.deliver(&mut partitions);
            }
            let sent = partitions[..live].iter().map(|partition| partition.sent);
            let (least, most) = (sent.clone().min().unwrap(), sent.max().unwrap());
            let is_fair = most - least <= CATCH_UP_PUSHES_MAX;
            assert!(is_fair, "one got {most} pushes, and another {least}");
        }
    }

    #[test]
    fn a_follower_that_has_been_sent_everything_is_live_before_it_is_in_sync() {
        let mut partition = Partition::new(15, &[LEADER]);
        let mut link = Link::default();
        link.push(0, &mut partition);
        assert_eq!(link.catching_up(), 2);
        partition.log = Log(Offset(16));
        partition.replica.appended(Offset(16), NOW);
        link.push(0, &mut partition);
        assert_eq!(link.queue.back(), Some(&(0, 16, Pace::Live)));
        // It is behind again when nothing more may be sent.
        partition.replica.link_lost(FOLLOWER, NOW);
        partition.acked(10);
        let plan = partition.replica.next_push(FOLLOWER, &partition.log, NOW);
        assert_eq!(plan.unwrap().pace, Pace::CatchUp);
    }

    #[test]
    fn the_records_that_go_with_a_question_have_a_turn_until_it_is_answered_or_asked_again() {
        let mut partition = Partition::new(15, &[LEADER]);
        let found = Mismatch {
            leader_epoch: EPOCH,
            offset: Offset(15),
            end: Offset(0),
            epoch: LeaderEpoch::NONE,
            epoch_end: Offset(0),
        };
        partition
            .replica
            .mismatched(FOLLOWER, &found, &partition.log);
        let mut ask = |now| {
            let plan = (partition.replica).next_push(FOLLOWER, &partition.log, Timestamp(now));
            let plan = plan?;
            let bytes = usize::from(plan.with_records);
            let end = Offset(bytes as i64);
            (partition.replica).sent(FOLLOWER, end, bytes, Timestamp(now));
            Some((plan.with_records, partition.replica.turns_in_use(FOLLOWER)))
        };
        assert_eq!(ask(0), Some((true, 1)));
        assert_eq!(ask(50), None);
        assert_eq!(ask(100), Some((false, 0)));
    }

    #[test]
    fn two_thirds_of_the_time_are_left_to_others_after_a_large_push() {
        let ms = Duration::from_millis;
        assert_eq!(rest_after(1 << 20, ms(7)), ms(14));
        assert_eq!(rest_after(1 << 20, ms(30_000)), REST_MAX);
        assert_eq!(rest_after(LARGE_PUSH_BYTES - 1, ms(7)), ms(0));
    }

    #[test]
    fn a_turn_that_is_given_back_goes_to_whoever_has_waited_longest() {
        let mut turns = CatchUpTurns::default();
        for _ in 0..CATCH_UP_PUSHES_MAX {
            assert!(turns.take(|| "nobody"));
        }
        assert!(!turns.take(|| "first"));
        assert!(!turns.take(|| "second"));
        assert_eq!(turns.give_back(), Some("first"));
        assert!(!turns.take(|| "third"), "the first one has it");
        assert_eq!(turns.give_back(), Some("second"));
        assert_eq!(turns.give_back(), Some("third"));
        assert_eq!(turns.give_back(), None);
        assert!(turns.take(|| "fourth"));
    }
}
