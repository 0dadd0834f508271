//! Where records wait to be sent: a builder for the batch that is being filled, and the batches
//! that are full, for one partition.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::record::{DeliveryFuture, ProducerRecord, Receipt};
use crate::client::ProduceError;
use crate::model::Timestamp;
use crate::record::BatchBuilder;

/// A small batch's room, until its partition has shown that it needs more.
const FIRST_CAPACITY_BYTES: usize = 1024;

/// A partition as those who send see it.
#[derive(Debug)]
pub(super) struct Partition {
    pub topic: Arc<str>,
    pub index: i32,
    buffer: Mutex<Buffer>,
    /// Wakes the partition's sender: there is a batch to send, or the end.
    pub changed: Notify,
}

#[derive(Debug, Default)]
struct Buffer {
    filling: Option<Batch>,
    full: VecDeque<Batch>,
    /// The newest batch's, for those who flush: outcomes become known in order.
    newest: Option<Arc<Receipt>>,
    /// Nothing waits for more records until everything is taken.
    flushing: bool,
    /// Nothing more can be appended, for this reason.
    ended: Option<ProduceError>,
    /// How large the last batch was, as a guess for the next.
    last_bytes: usize,
}

/// Records that will be sent together.
#[derive(Debug)]
pub(super) struct Batch {
    pub builder: BatchBuilder,
    pub receipt: Arc<Receipt>,
    /// When its first record was appended.
    pub opened_at: Instant,
    /// How much of the producer's buffer it has taken.
    pub reserved: usize,
}

/// What appending a record did.
pub(super) struct Appended {
    pub delivery: DeliveryFuture,
    /// The record's encoded size.
    pub bytes: usize,
    pub batch: BatchIs,
}

impl Appended {
    /// Whether the record is its batch's first.
    pub(super) fn is_first(&self) -> bool {
        self.delivery.index == 0
    }
}

/// Whether a batch takes more records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BatchIs {
    Filling,
    Full,
}

/// What there is to send.
pub(super) enum Take {
    Batch(Batch),
    /// A batch that is worth to wait for until then.
    Later(Instant),
    Nothing,
    /// Nothing, for ever.
    Ended,
}

impl Partition {
    pub(super) fn new(topic: Arc<str>, index: i32) -> Arc<Partition> {
        Arc::new(Partition {
            topic,
            index,
            buffer: Mutex::default(),
            changed: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a record, for which `reserved` bytes of the buffer were taken.
    pub(super) fn append(
        &self,
        record: &ProducerRecord<'_>,
        reserved: usize,
        batch_bytes: usize,
    ) -> Result<Appended, ProduceError> {
        let timestamp = record.timestamp.unwrap_or_else(Timestamp::now);
        let mut buffer = self.lock();
        if let Some(reason) = &buffer.ended {
            return Err(reason.clone());
        }
        let size = buffer
            .filling
            .as_ref()
            .map_or(0, |batch| batch.builder.size());
        let mut news = size == 0;
        if size > 0 && size + reserved > batch_bytes {
            buffer.close_batch();
            news = true;
        }
        let capacity = buffer.last_bytes.max(FIRST_CAPACITY_BYTES) + reserved;
        let batch = buffer.filling.get_or_insert_with(|| Batch {
            builder: BatchBuilder::with_capacity(capacity),
            receipt: Receipt::new(self.index),
            opened_at: Instant::now(),
            reserved: 0,
        });
        let before = batch.builder.size();
        let index = batch
            .builder
            .append(timestamp, record.key, record.value, record.headers);
        batch.reserved += reserved;
        let bytes = batch.builder.size() - before;
        let delivery = DeliveryFuture {
            receipt: batch.receipt.clone(),
            index: index as i64,
            timestamp,
        };
        // A record like this one would not fit any more: don't wait for it to find that out.
        let batch = match batch.builder.size() + reserved > batch_bytes {
            true => BatchIs::Full,
            false => BatchIs::Filling,
        };
        if batch == BatchIs::Full {
            buffer.close_batch();
            news = true;
        }
        drop(buffer);
        if news {
            self.changed.notify_one();
        }
        Ok(Appended {
            delivery,
            bytes,
            batch,
        })
    }

    /// Takes the next batch, if it is full or need not wait for more records. `linger` is how long
    /// it waits, if at all.
    pub(super) fn take(&self, linger: Option<Duration>) -> Take {
        let mut buffer = self.lock();
        if let Some(batch) = buffer.full.pop_front() {
            return Take::Batch(batch);
        }
        let Some(filling) = &buffer.filling else {
            buffer.flushing = false;
            return match buffer.ended {
                Some(_) => Take::Ended,
                None => Take::Nothing,
            };
        };
        let ripe_at = linger.map(|linger| filling.opened_at + linger);
        match ripe_at.filter(|at| *at > Instant::now()) {
            Some(later) if !buffer.flushing && buffer.ended.is_none() => Take::Later(later),
            _ => {
                buffer.close_batch();
                match buffer.full.pop_front() {
                    Some(batch) => Take::Batch(batch),
                    None => Take::Nothing,
                }
            }
        }
    }

    /// Asks for everything to be sent at once; the receipt's outcome is the last to become known.
    pub(super) fn flush(&self) -> Option<Arc<Receipt>> {
        let mut buffer = self.lock();
        buffer.flushing = true;
        let newest = match &buffer.filling {
            Some(batch) => Some(batch.receipt.clone()),
            None => buffer.newest.clone(),
        };
        drop(buffer);
        self.changed.notify_one();
        newest
    }

    /// Refuses all later records; what is there is still sent.
    pub(super) fn end(&self, reason: ProduceError) {
        self.lock().ended.get_or_insert(reason);
        self.changed.notify_one();
    }
}

impl Buffer {
    fn close_batch(&mut self) {
        if let Some(batch) = self.filling.take() {
            self.newest = Some(batch.receipt.clone());
            self.last_bytes = batch.builder.size();
            self.full.push_back(batch);
        }
    }
}
