//! Record batches to send, good ones and bad ones, and what is read out of those that come back.

use bytes::{Bytes, BytesMut};
use klamm::model::Timestamp;
use klamm::record::{Batch, BatchBuilder, BatchHeader, Codec, ProducerStamp};

/// More than any batch of these tests holds.
const RECORDS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A batch of these values, with the time of now.
pub fn batch<V: AsRef<[u8]>>(values: &[V]) -> Bytes {
    stamped(values, ProducerStamp::NONE)
}

/// A batch of an idempotent producer.
pub fn stamped<V: AsRef<[u8]>>(values: &[V], stamp: ProducerStamp) -> Bytes {
    compressed(values, Codec::None, stamp)
}

pub fn compressed<V: AsRef<[u8]>>(values: &[V], codec: Codec, stamp: ProducerStamp) -> Bytes {
    let now = Timestamp::now();
    let mut builder = BatchBuilder::default();
    for value in values {
        builder.append(now, None, Some(value.as_ref()), &[]);
    }
    builder.build(codec, stamp).unwrap()
}

/// A batch whose records have these times.
pub fn timed(records: &[(i64, &str)]) -> Bytes {
    let mut builder = BatchBuilder::default();
    for (timestamp, value) in records {
        builder.append(Timestamp(*timestamp), None, Some(value.as_bytes()), &[]);
    }
    builder.build(Codec::None, ProducerStamp::NONE).unwrap()
}

/// A compressed batch of one record of `bytes` zeros.
pub fn zeros(bytes: usize, codec: Codec) -> Bytes {
    let mut builder = BatchBuilder::default();
    builder.append(Timestamp::now(), None, Some(&vec![0; bytes]), &[]);
    builder.build(codec, ProducerStamp::NONE).unwrap()
}

/// Bytes that no codec makes smaller, the same at each call.
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    noise.truncate(bytes);
    noise
}

/// Where fields lie that a liar would change.
pub const BATCH_LENGTH_AT: usize = 8;
pub const ATTRIBUTES_AT: usize = 21;
pub const LAST_OFFSET_DELTA_AT: usize = 23;
pub const RECORD_COUNT_AT: usize = 57;

/// The batch with some bytes changed, and a checksum that fits again.
pub fn forged(batch: &Bytes, at: usize, bytes: &[u8]) -> Bytes {
    let mut forged = BytesMut::from(&batch[..]);
    forged[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&forged[BatchHeader::CRC_FROM..]);
    forged[BatchHeader::CRC_AT..BatchHeader::CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    forged.freeze()
}

/// The batches that lie one after the other in what a fetch returned, each one checked.
pub fn split(records: &Bytes) -> Vec<Batch> {
    let mut rest = records.clone();
    let mut batches = Vec::new();
    while !rest.is_empty() {
        let size = BatchHeader::decode(&rest).unwrap().size();
        batches.push(Batch::parse(rest.split_to(size)).unwrap());
    }
    batches
}

/// Offset and value of each record.
pub fn records(bytes: &Bytes) -> Vec<(i64, Vec<u8>)> {
    let mut all = Vec::new();
    for batch in split(bytes) {
        let records = batch.records(RECORDS_BYTES_MAX).unwrap();
        for record in &records {
            let record = record.unwrap();
            all.push((record.offset.0, record.value.unwrap().to_vec()));
        }
    }
    all
}
