//! How a producer behaves.

use std::time::Duration;

use super::record::DeliveryListener;
use crate::client::cluster::FOREVER;
use crate::record::Codec;

/// When a record counts as delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// When it was written to the connection: nothing is known, and offsets are -1.
    None,
    /// When the partition's leader has appended it.
    Leader,
    /// When every in-sync replica has it: on disk, with the broker's `log.flush = "synced"`.
    #[default]
    All,
}

impl Acks {
    /// Its number in a Produce request.
    pub(super) fn code(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// Whether the broker recognises batches that are sent again, so that no retry appends twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idempotence {
    /// With [`Acks::All`], yes; else no.
    #[default]
    Automatic,
    /// Needs an acknowledgement: with [`Acks::None`] it has no effect.
    Enabled,
    /// A retry may append a batch twice. One batch is in flight a partition, so that a retry does
    /// not change the order.
    Disabled,
}

/// How a producer behaves. The defaults never lose, double or reorder a record.
#[derive(Clone)]
pub struct ProducerConfig {
    pub acks: Acks,
    pub idempotence: Idempotence,
    pub codec: Codec,
    /// A batch is sent when its records have this many bytes, before compression. A larger record
    /// is sent in a batch of its own.
    pub batch_bytes: usize,
    /// How long a batch that isn't full waits for more records while others of its partition are
    /// in flight. When none is, it is sent at once.
    pub linger: Duration,
    /// How many batches of a partition are sent without waiting for an answer. Above 5 the broker
    /// can't recognise all of them again.
    pub in_flight_max: usize,
    /// How many bytes of records wait or are in flight at most; `send` waits for room.
    pub buffer_bytes: usize,
    /// The largest record, with key and headers.
    pub record_bytes_max: usize,
    /// How long a record is tried for, from `send` on.
    pub delivery_timeout: Duration,
    /// How long the broker may wait for its replicas, with [`Acks::All`].
    pub replication_timeout: Duration,
    /// Is told how each batch ended.
    pub delivery_listener: Option<DeliveryListener>,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        ProducerConfig {
            acks: Acks::All,
            idempotence: Idempotence::Automatic,
            codec: Codec::None,
            batch_bytes: 64 * 1024,
            linger: Duration::from_millis(5),
            in_flight_max: 5,
            buffer_bytes: 32 * 1024 * 1024,
            record_bytes_max: 1024 * 1024,
            delivery_timeout: Duration::from_secs(120),
            replication_timeout: Duration::from_secs(30),
            delivery_listener: None,
        }
    }
}

impl ProducerConfig {
    /// With all times short enough to reckon with.
    pub(super) fn bounded(self) -> ProducerConfig {
        ProducerConfig {
            linger: self.linger.min(FOREVER),
            delivery_timeout: self.delivery_timeout.min(FOREVER),
            replication_timeout: self.replication_timeout.min(FOREVER),
            ..self
        }
    }

    pub(super) fn is_idempotent(&self) -> bool {
        match (self.idempotence, self.acks) {
            (Idempotence::Disabled, _) | (_, Acks::None) => false,
            (Idempotence::Enabled, _) => true,
            (Idempotence::Automatic, acks) => acks == Acks::All,
        }
    }

    /// See [`Idempotence::Disabled`] for why it isn't always `in_flight_max`.
    pub(super) fn window(&self) -> usize {
        match self.is_idempotent() || self.acks == Acks::None {
            true => self.in_flight_max.max(1),
            false => 1,
        }
    }
}

impl std::fmt::Debug for ProducerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProducerConfig")
            .field("acks", &self.acks)
            .field("idempotence", &self.idempotence)
            .field("codec", &self.codec)
            .field("batch_bytes", &self.batch_bytes)
            .field("linger", &self.linger)
            .field("in_flight_max", &self.in_flight_max)
            .field("buffer_bytes", &self.buffer_bytes)
            .field("record_bytes_max", &self.record_bytes_max)
            .field("delivery_timeout", &self.delivery_timeout)
            .field("replication_timeout", &self.replication_timeout)
            .finish_non_exhaustive()
    }
}
