//! Who coordinates: for each partition of the topic that is led here there is one coordinator, for the
//! leader epoch that the metadata say. One that has ended is followed by another, later and later if it
//! ends soon.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ArbiterHandle};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep_until, Instant};
use tokio_util::sync::CancellationToken;

use super::actor::{Close, Coordinator, CoordinatorGauges, Post};
use super::handle::{Coordinators, Table};
use super::Hosted;
use crate::actors::handle::Handle;
use crate::actors::partition_handle::PartitionHandle;
use crate::actors::partitions::Partitions;
use crate::actors::vitals::{Kind, Registration, Registry, Vitals};
use crate::engine::guardian::Role;
use crate::engine::metadata::{MetadataImage, TopicConfig};
use crate::model::{BrokerId, LeaderEpoch, PartitionId};

/// How long an ended coordinator is missed at first, and at most.
const RESTART_DELAY_MIN: Duration = Duration::from_millis(10);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(2);

/// What the coordinators of one kind are made of.
pub struct Hosting<C> {
    pub node: BrokerId,
    pub kind: Kind,
    /// The topic that they keep their state in.
    pub topic: &'static str,
    /// A core that knows nothing yet.
    pub blank: Box<dyn Fn() -> C + Send>,
    pub mailbox_capacity: usize,
    pub partitions: Partitions,
    pub images: watch::Receiver<Arc<MetadataImage>>,
    pub arbiters: Vec<ArbiterHandle>,
    pub registry: Registry,
    /// Then all end, and none begins.
    pub stopping: CancellationToken,
}

/// Held by a coordinator; dropped, it tells the keeper.
pub(super) struct LifeLine {
    deaths: mpsc::UnboundedSender<(i32, u64)>,
    partition: i32,
    life: u64,
}

impl Drop for LifeLine {
    fn drop(&mut self) {
        // Without a keeper the node stops.
        let _ = self.deaths.send((self.partition, self.life));
    }
}

/// What is known of one partition that is led here.
struct Seat<C: Hosted> {
    id: PartitionId,
    epoch: LeaderEpoch,
    /// Tells this coordinator from those before it.
    life: u64,
    state: SeatState,
    failures: u32,
    handle: Handle<Coordinator<C>>,
    gauges: Arc<CoordinatorGauges>,
    _registration: Registration,
}

#[derive(Clone, Copy, PartialEq)]
enum SeatState {
    /// Not before then.
    Vacant(Instant),
    Taken,
}

struct Keeper<C: Hosted> {
    hosting: Hosting<C>,
    coordinators: Coordinators<C>,
    seats: BTreeMap<i32, Seat<C>>,
    lives: u64,
    deaths: mpsc::UnboundedSender<(i32, u64)>,
}

/// Starts and ends coordinators until the node stops.
pub async fn keep<C: Hosted>(hosting: Hosting<C>, coordinators: Coordinators<C>) {
    let (deaths, mut died) = mpsc::unbounded_channel();
    let mut images = hosting.images.clone();
    let mut partitions = hosting.partitions.changes();
    let stopping = hosting.stopping.clone();
    let mut keeper = Keeper {
        hosting,
        coordinators,
        seats: BTreeMap::new(),
        lives: 0,
        deaths,
    };
    loop {
        let image = images.borrow_and_update().clone();
        partitions.borrow_and_update();
        keeper.reconcile(&image);
        let retry = keeper.next_retry();
        tokio::select! {
            changed = images.changed() => if changed.is_err() { break },
            changed = partitions.changed() => if changed.is_err() { break },
            Some((partition, life)) = died.recv() => keeper.mourn(partition, life),
            () = wait_for(retry) => {}
            () = stopping.cancelled() => break,
        }
    }
    keeper.reconcile(&MetadataImage::default());
}

async fn wait_for(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

impl<C: Hosted> Keeper<C> {
    /// Brings who is there to what the image says.
    fn reconcile(&mut self, image: &MetadataImage) {
        let mut wanted: BTreeMap<i32, (PartitionId, LeaderEpoch)> = BTreeMap::new();
        if let Some(topic) = image.topic_by_name(self.hosting.topic) {
            for (number, partition) in (0..).zip(&topic.partitions) {
                if partition.leader == self.hosting.node {
                    let id = PartitionId {
                        topic_id: topic.id,
                        partition: number,
                    };
                    wanted.insert(number, (id, partition.leader_epoch));
                }
            }
        }
        let is_over =
            |number: &i32, seat: &Seat<C>| wanted.get(number) != Some(&(seat.id, seat.epoch));
        let over = self
            .seats
            .iter()
            .filter(|(number, seat)| is_over(number, seat));
        let over: Vec<i32> = over.map(|(number, _)| *number).collect();
        let mut has_changed = !over.is_empty();
        for number in over {
            if let Some(seat) = self.seats.remove(&number) {
                seat.handle.notify(Close);
                seat.handle.disconnect();
            }
        }
        for (number, (id, epoch)) in wanted {
            if let std::collections::btree_map::Entry::Vacant(place) = self.seats.entry(number) {
                place.insert(self.hosting.seat(id, epoch));
                has_changed = true;
            }
        }
        if has_changed {
            let table = self.seats.iter();
            let table: Table<C> = table.map(|(n, seat)| (*n, seat.handle.clone())).collect();
            self.coordinators.publish(table);
        }
        self.fill_seats();
    }

    fn fill_seats(&mut self) {
        let now = Instant::now();
        for (number, seat) in &mut self.seats {
            let is_due = matches!(seat.state, SeatState::Vacant(at) if at <= now);
            let found = is_due.then(|| self.hosting.leader(seat.id)).flatten();
            let Some((partition, config)) = found else {
                continue;
            };
            self.lives += 1;
            seat.life = self.lives;
            seat.state = SeatState::Taken;
            let life_line = LifeLine {
                deaths: self.deaths.clone(),
                partition: *number,
                life: seat.life,
            };
            let post = Post {
                partition,
                epoch: seat.epoch,
                batch_bytes_max: usize::try_from(config.max_message_bytes).unwrap_or(0),
            };
            let coordinator = Coordinator::new(
                post,
                (self.hosting.blank)(),
                self.coordinators.clone(),
                seat.handle.vitals().clone(),
                seat.gauges.clone(),
                life_line,
            );
            let arbiters = &self.hosting.arbiters;
            let arbiter = &arbiters[usize::try_from(*number).unwrap_or(0) % arbiters.len()];
            let capacity = seat.handle.mailbox_capacity();
            let address = Coordinator::start_in_arbiter(arbiter, move |context| {
                context.set_mailbox_capacity(capacity);
                coordinator
            });
            seat.handle.connect(address);
        }
    }

    /// A coordinator has ended. If its time isn't over, another one follows.
    fn mourn(&mut self, partition: i32, life: u64) {
        let seat = self.seats.get_mut(&partition).filter(|s| s.life == life);
        let Some(seat) = seat.filter(|seat| seat.state == SeatState::Taken) else {
            return;
        };
        seat.handle.disconnect();
        seat.handle.vitals().restarting();
        let delay = RESTART_DELAY_MIN * 2u32.saturating_pow(seat.failures.min(16));
        seat.failures += 1;
        seat.state = SeatState::Vacant(Instant::now() + delay.min(RESTART_DELAY_MAX));
    }

    fn next_retry(&self) -> Option<Instant> {
        let vacant = self.seats.values().filter_map(|seat| match seat.state {
            SeatState::Vacant(at) => Some(at),
            SeatState::Taken => None,
        });
        // Who has no leader yet is told when there is one.
        vacant.filter(|at| *at > Instant::now()).min()
    }
}

impl<C: Hosted> Hosting<C> {
    fn seat(&self, id: PartitionId, epoch: LeaderEpoch) -> Seat<C> {
        let gauges = Arc::new(CoordinatorGauges::default());
        let name = format!("{}-{}", self.topic, id.partition);
        let vitals = Vitals::new(self.kind, name, gauges.clone());
        Seat {
            id,
            epoch,
            life: 0,
            state: SeatState::Vacant(Instant::now()),
            failures: 0,
            _registration: self.registry.register(vitals.clone()),
            handle: Handle::new(vitals, self.mailbox_capacity),
            gauges,
        }
    }

    /// The partition's leader, if it is at work here.
    fn leader(&self, id: PartitionId) -> Option<(PartitionHandle, Arc<TopicConfig>)> {
        let directory = self.partitions.current();
        let local = directory.topic(self.topic)?;
        let partition = local.partitions.get(&id.partition)?;
        let leads = partition.id() == id && partition.role() == Some(Role::Leader);
        leads.then(|| (partition.clone(), local.config.clone()))
    }
}
