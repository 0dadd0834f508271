//! One replica that is on this node, or shall be.

use std::sync::Arc;
use std::time::Duration;

use super::{Assignment, Effect, Fate, Found, IfLost, LastUser, Role};
use crate::engine::metadata::Topic;
use crate::model::{LeaderEpoch, PartitionId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Opening,
    AtWork(Role),
    Releasing,
    /// The leader died in this epoch.
    Bereaved(LeaderEpoch),
    /// The log is missing, or corrupt.
    Lost,
    Offline,
    Settling,
    Closed,
}

pub(super) struct Ward {
    pub topic: Arc<Topic>,
    pub assignment: Assignment,
    pub role: Role,
    /// By what the metadata say.
    pub if_lost: IfLost,
    pub phase: Phase,
    /// Who has used the log before it was opened last.
    pub last_user: LastUser,
    /// What was once on disk of its log isn't any more what it was.
    pub is_corrupt: bool,
    /// The latest leader epoch in which a replica of this life of the broker may have acknowledged something.
    pub acknowledges_in: Option<LeaderEpoch>,
    /// It isn't wanted any more, and its log is on the way.
    pub doomed: Option<Fate>,
    /// How often its replica has been rebuilt.
    pub life: u64,
    /// How often it has died since it was last calm.
    pub deaths: u32,
}

/// After which it is asked again whether a corrupt log may be given up.
pub(super) const GIVE_UP_DELAY: Duration = Duration::from_secs(10);
/// How long a log waits to be opened again that found the disk full.
const FULL_DISK_DELAY: Duration = Duration::from_secs(1);
/// A replica that dies again within this time is restarted later and later.
const CALM: Duration = Duration::from_secs(60);
pub(super) const RESTART_DELAY_MIN: Duration = Duration::from_millis(50);
pub(super) const RESTART_DELAY_MAX: Duration = Duration::from_secs(5);

impl Ward {
    pub fn new(topic: Arc<Topic>, assignment: Assignment, role: Role) -> Ward {
        Ward {
            topic,
            assignment,
            role,
            if_lost: IfLost::Refuse,
            phase: Phase::Opening,
            last_user: LastUser::LastRun,
            is_corrupt: false,
            acknowledges_in: None,
            doomed: None,
            life: 0,
            deaths: 0,
        }
    }

    /// What the guardian before has left of a partition that this one has not known.
    pub fn adopt(&mut self, id: PartitionId, found: Found) -> Vec<Effect> {
        if found != Found::Nothing {
            self.acknowledges_in = Some(self.assignment.epoch());
        }
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
    pub fn update(
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
            Phase::AtWork(_) if self.is_corrupt && self.may_begin_empty() => Some(self.release(id)),
            Phase::AtWork(present) if changed => Some(self.direct(id, present)),
            Phase::Lost if self.may_begin_empty() => {
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
            self.acknowledges_in = Some(self.assignment.epoch());
            let assignment = self.assignment.clone();
            return Effect::Update { id, assignment };
        }
        self.release(id)
    }

    pub fn release(&mut self, id: PartitionId) -> Effect {
        self.phase = Phase::Releasing;
        let life = self.life;
        Effect::Release { id, life }
    }

    /// Whether nobody counts on what was here: by what the metadata say, and since nothing was acknowledged in
    /// their leader epoch.
    pub fn may_begin_empty(&self) -> bool {
        let epoch = self.assignment.epoch();
        let is_news = self.acknowledges_in.is_none_or(|known| known < epoch);
        self.if_lost == IfLost::BeginEmpty && is_news
    }

    /// The disk was full: once more, later.
    pub fn open_again(&mut self, id: PartitionId) -> Effect {
        let last_user = match self.last_user {
            // It is put aside by now.
            LastUser::CorruptReplica => LastUser::DeadReplica,
            last_user => last_user,
        };
        self.open(id, last_user, FULL_DISK_DELAY)
    }

    pub fn open(&mut self, id: PartitionId, last_user: LastUser, after: Duration) -> Effect {
        self.phase = Phase::Opening;
        self.last_user = last_user;
        Effect::Open {
            id,
            life: self.life,
            config: self.assignment.config.clone(),
            last_user,
            if_lost: match last_user {
                LastUser::LastRun if self.may_begin_empty() => IfLost::BeginEmpty,
                LastUser::CorruptReplica => IfLost::BeginEmpty,
                LastUser::LastRun | LastUser::Replica | LastUser::DeadReplica => IfLost::Refuse,
            },
            after,
        }
    }

    /// As the metadata say now: they may have changed while the log was on its way.
    pub fn start(&mut self, id: PartitionId) -> Effect {
        self.phase = Phase::AtWork(self.role);
        self.is_corrupt = false;
        self.acknowledges_in = Some(self.assignment.epoch());
        Effect::Start {
            id,
            role: self.role,
            life: self.life,
            assignment: self.assignment.clone(),
        }
    }

    /// The replica is lost. If it led, the next one needs a new epoch, which comes with the metadata.
    pub fn lose(&mut self, id: PartitionId, age: Duration) -> Vec<Effect> {
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

/// None for the first death; doubled for each that follows soon.
fn restart_delay(deaths: u32) -> Duration {
    match deaths {
        0 | 1 => Duration::ZERO,
        more => (RESTART_DELAY_MIN * 2u32.saturating_pow(more.min(16) - 2)).min(RESTART_DELAY_MAX),
    }
}
