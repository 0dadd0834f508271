//! The record batch: Kafka's format v2 (magic 2, KIP-98), on the wire of every listener, between
//! nodes and on disk.
//!
//! A client makes and compresses it once ([`BatchBuilder`]), the leader checks it once
//! ([`validate`]) and stamps base offset and leader epoch, which lie outside the checksum, and
//! nobody encodes it again. To everything but the client, the log's header check and compaction a
//! batch is opaque bytes.

mod batch;
mod builder;
mod compression;
mod filter;
mod iter;
mod validate;
mod varint;

#[cfg(test)]
mod tests;

pub use batch::{Attributes, Batch, BatchHeader, Codec, RecordError, TimestampType};
pub use builder::{restamp, BatchBuilder, Header, ProducerStamp};
pub use filter::{filter, EmptyBatch, Fate, Filtered};
pub use iter::{BatchRecords, Headers, RecordIter, RecordView};
pub use validate::{validate, validate_within, Checked, KeyRule, Limits, TimestampRule, Unread};
