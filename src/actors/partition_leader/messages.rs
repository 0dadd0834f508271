//! What a partition's leader is told and asked.

use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::Notify;

use super::planned_read::{FirstBatch, PlannedRead};
use crate::engine::replica::{Acks, Patience};
use crate::model::{BrokerId, ErrorCode, LeaderEpoch, Offset, Refusal, Timestamp};
use crate::record::Batch;
use crate::storage::log::TimestampedOffset;

/// Appends for one partition, all that one read of a connection brought.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Append {
    pub items: Vec<AppendItem>,
}

/// One batch, and whom to tell.
pub struct AppendItem {
    pub batch: Batch,
    pub acks: Acks,
    /// Refused by a leader of any other epoch; -1: taken in any.
    pub leader_epoch: LeaderEpoch,
    /// Until when to wait for the in-sync replicas.
    pub deadline: Timestamp,
    pub ticket: AppendTicket,
}

/// What became of one batch.
pub type AppendResult = Result<AppendReceipt, Refusal>;

/// Where a batch lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendReceipt {
    pub base_offset: Offset,
    /// -1 where the topic keeps the producer's timestamps.
    pub log_append_time: Timestamp,
    pub log_start_offset: Offset,
}

/// Which batch of which request a result belongs to; the receiver's own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendKey {
    pub request: u64,
    pub batch: usize,
}

/// Who is told what became of batches.
pub trait AppendReplies: Send + Sync {
    fn deliver(&self, results: Vec<(AppendKey, AppendResult)>);
}

/// The right to one answer. Whoever drops it unanswered, an actor that panics or a mailbox that is
/// closed, answers that the outcome is unknown: no producer waits for an answer that can't come.
pub struct AppendTicket {
    to: Option<Arc<dyn AppendReplies>>,
    key: AppendKey,
}

impl AppendTicket {
    pub fn new(to: Arc<dyn AppendReplies>, key: AppendKey) -> Self {
        AppendTicket { to: Some(to), key }
    }

    /// Answers many tickets, with one delivery for each run of tickets of the same receiver.
    pub fn answer_all(answers: impl IntoIterator<Item = (AppendTicket, AppendResult)>) {
        let mut run: Vec<(AppendKey, AppendResult)> = Vec::new();
        let mut receiver: Option<Arc<dyn AppendReplies>> = None;
        for (mut ticket, result) in answers {
            let to = ticket.to.take();
            let same = match (&receiver, &to) {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                _ => false,
            };
            if !same {
                if let Some(receiver) = receiver.take() {
                    receiver.deliver(std::mem::take(&mut run));
                }
                receiver = to;
            }
            run.push((ticket.key, result));
        }
        if let Some(receiver) = receiver {
            receiver.deliver(run);
        }
    }
}

impl Drop for AppendTicket {
    fn drop(&mut self) {
        if let Some(to) = self.to.take() {
            let lost = Refusal::new(
                ErrorCode::NotLeaderOrFollower,
                "the partition's leader ended before it could answer; the records may be in the log",
            );
            to.deliver(vec![(self.key, Err(lost))]);
        }
    }
}

/// A reader who waits for the high watermark to advance.
pub struct Reader(std::sync::Weak<Notify>);

impl Reader {
    /// Notified once, if it is still there then.
    pub fn new(waiting: &Arc<Notify>) -> Self {
        Reader(Arc::downgrade(waiting))
    }

    pub fn wake(self) {
        if let Some(waiting) = self.0.upgrade() {
            waiting.notify_one();
        }
    }
}

impl Patience for Reader {
    fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// Dropped with the leader, it wakes the reader, who then asks the next one.
impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(waiting) = self.0.upgrade() {
            waiting.notify_one();
        }
    }
}

/// Where can be read, from `offset`?
#[derive(Message)]
#[rtype(result = "ReadReply")]
pub struct Read {
    pub current_leader_epoch: LeaderEpoch,
    pub offset: Offset,
    pub bytes_max: usize,
    pub first: FirstBatch,
    /// Where the reader runs, if it says so: it may be sent to a replica nearby, and read from one.
    pub rack: Option<Arc<str>>,
    /// Notified when there is more than the answer has.
    pub reader: Option<Reader>,
}

pub struct ReadReply {
    pub high_watermark: Offset,
    pub log_start_offset: Offset,
    pub found: Result<ReadFrom, Refusal>,
}

/// Where what is wanted can be read.
pub enum ReadFrom {
    /// Here. The read is carried out by whoever asked, so that it never holds up the partition.
    Here(PlannedRead),
    /// From another replica, which is nearer to the reader (KIP-392).
    Replica(BrokerId),
}

/// Which offset belongs to a time, or to the start or end of the log?
#[derive(Message)]
#[rtype(result = "Result<TimestampedOffset, Refusal>")]
pub struct FindOffset {
    pub current_leader_epoch: LeaderEpoch,
    /// As in [`crate::protocol::list_offsets`].
    pub timestamp: Timestamp,
}

/// Where does a leader epoch end in the log? `None` where the log knows nothing about it.
#[derive(Message)]
#[rtype(result = "Result<Option<EpochEnd>, Refusal>")]
pub struct FindEpochEnd {
    pub current_leader_epoch: LeaderEpoch,
    pub leader_epoch: LeaderEpoch,
}

/// The largest epoch not above the one that was asked for, and the offset after its last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    pub leader_epoch: LeaderEpoch,
    pub end_offset: Offset,
}

/// Deletes the records below an offset; -1 means the high watermark. Answers with the log start
/// offset.
#[derive(Message)]
#[rtype(result = "Result<Offset, Refusal>")]
pub struct DeleteRecords {
    pub before: Offset,
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Receiver(Mutex<Vec<Vec<(AppendKey, AppendResult)>>>);

    impl AppendReplies for Receiver {
        fn deliver(&self, results: Vec<(AppendKey, AppendResult)>) {
            self.0.lock().unwrap().push(results);
        }
    }

    impl Receiver {
        fn ticket(self: &Arc<Self>, batch: usize) -> AppendTicket {
            AppendTicket::new(self.clone(), AppendKey { request: 7, batch })
        }

        /// The batches that each delivery was about.
        fn deliveries(&self) -> Vec<Vec<usize>> {
            let deliveries = self.0.lock().unwrap();
            let batches =
                |d: &Vec<(AppendKey, AppendResult)>| d.iter().map(|r| r.0.batch).collect();
            deliveries.iter().map(batches).collect()
        }
    }

    fn receipt() -> AppendResult {
        Ok(AppendReceipt {
            base_offset: Offset(3),
            log_append_time: Timestamp::NONE,
            log_start_offset: Offset::ZERO,
        })
    }

    #[test]
    fn answers_for_one_receiver_in_a_row_are_one_delivery() {
        let (a, b) = (Arc::<Receiver>::default(), Arc::<Receiver>::default());
        let tickets = [a.ticket(0), a.ticket(1), b.ticket(2), a.ticket(3)];
        AppendTicket::answer_all(tickets.into_iter().map(|ticket| (ticket, receipt())));
        assert_eq!(a.deliveries(), [vec![0, 1], vec![3]]);
        assert_eq!(b.deliveries(), [vec![2]]);
    }

    #[test]
    fn a_ticket_that_is_dropped_says_that_the_outcome_is_unknown() {
        let receiver = Arc::<Receiver>::default();
        drop(receiver.ticket(0));
        let deliveries = receiver.0.lock().unwrap();
        let (_, result) = &deliveries[0][0];
        let refusal = result.as_ref().unwrap_err();
        assert_eq!(refusal.code, ErrorCode::NotLeaderOrFollower);
        assert!(refusal.code.is_retriable());
    }

    #[test]
    fn a_ticket_is_answered_once() {
        let receiver = Arc::<Receiver>::default();
        AppendTicket::answer_all([(receiver.ticket(0), receipt())]);
        assert_eq!(receiver.deliveries(), [vec![0]]);
    }

    #[test]
    fn a_reader_is_woken_by_the_leader_that_is_lost() {
        let waiting = Arc::new(Notify::new());
        drop(Reader::new(&waiting));
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(waiting.notified());
    }
}
