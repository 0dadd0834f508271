//! consumer

use std::sync::Arc;
use std::time::Duration;

use super::ClientError;
use crate::model::{Offset, Timestamp};
use crate::record::{BatchHeader, RecordView};

/// Where reading starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    Beginning,
    /// After the last record that is there now.
    End,
    Offset(Offset),
    /// The first record at or after this time; the end if there is none.
    Time(Timestamp),
}

/// What happens where the wanted offset isn't there (any more).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetReset {
    #[default]
    Error,
    Earliest,
    Latest,
}

/// How a consumer behaves.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    pub offset_reset: OffsetReset,
    /// How long a broker waits for new records before it answers that there are none.
    pub max_wait: Duration,
    /// How many bytes a fetch brings at most, of all partitions together.
    pub fetch_bytes_max: i32,
    pub partition_bytes_max: i32,
    /// How many bytes are fetched ahead of the application.
    pub buffer_bytes: usize,
    /// How large a batch may become when it is decompressed.
    pub records_bytes_max: usize,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        unimplemented!()
    }
}

/// Reads partitions that it is told to read.
pub struct Consumer {}

impl Consumer {
    pub(super) fn new(client: super::Client, config: ConsumerConfig) -> Consumer {
        unimplemented!()
    }
    pub async fn assign(
        &mut self,
        topic: &str,
        partition: i32,
        from: StartAt,
    ) -> Result<(), ClientError> {
        unimplemented!()
    }
    /// Assigns all partitions that the topic has now, and says which.
    pub async fn assign_topic(
        &mut self,
        topic: &str,
        from: StartAt,
    ) -> Result<Vec<i32>, ClientError> {
        unimplemented!()
    }
    pub fn unassign(&mut self, topic: &str, partition: i32) {
        unimplemented!()
    }
    pub async fn seek(
        &mut self,
        topic: &str,
        partition: i32,
        to: StartAt,
    ) -> Result<(), ClientError> {
        unimplemented!()
    }
    /// What has been fetched, waiting up to `timeout` for something; empty if there is nothing.
    pub async fn poll(&mut self, timeout: Duration) -> Result<Batches, ClientError> {
        unimplemented!()
    }
    /// The offset of the next record that `poll` hands out.
    pub fn position(&self, topic: &str, partition: i32) -> Option<Offset> {
        unimplemented!()
    }
    /// As of the last fetch.
    pub fn high_watermark(&self, topic: &str, partition: i32) -> Option<Offset> {
        unimplemented!()
    }
}

/// What a poll brought: batches, in order for each partition.
#[derive(Clone, Debug, Default)]
pub struct Batches {
    batches: Vec<FetchedBatch>,
}

impl Batches {
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }
    /// How many records there are.
    pub fn records_len(&self) -> usize {
        unimplemented!()
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

#[derive(Clone, Debug)]
pub struct FetchedBatch {}

impl FetchedBatch {
    pub fn topic(&self) -> &Arc<str> {
        unimplemented!()
    }
    pub fn partition(&self) -> i32 {
        unimplemented!()
    }
    pub fn header(&self) -> &BatchHeader {
        unimplemented!()
    }
    /// Its records from the position on.
    pub fn records(&self) -> FetchedRecords<'_> {
        unimplemented!()
    }
}

pub struct FetchedRecords<'a> {
    _b: &'a (),
}
impl<'a> Iterator for FetchedRecords<'a> {
    type Item = RecordView<'a>;
    fn next(&mut self) -> Option<RecordView<'a>> {
        unimplemented!()
    }
}
