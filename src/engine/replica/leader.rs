//! The leader's replica: high watermark, and those who wait for it.

mod isr;
mod pushes;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use super::progress::Progress;
use super::{check_epoch, Ack, Epochs, Membership, Mismatch, Patience, ReadableReplica, Readers};
use crate::model::{BrokerId, ErrorCode, LeaderEpoch, Offset, Timestamp};

pub use isr::IsrProposal;
pub use pushes::{Pace, PushPlan};

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

    /// Whether there are other replicas, one of which could lead without this one's knowledge.
    pub fn has_others(&self) -> bool {
        self.membership.replicas.len() > 1
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
