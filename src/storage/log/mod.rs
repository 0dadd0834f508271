//! stub of the log: signatures only
mod error;
pub use error::{AppendError, LogError};

use crate::model::{LeaderEpoch, Offset, Timestamp};
use crate::record::{Batch, TimestampType};
use crate::storage::fs::FileSystem;
use bytes::Bytes;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// How the last run on this data directory ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    Clean,
    Unclean,
}
/// When an append counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    Synced,
    Os,
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    pub segment_bytes: u64,
    pub segment_ms: i64,
    pub retention_bytes: Option<u64>,
    pub retention_ms: Option<i64>,
    pub index_interval_bytes: u64,
    pub timestamp_type: TimestampType,
    pub flush: Flush,
    pub producer_expiration_ms: i64,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendKind {
    New,
    Duplicate,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: Offset,
    pub next_offset: Offset,
    pub log_append_time: Timestamp,
    pub kind: AppendKind,
}
/// Whether a read holds at least one batch, even if that is larger than asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstBatch {
    Always,
    IfFits,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampedOffset {
    pub offset: Offset,
    pub timestamp: Timestamp,
    pub leader_epoch: LeaderEpoch,
}
/// What a sync job covers; handed back to `complete_sync` as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covered {
    pub offset: Offset,
    pub truncations: u64,
}
#[derive(Debug)]
pub struct SyncJob;
impl SyncJob {
    pub fn run(&self) -> io::Result<()> {
        todo!()
    }
    pub fn covers(&self) -> Covered {
        todo!()
    }
}
#[derive(Debug)]
pub struct ReadPlan;
impl ReadPlan {
    pub fn bytes_max(&self) -> usize {
        todo!()
    }
    pub fn reaches_end(&self) -> bool {
        todo!()
    }
    pub fn limited(self, _bytes_max: usize, _first: FirstBatch) -> ReadPlan {
        todo!()
    }
    pub fn is_empty(&self) -> bool {
        todo!()
    }
    pub fn read_cached(&self) -> Result<Option<Bytes>, LogError> {
        todo!()
    }
    pub fn read(&self) -> Result<Bytes, LogError> {
        todo!()
    }
}
#[derive(Debug)]
pub struct CheckpointJob;
impl CheckpointJob {
    pub fn run(&self) -> Result<(), LogError> {
        todo!()
    }
}
/// What retention or delete-records took out of the log; its files are still there until `remove` is called, off the arbiter.
#[derive(Debug)]
pub struct Removed;
impl Removed {
    pub fn is_empty(&self) -> bool {
        todo!()
    }
    pub fn remove(self) -> Result<(), LogError> {
        todo!()
    }
}
#[derive(Debug)]
pub struct Log;
impl Log {
    pub fn open(
        _fs: Arc<dyn FileSystem>,
        _dir: &Path,
        _config: LogConfig,
        _last: Shutdown,
        _now: Timestamp,
    ) -> Result<Log, LogError> {
        todo!()
    }
    pub fn start_offset(&self) -> Offset {
        todo!()
    }
    pub fn end_offset(&self) -> Offset {
        todo!()
    }
    pub fn synced_offset(&self) -> Offset {
        todo!()
    }
    pub fn high_watermark(&self) -> Offset {
        todo!()
    }
    pub fn set_high_watermark(&mut self, _hw: Offset) {
        todo!()
    }
    pub fn set_config(&mut self, _config: LogConfig) {
        todo!()
    }
    pub fn size_bytes(&self) -> u64 {
        todo!()
    }
    pub fn append(
        &mut self,
        _batches: &[Batch],
        _epoch: LeaderEpoch,
        _now: Timestamp,
    ) -> Result<Vec<Result<Appended, AppendError>>, LogError> {
        todo!()
    }
    pub fn begin_sync(&self) -> Option<SyncJob> {
        todo!()
    }
    pub fn complete_sync(&mut self, _covered: Covered) {
        todo!()
    }
    pub fn plan_read(
        &self,
        _from: Offset,
        _upper: Offset,
        _max_bytes: usize,
        _first: FirstBatch,
    ) -> Result<ReadPlan, LogError> {
        todo!()
    }
    pub fn find_timestamp(
        &self,
        _at: Timestamp,
        _upper: Offset,
    ) -> Result<Option<TimestampedOffset>, LogError> {
        todo!()
    }
    pub fn max_timestamp(&self, _upper: Offset) -> Result<Option<TimestampedOffset>, LogError> {
        todo!()
    }
    pub fn epoch_of(&self, _offset: Offset) -> Option<LeaderEpoch> {
        todo!()
    }
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        todo!()
    }
    /// KIP-101/279: the largest epoch at or below the asked one, and where it ends.
    pub fn end_offset_of_epoch(&self, _epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        todo!()
    }
    pub fn truncate_to(&mut self, _offset: Offset) -> Result<(), LogError> {
        todo!()
    }
    pub fn delete_records_before(&mut self, _offset: Offset) -> Result<Removed, LogError> {
        todo!()
    }
    pub fn apply_retention(&mut self, _now: Timestamp) -> Result<Removed, LogError> {
        todo!()
    }
    pub fn checkpoint(&self) -> CheckpointJob {
        todo!()
    }
    pub fn close(&mut self) -> Result<(), LogError> {
        todo!()
    }
}
