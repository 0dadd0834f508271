//! Appending: batches are checked against their producers' sequences, stamped, and written as they
//! came, as many as fit the segment by one vectored write. Nothing here waits for a sync.

use std::io::IoSlice;
use std::ops::Range;

use bytes::Bytes;

use super::producer_state::Undo;
use super::{AppendError, Appended, Log, LogError};
use crate::model::{LeaderEpoch, Offset, Timestamp};
use crate::record::{Batch, BatchHeader, TimestampType};

/// What the leader stamps lies in the first bytes of a batch: base offset, length, leader epoch.
pub(super) const STAMP_END: usize = 16;

/// Records up to this size are copied beside their header: cheaper than a slice of their own.
const COPY_BYTES_MAX: usize = 2 << 10;

/// The stamped bytes that take the place of a batch's first ones.
struct Head {
    bytes: [u8; BatchHeader::LEN],
    len: usize,
}

/// A part of what is to be written: of the copied bytes, or of a batch as it came.
enum Part {
    Copied(Range<usize>),
    Shared(Bytes),
}

/// Batches that go to one segment by one write.
#[derive(Default)]
pub(super) struct Staged {
    pub headers: Vec<BatchHeader>,
    parts: Vec<Part>,
    copied: Vec<u8>,
    pub bytes: u64,
}

impl Staged {
    /// Adds a batch as it will be on disk: `head` takes the place of its first bytes.
    pub fn push(&mut self, header: BatchHeader, head: &[u8], bytes: &Bytes) {
        let from = self.copied.len();
        self.copied.extend_from_slice(head);
        let is_small = bytes.len() - head.len() <= COPY_BYTES_MAX;
        if is_small {
            self.copied.extend_from_slice(&bytes[head.len()..]);
        }
        match self.parts.last_mut() {
            Some(Part::Copied(range)) if range.end == from => range.end = self.copied.len(),
            _ => self.parts.push(Part::Copied(from..self.copied.len())),
        }
        if !is_small {
            self.parts.push(Part::Shared(bytes.slice(head.len()..)));
        }
        self.bytes += bytes.len() as u64;
        self.headers.push(header);
    }

    fn slices(&self) -> Vec<IoSlice<'_>> {
        // One more for the zeros behind them.
        let mut slices = Vec::with_capacity(self.parts.len() + 1);
        for part in &self.parts {
            slices.push(match part {
                Part::Copied(range) => IoSlice::new(&self.copied[range.start..range.end]),
                Part::Shared(bytes) => IoSlice::new(bytes),
            });
        }
        slices
    }
}

impl Log {
    /// Appends each batch, and says for each where it is, in the order of `batches`.
    ///
    /// `epoch` is that of the leader who appends; below the log's latest, all is refused. The
    /// outer error means that the disk failed and that nothing of this call is in the log; an
    /// inner one that this batch alone was refused.
    pub fn append(
        &mut self,
        batches: &[Batch],
        epoch: LeaderEpoch,
        now: Timestamp,
    ) -> Result<Vec<Result<Appended, AppendError>>, LogError> {
        self.all_or_nothing(|log, undo| log.append_all(batches, epoch, now, undo))
    }

    /// After an error nothing of what was appended is in the log.
    pub(super) fn all_or_nothing<T>(
        &mut self,
        append: impl FnOnce(&mut Log, &mut Vec<Undo>) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        if let Some(reason) = &self.failure {
            return Err(LogError::Failed(reason.clone()));
        }
        let end_before = self.end_offset;
        let mut undo = Vec::new();
        let appended = append(self, &mut undo);
        if appended.is_err() {
            for undo in undo.into_iter().rev() {
                self.producers.undo(undo);
            }
            self.take_back(end_before);
        }
        appended
    }

    fn append_all(
        &mut self,
        batches: &[Batch],
        epoch: LeaderEpoch,
        now: Timestamp,
        undo: &mut Vec<Undo>,
    ) -> Result<Vec<Result<Appended, AppendError>>, LogError> {
        let mut results = Vec::with_capacity(batches.len());
        let mut staged = Staged::default();
        let mut next = self.end_offset;
        for batch in batches {
            let duplicate = match self.admit(batch.header(), next, epoch) {
                Ok(duplicate) => duplicate,
                Err(refusal) => {
                    results.push(Err(refusal));
                    continue;
                }
            };
            if let Some(duplicate) = duplicate {
                results.push(Ok(duplicate));
                continue;
            }
            let (header, head) = self.stamp(batch, next, epoch, now);
            if self.must_roll(&header, staged.bytes, &staged.headers, now) {
                self.write(&mut staged)?;
                self.roll(now)?;
            }
            undo.extend(self.producers.record(&header, next, now));
            staged.push(header, &head.bytes[..head.len], batch.bytes());
            next = header.next_offset();
            results.push(Ok(Appended {
                base_offset: header.base_offset,
                next_offset: next,
                log_append_time: self.log_append_time(now),
            }));
        }
        self.write(&mut staged)?;
        Ok(results)
    }

    /// Whether a batch may go to `next`; the answer to give where it is in the log already.
    fn admit(
        &self,
        header: &BatchHeader,
        next: Offset,
        epoch: LeaderEpoch,
    ) -> Result<Option<Appended>, AppendError> {
        if let Some(current) = self.epochs.latest().filter(|latest| *latest > epoch) {
            return Err(AppendError::FencedLeaderEpoch {
                current,
                got: epoch,
            });
        }
        if header.size() as u64 > self.config.segment_bytes {
            return Err(AppendError::TooLarge {
                size: header.size() as u64,
                segment_bytes: self.config.segment_bytes,
            });
        }
        let records = i64::from(header.last_offset_delta) + 1;
        if records < 1 || next.0.checked_add(records).is_none() {
            return Err(AppendError::OffsetsExhausted { records });
        }
        let duplicate = self.producers.check(header)?;
        Ok(duplicate.map(|d| Appended {
            base_offset: d.base_offset,
            next_offset: d.next_offset,
            log_append_time: self.log_append_time(d.timestamp),
        }))
    }

    fn log_append_time(&self, time: Timestamp) -> Timestamp {
        match self.config.timestamp_type {
            TimestampType::CreateTime => Timestamp::NONE,
            TimestampType::LogAppendTime => time,
        }
    }

    /// The batch's header as it will be in the log, and the bytes that begin it there. Base offset
    /// and leader epoch lie outside the checksum; the append time doesn't, so it is made anew.
    fn stamp(
        &self,
        batch: &Batch,
        base_offset: Offset,
        epoch: LeaderEpoch,
        now: Timestamp,
    ) -> (BatchHeader, Head) {
        let bytes = batch.bytes();
        let mut header = *batch.header();
        header.base_offset = base_offset;
        header.leader_epoch = epoch;
        let mut head = Head {
            bytes: [0; BatchHeader::LEN],
            len: STAMP_END,
        };
        head.bytes.copy_from_slice(&bytes[..BatchHeader::LEN]);
        head.bytes[..8].copy_from_slice(&base_offset.0.to_be_bytes());
        head.bytes[12..STAMP_END].copy_from_slice(&epoch.0.to_be_bytes());
        if self.config.timestamp_type == TimestampType::LogAppendTime {
            let stamped = TimestampType::LogAppendTime;
            header.attributes = header.attributes.with_timestamp_type(stamped);
            header.max_timestamp = now;
            head.bytes[21..23].copy_from_slice(&header.attributes.0.to_be_bytes());
            head.bytes[35..43].copy_from_slice(&now.0.to_be_bytes());
            let crc = crc32c::crc32c(&head.bytes[BatchHeader::CRC_FROM..]);
            header.crc = crc32c::crc32c_append(crc, &bytes[BatchHeader::LEN..]);
            head.bytes[BatchHeader::CRC_AT..BatchHeader::CRC_FROM]
                .copy_from_slice(&header.crc.to_be_bytes());
            head.len = BatchHeader::LEN;
        }
        (header, head)
    }

    /// Writes what is staged to the active segment. After an error the file is as it was.
    pub(super) fn write(&mut self, staged: &mut Staged) -> Result<(), LogError> {
        let staged = std::mem::take(staged);
        if staged.headers.is_empty() {
            return Ok(());
        }
        let active = &mut self.active;
        let segment_bytes = self.config.segment_bytes;
        let written = active.write(&mut staged.slices(), staged.bytes, segment_bytes);
        if let Err((source, not_cut)) = written {
            if let Some(e) = not_cut {
                self.failure = Some(format!("can't cut {}: {e}", active.path.display()));
            }
            return Err(LogError::Storage {
                operation: "append to",
                file: active.path.clone(),
                source,
            });
        }
        for header in &staged.headers {
            active.note(header, self.config.index_interval_bytes);
            self.epochs.assign(header.leader_epoch, header.base_offset);
            self.end_offset = header.next_offset();
        }
        Ok(())
    }

    /// Cuts off what a failed append has written to earlier segments.
    fn take_back(&mut self, end_before: Offset) {
        if self.failure.is_some() || self.end_offset == end_before {
            return;
        }
        if let Err(e) = self.cut_segments(end_before) {
            self.failure = Some(format!("can't cut the log at {end_before}: {e}"));
        }
    }
}
