//! What the guardian decides: which partitions this node leads, and what becomes of those whose
//! leader is lost.
//!
//! | phase | means | ends with |
//! |---|---|---|
//! | Opening | the log is being opened | [`Guardianship::opened`] |
//! | Leading | a leader is at work | its death, or the metadata that give the partition up |
//! | Bereaved | the leader died, a new leader epoch is asked for | metadata with a higher epoch |
//! | Offline | the log can't be opened | metadata that give the partition up |
//! | Doomed | opening, and not wanted any more | [`Guardianship::opened`] |
//!
//! A leader that died is followed by one with a higher leader epoch and the log as it is on disk,
//! and never resumed. Each event returns [`Effect`]s, which the actor carries out in their order.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::metadata::{BrokerDefaults, MetadataImage, Topic, TopicConfig};
use crate::model::{BrokerId, LeaderEpoch, PartitionId, TopicId};

/// A leader that dies again within this time is restarted later and later.
const CALM: Duration = Duration::from_secs(60);
const RESTART_DELAY_MIN: Duration = Duration::from_millis(50);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(5);

/// What becomes of the data of a partition that isn't led here any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its topic is deleted.
    Removed,
    /// Another broker leads it.
    Kept,
}

/// Who has used a log last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastUser {
    /// The broker's last run, which has left a mark if it ended well.
    LastRun,
    /// A leader of this run, which died.
    DeadLeader,
}

/// What a guardian finds of a partition that it has not known so far. `life` is how often its
/// leader has been rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Nothing,
    /// A leader of the guardian before this one.
    Leader {
        life: u64,
    },
    /// The guardian before could not open the log.
    Offline {
        life: u64,
    },
    /// There is a place for a leader, and none in it, `age` after the last one has started.
    DeadLeader {
        life: u64,
        age: Duration,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Open the log, and report [`Guardianship::opened`] with this epoch.
    Open {
        id: PartitionId,
        epoch: LeaderEpoch,
        config: Arc<TopicConfig>,
        last_user: LastUser,
    },
    /// Start a leader on the log that was opened.
    Lead {
        id: PartitionId,
        epoch: LeaderEpoch,
        life: u64,
        config: Arc<TopicConfig>,
    },
    /// Tell the leader what its topic's configs are by now.
    Configure {
        id: PartitionId,
        config: Arc<TopicConfig>,
    },
    /// Say that the partition can't be had.
    TakeOffline { id: PartitionId, reason: String },
    /// Say that the leader is lost, and another one on its way.
    Mourn { id: PartitionId },
    /// Ask the controller, after a while, for the epoch that follows `seen`. Report
    /// [`Guardianship::epoch_refused`] if that fails, unless the metadata have moved on.
    RaiseEpoch {
        id: PartitionId,
        seen: LeaderEpoch,
        after: Duration,
    },
    /// End the leader, if there is one, then settle the data, and forget the partition.
    Close { id: PartitionId, fate: Fate },
    /// Settle the data of a log that was opened in vain, and forget the partition.
    Settle { id: PartitionId, fate: Fate },
    /// Publish [`Guardianship::published`].
    Publish,
    /// Tell those who wait for a leader to look again.
    Touch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    Leading,
    Bereaved,
    Offline,
    Doomed(Fate),
}

struct Ward {
    topic: Arc<Topic>,
    config: Arc<TopicConfig>,
    epoch: LeaderEpoch,
    phase: Phase,
    /// How often its leader has been rebuilt.
    life: u64,
    /// How often it has died since it was last calm.
    deaths: u32,
}

/// The partitions that are led here, or shall be.
pub struct Guardianship {
    node: BrokerId,
    defaults: BrokerDefaults,
    wards: BTreeMap<PartitionId, Ward>,
}

impl Guardianship {
    pub fn new(node: BrokerId, defaults: BrokerDefaults) -> Guardianship {
        Guardianship {
            node,
            defaults,
            wards: BTreeMap::new(),
        }
    }

    /// The metadata have changed. `find` is asked about each partition that is new here.
    pub fn reconcile(
        &mut self,
        image: &MetadataImage,
        mut find: impl FnMut(PartitionId, &Topic) -> Found,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        let wanted = self.wanted(image);
        let gone = self.wards.keys().filter(|id| !wanted.contains_key(id));
        for id in gone.copied().collect::<Vec<_>>() {
            effects.extend(self.give_up(id, image));
        }
        let mut configs: BTreeMap<TopicId, Arc<TopicConfig>> = BTreeMap::new();
        for (id, (topic, epoch)) in wanted {
            let resolve = || Arc::new(TopicConfig::resolve(&topic.configs, &self.defaults));
            let config = configs.entry(id.topic_id).or_insert_with(resolve).clone();
            match self.wards.get_mut(&id) {
                Some(ward) => effects.extend(ward.update(id, topic, config, epoch)),
                None => {
                    let found = find(id, topic);
                    effects.extend(self.adopt(id, topic, config, epoch, found));
                }
            }
        }
        effects.push(Effect::Publish);
        effects
    }

    /// What the metadata say that this node leads, and in which epoch.
    fn wanted<'a>(
        &self,
        image: &'a MetadataImage,
    ) -> BTreeMap<PartitionId, (&'a Arc<Topic>, LeaderEpoch)> {
        let here = image.partitions_on(self.node);
        here.filter(|(_, _, partition)| partition.leader == self.node)
            .map(|(id, topic, partition)| (id, (topic, partition.leader_epoch)))
            .collect()
    }

    /// A partition that this guardian has not known: a new one, or one of the guardian before it.
    fn adopt(
        &mut self,
        id: PartitionId,
        topic: &Arc<Topic>,
        config: Arc<TopicConfig>,
        epoch: LeaderEpoch,
        found: Found,
    ) -> Vec<Effect> {
        let (phase, life) = match found {
            Found::Nothing => (Phase::Opening, 0),
            Found::Leader { life } => (Phase::Leading, life),
            Found::Offline { life } => (Phase::Offline, life),
            Found::DeadLeader { life, .. } => (Phase::Bereaved, life),
        };
        let mut ward = Ward {
            topic: topic.clone(),
            config,
            epoch,
            phase,
            life,
            deaths: 0,
        };
        let effects = match found {
            Found::Nothing => vec![ward.open(id, LastUser::LastRun)],
            // The guardian before may not have come to it.
            Found::Leader { .. } => vec![ward.configure(id)],
            Found::Offline { .. } => Vec::new(),
            Found::DeadLeader { age, .. } => ward.bereave(id, age),
        };
        self.wards.insert(id, ward);
        effects
    }

    /// The partition isn't led here any more. Its data goes only with its topic.
    fn give_up(&mut self, id: PartitionId, image: &MetadataImage) -> Option<Effect> {
        let fate = match image.was_deleted(id.topic_id) {
            true => Fate::Removed,
            false => Fate::Kept,
        };
        let ward = self.wards.get_mut(&id)?;
        if let Phase::Opening | Phase::Doomed(_) = ward.phase {
            ward.phase = Phase::Doomed(fate);
            return None;
        }
        self.wards.remove(&id);
        Some(Effect::Close { id, fate })
    }

    /// A log was opened for this epoch, or could not be.
    pub fn opened(
        &mut self,
        id: PartitionId,
        epoch: LeaderEpoch,
        opened: Result<(), String>,
    ) -> Vec<Effect> {
        let Some(ward) = self.wards.get_mut(&id) else {
            return Vec::new();
        };
        if let Phase::Doomed(fate) = ward.phase {
            self.wards.remove(&id);
            return vec![Effect::Settle { id, fate }];
        }
        if ward.phase != Phase::Opening || ward.epoch != epoch {
            return Vec::new();
        }
        let effect = match opened {
            Ok(()) => ward.lead(id),
            Err(reason) => {
                ward.phase = Phase::Offline;
                Effect::TakeOffline { id, reason }
            }
        };
        vec![effect, Effect::Touch]
    }

    /// The leader has died, `age` after it was started.
    ///
    /// The news may come late: the guardian that was to hear it had died too, and this one has seen
    /// for itself. Then the leader has been rebuilt since, and its present life is none of this
    /// one's business.
    pub fn died(&mut self, id: PartitionId, life: u64, age: Duration) -> Vec<Effect> {
        let ward = self.wards.get_mut(&id).filter(|ward| ward.life == life);
        ward.map_or_else(Vec::new, |ward| ward.bereave(id, age))
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
        let waits = ward.phase == Phase::Bereaved && ward.epoch == seen;
        let after = (2 * after).clamp(RESTART_DELAY_MIN, RESTART_DELAY_MAX);
        waits.then_some(Effect::RaiseEpoch { id, seen, after })
    }

    /// Whether every partition is led.
    pub fn all_lead(&self) -> bool {
        let mut wards = self.wards.values();
        wards.all(|ward| ward.phase == Phase::Leading)
    }

    /// The partitions that requests may find here.
    pub fn published(&self) -> impl Iterator<Item = (PartitionId, &Arc<Topic>, &Arc<TopicConfig>)> {
        let doomed = |ward: &Ward| matches!(ward.phase, Phase::Doomed(_));
        let wards = self.wards.iter().filter(move |(_, ward)| !doomed(ward));
        wards.map(|(id, ward)| (*id, &ward.topic, &ward.config))
    }
}

impl Ward {
    /// What the metadata say of it now.
    fn update(
        &mut self,
        id: PartitionId,
        topic: &Arc<Topic>,
        config: Arc<TopicConfig>,
        epoch: LeaderEpoch,
    ) -> Option<Effect> {
        self.topic = topic.clone();
        let changed = self.config != config;
        self.config = config;
        match self.phase {
            Phase::Leading if changed => Some(self.configure(id)),
            Phase::Bereaved if epoch > self.epoch => {
                self.epoch = epoch;
                self.phase = Phase::Opening;
                Some(self.open(id, LastUser::DeadLeader))
            }
            _ => None,
        }
    }

    fn open(&self, id: PartitionId, last_user: LastUser) -> Effect {
        Effect::Open {
            id,
            epoch: self.epoch,
            config: self.config.clone(),
            last_user,
        }
    }

    fn configure(&self, id: PartitionId) -> Effect {
        Effect::Configure {
            id,
            config: self.config.clone(),
        }
    }

    /// With the config of now: it may have changed while the log was being opened.
    fn lead(&mut self, id: PartitionId) -> Effect {
        self.phase = Phase::Leading;
        Effect::Lead {
            id,
            epoch: self.epoch,
            life: self.life,
            config: self.config.clone(),
        }
    }

    /// The leader is lost: the next one needs a new epoch, which comes with the metadata.
    fn bereave(&mut self, id: PartitionId, age: Duration) -> Vec<Effect> {
        self.deaths = if age > CALM { 0 } else { self.deaths + 1 };
        self.life += 1;
        self.phase = Phase::Bereaved;
        let raise = Effect::RaiseEpoch {
            id,
            seen: self.epoch,
            after: restart_delay(self.deaths),
        };
        vec![Effect::Mourn { id }, raise]
    }
}

/// None for the first death; doubled for each that follows soon.
fn restart_delay(deaths: u32) -> Duration {
    match deaths {
        0 | 1 => Duration::ZERO,
        more => (RESTART_DELAY_MIN * 2u32.saturating_pow(more.min(16) - 2)).min(RESTART_DELAY_MAX),
    }
}
