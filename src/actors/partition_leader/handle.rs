//! The way to a partition's leader.

use std::sync::Arc;

use actix::Addr;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{
    Append, AppendItem, AppendTicket, Close, Closing, Configure, DeleteRecords, EpochEnd,
    FindEpochEnd, FindOffset, PartitionGauges, PartitionLeader, Read, ReadReply,
};
use crate::actors::handle::{Handle, Unavailable};
use crate::actors::vitals::{Kind, Registration, Registry, Vitals};
use crate::model::{ErrorCode, Offset, PartitionId, Refusal, TopicName};
use crate::storage::log::TimestampedOffset;

/// Stays the same through all leaders that this node has for the partition.
#[derive(Clone)]
pub struct PartitionHandle {
    id: PartitionId,
    leader: Handle<PartitionLeader>,
    gauges: Arc<PartitionGauges>,
    log_in_use: Arc<Mutex<()>>,
    _registration: Arc<Registration>,
}

impl PartitionHandle {
    /// A handle behind which there is no leader yet.
    pub fn new(
        id: PartitionId,
        topic: &TopicName,
        mailbox_capacity: usize,
        registry: &Registry,
    ) -> Self {
        let gauges = Arc::new(PartitionGauges::default());
        let name = format!("{topic}-{}", id.partition);
        let vitals = Vitals::new(Kind::PartitionLeader, name, gauges.clone());
        PartitionHandle {
            id,
            log_in_use: Arc::default(),
            _registration: Arc::new(registry.register(vitals.clone())),
            leader: Handle::new(vitals, mailbox_capacity),
            gauges,
        }
    }

    pub fn id(&self) -> PartitionId {
        self.id
    }

    pub fn vitals(&self) -> &Arc<Vitals> {
        self.leader.vitals()
    }

    pub fn mailbox_capacity(&self) -> usize {
        self.leader.mailbox_capacity()
    }

    pub fn is_alive(&self) -> bool {
        self.leader.is_alive()
    }

    pub(super) fn gauges(&self) -> &Arc<PartitionGauges> {
        &self.gauges
    }

    /// The guardian's: a leader is there.
    pub fn connect(&self, leader: Addr<PartitionLeader>) {
        self.leader.connect(leader);
    }

    /// The guardian's: the leader is gone.
    pub fn disconnect(&self) {
        self.leader.disconnect();
    }

    /// Each item's ticket is answered, here if the leader can't take them.
    pub fn append(&self, items: Vec<AppendItem>) {
        if let Err((append, why)) = self.leader.post(Append { items }) {
            let refusal = self.refusal(why);
            let tickets = append.items.into_iter().map(|item| item.ticket);
            AppendTicket::answer_all(tickets.map(|ticket| (ticket, Err(refusal.clone()))));
        }
    }

    pub async fn read(&self, read: Read) -> Result<ReadReply, Refusal> {
        self.leader.ask(read).await.map_err(|why| self.refusal(why))
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
        self.gauges.size_bytes()
    }

    pub async fn delete_records(&self, ask: DeleteRecords) -> Result<Offset, Refusal> {
        let deleted = self.leader.ask(ask).await;
        deleted.unwrap_or_else(|why| Err(self.refusal(why)))
    }

    /// The guardian's. Nobody there is nobody to tell: the next leader starts with the config.
    pub async fn configure(&self, configure: Configure) {
        let _ = self.leader.command(configure).await;
    }

    /// The guardian's: waits until nobody is at work on the log's directory, neither a leader nor a
    /// job that a dead one has left behind. Nobody else gets in until the lease is dropped.
    pub async fn lease_log(&self) -> OwnedMutexGuard<()> {
        self.log_in_use.clone().lock_owned().await
    }

    /// The guardian's: ends the leader in good order. Whatever the mailbox still holds is answered
    /// as lost.
    pub async fn close(self, closing: Closing) -> Result<(), Refusal> {
        let closed = self.leader.command(Close(closing)).await;
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
