//! The guardian: who shall live on this node, and who must be rebuilt.
//!
//! It compares the committed metadata with what is there, and starts and ends partition leaders
//! until they agree. actix does not restart an actor that has panicked (its mailbox is closed for
//! good), so each ward holds a [`LifeLine`] that tells the guardian when it is dropped. A
//! partition's leader is never resumed with the state that it had: the controller raises the leader
//! epoch, the log is opened anew from disk, and a new actor takes its place behind the same handle.
//! A log that can't be opened takes its partition offline, with the reason, and no other.
//!
//! The guardian itself can be lost too: it holds nothing that the handles and the metadata don't
//! tell the next one.

mod handle;
mod wards;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::join_all;
use tokio::sync::{oneshot, watch, Semaphore};

use super::partition_leader::{
    Closing, Configure, LeaderSettings, PartitionHandle, PartitionLeader,
};
use super::partitions::{Directory, LocalTopic};
use super::vitals::{State, Vitals};
use crate::engine::metadata::change_leader::change_leader;
use crate::engine::metadata::{MetadataImage, Topic, TopicConfig};
use crate::model::{ErrorCode, LeaderEpoch, PartitionId, Refusal, Timestamp, TopicId};
use crate::storage::lease::Lease;
use crate::storage::log::{Log, Shutdown};
use crate::storage::syncer::abort_if_fatal;

pub use handle::{GuardianHandle, LifeLine, Ward};
pub use wards::{PartitionSettings, Wards};

use wards::log_config;

/// Logs that are opened side by side.
const OPENS_MAX: usize = 4;
/// The guardian's mailbox: deaths and openings, at most one of each for each ward.
const MAILBOX_CAPACITY: usize = 256;
/// A ward that dies again within this time is restarted later and later.
const CALM: Duration = Duration::from_secs(60);
const RESTART_DELAY_MIN: Duration = Duration::from_millis(50);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its log is being opened.
    Opening,
    Leading,
    /// Its leader died, and the next epoch isn't there yet.
    Bereaved,
    Offline,
    /// Opening, and to be given up once it is open.
    Doomed(Fate),
}

/// What becomes of the data of a partition that isn't led here any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its topic is deleted.
    Removed,
    /// Another broker leads it.
    Kept,
}

struct Entry {
    topic: Arc<Topic>,
    config: Arc<TopicConfig>,
    handle: PartitionHandle,
    epoch: LeaderEpoch,
    phase: Phase,
    /// How the log's last user has left it.
    left: Shutdown,
    deaths: u32,
}

/// The actor.
pub struct Guardian {
    wards: Arc<Wards>,
    me: GuardianHandle,
    entries: BTreeMap<PartitionId, Entry>,
    opens: Arc<Semaphore>,
    next_arbiter: usize,
    vitals: Arc<Vitals>,
    /// Dropped with the guardian: whoever holds the other end starts the next one.
    _alive: oneshot::Sender<()>,
}

impl Guardian {
    /// Brings what is here to what the image says.
    fn reconcile(&mut self, image: &MetadataImage, context: &mut Context<Self>) {
        let wards = self.wards.clone();
        let led = |(_, _, partition): &(PartitionId, &Arc<Topic>, &_)| {
            let partition: &crate::engine::metadata::Partition = partition;
            partition.leader == wards.node
        };
        let mut wanted = BTreeMap::new();
        for (id, topic, partition) in image.partitions_on(wards.node).filter(led) {
            wanted.insert(id, (topic, partition.leader_epoch));
        }
        let gone = self.entries.keys().filter(|id| !wanted.contains_key(id));
        for id in gone.copied().collect::<Vec<_>>() {
            self.give_up(id, image);
        }
        let mut configs: BTreeMap<TopicId, Arc<TopicConfig>> = BTreeMap::new();
        for (id, (topic, epoch)) in wanted {
            let config = configs.entry(id.topic_id).or_insert_with(|| {
                Arc::new(TopicConfig::resolve(&topic.configs, &self.wards.defaults))
            });
            self.want(id, topic, config.clone(), epoch, context);
        }
        self.publish();
    }

    fn want(
        &mut self,
        id: PartitionId,
        topic: &Arc<Topic>,
        config: Arc<TopicConfig>,
        epoch: LeaderEpoch,
        context: &mut Context<Self>,
    ) {
        let Some(entry) = self.entries.get_mut(&id) else {
            let entry = self.adopt(id, topic, config, epoch);
            let phase = entry.phase;
            self.entries.insert(id, entry);
            match phase {
                Phase::Bereaved => self.bereave(id, context),
                Phase::Opening => self.open(id, context),
                // The guardian before may not have come to it.
                Phase::Leading => self.configure(id),
                Phase::Offline | Phase::Doomed(_) => {}
            }
            return;
        };
        entry.topic = topic.clone();
        let changed = entry.config != config;
        entry.config = config;
        if changed && entry.phase == Phase::Leading {
            self.configure(id);
            return;
        }
        if entry.phase == Phase::Bereaved && epoch > entry.epoch {
            entry.epoch = epoch;
            entry.phase = Phase::Opening;
            self.open(id, context);
        }
    }

    /// Tells a leader what its topic's configs are by now.
    fn configure(&self, id: PartitionId) {
        let Some(entry) = self.entries.get(&id) else {
            return;
        };
        let log = log_config(&entry.config, &self.wards.settings);
        let config = TopicConfig::clone(&entry.config);
        let handle = entry.handle.clone();
        actix_rt::spawn(async move { handle.configure(Configure { config, log }).await });
    }

    /// A partition that this guardian has not known: a new one, or one of the guardian before it.
    fn adopt(
        &self,
        id: PartitionId,
        topic: &Arc<Topic>,
        config: Arc<TopicConfig>,
        epoch: LeaderEpoch,
    ) -> Entry {
        let wards = &self.wards;
        let known = wards.partitions.current();
        let known = known.topic(topic.name.as_str());
        let known = known.filter(|local| local.id == id.topic_id);
        let known = known.and_then(|local| local.partitions.get(&id.partition).cloned());
        let (handle, phase, left) = match known {
            Some(handle) if handle.is_alive() => (handle, Phase::Leading, Shutdown::Unclean),
            Some(handle) if handle.vitals().state() == State::Offline => {
                (handle, Phase::Offline, Shutdown::Unclean)
            }
            Some(handle) => (handle, Phase::Bereaved, Shutdown::Unclean),
            None => {
                let capacity = wards.settings.mailbox_capacity;
                let handle = PartitionHandle::new(id, &topic.name, capacity, &wards.registry);
                (
                    handle,
                    Phase::Opening,
                    wards.data_dir.shutdown_of_last_run(),
                )
            }
        };
        Entry {
            topic: topic.clone(),
            config,
            handle,
            epoch,
            phase,
            left,
            deaths: 0,
        }
    }

    /// The partition isn't led here any more. Its data goes only with its topic.
    fn give_up(&mut self, id: PartitionId, image: &MetadataImage) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let fate = match image.was_deleted(id.topic_id) {
            true => Fate::Removed,
            false => Fate::Kept,
        };
        if let Phase::Opening | Phase::Doomed(_) = entry.phase {
            entry.phase = Phase::Doomed(fate);
            return;
        }
        if let Some(entry) = self.entries.remove(&id) {
            let wards = self.wards.clone();
            let handle = entry.handle;
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
    }

    /// Opens the log off the arbiter; [`Opened`] brings it back.
    fn open(&mut self, id: PartitionId, context: &mut Context<Self>) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let config = log_config(&entry.config, &self.wards.settings);
        let left = std::mem::replace(&mut entry.left, Shutdown::Unclean);
        let epoch = entry.epoch;
        let handle = entry.handle.clone();
        let wards = self.wards.clone();
        let opens = self.opens.clone();
        let guardian = context.address();
        actix_rt::spawn(async move {
            let lease = Lease::new(handle.lease_log().await);
            let Ok(_turn) = opens.acquire().await else {
                return;
            };
            let opened = actix_rt::task::spawn_blocking(move || {
                let home = wards.data_dir.log_home(&id);
                let file_system = wards.file_system.clone();
                let log = Log::open(file_system, &home, config, left, Timestamp::now(), lease);
                log.inspect_err(abort_if_fatal)
            });
            let log = match opened.await {
                Ok(log) => log.map_err(|error| error.to_string()),
                Err(panic) => Err(format!("opening the log failed: {panic}")),
            };
            guardian.do_send(Opened { id, epoch, log });
        });
    }

    fn opened(&mut self, id: PartitionId, epoch: LeaderEpoch, log: Result<Log, String>) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        if let Phase::Doomed(fate) = entry.phase {
            drop(log);
            if let Some(entry) = self.entries.remove(&id) {
                actix_rt::spawn(settle_data(self.wards.clone(), entry.handle, fate));
            }
            return;
        }
        if entry.phase != Phase::Opening || entry.epoch != epoch {
            return;
        }
        match log {
            Ok(mut log) => {
                // It may have changed while the log was being opened.
                log.set_config(log_config(&entry.config, &self.wards.settings));
                self.lead(id, log);
            }
            Err(error) => {
                log::error!("{} is offline: {error}", entry.handle.vitals().name());
                entry.phase = Phase::Offline;
                entry.handle.vitals().offline(error);
            }
        }
        self.wards.partitions.touch();
    }

    /// Starts the leader on the next arbiter in turn.
    fn lead(&mut self, id: PartitionId, log: Log) {
        let arbiter = self.next_arbiter % self.wards.arbiters.len();
        self.next_arbiter += 1;
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let life = entry.handle.vitals().restarts();
        let life_line = self.me.life_line(Ward::Partition(id), life);
        let settings = LeaderSettings {
            epoch: entry.epoch,
            commit_rule: self.wards.settings.commit_rule,
            checkpoint_interval: self.wards.settings.checkpoint_interval,
            retention_interval: self.wards.settings.retention_interval,
        };
        let leader = PartitionLeader::new(
            log,
            &entry.config,
            settings,
            self.wards.syncer.clone(),
            &entry.handle,
            life_line,
        );
        let capacity = entry.handle.mailbox_capacity();
        let address = PartitionLeader::start_in_arbiter(&self.wards.arbiters[arbiter], move |c| {
            c.set_mailbox_capacity(capacity);
            leader
        });
        entry.phase = Phase::Leading;
        entry.handle.connect(address);
    }

    /// The leader is lost: the next one needs a new epoch, which comes with the metadata.
    fn bereave(&mut self, id: PartitionId, context: &mut Context<Self>) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.handle.disconnect();
        let vitals = entry.handle.vitals();
        let calm = vitals.age_ms(Timestamp::now()) > CALM.as_millis() as i64;
        entry.deaths = if calm { 0 } else { entry.deaths + 1 };
        vitals.restarting();
        entry.phase = Phase::Bereaved;
        entry.left = Shutdown::Unclean;
        log::error!("{} has died, and is rebuilt from disk", vitals.name());
        let raise = raise_epoch(
            self.wards.clone(),
            id,
            entry.epoch,
            restart_delay(entry.deaths),
        );
        context.spawn(raise.into_actor(self));
    }

    fn start_controller(&self) {
        let life = self.wards.controller.vitals().restarts();
        let life_line = self.me.life_line(Ward::Controller, life);
        let raft = self.wards.raft.clone();
        self.wards.controller.start(raft, life_line);
    }

    fn publish(&self) {
        let mut topics = BTreeMap::new();
        let doomed = |entry: &Entry| matches!(entry.phase, Phase::Doomed(_));
        for (id, entry) in self.entries.iter().filter(|(_, entry)| !doomed(entry)) {
            let local = topics
                .entry(entry.topic.name.clone())
                .or_insert_with(|| LocalTopic {
                    id: id.topic_id,
                    config: entry.config.clone(),
                    partitions: Default::default(),
                });
            if local.id == id.topic_id {
                local.partitions.insert(id.partition, entry.handle.clone());
            }
        }
        self.wards.partitions.publish(Directory::from_iter(topics));
    }
}

/// Asks the controller until the partition has a new epoch, or is gone.
async fn raise_epoch(wards: Arc<Wards>, id: PartitionId, seen: LeaderEpoch, mut delay: Duration) {
    let node = wards.node;
    loop {
        tokio::time::sleep(delay).await;
        let raised =
            wards
                .controller
                .change(move |image| match change_leader(image, id, node, seen) {
                    Ok(commands) => (commands, Ok(())),
                    Err(refusal) => (Vec::new(), Err(refusal)),
                });
        match raised
            .await
            .and_then(|decided: Result<(), Refusal>| decided)
        {
            Ok(()) => return,
            // The metadata has moved on, and the next reconciliation with it.
            Err(refusal) if refusal.code == ErrorCode::FencedLeaderEpoch => return,
            Err(refusal) if refusal.code == ErrorCode::UnknownTopicOrPartition => return,
            Err(refusal) => log::warn!("a new leader epoch for {id}: {refusal}"),
        }
        delay = (2 * delay).clamp(RESTART_DELAY_MIN, RESTART_DELAY_MAX);
    }
}

/// None for the first death; doubled for each that follows soon.
fn restart_delay(deaths: u32) -> Duration {
    match deaths {
        0 | 1 => Duration::ZERO,
        more => (RESTART_DELAY_MIN * 2u32.saturating_pow(more.min(16) - 2)).min(RESTART_DELAY_MAX),
    }
}

/// Does to the data of a closed log what its fate says, once nobody is at work on it.
async fn settle_data(wards: Arc<Wards>, handle: PartitionHandle, fate: Fate) {
    if fate == Fate::Kept {
        return;
    }
    let id = handle.id();
    let _lease = handle.lease_log().await;
    let removed = actix_rt::task::spawn_blocking(move || wards.data_dir.remove_log(&id)).await;
    match removed {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::error!("the deleted data of {id} could not be removed: {error}"),
        Err(panic) => log::error!("removing the deleted data of {id}: {panic}"),
    }
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

/// Tells the guardian of each new image; those that come while it is at work are one.
async fn follow(mut images: watch::Receiver<Arc<MetadataImage>>, guardian: Addr<Guardian>) {
    loop {
        let image = images.borrow_and_update().clone();
        if guardian.send(Reconcile(image)).await.is_err() || images.changed().await.is_err() {
            return;
        }
    }
}

/// The metadata has changed.
#[derive(Message)]
#[rtype(result = "()")]
struct Reconcile(Arc<MetadataImage>);

impl Handler<Reconcile> for Guardian {
    type Result = ();

    fn handle(&mut self, Reconcile(image): Reconcile, context: &mut Self::Context) {
        self.vitals.message_sent();
        self.vitals.message_handled();
        self.reconcile(&image, context);
    }
}

/// A log has been opened, or not.
#[derive(Message)]
#[rtype(result = "()")]
struct Opened {
    id: PartitionId,
    /// The leader epoch that it was opened for.
    epoch: LeaderEpoch,
    log: Result<Log, String>,
}

impl Handler<Opened> for Guardian {
    type Result = ();

    fn handle(&mut self, Opened { id, epoch, log }: Opened, _: &mut Self::Context) {
        self.vitals.message_sent();
        self.vitals.message_handled();
        self.opened(id, epoch, log);
    }
}

/// A ward has ended otherwise than in good order.
///
/// The news may come late: the guardian that was to hear it had died too, and the next one has seen
/// for itself. Then the ward has been restarted since, and its present life is none of this
/// message's business.
#[derive(Message)]
#[rtype(result = "()")]
struct Died {
    ward: Ward,
    /// How often the ward had been restarted before this life.
    life: u64,
}

impl Handler<Died> for Guardian {
    type Result = ();

    fn handle(&mut self, Died { ward, life }: Died, context: &mut Self::Context) {
        self.vitals.message_handled();
        match ward {
            Ward::Partition(id) => {
                let entry = self.entries.get(&id);
                if entry.is_some_and(|entry| entry.handle.vitals().restarts() == life) {
                    self.bereave(id, context);
                }
            }
            Ward::Controller if self.wards.controller.vitals().restarts() != life => {}
            Ward::Controller => {
                self.wards.controller.disconnect();
                self.wards.controller.vitals().restarting();
                log::error!("the controller has died, and is started again");
                self.start_controller();
            }
        }
    }
}

/// Ends all wards in good order; the result is whether all logs are closed well.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
struct Close;

impl Handler<Close> for Guardian {
    type Result = ResponseFuture<Result<(), Refusal>>;

    fn handle(&mut self, _: Close, _: &mut Self::Context) -> Self::Result {
        let settled = |entry: &Entry| entry.phase == Phase::Leading;
        let all_settled = self.entries.values().all(settled);
        let handles = self.entries.values().map(|entry| entry.handle.clone());
        let handles: Vec<_> = handles.collect();
        let controller = self.wards.controller.clone();
        Box::pin(async move {
            controller.close().await;
            let close = |handle: &PartitionHandle| handle.clone().close(Closing::Keep);
            let closed = join_all(handles.iter().map(close)).await;
            closed.into_iter().collect::<Result<(), Refusal>>()?;
            if all_settled {
                Ok(())
            } else {
                let message = "some partitions were offline or not yet rebuilt";
                Err(Refusal::new(ErrorCode::KafkaStorageError, message))
            }
        })
    }
}

#[cfg(feature = "chaos")]
impl Handler<super::chaos::Fault> for Guardian {
    type Result = ();

    fn handle(&mut self, fault: super::chaos::Fault, context: &mut Self::Context) {
        super::chaos::suffer(fault, self, context);
    }
}
