//! What the guardian decides: which replicas are at work on this node, in which role, and what becomes
//! of those that are lost.
//!
//! | phase | means | ends with |
//! |---|---|---|
//! | Opening | the log is being opened | [`Guardianship::opened`] |
//! | At work | a leader or a follower has the log | its death, or metadata that ask for the other role or give the replica up |
//! | Releasing | the one at work ends in good order, for one in the other role | [`Guardianship::released`], or its death |
//! | Bereaved | the leader died, a new leader epoch is asked for | metadata with a higher epoch |
//! | Lost | the log should be there, and isn't, or is corrupt | metadata that give the replica up, or count on it for nothing |
//! | Offline | the log can't be opened; if only the disk is full, it is being opened again | metadata that give the replica up |
//! | Settling | the data is being removed | [`Guardianship::settled`] |
//! | Closed | the broker ends, and the log is closed | |
//!
//! A log that is missing or corrupt is begun empty only by proof (ADR 0006): the metadata know this life of
//! the broker, somebody else leads, this replica is neither in sync nor eligible to lead, and no replica of this
//! life has acknowledged anything in their leader epoch. So whatever it had is elsewhere, nobody counts on it, and
//! its leader fills it again. For a log that is found to be corrupt it is asked for ([`Effect::GiveUpLog`]); until
//! then a replica that is at work goes on with what is whole.
//!
//! A replica that isn't wanted any more while its log is on the way is doomed: it is settled when the log
//! has come, unless it is wanted again by then. One that is wanted again while its data is being removed
//! begins anew after that. If the guardian dies meanwhile, the next one ends what it finds
//! ([`Guardianship::inherit`]); whoever opens a log waits in any case for whoever is at work on it.
//!
//! A replica that died is followed by one with the log as it is on disk, and never resumed; if it led,
//! then with a higher leader epoch. One whose role changes closes its log, and the next one opens it.
//! Each event returns [`Effect`]s, which the actor carries out in their order.
//!
//! When the broker ends ([`Guardianship::close`]), every replica closes its log once: one that is just ending for
//! another role is the last one, and one whose log is being opened closes it as soon as it has it.

mod effect;
#[cfg(test)]
mod tests;
mod ward;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::metadata::{BrokerDefaults, MetadataImage, Partition, Topic, TopicConfig};
use crate::model::{BrokerId, Incarnation, LeaderEpoch, PartitionId, TopicId};

pub use effect::{Assignment, Effect, Fate, Found, IfLost, LastUser, Role, Unopened};
use ward::{Phase, Ward, GIVE_UP_DELAY, RESTART_DELAY_MAX, RESTART_DELAY_MIN};

/// Whether the broker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    NotYet,
    /// The logs are being closed.
    Closing,
    /// And nothing happens any more.
    Closed,
}

/// The replicas that are on this node, or shall be.
pub struct Guardianship {
    node: BrokerId,
    /// This life of the broker.
    incarnation: Incarnation,
    defaults: BrokerDefaults,
    wards: BTreeMap<PartitionId, Ward>,
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

    /// Whether it has seen any metadata, and so what is at work.
    pub fn has_looked(&self) -> bool {
        self.has_looked
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
            let if_lost = self.if_lost(image, partition);
            match self.wards.get_mut(&id) {
                Some(ward) => {
                    ward.if_lost = if_lost;
                    effects.extend(ward.update(id, topic, assignment, role));
                }
                None => {
                    let mut ward = Ward::new(topic.clone(), assignment, role);
                    ward.if_lost = if_lost;
                    effects.extend(ward.adopt(id, find(id, topic)));
                    self.wards.insert(id, ward);
                }
            }
        }
        effects.push(Effect::Publish);
        effects
    }

    fn if_lost(&self, image: &MetadataImage, partition: &Partition) -> IfLost {
        let node = self.node;
        let known = image.broker(node);
        let is_known = known.is_some_and(|broker| broker.incarnation == self.incarnation);
        let is_led = ![BrokerId::NONE, node].contains(&partition.leader);
        let counts = partition.isr.contains(&node) || partition.eligible_leaders.contains(&node);
        match is_known && is_led && !counts {
            true => IfLost::BeginEmpty,
            false => IfLost::Refuse,
        }
    }

    /// The guardian before has left something of a partition that isn't this node's any more by now.
    pub fn inherit(
        &mut self,
        id: PartitionId,
        image: &MetadataImage,
        found: Found,
    ) -> Option<Effect> {
        let topic = image.topic(id.topic_id);
        let partition = topic.and_then(|topic| {
            let index = usize::try_from(id.partition).ok()?;
            topic.partitions.get(index)
        });
        let (Some(topic), Some(partition)) = (topic, partition) else {
            let fate = self.fate(id, image);
            return Some(Effect::Close { id, fate });
        };
        let assignment = Assignment {
            partition: partition.clone(),
            config: Arc::new(TopicConfig::resolve(&topic.configs, &self.defaults)),
        };
        let mut ward = Ward::new(topic.clone(), assignment, Role::Follower);
        ward.phase = match found {
            Found::AtWork { role, life } => {
                ward.life = life;
                Phase::AtWork(role)
            }
            Found::Offline { .. } | Found::Dead { .. } | Found::Nothing => Phase::Offline,
        };
        self.wards.insert(id, ward);
        self.give_up(id, image)
    }

    fn fate(&self, id: PartitionId, image: &MetadataImage) -> Fate {
        let has_moved = has_moved_away(image, self.node, self.incarnation, id);
        match has_moved || image.was_deleted(id.topic_id) {
            true => Fate::Removed,
            false => Fate::Kept,
        }
    }

    /// The partition has no replica here any more. Its data goes with its topic, or if others have it.
    fn give_up(&mut self, id: PartitionId, image: &MetadataImage) -> Option<Effect> {
        let has_moved = has_moved_away(image, self.node, self.incarnation, id);
        let fate = self.fate(id, image);
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
            Phase::Bereaved(_) | Phase::Lost | Phase::Offline if has_moved => {
                Some(self.settle(id, fate))
            }
            Phase::AtWork(_)
            | Phase::Bereaved(_)
            | Phase::Lost
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
            Err(Unopened::Missing(_) | Unopened::Corrupt(_)) if ward.may_begin_empty() => {
                // The metadata have changed while it was looked for.
                ward.open(id, LastUser::LastRun, Duration::ZERO)
            }
            Err(Unopened::Missing(reason)) => {
                ward.phase = Phase::Lost;
                Effect::TakeOffline { id, reason }
            }
            Err(Unopened::Corrupt(reason)) => {
                ward.phase = Phase::Lost;
                ward.is_corrupt = true;
                let after = Duration::ZERO;
                let effects = [
                    Effect::TakeOffline { id, reason },
                    Effect::GiveUpLog { id, after },
                    Effect::Touch,
                ];
                return self.and_closed(effects.into());
            }
            Err(Unopened::NoRoom(reason)) if !is_ending => {
                let again = ward.open_again(id);
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
            (None, Ok(())) => {
                let last_user = match ward.is_corrupt && ward.may_begin_empty() {
                    true => LastUser::CorruptReplica,
                    false => LastUser::Replica,
                };
                vec![ward.open(id, last_user, Duration::ZERO)]
            }
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

    /// The replica of this life has found that its log is corrupt. It goes on with what is whole until others have
    /// all of it, and nobody counts on this one.
    pub fn corrupt(&mut self, id: PartitionId, life: u64) -> Option<Effect> {
        let ward = self.wards.get_mut(&id)?;
        let is_news = ward.life == life && !ward.is_corrupt;
        if !is_news || !matches!(ward.phase, Phase::AtWork(_)) {
            return None;
        }
        ward.is_corrupt = true;
        let after = Duration::ZERO;
        Some(Effect::GiveUpLog { id, after })
    }

    /// The metadata go on counting on a log that is corrupt, perhaps since nobody else has all of it.
    pub fn log_kept(&self, id: PartitionId) -> Option<Effect> {
        let ward = self.wards.get(&id)?;
        let is_there = matches!(ward.phase, Phase::AtWork(_) | Phase::Lost);
        let is_there = is_there && self.end == End::NotYet;
        let after = GIVE_UP_DELAY;
        (ward.is_corrupt && is_there).then_some(Effect::GiveUpLog { id, after })
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
