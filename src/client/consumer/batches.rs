//! What a poll brings: batches of records, borrowed from the bytes that came from the broker.

use std::sync::Arc;

use crate::model::Offset;
use crate::record::{BatchHeader, BatchRecords, RecordIter, RecordView};

/// Batches in the order of their offsets, for each partition.
#[derive(Clone, Debug, Default)]
pub struct Batches {
    pub(super) batches: Vec<FetchedBatch>,
}

impl Batches {
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// How many records there are in all of them.
    pub fn records_len(&self) -> usize {
        self.batches.iter().map(FetchedBatch::len).sum()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, FetchedBatch> {
        self.batches.iter()
    }
}

impl<'a> IntoIterator for &'a Batches {
    type Item = &'a FetchedBatch;
    type IntoIter = std::slice::Iter<'a, FetchedBatch>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Batches {
    type Item = FetchedBatch;
    type IntoIter = std::vec::IntoIter<FetchedBatch>;

    fn into_iter(self) -> Self::IntoIter {
        self.batches.into_iter()
    }
}

/// The records of one batch of one partition, from the consumer's position on. They have been
/// checked: the checksum, and that every record can be read.
///
/// If the batch isn't compressed, its records are part of the answer that brought it, which is in
/// memory as long as the batch is.
#[derive(Clone, Debug)]
pub struct FetchedBatch {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) records: BatchRecords,
    /// Records below it were asked for by nobody; they came because batches come whole.
    pub(super) from: Offset,
    pub(super) len: usize,
}

impl FetchedBatch {
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The batch's header, of all its records.
    pub fn header(&self) -> &BatchHeader {
        self.records.header()
    }

    /// How many records [`FetchedBatch::records`] yields.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes the batch's records take, uncompressed.
    pub(super) fn size(&self) -> usize {
        self.records.size()
    }

    /// The records, without copying or allocating.
    pub fn records(&self) -> FetchedRecords<'_> {
        FetchedRecords {
            records: self.records.iter(),
            from: self.from,
        }
    }
}

/// Yields the records of a batch.
#[derive(Clone, Debug)]
pub struct FetchedRecords<'a> {
    records: RecordIter<'a>,
    from: Offset,
}

impl<'a> Iterator for FetchedRecords<'a> {
    type Item = RecordView<'a>;

    #[inline]
    fn next(&mut self) -> Option<RecordView<'a>> {
        loop {
            // Every record has been read once before, so there are no errors here.
            let record = self.records.next()?.ok()?;
            if record.offset >= self.from {
                return Some(record);
            }
        }
    }
}
