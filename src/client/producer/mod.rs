//! producer

mod config;
mod record;

pub use config::{Acks, Idempotence, ProducerConfig};
pub use record::{BatchOutcome, Delivery, DeliveryFuture, DeliveryListener, ProducerRecord};

use super::{ClientError, ProduceError};

/// Sums over a producer's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProducerStats {
    /// Records that `send` took.
    pub sent: u64,
    pub acknowledged: u64,
    pub failed: u64,
    /// Bytes of acknowledged batches, as sent.
    pub bytes: u64,
}

/// Sends records in batches. Clones share everything.
#[derive(Clone)]
pub struct Producer {}

impl Producer {
    /// Adds a record to its batch, and returns at once with a future for its outcome; waits only
    /// for the topic's metadata, and for room in the buffer.
    pub async fn send(&self, record: ProducerRecord<'_>) -> Result<DeliveryFuture, ProduceError> {
        unimplemented!()
    }
    /// Sends what waits, and returns when the outcome of every record that was sent before is known.
    pub async fn flush(&self) {
        unimplemented!()
    }
    /// Flushes; then nothing more can be sent. Errors say how many records failed in all? See stats.
    pub async fn close(&self) {
        unimplemented!()
    }
    pub fn stats(&self) -> ProducerStats {
        unimplemented!()
    }
    /// The first error that any record had, to be reported once by those who drop futures.
    pub fn first_error(&self) -> Option<ProduceError> {
        unimplemented!()
    }
}
