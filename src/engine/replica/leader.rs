//! The leader's replica: high watermark, and those who wait for it.

use std::collections::VecDeque;

use super::progress::{epoch_before, Progress};
use super::{
    check_epoch, Ack, Epochs, Membership, Mismatch, Patience, Push, ReadableReplica, Readers,
};
use crate::model::{BrokerId, ErrorCode, LeaderEpoch, Offset, Timestamp};

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

/// What a change of the replica sets free, in the order in which it was appended.
#[derive(Debug, PartialEq, Eq)]
pub struct Released<P, F> {
    /// Producers whose records are committed.
    pub committed: Vec<P>,
    /// Readers who wait for a higher high watermark than the one they know.
    pub woken: Vec<F>,
}

impl<P, F> Released<P, F> {
    fn nobody() -> Released<P, F> {
        Released {
            committed: Vec::new(),
            woken: Vec::new(),
        }
    }
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

/// With what a leader begins.
#[derive(Clone, Debug)]
pub struct LeaderStart {
    pub node: BrokerId,
    pub epoch: LeaderEpoch,
    pub rule: CommitRule,
    /// The end of the log. All that recovery or the follower before has left is on disk up to `synced`.
    pub log_end: Offset,
    pub synced: Offset,
    /// What the log knows of it.
    pub high_watermark: Offset,
}

/// The ISR that the leader wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrProposal {
    pub leader_epoch: LeaderEpoch,
    /// On which it was decided.
    pub partition_epoch: i32,
    /// This leader included.
    pub isr: Vec<BrokerId>,
}

/// How a follower goes along with the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// It has a part in what is committed now, or has been sent all that there is.
    Live,
    /// It lacks what others have had for long. It must not hold up those who are in sync: each of its pushes
    /// needs a turn ([`super::CatchUpTurns`]).
    CatchUp,
}

/// Records to be read and pushed to a follower, or nothing but a question or news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushPlan {
    pub push: Push,
    /// Whether records from `push.offset` on go along.
    pub with_records: bool,
    pub pace: Pace,
}

/// The state of a partition's leader in one leader epoch.
///
/// Invariants: `high_watermark` never goes back, and never passes what [`CommitRule`] allows, here and
/// at each replica that is in sync or about to be; `producers` is sorted by `until`, each above the high
/// watermark.
///
/// `P` is the ticket of a producer who waits, `F` that of a reader.
pub struct LeaderReplica<P, F> {
    node: BrokerId,
    epoch: LeaderEpoch,
    rule: CommitRule,
    membership: Membership,
    /// What was proposed and isn't known to be refused. Whoever it lets in counts already.
    proposed: Option<IsrProposal>,
    followers: Vec<Progress>,
    log_end: Offset,
    synced: Offset,
    /// Where the log ended when the epoch began.
    epoch_start: Offset,
    high_watermark: Offset,
    producers: VecDeque<Producer<P>>,
    readers: Readers<F>,
}

impl<P, F: Patience> LeaderReplica<P, F> {
    /// A leader that has just begun. What was committed when it began is found out by and by, unless it
    /// is the only one in sync: then it is all that it has.
    pub fn new(start: LeaderStart, membership: Membership, now: Timestamp) -> Self {
        let mut replica = LeaderReplica {
            node: start.node,
            epoch: start.epoch,
            rule: start.rule,
            membership,
            proposed: None,
            followers: Vec::new(),
            log_end: start.log_end,
            synced: start.synced,
            epoch_start: start.log_end,
            high_watermark: start.high_watermark,
            producers: VecDeque::new(),
            readers: Readers::default(),
        };
        replica.meet_followers(now);
        // Nobody waits yet.
        replica.advance();
        replica
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

    /// The metadata's, as they were told last.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// How many producers wait to be answered.
    pub fn waiting_producers(&self) -> usize {
        self.producers.len()
    }

    /// The metadata say who replicates by now; older news are passed over.
    pub fn assign(&mut self, membership: Membership, now: Timestamp) -> Released<P, F> {
        if membership.partition_epoch < self.membership.partition_epoch {
            return Released::nobody();
        }
        if membership.partition_epoch > self.membership.partition_epoch {
            // Committed, or overtaken by another change.
            self.proposed = None;
        }
        self.membership = membership;
        self.meet_followers(now);
        self.advance()
    }

    /// Keeps what is known of those who stay.
    fn meet_followers(&mut self, now: Timestamp) {
        let LeaderReplica {
            followers,
            membership,
            node,
            log_end,
            ..
        } = self;
        followers.retain(|known| membership.replicas.contains(&known.id));
        for id in membership.replicas.iter().filter(|id| *id != node) {
            if !followers.iter().any(|known| known.id == *id) {
                followers.push(Progress::new(*id, *log_end, now));
            }
        }
    }

    /// Whether an append with these acks may be made now.
    pub fn admit(&self, acks: Acks) -> Result<(), ErrorCode> {
        match acks {
            Acks::All if self.membership.in_sync.len() < self.membership.min_in_sync => {
                Err(ErrorCode::NotEnoughReplicas)
            }
            _ => Ok(()),
        }
    }

    /// Checks the leader epoch that a client believes in (KIP-320); -1 believes in any.
    pub fn check_epoch(&self, believed: LeaderEpoch) -> Result<(), ErrorCode> {
        check_epoch(believed, self.epoch)
    }

    /// The log now ends at `log_end`.
    pub fn appended(&mut self, log_end: Offset, now: Timestamp) -> Released<P, F> {
        for follower in &mut self.followers {
            follower.log_grows(self.log_end, now);
        }
        self.log_end = log_end;
        self.advance()
    }

    /// The log is on disk up to `synced`.
    pub fn synced(&mut self, synced: Offset) -> Released<P, F> {
        self.synced = self.synced.max(synced);
        self.advance()
    }

    /// A follower says what it has. What it says of another epoch doesn't count.
    pub fn acked(&mut self, from: BrokerId, ack: Ack, now: Timestamp) -> Released<P, F> {
        let log_end = self.log_end;
        if let Some(follower) = self.follower(from, ack.leader_epoch) {
            follower.acked(ack, log_end, now);
        }
        self.advance()
    }

    /// A follower can't take what it was sent.
    pub fn mismatched(&mut self, from: BrokerId, found: &Mismatch, epochs: &impl Epochs) {
        if let Some(follower) = self.follower(from, found.leader_epoch) {
            follower.mismatched(found, epochs);
        }
    }

    /// The link to a follower was lost, with what was on its way, or is there again.
    pub fn link_lost(&mut self, to: BrokerId, now: Timestamp) {
        let log_end = self.log_end;
        if let Some(follower) = self.follower(to, self.epoch) {
            follower.log_grows(log_end, now);
            follower.link_lost();
        }
    }

    fn follower(&mut self, id: BrokerId, epoch: LeaderEpoch) -> Option<&mut Progress> {
        let mut followers = self.followers.iter_mut();
        let follower = followers.find(|follower| follower.id == id);
        follower.filter(|_| epoch == self.epoch)
    }

    pub fn followers(&self) -> impl Iterator<Item = BrokerId> + '_ {
        self.followers.iter().map(|follower| follower.id)
    }

    /// The in-sync followers from which a consumer can read on at `offset`.
    pub fn readable_at(&self, offset: Offset) -> impl Iterator<Item = ReadableReplica> + '_ {
        let in_sync = |follower: &&Progress| self.membership.in_sync.contains(&follower.id);
        let followers = self.followers.iter().filter(in_sync);
        followers.filter_map(move |follower| follower.readable_at(offset))
    }

    /// What to send to a follower next, if anything may be sent now. Report [`Self::sent`].
    pub fn next_push(
        &mut self,
        to: BrokerId,
        epochs: &impl Epochs,
        now: Timestamp,
    ) -> Option<PushPlan> {
        let (epoch, log_end, high_watermark) = (self.epoch, self.log_end, self.high_watermark);
        let counts = self.membership.in_sync.contains(&to) || self.is_proposed(to);
        let follower = self.follower(to, epoch)?;
        let pace = match counts {
            true => Pace::Live,
            false => follower.pace(),
        };
        let log_start = epochs.start_offset();
        follower.start_at_least(log_start);
        let (offset, with_records) =
            follower.next((log_start, log_end), high_watermark, pace, now)?;
        Some(PushPlan {
            push: Push {
                leader_epoch: epoch,
                offset,
                previous_epoch: epoch_before(epochs, offset).unwrap_or(LeaderEpoch::NONE),
                high_watermark,
                log_start,
                log_end: epochs.end_offset(),
            },
            with_records,
            pace,
        })
    }

    /// How many of the pushes to a follower that are on their way have had a turn.
    pub fn turns_in_use(&self, by: BrokerId) -> usize {
        let mut followers = self.followers.iter();
        let follower = followers.find(|follower| follower.id == by);
        follower.map_or(0, Progress::turns_in_use)
    }

    /// A push was sent, with records up to `end`.
    pub fn sent(&mut self, to: BrokerId, end: Offset, bytes: usize, now: Timestamp) {
        let (log_end, high_watermark) = (self.log_end, self.high_watermark);
        let counts = self.membership.in_sync.contains(&to) || self.is_proposed(to);
        if let Some(follower) = self.follower(to, self.epoch) {
            let pace = match counts {
                true => Pace::Live,
                false => follower.pace(),
            };
            follower.sent((end, log_end), bytes, pace, high_watermark, now);
        }
    }

    /// Looks after followers that have said nothing for too long about what they were sent.
    pub fn tick(&mut self, now: Timestamp) {
        for follower in &mut self.followers {
            follower.tick(self.rule, now);
        }
    }

    /// Whether nothing is left to do: all are in sync, and nobody lacks anything, not even the news of what is
    /// committed. Whoever had everything when it couldn't join yet says nothing more when it can.
    pub fn is_at_rest(&self) -> bool {
        let Membership {
            in_sync, replicas, ..
        } = &self.membership;
        let mut followers = self.followers.iter();
        replicas.iter().all(|id| in_sync.contains(id))
            && followers.all(|follower| follower.has_everything(self.log_end, self.high_watermark))
    }

    /// The ISR that is to be asked for, if it is another one than the metadata's and none was asked for
    /// yet: without those who lag for too long, and with those who have caught up, if `may_join` them: whoever
    /// is asked for counts from then on, and one that is about to go would hold everybody up.
    pub fn propose_isr(
        &mut self,
        lag_max_ms: i64,
        now: Timestamp,
        may_join: impl Fn(BrokerId) -> bool,
    ) -> Option<IsrProposal> {
        if self.proposed.is_some() {
            return None;
        }
        let in_sync = &self.membership.in_sync;
        let belongs = |id: &BrokerId| {
            if *id == self.node {
                return true;
            }
            let Some(follower) = self.followers.iter().find(|follower| follower.id == *id) else {
                return false;
            };
            match in_sync.contains(id) {
                true => !follower.lags(self.log_end, lag_max_ms, now),
                false => {
                    may_join(*id)
                        && !follower.lags(self.log_end, lag_max_ms, now)
                        && follower.may_join(self.rule, self.high_watermark, self.epoch_start)
                }
            }
        };
        let isr: Vec<BrokerId> = (self.membership.replicas.iter().copied())
            .filter(belongs)
            .collect();
        let is_same = isr.len() == in_sync.len() && isr.iter().all(|id| in_sync.contains(id));
        if is_same {
            return None;
        }
        let proposal = IsrProposal {
            leader_epoch: self.epoch,
            partition_epoch: self.membership.partition_epoch,
            isr,
        };
        self.proposed = Some(proposal.clone());
        Some(proposal)
    }

    pub fn proposed(&self) -> Option<&IsrProposal> {
        self.proposed.as_ref()
    }

    /// The controller won't have the ISR that was proposed, for certain; what is unknown stays
    /// proposed, and is proposed again as it is.
    pub fn isr_refused(&mut self) -> Released<P, F> {
        self.proposed = None;
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
        self.readers.wait(reader);
    }

    /// The producers who have waited too long. Their records stay, and may yet be committed.
    pub fn expire(&mut self, now: Timestamp) -> Vec<P> {
        let (expired, waiting) = std::mem::take(&mut self.producers)
            .into_iter()
            .partition::<VecDeque<_>, _>(|producer| producer.deadline <= now);
        self.producers = waiting;
        expired.into_iter().map(|p| p.ticket).collect()
    }

    /// This node doesn't lead any more, or in another epoch: gives back everyone who waits.
    pub fn depose(&mut self) -> (Vec<P>, Vec<F>) {
        let producers = std::mem::take(&mut self.producers).into_iter();
        (
            producers.map(|producer| producer.ticket).collect(),
            self.readers.take_all(),
        )
    }

    /// Up to where everything is on each replica that is in sync, or about to be.
    fn committable(&self) -> Option<Offset> {
        let membership = &self.membership;
        // A topic that wants more than it has refuses acks=all, and commits what comes otherwise.
        let min_in_sync = membership.min_in_sync.min(membership.replicas.len());
        if membership.in_sync.len() < min_in_sync || membership.has_eligible_leaders {
            return None;
        }
        let mut to = match self.rule {
            CommitRule::Synced => self.synced,
            CommitRule::Written => self.log_end,
        };
        for follower in &self.followers {
            let counts = membership.in_sync.contains(&follower.id) || self.is_proposed(follower.id);
            if counts {
                to = to.min(follower.position(self.rule)?);
            }
        }
        Some(to)
    }

    fn is_proposed(&self, id: BrokerId) -> bool {
        let proposed = self.proposed.as_ref();
        proposed.is_some_and(|proposal| proposal.isr.contains(&id))
    }

    fn advance(&mut self) -> Released<P, F> {
        let to = match self.committable() {
            Some(to) if to > self.high_watermark => to,
            _ => return Released::nobody(),
        };
        self.high_watermark = to;
        let covered = self.producers.partition_point(|p| p.until <= to);
        Released {
            committed: self.producers.drain(..covered).map(|p| p.ticket).collect(),
            woken: self.readers.take_all(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::readers::READERS_SWEEP_MIN;
    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    struct Reader(&'static str);

    impl Patience for Reader {
        fn is_gone(&self) -> bool {
            self.0 == "gone"
        }
    }

    type Replica = LeaderReplica<&'static str, Reader>;

    const NODE: BrokerId = BrokerId(1);

    fn alone() -> Membership {
        Membership {
            replicas: vec![NODE],
            in_sync: vec![NODE],
            partition_epoch: 0,
            min_in_sync: 1,
            has_eligible_leaders: false,
        }
    }

    fn replica(rule: CommitRule) -> Replica {
        let start = LeaderStart {
            node: NODE,
            epoch: LeaderEpoch(3),
            rule,
            log_end: Offset(10),
            synced: Offset(10),
            high_watermark: Offset(0),
        };
        LeaderReplica::new(start, alone(), Timestamp(0))
    }

    const LATER: Timestamp = Timestamp(1_000);

    #[test]
    fn one_sync_releases_everyone_that_it_covers_and_nobody_else() {
        let mut replica = replica(CommitRule::Synced);
        for (end, ticket) in [(11, "a"), (15, "b"), (16, "c")] {
            assert!(replica
                .appended(Offset(end), Timestamp(0))
                .committed
                .is_empty());
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
        replica.appended(Offset(12), Timestamp(0));
        assert_eq!(replica.high_watermark(), Offset(12));
        assert_eq!(
            replica.wait_for_commit(Offset(12), LATER, "a"),
            Commit::Done("a")
        );
    }

    #[test]
    fn the_high_watermark_never_goes_back() {
        let mut replica = replica(CommitRule::Synced);
        replica.appended(Offset(20), Timestamp(0));
        replica.synced(Offset(20));
        replica.synced(Offset(12));
        assert_eq!(replica.high_watermark(), Offset(20));
    }

    #[test]
    fn a_duplicate_of_a_record_that_is_not_yet_on_disk_waits_in_its_place() {
        let mut replica = replica(CommitRule::Synced);
        replica.appended(Offset(12), Timestamp(0));
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
        assert!(replica.appended(Offset(11), Timestamp(0)).woken.is_empty());
        assert_eq!(replica.synced(Offset(11)).woken, [Reader("r")]);
        replica.appended(Offset(12), Timestamp(0));
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
        replica.appended(Offset(12), Timestamp(0));
        replica.wait_for_commit(Offset(11), Timestamp(50), "hasty");
        replica.wait_for_commit(Offset(12), Timestamp(90), "patient");
        assert!(replica.expire(Timestamp(49)).is_empty());
        assert_eq!(replica.expire(Timestamp(50)), ["hasty"]);
        assert_eq!(replica.synced(Offset(12)).committed, ["patient"]);
    }

    #[test]
    fn too_few_in_sync_replicas_refuse_acks_all_only() {
        let mut replica = replica(CommitRule::Synced);
        let mut membership = Membership {
            replicas: vec![NODE, BrokerId(2)],
            partition_epoch: 1,
            min_in_sync: 2,
            ..alone()
        };
        replica.assign(membership.clone(), Timestamp(0));
        assert_eq!(replica.admit(Acks::All), Err(ErrorCode::NotEnoughReplicas));
        assert_eq!(replica.admit(Acks::Leader), Ok(()));
        membership.partition_epoch = 2;
        membership.in_sync.push(BrokerId(2));
        replica.assign(membership, Timestamp(0));
        assert_eq!(replica.admit(Acks::All), Ok(()));
    }

    #[test]
    fn a_leader_is_not_at_rest_while_somebody_who_has_everything_is_not_in_sync() {
        let mut replica = replica(CommitRule::Synced);
        let other = BrokerId(2);
        let mut membership = Membership {
            replicas: vec![NODE, other],
            partition_epoch: 1,
            ..alone()
        };
        replica.assign(membership.clone(), Timestamp(0));
        let end = Offset(10);
        let ack = Ack {
            leader_epoch: LeaderEpoch(3),
            written: end,
            synced: end,
            log_start: Offset(0),
        };
        replica.acked(other, ack, Timestamp(1));
        replica.sent(other, end, 0, Timestamp(1));
        // It is fenced yet, and nothing more is to be heard of it.
        assert_eq!(replica.propose_isr(1_000, Timestamp(1), |_| false), None);
        assert!(!replica.is_at_rest());
        let proposal = replica.propose_isr(1_000, Timestamp(2), |_| true).unwrap();
        membership.partition_epoch = 2;
        membership.in_sync = proposal.isr;
        replica.assign(membership, Timestamp(3));
        assert!(replica.is_at_rest());
    }

    #[test]
    fn a_consumer_can_read_from_followers_that_are_in_sync_and_have_what_it_wants() {
        let mut replica = replica(CommitRule::Synced);
        let others = [BrokerId(2), BrokerId(3)];
        let membership = Membership {
            replicas: vec![NODE, others[0], others[1]],
            in_sync: vec![NODE, others[0]],
            partition_epoch: 1,
            ..alone()
        };
        replica.assign(membership, Timestamp(0));
        let ack = Ack {
            leader_epoch: LeaderEpoch(3),
            written: Offset(8),
            synced: Offset(8),
            log_start: Offset(5),
        };
        for other in others {
            replica.acked(other, ack, Timestamp(7));
        }
        let readable = |offset| {
            let all = replica.readable_at(Offset(offset));
            all.map(|follower| follower.id).collect::<Vec<_>>()
        };
        assert_eq!(readable(4), [], "it has deleted more than its leader");
        assert_eq!(readable(5), [BrokerId(2)]);
        assert_eq!(readable(8), [BrokerId(2)]);
        assert_eq!(readable(9), []);
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
