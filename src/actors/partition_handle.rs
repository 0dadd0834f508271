//! The way to the replica that this node has of a partition, whether it leads or follows.

use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::OwnedMutexGuard;

use super::handle::{Handle, Unavailable};
use super::log_leases::{LogLease, LogLeases};
use super::partition_follower::{PartitionFollower, Pushed};
use super::partition_leader::{
    Append, AppendItem, AppendTicket, DeleteRecords, EpochEnd, FindEpochEnd, FindOffset,
    FollowerSays, PartitionLeader, Read, ReadReply,
};
use super::peer::{PeerIdentity, Received, Session};
use super::replication::{LinkNews, PushMessage, Said};
use super::vitals::{Gauges, Kind, Registration, Registry, Vitals};
use crate::engine::guardian::{Assignment, Role};
use crate::model::{BrokerId, ErrorCode, LeaderEpoch, Offset, PartitionId, Refusal, TopicName};
use crate::storage::log::{Log, LogConfig, TimestampedOffset};

/// Stays the same through all replicas that this node has of the partition, one at a time.
#[derive(Clone)]
pub struct PartitionHandle {
    id: PartitionId,
    leader: Handle<PartitionLeader>,
    follower: Handle<PartitionFollower>,
    gauges: Arc<PartitionGauges>,
    log_lease: LogLease,
    _registration: Arc<Registration>,
}

/// What a replica does with its log when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// Everything is synced, and everyone who waits is answered.
    Keep,
    /// The topic is deleted: nobody needs what is not on disk yet.
    Discard,
}

/// Ends the replica.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct Close(pub Closing);

/// The metadata of the partition have changed.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub struct Update {
    pub assignment: Assignment,
    pub log: LogConfig,
}

impl PartitionHandle {
    /// A handle behind which there is nobody yet.
    pub fn new(
        id: PartitionId,
        topic: &TopicName,
        mailbox_capacity: usize,
        registry: &Registry,
        leases: &LogLeases,
    ) -> Self {
        let gauges = Arc::new(PartitionGauges::default());
        let name = format!("{topic}-{}", id.partition);
        let vitals = Vitals::new(Kind::PartitionFollower, name, gauges.clone());
        PartitionHandle {
            id,
            log_lease: leases.of(id),
            _registration: Arc::new(registry.register(vitals.clone())),
            leader: Handle::new(vitals.clone(), mailbox_capacity),
            follower: Handle::new(vitals, mailbox_capacity),
            gauges,
        }
    }

    pub fn id(&self) -> PartitionId {
        self.id
    }

    pub fn vitals(&self) -> &Arc<Vitals> {
        self.leader.vitals()
    }

    pub fn gauges(&self) -> &Arc<PartitionGauges> {
        &self.gauges
    }

    /// The role of the replica that is there now, if one is.
    pub fn role(&self) -> Option<Role> {
        let leads = self.leader.is_alive().then_some(Role::Leader);
        leads.or_else(|| self.follower.is_alive().then_some(Role::Follower))
    }

    /// The guardian's: starts a leader.
    pub fn lead(&self, leader: PartitionLeader, arbiter: &ArbiterHandle) {
        self.vitals().becomes(Kind::PartitionLeader);
        self.leader.connect(self.start(leader, arbiter));
    }

    /// The guardian's: starts a follower.
    pub fn follow(&self, follower: PartitionFollower, arbiter: &ArbiterHandle) {
        self.vitals().becomes(Kind::PartitionFollower);
        self.follower.connect(self.start(follower, arbiter));
    }

    fn start<A>(&self, replica: A, arbiter: &ArbiterHandle) -> Addr<A>
    where
        A: Actor<Context = Context<A>> + Send,
    {
        let capacity = self.leader.mailbox_capacity();
        A::start_in_arbiter(arbiter, move |context| {
            context.set_mailbox_capacity(capacity);
            replica
        })
    }

    /// The guardian's: the replica is gone.
    pub fn disconnect(&self) {
        self.leader.disconnect();
        self.follower.disconnect();
    }

    /// Each item's ticket is answered, here if the leader can't take them.
    pub fn append(&self, items: Vec<AppendItem>) {
        if let Err((append, why)) = self.leader.post(Append { items }) {
            let refusal = self.refusal(why);
            let tickets = append.items.into_iter().map(|item| item.ticket);
            AppendTicket::answer_all(tickets.map(|ticket| (ticket, Err(refusal.clone()))));
        }
    }

    /// The leader's node has pushed this. A follower that is overloaded or isn't there passes it over.
    pub fn pushed(&self, message: PushMessage, from: Arc<Session>, charge: Received) {
        let pushed = Pushed {
            message,
            from,
            _charge: charge,
        };
        let _ = self.follower.post(pushed);
    }

    /// A follower on another node says so.
    pub fn acked(&self, from: &PeerIdentity, said: Said) {
        let _ = self.leader.post(FollowerSays {
            from: from.node,
            life: from.incarnation,
            said,
        });
    }

    /// For the leader.
    pub fn hear(&self, news: LinkNews) {
        let _ = self.leader.post(news);
    }

    /// From a follower only if the reader says where it runs: others look for the leader, and are to be told
    /// that it isn't here.
    pub async fn read(&self, read: Read) -> Result<ReadReply, Refusal> {
        let reply = match (self.role(), &read.rack) {
            (Some(Role::Follower), Some(_)) => self.follower.ask(read).await,
            _ => self.leader.ask(read).await,
        };
        reply.map_err(|why| self.refusal(why))
    }

    pub async fn find_offset(&self, ask: FindOffset) -> Result<TimestampedOffset, Refusal> {
        let found = self.leader.ask(ask).await;
        found.unwrap_or_else(|why| Err(self.refusal(why)))
    }

    pub async fn find_epoch_end(&self, ask: FindEpochEnd) -> Result<Option<EpochEnd>, Refusal> {
        let found = self.leader.ask(ask).await;
        found.unwrap_or_else(|why| Err(self.refusal(why)))
    }

    /// Of the log's segments, as of its last change.
    pub fn size_bytes(&self) -> u64 {
        self.gauges.size_bytes.load(Relaxed)
    }

    pub async fn delete_records(&self, ask: DeleteRecords) -> Result<Offset, Refusal> {
        let deleted = self.leader.ask(ask).await;
        deleted.unwrap_or_else(|why| Err(self.refusal(why)))
    }

    /// The guardian's. Nobody there is nobody to tell: the next replica starts with it.
    pub async fn update(&self, update: Update) {
        let _ = match self.role() {
            Some(Role::Leader) => self.leader.command(update).await,
            _ => self.follower.command(update).await,
        };
    }

    /// The guardian's: waits until nobody is at work on the log's directory, neither a replica nor a
    /// job that a dead one or a guardian before has left behind. Nobody else gets in until the lease is dropped.
    pub async fn lease_log(&self) -> OwnedMutexGuard<()> {
        self.log_lease.clone().lock_owned().await
    }

    /// The guardian's: ends the replica in good order. Whatever the mailbox still holds is answered
    /// as lost.
    pub async fn close(self, closing: Closing) -> Result<(), Refusal> {
        let closed = match self.role() {
            Some(Role::Leader) => self.leader.command(Close(closing)).await,
            _ => self.follower.command(Close(closing)).await,
        };
        self.disconnect();
        match closed {
            Ok(closed) => closed,
            Err(Unavailable::Absent) => Ok(()),
            Err(why) => Err(self.refusal(why)),
        }
    }

    fn refusal(&self, why: Unavailable) -> Refusal {
        let vitals = self.vitals();
        if let Some(reason) = vitals.offline_reason() {
            return Refusal::new(ErrorCode::KafkaStorageError, reason);
        }
        let (code, text) = match why {
            Unavailable::Overloaded => (ErrorCode::ThrottlingQuotaExceeded, "is overloaded"),
            Unavailable::Absent => (ErrorCode::NotLeaderOrFollower, "has no leader here now"),
            Unavailable::Lost => (ErrorCode::NotLeaderOrFollower, "lost its leader"),
        };
        Refusal::new(code, format!("partition {} {text}", vitals.name()))
    }
}

/// What a partition shows of itself.
#[derive(Default)]
pub struct PartitionGauges {
    leader: AtomicI32,
    epoch: AtomicI64,
    log_start: AtomicI64,
    log_end: AtomicI64,
    synced: AtomicI64,
    high_watermark: AtomicI64,
    size_bytes: AtomicU64,
}

impl PartitionGauges {
    /// The replica's: what it is by now.
    pub fn show(&self, leader: BrokerId, epoch: LeaderEpoch, high_watermark: Offset, log: &Log) {
        self.leader.store(leader.0, Relaxed);
        self.epoch.store(epoch.0.into(), Relaxed);
        self.log_start.store(log.start_offset().0, Relaxed);
        self.log_end.store(log.end_offset().0, Relaxed);
        self.synced.store(log.synced_offset().0, Relaxed);
        self.high_watermark.store(high_watermark.0, Relaxed);
        self.size_bytes.store(log.size_bytes(), Relaxed);
    }
}

impl Gauges for PartitionGauges {
    fn detail(&self) -> String {
        format!(
            "leader {} epoch {} start {} high watermark {} synced {} end {} bytes {}",
            self.leader.load(Relaxed),
            self.epoch.load(Relaxed),
            self.log_start.load(Relaxed),
            self.high_watermark.load(Relaxed),
            self.synced.load(Relaxed),
            self.log_end.load(Relaxed),
            self.size_bytes.load(Relaxed),
        )
    }
}
