//! A partition's log: record batches in the order of their offsets, in segments of a directory.
//!
//! # Who does what
//!
//! One owner (the partition's actor) appends, rolls, truncates and plans; nothing here locks. What
//! waits for the disk is handed out as a job to be run elsewhere: [`SyncJob`], [`ReadPlan`],
//! [`CheckpointJob`], [`Removed`], [`TimeLookup`], [`CloseJob`], [`Compaction`]. A job holds the files that it needs, so the log may move on, and
//! a [`Lease`] on the directory, so that nobody opens it again before the job has ended.
//!
//! # What holds, always
//!
//! - Offsets are dense: each batch starts with the offset after the last of the one before it,
//!   within a segment and from one segment to the next. Compaction takes records out, and leaves empty
//!   batches (`compaction`).
//! - `start_offset <= high_watermark <= end_offset`, and `synced_offset <= end_offset`: all bytes
//!   below `synced_offset`, and the names of the files that hold them, are on disk.
//! - What was below `synced_offset` is never cut by recovery. What fails its checksum there is
//!   reported ([`LogError::Corrupt`]), and never served.
//! - An append that fails leaves the log as it was; if that can't be done, the log refuses all
//!   further appends until it is opened again.
//! - Everything beside the batches can be rebuilt from them: indexes, producer snapshots, leader
//!   epochs. An index is only ever a hint.
//!
//! # What a crash can lose
//!
//! Only what no [`SyncJob`] covered. What else depends on the checkpoint, which is written every
//! few seconds: see [`crate::storage::checkpoint`].

mod ahead;
mod append;
mod begin_anew;
mod close;
mod compaction;
mod epochs;
mod error;
mod follow;
mod index;
mod indexer;
mod inspect;
mod producer_snapshots;
mod producer_state;
mod read;
mod read_buffers;
mod recovery;
mod retention;
mod roll;
mod scan;
mod segment;
mod sync;
mod timestamps;
mod truncate;

#[cfg(test)]
mod ahead_tests;
#[cfg(test)]
mod power_loss_tests;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use begin_anew::{AnewJob, Begun};
pub use close::CloseJob;
pub use compaction::{Cleanup, Compacted, Compaction, CompactionConfig, Replaced, Replacement};
pub use error::{AppendError, LogError};
pub use inspect::{inspect, BadBytes, InspectedBatch};
pub use read::{FirstBatch, ReadPlan};
pub use retention::Removed;
pub use sync::{Covered, SyncJob};
pub use timestamps::{LookFor, TimeLookup, TimestampedOffset};

use self::compaction::{CancelOnDrop, Leftovers};
use self::epochs::LeaderEpochs;
use self::producer_state::ProducerState;
use self::read::ReadHints;
use self::segment::{Active, Sealed};
use self::sync::Unsynced;
use super::checkpoint::{
    CheckpointJob, CheckpointOrder, LogCheckpoint, Producers, SegmentLargest, Segments,
};
use super::fs::{File, FileSystem};
use super::lease::Lease;
use super::witness::Witness;
use crate::model::{LeaderEpoch, Offset, Timestamp};
use crate::record::TimestampType;

/// The largest segment: positions in it are u32, and Kafka's are i32.
pub const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;

/// How the last run on this data directory ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// The broker closed its logs and left its mark.
    Clean,
    /// It was killed, or the power went.
    Unclean,
}

/// What of a topic's configuration its logs go by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A segment is rolled before it grows beyond this (`segment.bytes`).
    pub segment_bytes: u64,
    /// A segment is rolled when it is this old (`segment.ms`).
    pub segment_ms: i64,
    /// `None` keeps all (`retention.bytes`).
    pub retention_bytes: Option<u64>,
    /// `None` keeps all (`retention.ms`).
    pub retention_ms: Option<i64>,
    /// How many bytes lie between two entries of an index (`index.interval.bytes`).
    pub index_interval_bytes: u64,
    /// Whose clock the records have (`message.timestamp.type`).
    pub timestamp_type: TimestampType,
    /// After this a silent producer is forgotten (`producer.id.expiration.ms`).
    pub producer_expiration_ms: i64,
    /// What becomes of old records (`cleanup.policy`).
    pub cleanup: Cleanup,
}

impl Default for LogConfig {
    /// Kafka's defaults.
    fn default() -> LogConfig {
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 60 * 60 * 1000,
            retention_bytes: None,
            retention_ms: Some(7 * 24 * 60 * 60 * 1000),
            index_interval_bytes: 4096,
            timestamp_type: TimestampType::CreateTime,
            producer_expiration_ms: 24 * 60 * 60 * 1000,
            cleanup: Cleanup::Delete,
        }
    }
}

/// Where a batch is in the log: by this append, or since an earlier one where a producer has sent it
/// twice (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: Offset,
    /// The offset after the batch's last.
    pub next_offset: Offset,
    /// `NONE` where the topic has the producer's time.
    pub log_append_time: Timestamp,
}

/// One partition's log.
#[derive(Debug)]
pub struct Log {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    witness: Witness,
    config: LogConfig,
    /// In the order of their offsets; `active` comes after them.
    sealed: VecDeque<Arc<Sealed>>,
    active: Active,
    start_offset: Offset,
    end_offset: Offset,
    synced_offset: Offset,
    high_watermark: Offset,
    epochs: LeaderEpochs,
    producers: ProducerState,
    unsynced: Unsynced,
    /// How often the log was truncated: tells the syncs of what was cut from those of what stays.
    truncations: u64,
    hints: Arc<ReadHints>,
    /// The sealed segment that was read last, with its open file.
    last_read: RefCell<Option<(Offset, Arc<dyn File>)>>,
    checkpoint_order: Arc<CheckpointOrder>,
    checkpoint_number: Cell<u64>,
    /// Below it compaction has been at work.
    clean_to: Offset,
    compaction: CancelOnDrop,
    leftovers: Leftovers,
    /// Why appends are refused, if they are.
    failure: Option<String>,
    lease: Lease,
}

impl Log {
    /// The first offset that can be read. Records below it are gone, or were deleted.
    pub fn start_offset(&self) -> Offset {
        self.start_offset
    }

    /// The offset that the next record gets (log end offset).
    pub fn end_offset(&self) -> Offset {
        self.end_offset
    }

    /// Everything below it is on disk.
    pub fn synced_offset(&self) -> Offset {
        self.synced_offset
    }

    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Sets the high watermark, which stays between the log's start and end.
    pub fn set_high_watermark(&mut self, offset: Offset) {
        self.high_watermark = offset.max(self.start_offset).min(self.end_offset);
    }

    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Takes another configuration, from the next append on.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = bounded(config);
    }

    /// Whether it can't go on, and has to be opened again.
    pub fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// The directory that holds the log.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The bytes of all batches in it.
    pub fn size_bytes(&self) -> u64 {
        self.sealed.iter().map(|s| s.size).sum::<u64>() + self.active.size
    }

    /// The epoch of the leader that wrote `offset`.
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.epochs.of(offset)
    }

    /// The epoch of the leader that wrote last.
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.latest()
    }

    /// The largest epoch not above `epoch` that wrote to this log, and the offset after its last
    /// record (KIP-101, KIP-279). `None` where `epoch` is newer than all that the log knows.
    pub fn end_offset_of_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.epochs.end_offset_of(epoch, self.end_offset)
    }

    /// A checkpoint of the log as it is now, to be written elsewhere. The owner asks for one every
    /// few seconds while the log changes, and after a roll.
    pub fn checkpoint(&self) -> CheckpointJob {
        self.checkpoint_with(self.unsynced.recovery_point(self.synced_offset))
    }

    fn checkpoint_with(&self, recovery_point: Offset) -> CheckpointJob {
        let producers = match self.producers.is_empty() {
            true => Producers::None,
            false => Producers::Some,
        };
        self.checkpoint_of(LogCheckpoint {
            start_offset: self.start_offset,
            recovery_point,
            high_watermark: self.high_watermark,
            segments: Segments::Its,
            clean_to: self.clean_to,
            producers,
            largest: self.active.largest().map(|l| SegmentLargest {
                segment: self.active.base,
                timestamp: l.timestamp,
                offset: l.offset,
            }),
            epochs: self.epochs.entries().to_vec(),
        })
    }

    fn checkpoint_of(&self, checkpoint: LogCheckpoint) -> CheckpointJob {
        let number = self.checkpoint_number.get() + 1;
        self.checkpoint_number.set(number);
        CheckpointJob::new(
            self.fs.clone(),
            self.dir.clone(),
            checkpoint,
            self.checkpoint_order.clone(),
            number,
            self.unsynced.is_new_log().then(|| self.witness.clone()),
            self.lease.clone(),
        )
    }

    fn write_checkpoint(&mut self, recovery_point: Offset) -> Result<(), LogError> {
        self.run_checkpoint(self.checkpoint_with(recovery_point))
    }

    fn run_checkpoint(&mut self, job: CheckpointJob) -> Result<(), LogError> {
        job.run().map_err(LogError::storage("write", &job.path()))?;
        self.unsynced.note_first_checkpoint();
        Ok(())
    }
}

/// What a configuration may not exceed for the files' formats.
fn bounded(mut config: LogConfig) -> LogConfig {
    config.segment_bytes = config.segment_bytes.min(SEGMENT_BYTES_MAX);
    config
}
