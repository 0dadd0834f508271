//! Reads the records of a batch: the consumer's side of the format.

use bytes::Bytes;

use super::builder::Header;
use super::compression::decompress;
use super::varint::{cut, read_i32, read_i64};
use super::{Batch, BatchHeader, RecordError, TimestampType};
use crate::model::{Offset, Timestamp};

/// One record, borrowed from its batch.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    pub offset: Offset,
    pub timestamp: Timestamp,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Headers<'a>,
}

/// The headers of a record, which were looked through once and are read when they are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl<'a> Headers<'a> {
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// As they are encoded, without their count.
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn iter(&self) -> impl Iterator<Item = Header<'a>> {
        let mut rest = self.bytes;
        (0..self.count).map_while(move |_| read_header(&mut rest).ok())
    }
}

/// The records of one batch, uncompressed.
#[derive(Clone, Debug)]
pub struct BatchRecords {
    header: BatchHeader,
    records: Bytes,
}

impl Batch {
    /// The records, decompressed if need be, to `records_bytes_max` at most.
    pub fn records(&self, records_bytes_max: usize) -> Result<BatchRecords, RecordError> {
        let header = *self.header();
        let codec = header.attributes.codec()?;
        Ok(BatchRecords {
            header,
            records: decompress(codec, &self.payload(), records_bytes_max)?,
        })
    }
}

impl BatchRecords {
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// How many bytes the records take, uncompressed.
    pub fn size(&self) -> usize {
        self.records.len()
    }

    /// The records in their order. After an error nothing more comes.
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter {
            header: self.header,
            rest: &self.records,
            left: self.header.record_count,
        }
    }
}

impl<'a> IntoIterator for &'a BatchRecords {
    type Item = Result<RecordView<'a>, RecordError>;
    type IntoIter = RecordIter<'a>;

    fn into_iter(self) -> RecordIter<'a> {
        self.iter()
    }
}

/// Yields the records of a batch, without allocating for them.
#[derive(Clone, Debug)]
pub struct RecordIter<'a> {
    header: BatchHeader,
    rest: &'a [u8],
    left: i32,
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<RecordView<'a>, RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            return None;
        }
        self.left -= 1;
        let record = read_record(&mut self.rest, &self.header);
        if record.is_err() {
            self.left = 0;
        }
        Some(record)
    }
}

#[inline]
fn read_record<'a>(
    rest: &mut &'a [u8],
    header: &BatchHeader,
) -> Result<RecordView<'a>, RecordError> {
    let length = usize::try_from(read_i32(rest)?).map_err(|_| negative("a record"))?;
    let (mut record, after) = rest.split_at_checked(length).ok_or_else(cut)?;
    *rest = after;
    let (_attributes, fields) = record.split_first().ok_or_else(cut)?;
    record = fields;
    let timestamp_delta = read_i64(&mut record)?;
    let offset_delta = read_i32(&mut record)?;
    let key = read_bytes(&mut record)?;
    let value = read_bytes(&mut record)?;
    let headers = read_headers(&mut record)?;
    let timestamp = match header.attributes.timestamp_type() {
        TimestampType::CreateTime => header.base_timestamp.0.saturating_add(timestamp_delta),
        TimestampType::LogAppendTime => header.max_timestamp.0,
    };
    Ok(RecordView {
        offset: Offset(header.base_offset.0.saturating_add(offset_delta as i64)),
        timestamp: Timestamp(timestamp),
        key,
        value,
        headers,
    })
}

fn negative(what: &str) -> RecordError {
    RecordError::Invalid(format!("{what} has a negative length"))
}

/// Bytes with their length in front; -1 says that there are none.
#[inline]
fn read_bytes<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, RecordError> {
    let length = read_i32(rest)?;
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| negative("a key or value"))?;
    let (bytes, after) = rest.split_at_checked(length).ok_or_else(cut)?;
    *rest = after;
    Ok(Some(bytes))
}

/// Looks through the headers, which must fill what is left of the record.
#[inline]
fn read_headers<'a>(rest: &mut &'a [u8]) -> Result<Headers<'a>, RecordError> {
    let count = usize::try_from(read_i32(rest)?).map_err(|_| negative("a list of headers"))?;
    let bytes = *rest;
    for _ in 0..count {
        read_header(rest)?;
    }
    match rest.is_empty() {
        true => Ok(Headers { bytes, count }),
        false => Err(RecordError::Invalid(
            "a record is longer than its fields".into(),
        )),
    }
}

fn read_header<'a>(rest: &mut &'a [u8]) -> Result<Header<'a>, RecordError> {
    let key = read_bytes(rest)?.ok_or_else(|| negative("a header's key"))?;
    let key = std::str::from_utf8(key)
        .map_err(|_| RecordError::Invalid("a header's key isn't UTF-8".into()))?;
    Ok(Header {
        key,
        value: read_bytes(rest)?,
    })
}
