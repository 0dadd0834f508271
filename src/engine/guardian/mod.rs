//! What the guardian decides: which replicas are at work on this node, in which role, and what becomes
//! of those that are lost.
//!
//! | phase | means | ends with |
//! |---|---|---|
//! | Opening | the log is being opened | [`Guardianship::opened`] |
//! | At work | a leader or a follower has the log | its death, or metadata that ask for the other role or give the replica up |
//! | Releasing | the one at work ends in good order, for one in the other role | [`Guardianship::released`], or its death |
//! | Bereaved | the leader died, a new leader epoch is asked for | metadata with a higher epoch |
//! | Missing | the log should be there, and isn't | metadata that give the replica up, or count on it for nothing |
//! | Offline | the log can't be opened; if only the disk is full, it is being opened again | metadata that give the replica up |
//! | Settling | the data is being removed | [`Guardianship::settled`] |
//! | Closed | the broker ends, and the log is closed | |
//!
//! A log that is missing is begun empty only by proof (ADR 0006): the metadata know this life of the broker,
//! somebody else leads, and this replica is neither in sync nor eligible to lead. So whatever it had is
//! elsewhere, and its leader fills it again. That is judged for the first replica of a life alone: a later
//! one may have come in sync in the meantime.
//!
//! A replica that isn't wanted any more while its log is on the way is doomed: it is settled when the log
//! has come, unless it is wanted again by then. One that is wanted again while its data is being removed
//! begins anew after that.
//!
//! A replica that died is followed by one with the log as it is on disk, and never resumed; if it led,
//! then with a higher leader epoch. One whose role changes closes its log, and the next one opens it.
//! Each event returns [`Effect`]s, which the actor carries out in their order.
//!
//! When the broker ends ([`Guardianship::close`]), every replica closes its log once: one that is just ending for
//! another role is the last one, and one whose log is being opened closes it as soon as it has it.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::metadata::{BrokerDefaults, MetadataImage, Partition, Topic, TopicConfig};
use crate::model::{BrokerId, Incarnation, LeaderEpoch, PartitionId, TopicId};

/// A replica that dies again within this time is restarted later and later.
const CALM: Duration = Duration::from_secs(60);
const RESTART_DELAY_MIN: Duration = Duration::from_millis(50);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(5);

/// How long a log waits to be opened again that found the disk full.
const FULL_DISK_DELAY: Duration = Duration::from_secs(1);

/// What becomes of the data of a partition that has no replica here any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its topic is deleted, or other brokers have it by now (`docs/adr/0013-a-partition-moves.md`).
    Removed,
    /// The metadata don't prove that nobody needs it.
    Kept,
}

/// Who has used a log last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastUser {
    /// The broker's last run, which has left a mark if it ended well.
    LastRun,
    /// A replica of this run, which has closed it.
    Replica,
    /// A replica of this run, which died.
    DeadReplica,
}

/// What becomes of a log that should be there, and isn't.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfMissing {
    /// It is an error: [`Unopened::Missing`].
    Refuse,
    /// An empty one is made in its place.
    BeginEmpty,
}

/// Why a log could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unopened {
    /// It should be there, and isn't.
    Missing(String),
    /// The disk is full: it can be opened when there is room again.
    NoRoom(String),
    Broken(String),
}

/// What a replica is to its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Leader,
    Follower,
}

/// What the metadata say of a replica's partition.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    pub partition: Arc<Partition>,
    pub config: Arc<TopicConfig>,
}

impl Assignment {
    pub fn epoch(&self) -> LeaderEpoch {
        self.partition.leader_epoch
    }

    fn role(&self, node: BrokerId) -> Role {
        match self.partition.leader == node {
            true => Role::Leader,
            false => Role::Follower,
        }
    }
}

/// What a guardian finds of a partition that it has not known so far. `life` is how often its
/// replica here has been rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Nothing,
    /// A replica of the guardian before this one.
    AtWork {
        role: Role,
        life: u64,
    },
    /// The guardian before could not open the log.
    Offline {
        life: u64,
    },
    /// There is a place for a replica, and none in it, `age` after the last one has started.
    Dead {
        life: u64,
        age: Duration,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Open the log after a while, and report [`Guardianship::opened`] with this life.
    Open {
        id: PartitionId,
        life: u64,
        config: Arc<TopicConfig>,
        last_user: LastUser,
        if_missing: IfMissing,
        after: Duration,
    },
    /// Start a replica on the log that was opened.
    Start {
        id: PartitionId,
        role: Role,
        life: u64,
        assignment: Assignment,
    },
    /// End the replica in good order, and report [`Guardianship::released`] with this life.
    Release { id: PartitionId, life: u64 },
    /// Tell the replica what the metadata say of its partition by now.
    Update {
        id: PartitionId,
        assignment: Assignment,
    },
    /// Say that the partition can't be had.
    TakeOffline { id: PartitionId, reason: String },
    /// Say that the replica is lost, and another one on its way.
    Mourn { id: PartitionId },
    /// Ask the controller, after a while, for the epoch that follows `seen`. Report
    /// [`Guardianship::epoch_refused`] if that fails, unless the metadata have moved on.
    RaiseEpoch {
        id: PartitionId,
        seen: LeaderEpoch,
        after: Duration,
    },
    /// End the replica, if there is one, then settle the data, and forget the partition.
    Close { id: PartitionId, fate: Fate },
    /// Do to the data of a log that is closed what its fate says. If it is removed, report
    /// [`Guardianship::settled`].
    Settle { id: PartitionId, fate: Fate },
    /// Publish [`Guardianship::published`].
    Publish,
    /// Tell those who wait for a replica to look again.
    Touch,
    /// Say that all logs are closed, or that some are not closed well.
    AllClosed { well: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    AtWork(Role),
    Releasing,
    /// The leader died in this epoch.
    Bereaved(LeaderEpoch),
    Missing,
    Offline,
    Settling,
    Closed,
}

/// Whether the broker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    NotYet,
    /// The logs are being closed.
    Closing,
    /// And nothing happens any more.
    Closed,
}

struct Ward {
    topic: Arc<Topic>,
    assignment: Assignment,
    role: Role,
    /// By what the metadata say.
    if_missing: IfMissing,
    phase: Phase,
    /// Who has used the log before it was opened last.
    last_user: LastUser,
    /// It isn't wanted any more, and its log is on the way.
    doomed: Option<Fate>,
    /// How often its replica has been rebuilt.
    life: u64,
    /// How often it has died since it was last calm.
    deaths: u32,
}

/// The replicas that are on this node, or shall be.
pub struct Guardianship {
    node: BrokerId,
    /// This life of the broker.
    incarnation: Incarnation,
    defaults: BrokerDefaults,
    wards: BTreeMap<PartitionId, Ward>,
    /// Whether it has seen any metadata, and so what is at work.
    has_looked: bool,
    end: End,
}

impl Guardianship {
    pub fn new(node: BrokerId, incarnation: Incarnation, defaults: BrokerDefaults) -> Guardianship {
        Guardianship {
            node,
            incarnation,
            defaults,
            wards: BTreeMap::new(),
            has_looked: false,
            end: End::NotYet,
        }
    }

    /// The metadata have changed. `find` is asked about each partition that is new here.
    pub fn reconcile(
        &mut self,
        image: &MetadataImage,
        mut find: impl FnMut(PartitionId, &Topic) -> Found,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.end != End::NotYet {
            return effects;
        }
        self.has_looked = true;
        let is_gone = |id: &PartitionId| {
            let partition = image.partition(*id);
            !partition.is_some_and(|partition| partition.replicas.contains(&self.node))
        };
        let gone: Vec<PartitionId> = self.wards.keys().copied().filter(is_gone).collect();
        for id in gone {
            effects.extend(self.give_up(id, image));
        }
        let mut configs: BTreeMap<TopicId, Arc<TopicConfig>> = BTreeMap::new();
        for (id, topic, partition) in image.partitions_on(self.node) {
            let resolve = || Arc::new(TopicConfig::resolve(&topic.configs, &self.defaults));
            let assignment = Assignment {
                partition: partition.clone(),
                config: configs.entry(id.topic_id).or_insert_with(resolve).clone(),
            };
            let role = assignment.role(self.node);
            let if_missing = self.if_missing(image, partition);
            match self.wards.get_mut(&id) {
                Some(ward) => {
                    ward.if_missing = if_missing;
                    effects.extend(ward.update(id, topic, assignment, role));
                }
                None => {
                    let mut ward = Ward::new(topic.clone(), assignment, role);
                    ward.if_missing = if_missing;
                    effects.extend(ward.adopt(id, find(id, topic)));
                    self.wards.insert(id, ward);
                }
            }
        }
        effects.push(Effect::Publish);
        effects
    }

    fn if_missing(&self, image: &MetadataImage, partition: &Partition) -> IfMissing {
        let node = self.node;
        let known = image.broker(node);
        let is_known = known.is_some_and(|broker| broker.incarnation == self.incarnation);
        let is_led = ![BrokerId::NONE, node].contains(&partition.leader);
        let counts = partition.isr.contains(&node) || partition.eligible_leaders.contains(&node);
        match is_known && is_led && !counts {
            true => IfMissing::BeginEmpty,
            false => IfMissing::Refuse,
        }
    }

    /// The partition has no replica here any more. Its data goes with its topic, or if others have it.
    fn give_up(&mut self, id: PartitionId, image: &MetadataImage) -> Option<Effect> {
        let has_moved = has_moved_away(image, self.node, self.incarnation, id);
        let fate = match has_moved || image.was_deleted(id.topic_id) {
            true => Fate::Removed,
            false => Fate::Kept,
        };
        let ward = self.wards.get_mut(&id)?;
        match ward.phase {
            Phase::Opening | Phase::Releasing | Phase::Settling => {
                ward.doomed = Some(fate);
                None
            }
            // It may come back, and then must not find the old one at work.
            Phase::AtWork(_) if has_moved => {
                ward.doomed = Some(fate);
                Some(ward.release(id))
            }
            Phase::Bereaved(_) | Phase::Missing | Phase::Offline if has_moved => {
                Some(self.settle(id, fate))
            }
            Phase::AtWork(_)
            | Phase::Bereaved(_)
            | Phase::Missing
            | Phase::Offline
            | Phase::Closed => {
                self.wards.remove(&id);
                Some(Effect::Close { id, fate })
            }
        }
    }

    /// A log was opened in this life of the replica, or could not be.
    pub fn opened(
        &mut self,
        id: PartitionId,
        life: u64,
        opened: Result<(), Unopened>,
    ) -> Vec<Effect> {
        let is_ending = self.end == End::Closing;
        let Some(ward) = self.on_its_way(id, life, Phase::Opening) else {
            return Vec::new();
        };
        if let Some(fate) = ward.doomed {
            let settled = self.settle(id, fate);
            return self.and_closed(vec![settled]);
        }
        if is_ending && opened.is_ok() {
            return vec![ward.start(id), ward.release(id)];
        }
        let effect = match opened {
            Ok(()) => ward.start(id),
            Err(Unopened::Missing(_)) if ward.may_begin_empty() => {
                // The metadata have changed while it was looked for.
                ward.open(id, LastUser::LastRun, Duration::ZERO)
            }
            Err(Unopened::Missing(reason)) => {
                ward.phase = Phase::Missing;
                Effect::TakeOffline { id, reason }
            }
            Err(Unopened::NoRoom(reason)) if !is_ending => {
                let again = ward.open(id, ward.last_user, FULL_DISK_DELAY);
                return vec![Effect::TakeOffline { id, reason }, again, Effect::Touch];
            }
            Err(Unopened::NoRoom(reason) | Unopened::Broken(reason)) => {
                ward.phase = Phase::Offline;
                Effect::TakeOffline { id, reason }
            }
        };
        self.and_closed(vec![effect, Effect::Touch])
    }

    /// A replica has closed its log in this life, or could not: then it is lost, `age` after it was
    /// started.
    pub fn released(
        &mut self,
        id: PartitionId,
        life: u64,
        closed: Result<(), Duration>,
    ) -> Vec<Effect> {
        let is_ending = self.end == End::Closing;
        let Some(ward) = self.on_its_way(id, life, Phase::Releasing) else {
            return Vec::new();
        };
        let effects = match (ward.doomed, closed) {
            (Some(fate), _) => vec![self.settle(id, fate)],
            (None, closed) if is_ending => {
                ward.phase = match closed {
                    Ok(()) => Phase::Closed,
                    Err(_) => Phase::Offline,
                };
                Vec::new()
            }
            (None, Ok(())) => vec![ward.open(id, LastUser::Replica, Duration::ZERO)],
            (None, Err(age)) => ward.lose(id, age),
        };
        self.and_closed(effects)
    }

    /// The replica has died, `age` after it was started.
    ///
    /// The news may come late: the guardian that was to hear it had died too, and this one has seen
    /// for itself. Then the replica has been rebuilt since, and its present life is none of this
    /// one's business.
    pub fn died(&mut self, id: PartitionId, life: u64, age: Duration) -> Vec<Effect> {
        let ward = self.wards.get_mut(&id).filter(|ward| ward.life == life);
        match ward.map(|ward| (ward.phase, ward)) {
            Some((Phase::AtWork(_), ward)) => ward.lose(id, age),
            Some((Phase::Releasing, _)) => self.released(id, life, Err(age)),
            _ => Vec::new(),
        }
    }

    /// The ward whose log is on its way just so.
    fn on_its_way(&mut self, id: PartitionId, life: u64, phase: Phase) -> Option<&mut Ward> {
        let ward = self.wards.get_mut(&id)?;
        (ward.phase == phase && ward.life == life).then_some(ward)
    }

    /// Its log is closed. Until the data is gone nobody may open it again.
    fn settle(&mut self, id: PartitionId, fate: Fate) -> Effect {
        match (fate, self.wards.get_mut(&id)) {
            (Fate::Removed, Some(ward)) => {
                ward.doomed = Some(fate);
                ward.phase = Phase::Settling;
            }
            _ => {
                self.wards.remove(&id);
            }
        }
        Effect::Settle { id, fate }
    }

    /// The data is removed. The partition is forgotten, unless it is wanted again.
    pub fn settled(&mut self, id: PartitionId) -> Option<Effect> {
        let ward = self.wards.get_mut(&id)?;
        if ward.phase != Phase::Settling {
            return None;
        }
        if ward.doomed.is_none() && self.end == End::NotYet {
            return Some(ward.open(id, LastUser::Replica, Duration::ZERO));
        }
        self.wards.remove(&id);
        None
    }

    /// The controller did not give the epoch that follows `seen`, which it was asked for `after` so
    /// long.
    pub fn epoch_refused(
        &self,
        id: PartitionId,
        seen: LeaderEpoch,
        after: Duration,
    ) -> Option<Effect> {
        let ward = self.wards.get(&id)?;
        let after = (2 * after).clamp(RESTART_DELAY_MIN, RESTART_DELAY_MAX);
        let waits = ward.phase == Phase::Bereaved(seen) && self.end == End::NotYet;
        waits.then_some(Effect::RaiseEpoch { id, seen, after })
    }

    /// The broker ends: every replica closes its log, and none is started any more. [`Effect::AllClosed`] says
    /// when that is done.
    pub fn close(&mut self) -> Vec<Effect> {
        if self.end != End::NotYet {
            return Vec::new();
        }
        self.end = End::Closing;
        let mut effects = Vec::new();
        for (id, ward) in &mut self.wards {
            if let Phase::AtWork(_) = ward.phase {
                effects.push(ward.release(*id));
            }
        }
        self.and_closed(effects)
    }

    /// Adds the news that all logs are closed, if these effects are the last ones. What is being removed needs
    /// no closing.
    fn and_closed(&mut self, mut effects: Vec<Effect>) -> Vec<Effect> {
        let is_on_its_way = |ward: &Ward| matches!(ward.phase, Phase::Opening | Phase::Releasing);
        if self.end == End::Closing && !self.wards.values().any(is_on_its_way) {
            self.end = End::Closed;
            let is_going = |ward: &&Ward| ward.phase == Phase::Settling && ward.doomed.is_some();
            let mut wards = self.wards.values().filter(|ward| !is_going(ward));
            let well = self.has_looked && wards.all(|ward| ward.phase == Phase::Closed);
            effects.push(Effect::AllClosed { well });
        }
        effects
    }

    /// The partitions that requests may find here.
    pub fn published(&self) -> impl Iterator<Item = (PartitionId, &Arc<Topic>, &Arc<TopicConfig>)> {
        let wards = self.wards.iter().filter(|(_, ward)| ward.doomed.is_none());
        wards.map(|(id, ward)| (*id, &ward.topic, &ward.assignment.config))
    }
}

impl Ward {
    fn new(topic: Arc<Topic>, assignment: Assignment, role: Role) -> Ward {
        Ward {
            topic,
            assignment,
            role,
            if_missing: IfMissing::Refuse,
            phase: Phase::Opening,
            last_user: LastUser::LastRun,
            doomed: None,
            life: 0,
            deaths: 0,
        }
    }

    /// What the guardian before has left of a partition that this one has not known.
    fn adopt(&mut self, id: PartitionId, found: Found) -> Vec<Effect> {
        match found {
            Found::Nothing => vec![self.open(id, LastUser::LastRun, Duration::ZERO)],
            // The guardian before may have missed the latest metadata.
            Found::AtWork { role, life } => {
                self.life = life;
                self.phase = Phase::AtWork(role);
                vec![self.direct(id, role)]
            }
            Found::Offline { life } => {
                self.life = life;
                self.phase = Phase::Offline;
                Vec::new()
            }
            // Perhaps it led in the present epoch.
            Found::Dead { life, age } => {
                self.life = life;
                self.phase = Phase::AtWork(self.role);
                self.lose(id, age)
            }
        }
    }

    /// What the metadata say of it now.
    fn update(
        &mut self,
        id: PartitionId,
        topic: &Arc<Topic>,
        assignment: Assignment,
        role: Role,
    ) -> Option<Effect> {
        self.topic = topic.clone();
        let changed = self.assignment != assignment;
        self.assignment = assignment;
        self.role = role;
        self.doomed = None;
        match self.phase {
            Phase::AtWork(present) if changed => Some(self.direct(id, present)),
            Phase::Missing if self.may_begin_empty() => {
                Some(self.open(id, LastUser::LastRun, Duration::ZERO))
            }
            Phase::Bereaved(epoch) if self.assignment.epoch() > epoch => {
                Some(self.open(id, LastUser::DeadReplica, Duration::ZERO))
            }
            _ => None,
        }
    }

    /// Tells a replica that is at work in this role what it is to do.
    fn direct(&mut self, id: PartitionId, present: Role) -> Effect {
        if present == self.role {
            let assignment = self.assignment.clone();
            return Effect::Update { id, assignment };
        }
        self.release(id)
    }

    fn release(&mut self, id: PartitionId) -> Effect {
        self.phase = Phase::Releasing;
        let life = self.life;
        Effect::Release { id, life }
    }

    fn may_begin_empty(&self) -> bool {
        self.life == 0 && self.if_missing == IfMissing::BeginEmpty
    }

    fn open(&mut self, id: PartitionId, last_user: LastUser, after: Duration) -> Effect {
        self.phase = Phase::Opening;
        self.last_user = last_user;
        Effect::Open {
            id,
            life: self.life,
            config: self.assignment.config.clone(),
            last_user,
            if_missing: match last_user {
                LastUser::LastRun => self.if_missing,
                LastUser::Replica | LastUser::DeadReplica => IfMissing::Refuse,
            },
            after,
        }
    }

    /// As the metadata say now: they may have changed while the log was on its way.
    fn start(&mut self, id: PartitionId) -> Effect {
        self.phase = Phase::AtWork(self.role);
        Effect::Start {
            id,
            role: self.role,
            life: self.life,
            assignment: self.assignment.clone(),
        }
    }

    /// The replica is lost. If it led, the next one needs a new epoch, which comes with the metadata.
    fn lose(&mut self, id: PartitionId, age: Duration) -> Vec<Effect> {
        self.deaths = if age > CALM { 0 } else { self.deaths + 1 };
        self.life += 1;
        let after = restart_delay(self.deaths);
        let next = match self.phase {
            Phase::AtWork(Role::Leader) => {
                let seen = self.assignment.epoch();
                self.phase = Phase::Bereaved(seen);
                Effect::RaiseEpoch { id, seen, after }
            }
            _ => self.open(id, LastUser::DeadReplica, after),
        };
        vec![Effect::Mourn { id }, next]
    }
}

/// Whether the partition is there, and has no replica on this node any more. An image that knows this life of
/// the broker is as new as this life: whatever was written here before, it counts with.
pub fn has_moved_away(
    image: &MetadataImage,
    node: BrokerId,
    incarnation: Incarnation,
    id: PartitionId,
) -> bool {
    let broker = image.broker(node);
    let is_current = broker.is_some_and(|broker| broker.incarnation == incarnation);
    let partition = image.partition(id);
    is_current && partition.is_some_and(|partition| !partition.replicas.contains(&node))
}

/// None for the first death; doubled for each that follows soon.
fn restart_delay(deaths: u32) -> Duration {
    match deaths {
        0 | 1 => Duration::ZERO,
        more => (RESTART_DELAY_MIN * 2u32.saturating_pow(more.min(16) - 2)).min(RESTART_DELAY_MAX),
    }
}
