//! What a producer is given, and what it gives back.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::client::ProduceError;
use crate::model::{Offset, Timestamp};
use crate::record::Header;

/// A record to be sent, borrowed from the caller: [`Producer::send`](super::Producer::send) copies
/// it into its batch.
#[derive(Clone, Copy, Debug)]
pub struct ProducerRecord<'a> {
    pub topic: &'a str,
    /// Without one, the key's hash decides, and without a key a partition that changes with each
    /// batch.
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone: it deletes its key from a compacted topic.
    pub value: Option<&'a [u8]>,
    pub headers: &'a [Header<'a>],
    /// Now, if there is none.
    pub timestamp: Option<Timestamp>,
}

impl<'a> ProducerRecord<'a> {
    /// A record without key and value.
    pub fn to(topic: &'a str) -> Self {
        ProducerRecord {
            topic,
            partition: None,
            key: None,
            value: None,
            headers: &[],
            timestamp: None,
        }
    }

    pub fn partition(self, partition: i32) -> Self {
        ProducerRecord {
            partition: Some(partition),
            ..self
        }
    }

    pub fn key(self, key: &'a [u8]) -> Self {
        ProducerRecord {
            key: Some(key),
            ..self
        }
    }

    pub fn value(self, value: &'a [u8]) -> Self {
        ProducerRecord {
            value: Some(value),
            ..self
        }
    }

    pub fn headers(self, headers: &'a [Header<'a>]) -> Self {
        ProducerRecord { headers, ..self }
    }

    pub fn timestamp(self, timestamp: Timestamp) -> Self {
        ProducerRecord {
            timestamp: Some(timestamp),
            ..self
        }
    }
}

/// Where a record was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub partition: i32,
    /// -1 with [`Acks::None`](super::Acks::None), and where the broker knows the record as one that
    /// it has had for long.
    pub offset: Offset,
    /// The record's own, or the broker's where the topic uses `LogAppendTime`.
    pub timestamp: Timestamp,
}

/// How a batch ended, for listeners that count batches and not records.
#[derive(Clone, Debug)]
pub struct BatchOutcome {
    pub topic: Arc<str>,
    pub partition: i32,
    pub records: usize,
    /// As sent: compressed, with the batch's header.
    pub bytes: usize,
    /// From the batch's first record until now.
    pub took: Duration,
    /// The offset of the first record.
    pub result: Result<Offset, ProduceError>,
}

/// Called for each batch when its outcome is known, on the producer's own task: it must not block.
pub type DeliveryListener = Arc<dyn Fn(&BatchOutcome) + Send + Sync>;

/// Resolves when the record's outcome is known. Dropping it does not take the record back.
///
/// All records of a batch share one allocation, so a future costs a reference count.
#[derive(Debug)]
pub struct DeliveryFuture {
    pub(super) receipt: Arc<Receipt>,
    pub(super) index: i64,
    pub(super) timestamp: Timestamp,
}

impl Future for DeliveryFuture {
    type Output = Result<Delivery, ProduceError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let appended = match self.receipt.poll(context.waker()) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(outcome) => outcome?,
        };
        let offset = match appended.base_offset {
            Offset::NONE => Offset::NONE,
            // As the broker says it, whatever it is.
            base => Offset(base.0.saturating_add(self.index)),
        };
        let timestamp = match appended.log_append_time {
            Timestamp::NONE => self.timestamp,
            time => time,
        };
        Poll::Ready(Ok(Delivery {
            partition: self.receipt.partition,
            offset,
            timestamp,
        }))
    }
}

/// Where a batch was appended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Appended {
    pub base_offset: Offset,
    pub log_append_time: Timestamp,
}

impl Appended {
    /// It is there, and nobody knows where.
    pub(super) const UNKNOWN: Appended = Appended {
        base_offset: Offset::NONE,
        log_append_time: Timestamp::NONE,
    };
}

/// The outcome of a batch, to come or known, shared by the futures of its records.
#[derive(Debug)]
pub(super) struct Receipt {
    partition: i32,
    state: Mutex<ReceiptState>,
}

#[derive(Debug)]
enum ReceiptState {
    Waiting(Vec<Waker>),
    Known(Result<Appended, ProduceError>),
}

impl Receipt {
    pub(super) fn new(partition: i32) -> Arc<Receipt> {
        Arc::new(Receipt {
            partition,
            state: Mutex::new(ReceiptState::Waiting(Vec::new())),
        })
    }

    /// Tells everyone who waits. Only the first outcome counts.
    pub(super) fn resolve(&self, outcome: Result<Appended, ProduceError>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let ReceiptState::Waiting(wakers) = &mut *state else {
            return;
        };
        let wakers = std::mem::take(wakers);
        *state = ReceiptState::Known(outcome);
        drop(state);
        for waker in wakers {
            waker.wake();
        }
    }

    fn poll(&self, waker: &Waker) -> Poll<Result<Appended, ProduceError>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            ReceiptState::Known(outcome) => Poll::Ready(outcome.clone()),
            ReceiptState::Waiting(wakers) => {
                // A task that awaits one record after the other is the last that registered.
                if !wakers.last().is_some_and(|last| last.will_wake(waker)) {
                    wakers.push(waker.clone());
                }
                Poll::Pending
            }
        }
    }

    /// Waits for the outcome, whatever it is.
    pub(super) async fn known(&self) {
        std::future::poll_fn(|context| self.poll(context.waker()).map(drop)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_offset_that_a_broker_makes_up_is_no_overflow() {
        let receipt = Receipt::new(0);
        receipt.resolve(Ok(Appended {
            base_offset: Offset(i64::MAX),
            log_append_time: Timestamp::NONE,
        }));
        let delivery = DeliveryFuture {
            receipt,
            index: 3,
            timestamp: Timestamp(1),
        };
        assert_eq!(delivery.await.unwrap().offset, Offset(i64::MAX));
    }
}
