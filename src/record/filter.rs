//! Takes records out of a batch: what compaction does with what is superseded.
//!
//! The records that stay keep their offsets and timestamps, and the batch its range of offsets, its
//! producer and its codec. A batch in which tombstones stay gets a delete horizon (KIP-534): the time from
//! which they may go. It stands where the base timestamp stood, and the records' timestamps count from it.

use bytes::{BufMut, Bytes, BytesMut};

use super::compression::compress;
use super::{
    varint, Attributes, Batch, BatchHeader, BatchRecords, Codec, ProducerStamp, RecordView,
};
use super::{RecordError, TimestampType};
use crate::model::{LeaderEpoch, Offset, Timestamp};

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Stays,
    /// It stays until the batch's delete horizon has passed.
    StaysForNow,
    Goes,
}

/// What is left of a batch.
#[derive(Clone, Debug)]
pub enum Filtered {
    /// All of it, as it is.
    All,
    /// The bytes of a batch with fewer records, or with a delete horizon that it hadn't.
    Some(Bytes),
    Nothing,
}

/// A batch without records in the place of some that are gone. Between offsets that are taken nothing is
/// missing then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmptyBatch {
    pub base_offset: Offset,
    /// The last offset that it stands for, 2³¹ behind the base at most.
    pub last_offset: Offset,
    pub leader_epoch: LeaderEpoch,
    /// Whose sequence it keeps.
    pub stamp: ProducerStamp,
}

impl EmptyBatch {
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::zeroed(BatchHeader::LEN);
        let delta = self.last_offset - self.base_offset;
        let header = BatchHeader {
            base_offset: self.base_offset,
            batch_length: (BatchHeader::LEN - BatchHeader::LENGTH_END) as i32,
            leader_epoch: self.leader_epoch,
            magic: 2,
            crc: 0,
            attributes: Attributes::default(),
            last_offset_delta: i32::try_from(delta).unwrap_or(i32::MAX),
            base_timestamp: Timestamp::NONE,
            max_timestamp: Timestamp::NONE,
            producer_id: self.stamp.producer_id,
            producer_epoch: self.stamp.producer_epoch,
            base_sequence: self.stamp.base_sequence,
            record_count: 0,
        };
        header.encode(&mut bytes);
        bytes.freeze()
    }
}

/// Takes out of `batch` what goes. `records` are its own, decompressed. `delete_horizon` is for a batch
/// that has none yet.
pub fn filter(
    batch: &Batch,
    records: &BatchRecords,
    delete_horizon: Timestamp,
    mut fate_of: impl FnMut(&RecordView<'_>) -> Fate,
) -> Result<Filtered, RecordError> {
    let mut fates = Vec::with_capacity(batch.header().record_count.max(0) as usize);
    for record in records {
        fates.push(fate_of(&record?));
    }
    let staying = fates.iter().filter(|fate| **fate != Fate::Goes).count();
    if staying == 0 {
        return Ok(Filtered::Nothing);
    }
    let has_horizon = batch.header().attributes.has_delete_horizon();
    let needs_horizon = !has_horizon && fates.contains(&Fate::StaysForNow);
    if staying == fates.len() && !needs_horizon {
        return Ok(Filtered::All);
    }
    let mut header = *batch.header();
    if needs_horizon {
        header.attributes = header.attributes.with_delete_horizon();
        header.base_timestamp = delete_horizon;
    }
    let mut payload = BytesMut::with_capacity(records.size());
    let mut max_timestamp = Timestamp::NONE;
    for (record, fate) in records.iter().zip(&fates) {
        if *fate != Fate::Goes {
            let record = record?;
            max_timestamp = max_timestamp.max(record.timestamp);
            put_record(&mut payload, &header, &record);
        }
    }
    if header.attributes.timestamp_type() == TimestampType::CreateTime {
        header.max_timestamp = max_timestamp;
    }
    header.record_count = i32::try_from(staying).unwrap_or(i32::MAX);
    encode(header, &payload).map(Filtered::Some)
}

fn put_record(payload: &mut BytesMut, header: &BatchHeader, record: &RecordView<'_>) {
    let timestamp = record.timestamp.0.saturating_sub(header.base_timestamp.0);
    let offset = record.offset - header.base_offset;
    let (key, value) = (Field::of(record.key), Field::of(record.value));
    let (headers, header_bytes) = (record.headers.len() as i64, record.headers.bytes());
    let len = 1
        + varint::len(timestamp)
        + varint::len(offset)
        + key.size()
        + value.size()
        + varint::len(headers)
        + header_bytes.len();
    put_varint(payload, len as i64);
    // The attributes, of which none is in use.
    payload.put_u8(0);
    put_varint(payload, timestamp);
    put_varint(payload, offset);
    key.put(payload);
    value.put(payload);
    put_varint(payload, headers);
    payload.extend_from_slice(header_bytes);
}

/// Bytes with their length in front; -1 says that there are none.
struct Field<'a> {
    len: i64,
    bytes: &'a [u8],
}

impl<'a> Field<'a> {
    fn of(bytes: Option<&'a [u8]>) -> Field<'a> {
        Field {
            len: bytes.map_or(-1, |bytes| bytes.len() as i64),
            bytes: bytes.unwrap_or_default(),
        }
    }

    fn size(&self) -> usize {
        varint::len(self.len) + self.bytes.len()
    }

    fn put(&self, payload: &mut BytesMut) {
        put_varint(payload, self.len);
        payload.extend_from_slice(self.bytes);
    }
}

fn put_varint(payload: &mut BytesMut, value: i64) {
    let mut bytes = [0; varint::VARLONG_BYTES_MAX];
    let len = varint::write(&mut bytes, value);
    payload.extend_from_slice(&bytes[..len]);
}

fn encode(mut header: BatchHeader, payload: &[u8]) -> Result<Bytes, RecordError> {
    let mut bytes = vec![0; BatchHeader::LEN];
    match header.attributes.codec()? {
        Codec::None => bytes.extend_from_slice(payload),
        codec => compress(codec, payload, &mut bytes)?,
    }
    let size = bytes.len();
    header.batch_length =
        i32::try_from(size - BatchHeader::LENGTH_END).map_err(|_| RecordError::TooLarge {
            size,
            size_max: i32::MAX as usize,
        })?;
    header.encode(&mut bytes);
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, Header};

    const RECORDS_BYTES_MAX: usize = 1 << 20;
    const HORIZON: Timestamp = Timestamp(1_700_000_999_999);

    type Record = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<String>);

    fn batch(codec: Codec) -> Batch {
        let mut builder = BatchBuilder::with_capacity(0);
        for n in 0..10_u8 {
            let header = [n];
            let headers = [Header {
                key: "h",
                value: (n % 2 == 0).then_some(&header[..]),
            }];
            let value = (n % 3 != 0).then(|| vec![n; 50 * n as usize]);
            let at = Timestamp(1_700_000_000_000 + i64::from(n % 4) * 1_000);
            let headers = &headers[..(n % 3) as usize / 2];
            builder.append(at, Some(&[n]), value.as_deref(), headers);
        }
        let stamp = ProducerStamp {
            producer_id: 7,
            producer_epoch: 1,
            base_sequence: 90,
        };
        Batch::parse(builder.build(codec, stamp).unwrap()).unwrap()
    }

    fn records_of(batch: &Batch) -> Vec<Record> {
        let records = batch.records(RECORDS_BYTES_MAX).unwrap();
        let owned = |record: RecordView<'_>| {
            let headers = record.headers.iter().map(|h| format!("{h:?}")).collect();
            (
                record.offset.0,
                record.timestamp.0,
                record.key.map(<[u8]>::to_vec),
                record.value.map(<[u8]>::to_vec),
                headers,
            )
        };
        records.iter().map(|r| owned(r.unwrap())).collect()
    }

    fn filtered(batch: &Batch, fate_of: impl FnMut(&RecordView<'_>) -> Fate) -> Filtered {
        let records = batch.records(RECORDS_BYTES_MAX).unwrap();
        filter(batch, &records, HORIZON, fate_of).unwrap()
    }

    fn some(filtered: Filtered) -> Batch {
        match filtered {
            Filtered::Some(bytes) => Batch::parse(bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_stays_is_as_it_was_with_each_codec() {
        for codec in Codec::ALL {
            let before = batch(codec);
            let after = some(filtered(&before, |record| match record.offset.0 % 3 {
                1 => Fate::Stays,
                _ => Fate::Goes,
            }));
            let mut expected = records_of(&before);
            expected.retain(|record| record.0 % 3 == 1);
            assert_eq!(records_of(&after), expected, "{codec:?}");
            let largest = expected.iter().map(|record| record.1).max();
            assert_eq!(Some(after.header().max_timestamp.0), largest);
            assert_eq!(after.header().record_count as usize, expected.len());
            // Range, producer and codec are the batch's own.
            let same = |header: &BatchHeader| BatchHeader {
                batch_length: 0,
                crc: 0,
                max_timestamp: Timestamp::NONE,
                record_count: 0,
                ..*header
            };
            assert_eq!(same(after.header()), same(before.header()));
        }
    }

    #[test]
    fn tombstones_that_stay_give_their_batch_a_horizon_and_nobody_another_time() {
        for codec in Codec::ALL {
            let before = batch(codec);
            let fate_of = |record: &RecordView<'_>| match record.value {
                Some(_) => Fate::Stays,
                None => Fate::StaysForNow,
            };
            let after = some(filtered(&before, fate_of));
            assert!(after.header().attributes.has_delete_horizon());
            assert_eq!(after.header().base_timestamp, HORIZON);
            assert_eq!(records_of(&after), records_of(&before), "{codec:?}");
            // It is given once.
            assert!(matches!(filtered(&after, fate_of), Filtered::All));
        }
    }

    #[test]
    fn all_and_nothing_are_told() {
        let batch = batch(Codec::None);
        assert!(matches!(filtered(&batch, |_| Fate::Stays), Filtered::All));
        let nothing = filtered(&batch, |_| Fate::Goes);
        assert!(matches!(nothing, Filtered::Nothing));
    }

    #[test]
    fn an_empty_batch_stands_for_its_offsets() {
        let empty = EmptyBatch {
            base_offset: Offset(17),
            last_offset: Offset(400),
            leader_epoch: LeaderEpoch(3),
            stamp: ProducerStamp::NONE,
        };
        let batch = Batch::parse(empty.encode()).unwrap();
        let header = batch.header();
        assert_eq!(
            (header.base_offset, header.next_offset()),
            (Offset(17), Offset(401))
        );
        assert_eq!(header.leader_epoch, LeaderEpoch(3));
        assert_eq!(records_of(&batch), []);
    }
}
