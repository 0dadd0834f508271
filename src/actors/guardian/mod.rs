//! The guardian: who shall live on this node, and who must be rebuilt.
//!
//! It compares the committed metadata with what is there, and starts and ends partition leaders
//! until they agree. actix does not restart an actor that has panicked (its mailbox is closed for
//! good), so each ward holds a [`LifeLine`] that tells the guardian when it is dropped. A
//! partition's leader is never resumed with the state that it had: the controller raises the leader
//! epoch, the log is opened anew from disk, and a new actor takes its place behind the same handle.
//! A log that can't be opened takes its partition offline, with the reason, and no other.
//!
//! What is to be done about each event is decided by the core (`engine::guardian`); here it is
//! carried out.
//!
//! The guardian itself can be lost too: it holds nothing that the handles and the metadata don't
//! tell the next one.

mod events;
mod handle;
mod inheritance;
mod logs;
mod wards;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::{oneshot, Semaphore};

use super::log_keeper::LogKeeper;
use super::partition_follower::PartitionFollower;
use super::partition_handle::{Closing, PartitionHandle, Update};
use super::partition_leader::{IsrKeeping, PartitionLeader};
use super::partitions::{Directory, LocalTopic};
use super::vitals::{State, Vitals};
use crate::engine::guardian::{
    Assignment, Effect, Fate, Guardianship, IfLost, LastUser, Role, Unopened,
};
use crate::engine::metadata::change::Change;
use crate::engine::metadata::{MetadataImage, TopicConfig};
use crate::model::{ErrorCode, LeaderEpoch, PartitionId, Refusal, Timestamp};
use crate::storage::lease::Lease;
use crate::storage::log::{Log, Shutdown};

pub use handle::{Alarm, GuardianHandle, LifeLine, Ward};
pub use wards::{PartitionSettings, Wards};

use events::{follow, Close, Corrupt, Died, Opened, Released, Settled};
use inheritance::find;
use logs::{open_log, settle_data};
use wards::log_config;

/// Logs that are opened side by side.
const OPENS_MAX: usize = 4;

/// A log that is to be opened.
struct Opening {
    id: PartitionId,
    life: u64,
    last_user: LastUser,
    if_lost: IfLost,
    after: Duration,
}

/// The guardian's mailbox: deaths and openings, at most one of each for each ward.
const MAILBOX_CAPACITY: usize = 256;

/// The actor.
pub struct Guardian {
    wards: Arc<Wards>,
    me: GuardianHandle,
    core: Guardianship,
    /// Of the partitions that the core knows.
    handles: BTreeMap<PartitionId, PartitionHandle>,
    opens: Arc<Semaphore>,
    next_arbiter: usize,
    /// Who is told that all logs are closed, and why one of them isn't closed well.
    closing: Option<oneshot::Sender<Result<(), Refusal>>>,
    unclosed: Option<Refusal>,
    vitals: Arc<Vitals>,
    /// Dropped with the guardian: whoever holds the other end starts the next one.
    _alive: oneshot::Sender<()>,
}

impl Guardian {
    /// Brings what is here to what the image says.
    fn reconcile(&mut self, image: &MetadataImage, context: &mut Context<Self>) {
        if !self.core.has_looked() {
            self.inherit(image, context);
        }
        let Guardian {
            core,
            handles,
            wards,
            ..
        } = self;
        let effects = core.reconcile(image, |id, topic| {
            let (handle, found) = find(wards, id, topic);
            handles.insert(id, handle);
            found
        });
        self.carry_out(effects, None, context);
    }

    /// `log` is the one that was opened, if one was.
    fn carry_out(
        &mut self,
        effects: impl IntoIterator<Item = Effect>,
        mut log: Option<Log>,
        context: &mut Context<Self>,
    ) {
        for effect in effects {
            match effect {
                Effect::Open {
                    id,
                    life,
                    config,
                    last_user,
                    if_lost,
                    after,
                } => {
                    let opening = Opening {
                        id,
                        life,
                        last_user,
                        if_lost,
                        after,
                    };
                    self.open(opening, &config, context);
                }
                Effect::Start {
                    id,
                    role,
                    life,
                    assignment,
                } => {
                    if let Some(log) = log.take() {
                        self.start(id, role, life, &assignment, log);
                    }
                }
                Effect::Release { id, life } => self.release(id, life, context),
                Effect::Update { id, assignment } => self.update(id, &assignment),
                Effect::TakeOffline { id, reason } => self.take_offline(id, reason),
                Effect::Mourn { id } => self.mourn(id),
                Effect::RaiseEpoch { id, seen, after } => {
                    self.raise_epoch(id, seen, after, context)
                }
                Effect::GiveUpLog { id, after } => self.give_up_log(id, after, context),
                Effect::Close { id, fate } => self.close(id, fate),
                Effect::Settle { id, fate } => self.settle(id, fate, context),
                Effect::Publish => self.publish(),
                Effect::Touch => self.wards.partitions.touch(),
                Effect::AllClosed { well } => self.all_closed(well),
            }
        }
    }

    /// Opens the log off the arbiter; [`Opened`] brings it back.
    fn open(&self, opening: Opening, config: &TopicConfig, context: &mut Context<Self>) {
        let Some(handle) = self.handles.get(&opening.id).cloned() else {
            return;
        };
        let Opening { id, life, .. } = opening;
        let wards = self.wards.clone();
        let config = log_config(config, &wards.settings);
        let left = match opening.last_user {
            LastUser::LastRun => wards.data_dir.shutdown_of_last_run(),
            LastUser::Replica => Shutdown::Clean,
            LastUser::DeadReplica | LastUser::CorruptReplica => Shutdown::Unclean,
        };
        let opens = self.opens.clone();
        let guardian = context.address();
        actix_rt::spawn(async move {
            // Even no time at all would be a tick of the timer.
            if !opening.after.is_zero() {
                tokio::time::sleep(opening.after).await;
            }
            let lease = Lease::new(handle.lease_log().await);
            let Ok(_turn) = opens.acquire().await else {
                return;
            };
            let open = move || open_log(&wards, &opening, (config, left), lease);
            let log = match actix_rt::task::spawn_blocking(open).await {
                Ok(log) => log,
                Err(panic) => Err(Unopened::Broken(format!("opening the log failed: {panic}"))),
            };
            guardian.do_send(Opened { id, life, log });
        });
    }

    /// Starts the replica on the next arbiter in turn.
    fn start(
        &mut self,
        id: PartitionId,
        role: Role,
        life: u64,
        assignment: &Assignment,
        mut log: Log,
    ) {
        let Some(handle) = self.handles.get(&id) else {
            return;
        };
        let wards = &self.wards;
        log.set_config(log_config(&assignment.config, &wards.settings));
        let life_line = self.me.life_line(Ward::Partition(id), life);
        let keeper = LogKeeper::new(
            log,
            wards.settings.keep,
            wards.workers.clone(),
            handle.vitals().clone(),
        );
        let arbiter = &wards.arbiters[self.next_arbiter % wards.arbiters.len()];
        self.next_arbiter += 1;
        match role {
            Role::Leader => {
                let leader = PartitionLeader::new(
                    keeper,
                    assignment,
                    wards.replicator.clone(),
                    IsrKeeping::new(
                        Arc::new(wards.controller.clone()),
                        wards.settings.replica_lag_max,
                    ),
                    wards.settings.replica_selector,
                    handle,
                    life_line,
                );
                handle.lead(leader, arbiter);
            }
            Role::Follower => {
                let follower = PartitionFollower::new(keeper, assignment, handle, life_line);
                handle.follow(follower, arbiter);
            }
        }
    }

    /// Ends the replica in good order; [`Released`] says so.
    fn release(&self, id: PartitionId, life: u64, context: &mut Context<Self>) {
        let Some(handle) = self.handles.get(&id).cloned() else {
            return;
        };
        let guardian = context.address();
        actix_rt::spawn(async move {
            let age = age(handle.vitals());
            let closed = handle.clone().close(Closing::Keep).await;
            let closed = closed.map_err(|error| {
                log::error!("{}: {error}", handle.vitals().name());
                (error, age)
            });
            guardian.do_send(Released { id, life, closed });
        });
    }

    fn all_closed(&mut self, well: bool) {
        let refusal = self.unclosed.take().unwrap_or_else(|| {
            let message = "some partitions were offline or not yet rebuilt";
            Refusal::new(ErrorCode::KafkaStorageError, message)
        });
        if let Some(asker) = self.closing.take() {
            let closed = if well { Ok(()) } else { Err(refusal) };
            // An error says that nobody waits for it any more.
            let _ = asker.send(closed);
        }
    }

    fn update(&self, id: PartitionId, assignment: &Assignment) {
        let Some(handle) = self.handles.get(&id).cloned() else {
            return;
        };
        let update = Update {
            log: log_config(&assignment.config, &self.wards.settings),
            assignment: assignment.clone(),
        };
        actix_rt::spawn(async move { handle.update(update).await });
    }

    fn take_offline(&self, id: PartitionId, reason: String) {
        if let Some(handle) = self.handles.get(&id) {
            log::error!("{} is offline: {reason}", handle.vitals().name());
            handle.vitals().offline(reason);
        }
    }

    fn mourn(&self, id: PartitionId) {
        if let Some(handle) = self.handles.get(&id) {
            handle.disconnect();
            handle.vitals().restarting();
            let name = handle.vitals().name();
            log::error!("{name} has died, and is rebuilt from disk");
        }
    }

    /// Asks the controller for the partition's next epoch, which comes with the metadata.
    fn raise_epoch(
        &self,
        id: PartitionId,
        seen: LeaderEpoch,
        after: Duration,
        context: &mut Context<Self>,
    ) {
        let raised = raised_epoch(self.wards.clone(), id, seen, after);
        let raised = raised.into_actor(self);
        context.spawn(raised.map(move |raised, guardian, context| {
            let Err(refusal) = raised else {
                return;
            };
            if let ErrorCode::FencedLeaderEpoch | ErrorCode::UnknownTopicOrPartition = refusal.code
            {
                // The metadata have moved on, and the next reconciliation with them.
                return;
            }
            log::warn!("a new leader epoch for {id}: {refusal}");
            let effect = guardian.core.epoch_refused(id, seen, after);
            guardian.carry_out(effect, None, context);
        }));
    }

    /// Asks the controller that nobody counts on a corrupt log any more, which comes with the metadata.
    fn give_up_log(&self, id: PartitionId, after: Duration, context: &mut Context<Self>) {
        let given_up = given_up_log(self.wards.clone(), id, after).into_actor(self);
        context.spawn(given_up.map(move |given_up, guardian, context| {
            if let Err(refusal) = given_up {
                log::warn!("the corrupt log of {id} is kept: {refusal}");
                let effect = guardian.core.log_kept(id);
                guardian.carry_out(effect, None, context);
            }
        }));
    }

    fn close(&mut self, id: PartitionId, fate: Fate) {
        let Some(handle) = self.handles.remove(&id) else {
            return;
        };
        let wards = self.wards.clone();
        actix_rt::spawn(async move {
            let closing = match fate {
                Fate::Kept => Closing::Keep,
                Fate::Removed => Closing::Discard,
            };
            if let Err(error) = handle.clone().close(closing).await {
                log::error!("{}: {error}", handle.vitals().name());
            }
            settle_data(wards, handle, fate).await;
        });
    }

    /// [`Settled`] says that the data is removed.
    fn settle(&mut self, id: PartitionId, fate: Fate, context: &mut Context<Self>) {
        if fate == Fate::Kept {
            self.handles.remove(&id);
        } else if let Some(handle) = self.handles.get(&id).cloned() {
            let wards = self.wards.clone();
            let guardian = context.address();
            actix_rt::spawn(async move {
                settle_data(wards, handle, fate).await;
                guardian.do_send(Settled { id });
            });
        }
    }

    fn publish(&self) {
        let mut topics = BTreeMap::new();
        for (id, topic, config) in self.core.published() {
            let local = topics
                .entry(topic.name.clone())
                .or_insert_with(|| LocalTopic {
                    id: id.topic_id,
                    config: config.clone(),
                    partitions: Default::default(),
                });
            if let Some(handle) = self.handles.get(&id).filter(|_| local.id == id.topic_id) {
                local.partitions.insert(id.partition, handle.clone());
            }
        }
        self.wards.partitions.publish(Directory::from_iter(topics));
    }

    fn start_controller(&self) {
        let life = self.wards.controller.vitals().restarts();
        let life_line = self.me.life_line(Ward::Controller, life);
        let wards = &self.wards;
        let settings = wards.changes.clone();
        wards
            .controller
            .start(wards.raft.clone(), settings, life_line);
    }
}

fn age(vitals: &Vitals) -> Duration {
    let age_ms = vitals.age_ms(Timestamp::now());
    Duration::from_millis(u64::try_from(age_ms).unwrap_or(0))
}

/// Asks the controller, after a while, for the epoch that follows the one that was seen.
async fn raised_epoch(
    wards: Arc<Wards>,
    id: PartitionId,
    seen: LeaderEpoch,
    after: Duration,
) -> Result<(), Refusal> {
    tokio::time::sleep(after).await;
    let change = Change::ChangeLeader {
        partition: id,
        leader: wards.node,
        seen,
    };
    wards.controller.change_one(change).await.map(|_| ())
}

/// Asks the controller, after a while, to count on this node's log for nothing.
async fn given_up_log(wards: Arc<Wards>, id: PartitionId, after: Duration) -> Result<(), Refusal> {
    tokio::time::sleep(after).await;
    let image = wards.raft.image().borrow().clone();
    let broker = image.broker(wards.node);
    let epoch = broker.ok_or(ErrorCode::BrokerIdNotRegistered)?.epoch;
    let change = Change::GiveUpLog {
        broker: wards.node,
        epoch,
        partition: id,
    };
    wards.controller.change_one(change).await.map(|_| ())
}

impl Actor for Guardian {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX_CAPACITY);
        #[cfg(feature = "chaos")]
        self.vitals
            .fault_line
            .connect(context.address().recipient());
        let controller = &self.wards.controller;
        if !controller.is_alive() {
            if controller.vitals().state() == State::Running {
                // It died while there was no guardian.
                controller.vitals().restarting();
            }
            self.start_controller();
        }
        actix_rt::spawn(follow(self.wards.raft.image(), context.address()));
    }
}

#[cfg(feature = "chaos")]
impl Handler<super::chaos::Fault> for Guardian {
    type Result = ();

    fn handle(&mut self, fault: super::chaos::Fault, context: &mut Self::Context) {
        super::chaos::suffer(fault, self, context);
    }
}
