//! A node: its disk, its guardian, and the replica that is at work.

use std::collections::{BTreeMap, BTreeSet};

use klamm::engine::guardian::{Assignment, Effect, Found, Guardianship, IfLost, Role, Unopened};
use klamm::engine::metadata::change::Change;
use klamm::engine::metadata::register_broker::Past;
use klamm::engine::metadata::{BrokerDefaults, BrokerEpoch, MetadataImage};
use klamm::engine::replica::{
    CommitRule, FollowerReplica, IsrProposal, LeaderReplica, LeaderStart, Membership, Patience,
};
use klamm::model::{BrokerId, LeaderEpoch, Offset, PartitionId, Timestamp};

use crate::log::{Log, Sync};
use crate::metadata::{id, incarnation, PARTITION};
use crate::rules::Broken;

/// Nobody waits for records in the simulator.
pub struct Reader;

impl Patience for Reader {
    fn is_gone(&self) -> bool {
        false
    }
}

/// A value and its offset.
pub type Ticket = (u64, i64);
pub type Leader = LeaderReplica<Ticket, Reader>;

pub struct Follower {
    pub replica: FollowerReplica,
    /// Where its leader's pushes come from, while that connection lasts.
    pub leader: Option<usize>,
    /// The leader has been told once where the logs may agree ([`Broken::OneLookUp`]).
    pub has_answered: bool,
}

pub enum Work {
    None,
    Leader(Box<Leader>),
    Follower(Follower),
}

/// How a node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Clean,
    Killed,
    /// And the directory of its log is removed.
    LosesLog,
    /// And everything else too.
    LosesDisk,
}

pub struct Node {
    pub n: usize,
    pub broken: Broken,
    pub rule: CommitRule,
    pub is_alive: bool,
    pub log: Log,
    /// Whether the log's directory is there.
    pub has_log: bool,
    /// Whether it has everything that the metadata take it to have.
    pub is_whole: bool,
    pub high_watermark: i64,
    /// What a leader that has just ended has committed at its end.
    pub last_commit: Option<i64>,
    /// Up to where what can be read was compared.
    pub checked: i64,
    pub work: Work,
    pub life: u64,
    /// Which of the metadata it knows.
    pub known: usize,
    guardian: Guardianship,
    ward_life: u64,
    /// The epoch in which its leader has died.
    pub raise: Option<LeaderEpoch>,
    has_clean_mark: bool,
    registration: Option<BrokerEpoch>,
    /// Its clock is so much ahead.
    pub clock_ms: i64,
    pub has_slow_disk: bool,
    pub sync: Option<Sync>,
    /// In which life each follower has last acknowledged something.
    pub lives: BTreeMap<usize, u64>,
    /// What the controller was asked for, and has not answered.
    pub asked: Option<IsrProposal>,
    /// How it was asked for first, to be asked for so again.
    pub change: Option<(IsrProposal, Change)>,
}

impl Node {
    pub fn new(n: usize, broken: Broken, rule: CommitRule, defaults: BrokerDefaults) -> Node {
        let life = n as u64;
        Node {
            n,
            broken,
            rule,
            is_alive: true,
            log: Log::default(),
            has_log: true,
            is_whole: true,
            high_watermark: 0,
            last_commit: None,
            checked: 0,
            work: Work::None,
            life,
            known: 0,
            guardian: Guardianship::new(id(n), incarnation(life), defaults),
            ward_life: 0,
            raise: None,
            has_clean_mark: false,
            registration: None,
            clock_ms: 0,
            has_slow_disk: false,
            sync: None,
            lives: BTreeMap::new(),
            asked: None,
            change: None,
        }
    }

    pub fn end(&mut self, end: End, kept: usize) {
        self.is_alive = false;
        self.work = Work::None;
        self.asked = None;
        self.change = None;
        self.raise = None;
        self.sync = None;
        self.lives.clear();
        match end {
            End::Clean => self.log.sync_all(),
            _ => {
                self.log.crash(kept);
                // Whatever it has lost, it can't prove that it hasn't.
                self.is_whole &= self.rule == CommitRule::Synced;
            }
        }
        self.has_clean_mark |= end == End::Clean;
        if let End::LosesLog | End::LosesDisk = end {
            self.log = Log::default();
            self.has_log = end == End::LosesDisk;
            self.is_whole = false;
        }
        if end == End::LosesDisk {
            self.registration = None;
            self.has_clean_mark = false;
        }
        self.high_watermark = (self.high_watermark.min(self.log.end())).max(self.log.start());
        self.checked = 0;
    }

    /// What its disk tells of its last life, and what it has lost.
    pub fn begin_life(
        &mut self,
        life: u64,
        defaults: BrokerDefaults,
    ) -> (Past, BTreeSet<PartitionId>) {
        self.is_alive = true;
        self.life = life;
        self.ward_life = 0;
        self.guardian = Guardianship::new(id(self.n), incarnation(life), defaults);
        let is_kept = self.has_clean_mark
            || self.rule == CommitRule::Synced
            || self.broken == Broken::UncleanCountsAsClean;
        let past = match self.registration {
            Some(epoch) if is_kept => Past::Kept(epoch),
            Some(epoch) => Past::Unclean(epoch),
            None => Past::Unknown,
        };
        self.has_clean_mark &= self.broken == Broken::CleanMarkStays;
        let tells = !self.has_log && self.broken != Broken::LostLogBeginsEmpty;
        (past, tells.then_some(PARTITION).into_iter().collect())
    }

    /// It has registered, and knows it.
    pub fn registered(&mut self, image: &MetadataImage, number: usize) {
        self.registration = image.broker(id(self.n)).map(|broker| broker.epoch);
        self.known = number;
        // Whatever it lacks, the metadata count on it for nothing by now.
        self.is_whole = true;
    }

    /// What its guardian makes of the metadata; the tickets of producers who are to be answered.
    pub fn reconcile(&mut self, image: &MetadataImage, now: Timestamp) -> Vec<Ticket> {
        let effects = self.guardian.reconcile(image, |_, _| Found::Nothing);
        self.carry_out(effects, now)
    }

    /// The actor panics. The next one finds the log as the process has left it.
    pub fn die(&mut self, now: Timestamp) -> Vec<Ticket> {
        if let Work::None = self.work {
            return Vec::new();
        }
        self.work = Work::None;
        self.log.sync_all();
        let age = std::time::Duration::from_secs(1);
        let effects = self.guardian.died(PARTITION, self.ward_life, age);
        self.carry_out(effects, now)
    }

    fn carry_out(&mut self, effects: Vec<Effect>, now: Timestamp) -> Vec<Ticket> {
        let mut answered = Vec::new();
        let mut effects = std::collections::VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Open {
                    id, life, if_lost, ..
                } => {
                    let opened = self.open(if_lost);
                    effects.extend(self.guardian.opened(id, life, opened));
                }
                Effect::Start {
                    role,
                    life,
                    assignment,
                    ..
                } => {
                    self.ward_life = life;
                    self.start(role, &assignment, now);
                }
                Effect::Release { id, life } => {
                    self.log.sync_all();
                    if let Work::Leader(leader) = &mut self.work {
                        answered.extend(leader.synced(Offset(self.log.end())).committed);
                        self.high_watermark = leader.high_watermark().0;
                        self.last_commit = Some(self.high_watermark);
                    }
                    self.work = Work::None;
                    effects.extend(self.guardian.released(id, life, Ok(())));
                }
                Effect::Update { assignment, .. } => answered.extend(self.update(&assignment, now)),
                Effect::RaiseEpoch { seen, .. } => self.raise = Some(seen),
                _ => {}
            }
        }
        answered
    }

    fn open(&mut self, if_lost: IfLost) -> Result<(), Unopened> {
        let begins_empty =
            if_lost == IfLost::BeginEmpty || self.broken == Broken::LostLogBeginsEmpty;
        if !self.has_log && !begins_empty {
            return Err(Unopened::Missing("it was removed".into()));
        }
        self.has_log = true;
        Ok(())
    }

    fn start(&mut self, role: Role, assignment: &Assignment, now: Timestamp) {
        self.asked = None;
        self.change = None;
        self.sync = None;
        match role {
            Role::Leader => self.lead(assignment, now),
            Role::Follower => {
                self.work = Work::Follower(Follower {
                    replica: FollowerReplica::new(assignment.epoch(), Offset(self.high_watermark)),
                    leader: None,
                    has_answered: false,
                });
                self.cut_by_high_watermark();
            }
        }
    }

    fn lead(&mut self, assignment: &Assignment, now: Timestamp) {
        let start = LeaderStart {
            node: id(self.n),
            epoch: assignment.epoch(),
            rule: self.rule,
            log_end: Offset(self.log.end()),
            synced: self.log.synced(),
            high_watermark: Offset(self.high_watermark),
        };
        let leader = LeaderReplica::new(start, self.membership(assignment), now);
        self.work = Work::Leader(Box::new(leader));
    }

    fn cut_by_high_watermark(&mut self) {
        if self.broken == Broken::TruncateByHighWatermark {
            self.log.truncate(self.high_watermark);
        }
    }

    fn update(&mut self, assignment: &Assignment, now: Timestamp) -> Vec<Ticket> {
        let membership = self.membership(assignment);
        match &mut self.work {
            Work::Leader(leader) if assignment.epoch() > leader.epoch() => {
                self.lead(assignment, now);
                Vec::new()
            }
            Work::Leader(leader) => leader.assign(membership, now).committed,
            Work::Follower(follower) => {
                if assignment.epoch() > follower.replica.epoch() {
                    follower.replica.assign(assignment.epoch());
                    follower.has_answered = false;
                    self.cut_by_high_watermark();
                }
                Vec::new()
            }
            Work::None => Vec::new(),
        }
    }

    /// As the leader's actor makes it of the metadata.
    fn membership(&self, assignment: &Assignment) -> Membership {
        let partition = &assignment.partition;
        let mut membership = Membership {
            replicas: partition.replicas.clone(),
            in_sync: partition.isr.clone(),
            partition_epoch: partition.partition_epoch.0,
            min_in_sync: assignment.config.min_insync_replicas,
            has_eligible_leaders: !partition.eligible_leaders.is_empty(),
        };
        match self.broken {
            Broken::AloneInSync => {
                membership.in_sync = vec![id(self.n)];
                membership.min_in_sync = 1;
            }
            Broken::BelowMinimum => {
                membership.min_in_sync = 1;
                membership.has_eligible_leaders = false;
            }
            _ => {}
        }
        membership
    }

    pub fn now(&self, now: i64) -> Timestamp {
        Timestamp(now + self.clock_ms)
    }

    /// The connection with another node is lost, or there again.
    pub fn link_lost(&mut self, other: usize, now: Timestamp) {
        match &mut self.work {
            Work::Leader(leader) => leader.link_lost(id(other), now),
            Work::Follower(follower) if follower.leader == Some(other) => follower.leader = None,
            _ => {}
        }
    }

    /// The ISR that it wants, if it leads.
    pub fn wanted_isr(
        &mut self,
        lag_max_ms: i64,
        image: &MetadataImage,
        now: Timestamp,
    ) -> Option<IsrProposal> {
        let Work::Leader(leader) = &mut self.work else {
            return None;
        };
        let is_active = |member: BrokerId| image.is_active(member);
        if self.broken == Broken::JoinsBehind {
            let membership = leader.membership();
            let isr = membership.replicas.iter().copied();
            return Some(IsrProposal {
                leader_epoch: leader.epoch(),
                partition_epoch: membership.partition_epoch,
                isr: isr.filter(|member| is_active(*member)).collect(),
            });
        }
        let wanted = leader.propose_isr(lag_max_ms, now, is_active);
        wanted.or_else(|| leader.proposed().cloned())
    }

    /// The guardian hears that it didn't get the epoch.
    pub fn epoch_refused(&mut self, seen: LeaderEpoch, now: Timestamp) {
        let after = std::time::Duration::ZERO;
        let effects = self.guardian.epoch_refused(PARTITION, seen, after);
        self.carry_out(Vec::from_iter(effects), now);
    }
}
