//! The leader's replica: high watermark, and those who wait for it.

use std::collections::VecDeque;

use crate::model::{ErrorCode, LeaderEpoch, Offset, Timestamp};

/// When a producer wants to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Not at all.
    None,
    /// When the leader has appended.
    Leader,
    /// When every in-sync replica has it, as [`CommitRule`] means "has".
    All,
}

impl Acks {
    /// Reads Kafka's number: 0, 1, or -1 for all.
    pub fn from_code(code: i16) -> Result<Acks, ErrorCode> {
        match code {
            0 => Ok(Acks::None),
            1 => Ok(Acks::Leader),
            -1 => Ok(Acks::All),
            _ => Err(ErrorCode::InvalidRequiredAcks),
        }
    }
}

/// What a replica must have done with a record to have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitRule {
    /// Synced it to disk: `log.flush = "synced"`.
    Synced,
    /// Written it to the page cache, as Kafka does: `log.flush = "os"`.
    Written,
}

/// Whether a reader who waits still cares.
pub trait Patience {
    fn is_gone(&self) -> bool;
}

/// What a change of the replica sets free, in the order in which it was appended.
#[derive(Debug, PartialEq, Eq)]
pub struct Released<P, F> {
    /// Producers whose records are committed.
    pub committed: Vec<P>,
    /// Readers who wait for a higher high watermark than the one they know.
    pub woken: Vec<F>,
}

/// What became of a producer who wants to wait.
#[derive(Debug, PartialEq, Eq)]
pub enum Commit<P> {
    /// Nothing to wait for: the records are committed already.
    Done(P),
    Waits,
}

struct Producer<P> {
    until: Offset,
    deadline: Timestamp,
    ticket: P,
}

/// The state of a partition's leader in one leader epoch.
///
/// Invariants: `high_watermark` never goes back, and never passes what [`CommitRule`] allows;
/// `producers` is sorted by `until`, each above the high watermark.
///
/// `P` is the ticket of a producer who waits, `F` that of a reader.
pub struct LeaderReplica<P, F> {
    epoch: LeaderEpoch,
    rule: CommitRule,
    in_sync: usize,
    min_in_sync: usize,
    log_end: Offset,
    synced: Offset,
    high_watermark: Offset,
    producers: VecDeque<Producer<P>>,
    readers: Vec<F>,
    readers_swept_at: usize,
}

/// Below this many waiting readers nobody looks for those who have left.
const READERS_SWEEP_MIN: usize = 64;

impl<P, F: Patience> LeaderReplica<P, F> {
    /// A leader whose log has been opened: all that recovery left is on disk, up to `log_end`.
    pub fn new(epoch: LeaderEpoch, rule: CommitRule, log_end: Offset) -> Self {
        LeaderReplica {
            epoch,
            rule,
            in_sync: 1,
            min_in_sync: 1,
            log_end,
            synced: log_end,
            high_watermark: log_end,
            producers: VecDeque::new(),
            readers: Vec::new(),
            readers_swept_at: READERS_SWEEP_MIN,
        }
    }

    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Records below it are committed, and only they are read.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    pub fn log_end(&self) -> Offset {
        self.log_end
    }

    /// How many producers wait to be answered.
    pub fn waiting_producers(&self) -> usize {
        self.producers.len()
    }

    /// `min.insync.replicas` of the topic.
    pub fn set_min_in_sync(&mut self, replicas: usize) {
        self.min_in_sync = replicas;
    }

    /// The number of in-sync replicas, this one included, as the metadata has committed it.
    pub fn set_in_sync(&mut self, replicas: usize) {
        self.in_sync = replicas;
    }

    /// Whether an append with these acks may be made now.
    pub fn admit(&self, acks: Acks) -> Result<(), ErrorCode> {
        match acks {
            Acks::All if self.in_sync < self.min_in_sync => Err(ErrorCode::NotEnoughReplicas),
            _ => Ok(()),
        }
    }

    /// Checks the leader epoch that a client believes in (KIP-320); -1 believes in any.
    pub fn check_epoch(&self, believed: LeaderEpoch) -> Result<(), ErrorCode> {
        match believed {
            LeaderEpoch::NONE => Ok(()),
            epoch if epoch < self.epoch => Err(ErrorCode::FencedLeaderEpoch),
            epoch if epoch > self.epoch => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }

    /// The log now ends at `log_end`.
    pub fn appended(&mut self, log_end: Offset) -> Released<P, F> {
        self.log_end = log_end;
        self.advance()
    }

    /// The log is on disk up to `synced`.
    pub fn synced(&mut self, synced: Offset) -> Released<P, F> {
        self.synced = self.synced.max(synced);
        self.advance()
    }

    /// A producer waits until all below `until` is committed, or until `deadline`.
    pub fn wait_for_commit(&mut self, until: Offset, deadline: Timestamp, ticket: P) -> Commit<P> {
        if until <= self.high_watermark {
            return Commit::Done(ticket);
        }
        let at = self.producers.partition_point(|p| p.until <= until);
        self.producers.insert(
            at,
            Producer {
                until,
                deadline,
                ticket,
            },
        );
        Commit::Waits
    }

    /// A reader who has seen this high watermark waits for the next one.
    pub fn wait_for_advance(&mut self, reader: F) {
        if self.readers.len() >= self.readers_swept_at {
            self.readers.retain(|reader| !reader.is_gone());
            self.readers_swept_at = READERS_SWEEP_MIN.max(2 * self.readers.len());
        }
        self.readers.push(reader);
    }

    /// The producers who have waited too long. Their records stay, and may yet be committed.
    pub fn expire(&mut self, now: Timestamp) -> Vec<P> {
        let (expired, waiting) = std::mem::take(&mut self.producers)
            .into_iter()
            .partition::<VecDeque<_>, _>(|producer| producer.deadline <= now);
        self.producers = waiting;
        expired.into_iter().map(|p| p.ticket).collect()
    }

    fn advance(&mut self) -> Released<P, F> {
        let to = match self.rule {
            CommitRule::Synced => self.synced,
            CommitRule::Written => self.log_end,
        };
        if to <= self.high_watermark {
            return Released {
                committed: Vec::new(),
                woken: Vec::new(),
            };
        }
        self.high_watermark = to;
        let covered = self.producers.partition_point(|p| p.until <= to);
        Released {
            committed: self.producers.drain(..covered).map(|p| p.ticket).collect(),
            woken: std::mem::take(&mut self.readers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    struct Reader(&'static str);

    impl Patience for Reader {
        fn is_gone(&self) -> bool {
            self.0 == "gone"
        }
    }

    type Replica = LeaderReplica<&'static str, Reader>;

    fn replica(rule: CommitRule) -> Replica {
        LeaderReplica::new(LeaderEpoch(3), rule, Offset(10))
    }

    const LATER: Timestamp = Timestamp(1_000);

    #[test]
    fn one_sync_releases_everyone_that_it_covers_and_nobody_else() {
        let mut replica = replica(CommitRule::Synced);
        for (end, ticket) in [(11, "a"), (15, "b"), (16, "c")] {
            assert!(replica.appended(Offset(end)).committed.is_empty());
            assert_eq!(
                replica.wait_for_commit(Offset(end), LATER, ticket),
                Commit::Waits
            );
        }
        assert_eq!(replica.high_watermark(), Offset(10));
        assert_eq!(replica.synced(Offset(15)).committed, ["a", "b"]);
        assert_eq!(replica.high_watermark(), Offset(15));
        assert_eq!(replica.synced(Offset(16)).committed, ["c"]);
    }

    #[test]
    fn without_syncs_an_append_commits() {
        let mut replica = replica(CommitRule::Written);
        replica.appended(Offset(12));
        assert_eq!(replica.high_watermark(), Offset(12));
        assert_eq!(
            replica.wait_for_commit(Offset(12), LATER, "a"),
            Commit::Done("a")
        );
    }

    #[test]
    fn the_high_watermark_never_goes_back() {
        let mut replica = replica(CommitRule::Synced);
        replica.appended(Offset(20));
        replica.synced(Offset(20));
        replica.synced(Offset(12));
        assert_eq!(replica.high_watermark(), Offset(20));
    }

    #[test]
    fn a_duplicate_of_a_record_that_is_not_yet_on_disk_waits_in_its_place() {
        let mut replica = replica(CommitRule::Synced);
        replica.appended(Offset(12));
        replica.wait_for_commit(Offset(11), LATER, "first");
        replica.wait_for_commit(Offset(12), LATER, "second");
        replica.wait_for_commit(Offset(11), LATER, "first again");
        let released = replica.synced(Offset(11));
        assert_eq!(released.committed, ["first", "first again"]);
    }

    #[test]
    fn a_reader_is_woken_once_by_the_next_advance() {
        let mut replica = replica(CommitRule::Synced);
        replica.wait_for_advance(Reader("r"));
        assert!(replica.appended(Offset(11)).woken.is_empty());
        assert_eq!(replica.synced(Offset(11)).woken, [Reader("r")]);
        replica.appended(Offset(12));
        assert!(replica.synced(Offset(12)).woken.is_empty());
    }

    #[test]
    fn readers_who_left_are_not_kept() {
        let mut replica = replica(CommitRule::Synced);
        for _ in 0..10_000 {
            replica.wait_for_advance(Reader("gone"));
        }
        assert!(replica.readers.len() <= 2 * READERS_SWEEP_MIN);
    }

    #[test]
    fn a_producer_waits_no_longer_than_its_deadline() {
        let mut replica = replica(CommitRule::Synced);
        replica.appended(Offset(12));
        replica.wait_for_commit(Offset(11), Timestamp(50), "hasty");
        replica.wait_for_commit(Offset(12), Timestamp(90), "patient");
        assert!(replica.expire(Timestamp(49)).is_empty());
        assert_eq!(replica.expire(Timestamp(50)), ["hasty"]);
        assert_eq!(replica.synced(Offset(12)).committed, ["patient"]);
    }

    #[test]
    fn too_few_in_sync_replicas_refuse_acks_all_only() {
        let mut replica = replica(CommitRule::Synced);
        replica.set_min_in_sync(2);
        assert_eq!(replica.admit(Acks::All), Err(ErrorCode::NotEnoughReplicas));
        assert_eq!(replica.admit(Acks::Leader), Ok(()));
        replica.set_in_sync(2);
        assert_eq!(replica.admit(Acks::All), Ok(()));
    }

    #[test]
    fn a_client_with_another_epoch_is_told_which_of_us_is_behind() {
        let replica = replica(CommitRule::Synced);
        let check = |epoch| replica.check_epoch(LeaderEpoch(epoch));
        assert_eq!(check(-1), Ok(()));
        assert_eq!(check(3), Ok(()));
        assert_eq!(check(2), Err(ErrorCode::FencedLeaderEpoch));
        assert_eq!(check(4), Err(ErrorCode::UnknownLeaderEpoch));
    }
}
