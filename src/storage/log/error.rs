//! What can go wrong with a log, told apart by what follows from it.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::segment::Start;
use crate::model::{ErrorCode, LeaderEpoch, Offset};

/// A fault of the whole log: the call did nothing.
#[derive(Debug, Error)]
pub enum LogError {
    /// The disk refused (full, I/O error). The same call can work later.
    #[error("can't {operation} {}: {source}", file.display())]
    Storage {
        operation: &'static str,
        file: PathBuf,
        source: io::Error,
    },
    /// A sync failed: what was written since the last one may be lost, and a second try could say
    /// otherwise, so the process must end (see [`crate::storage::syncer`]).
    #[error("can't sync {}: {source}", file.display())]
    SyncFailed { file: PathBuf, source: io::Error },
    /// Bytes that were once synced aren't what they were. Nothing was cut or repaired.
    #[error(
        "{} is corrupt at byte {position} (offset {offset}): {reason}",
        file.display()
    )]
    Corrupt {
        file: PathBuf,
        position: u64,
        /// The offset that should have been there.
        offset: Offset,
        reason: String,
    },
    /// Nothing was made in its place.
    #[error(
        "the log's directory {} is missing, and was there before, as {} says: its records are lost \
         unless the directory is restored (removing that file begins an empty log)",
        dir.display(),
        witness.display()
    )]
    Vanished { dir: PathBuf, witness: PathBuf },
    #[error("offset {asked} isn't in this log, which holds {start} to {end}")]
    OffsetOutOfRange {
        asked: Offset,
        start: Offset,
        end: Offset,
    },
    /// What a leader has sent doesn't continue the log.
    #[error("the log ends at offset {end}, and a batch begins at {got} in leader epoch {epoch}")]
    Discontinuous {
        end: Offset,
        got: Offset,
        epoch: LeaderEpoch,
    },
    /// The log was truncated between planning a read and reading.
    #[error("the log was truncated while it was read")]
    Truncated,
    /// A compaction was for a log that has changed since, or is closed. What it has written is given up.
    #[error("the log isn't any more what was to be compacted")]
    Superseded,
    /// The log was closed, or a write failed and could not be taken back: it must be opened again.
    #[error("the log refuses appends: {0}")]
    Failed(String),
}

impl LogError {
    pub(super) fn storage<'a>(
        operation: &'static str,
        file: &'a Path,
    ) -> impl FnOnce(io::Error) -> LogError + 'a {
        move |source| LogError::Storage {
            operation,
            file: file.to_owned(),
            source,
        }
    }

    pub(super) fn corrupt(file: PathBuf, at: Start, reason: String) -> LogError {
        LogError::Corrupt {
            file,
            position: at.position,
            offset: at.offset,
            reason,
        }
    }

    pub(super) fn sync_failed(file: &Path) -> impl FnOnce(io::Error) -> LogError + '_ {
        move |source| LogError::SyncFailed {
            file: file.to_owned(),
            source,
        }
    }

    /// Whether the process must end: what is in memory and what is on disk can't be told apart
    /// any more.
    pub fn is_fatal(&self) -> bool {
        matches!(self, LogError::SyncFailed { .. })
    }

    /// Whether there was no room on the disk.
    pub fn is_full_disk(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        let LogError::Storage { source, .. } = self else {
            return false;
        };
        matches!(source.kind(), StorageFull | QuotaExceeded)
    }

    /// What a client is answered.
    pub fn code(&self) -> ErrorCode {
        match self {
            LogError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            LogError::Storage { .. }
            | LogError::SyncFailed { .. }
            | LogError::Corrupt { .. }
            | LogError::Vanished { .. }
            | LogError::Truncated
            | LogError::Superseded
            | LogError::Discontinuous { .. }
            | LogError::Failed(_) => ErrorCode::KafkaStorageError,
        }
    }
}

/// Why one batch was refused, while others of the same call were appended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AppendError {
    #[error("producer {producer_id} sent sequence {got}, and {expected} is next")]
    OutOfOrderSequence {
        producer_id: i64,
        expected: i32,
        got: i32,
    },
    /// What came before was never appended here, or is forgotten: either way it isn't known
    /// whether this batch continues it (KIP-360).
    #[error("producer {producer_id} isn't known here, and sent sequence {got} instead of 0")]
    UnknownProducer { producer_id: i64, got: i32 },
    #[error("producer {producer_id} has epoch {current} by now, and the batch epoch {got}")]
    InvalidProducerEpoch {
        producer_id: i64,
        current: i16,
        got: i16,
    },
    #[error("leader epoch {got} has ended: the log has records of {current}")]
    FencedLeaderEpoch {
        current: LeaderEpoch,
        got: LeaderEpoch,
    },
    #[error("a batch of {size} bytes doesn't fit a segment of {segment_bytes}")]
    TooLarge { size: u64, segment_bytes: u64 },
    #[error("the log can't hold another {records} offsets")]
    OffsetsExhausted { records: i64 },
}

impl AppendError {
    /// What the producer is answered.
    pub fn code(&self) -> ErrorCode {
        match self {
            AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
            AppendError::UnknownProducer { .. } => ErrorCode::UnknownProducerId,
            AppendError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
            AppendError::FencedLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            AppendError::TooLarge { .. } => ErrorCode::MessageTooLarge,
            AppendError::OffsetsExhausted { .. } => ErrorCode::InvalidRecord,
        }
    }
}
