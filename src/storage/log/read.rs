//! Reading: whole batches, from the one that holds an offset.
//!
//! A read is planned by the log's owner, which costs a look into an index at most, and carried out
//! where it may wait for the disk, or at once as far as the bytes are in memory. Each batch's
//! checksum, offset and leader epoch are compared before it is served: what went bad on disk ends
//! here, with the file and the position.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::epochs::LeaderEpochs;
use super::read_buffers::Buffer;
use super::scan::{check_header, ends_too_early};
use super::segment::{segment_path, Sealed, Start, LOG_SUFFIX};
use super::{Log, LogError};
use crate::model::Offset;
use crate::record::BatchHeader;
use crate::storage::fs::File;

/// The least that is read at once.
const READ_BYTES_MIN: usize = 4 << 10;

/// So much more is read where batches before the wanted one must be passed over: what lies between
/// two entries of an index, and a bit.
const SKIP_BYTES: usize = 8 << 10;

/// How many readers' places are remembered.
const HINTS_MAX: usize = 8;

/// Whether the first batch comes even if it is larger than what was asked for: else a reader with
/// a small buffer would never get past a large batch (KIP-74).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstBatch {
    /// Whole, whatever its size.
    Always,
    /// Only if it fits.
    IfFits,
}

/// Where reads have ended: the next read of the same consumer starts there, without an index.
#[derive(Debug, Default)]
pub(super) struct ReadHints {
    /// The log was truncated: what these reads find may be half of the old and half of the new.
    stale: AtomicBool,
    /// Each with its segment's base offset; the newest is last.
    ends: Mutex<Vec<(Offset, Start)>>,
}

impl ReadHints {
    fn note(&self, segment: Offset, end: Start) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.retain(|(_, known)| known.offset != end.offset);
        if ends.len() == HINTS_MAX {
            ends.remove(0);
        }
        ends.push((segment, end));
    }

    fn find(&self, segment: Offset, offset: Offset) -> Option<Start> {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let found = ends
            .iter()
            .find(|(base, end)| *base == segment && end.offset == offset);
        found.map(|(_, end)| *end)
    }

    /// Whether the log was truncated since.
    pub fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }

    /// Ends the use of these hints, and of reads that were planned with them.
    pub fn retire(&self) {
        self.stale.store(true, Ordering::Release);
    }
}

/// A planned read. It holds its file: the log may roll or be trimmed meanwhile.
#[derive(Debug)]
pub struct ReadPlan {
    /// `None` where there is nothing to read.
    file: Option<Arc<dyn File>>,
    dir: PathBuf,
    segment: Offset,
    /// The offset where the next segment starts.
    segment_end: Offset,
    start: Start,
    /// The end of the segment's batches.
    end_position: u64,
    from: Offset,
    upper: Offset,
    max_bytes: usize,
    first: FirstBatch,
    epochs: LeaderEpochs,
    hints: Arc<ReadHints>,
}

/// Where the bytes come from.
type ReadAt<'a> = dyn Fn(&mut [u8], u64) -> io::Result<Option<usize>> + 'a;

/// What a look at the bytes found.
enum Look {
    /// Whole batches at this range of the buffer; the next begins at `end`.
    Found { from: usize, to: usize, end: Start },
    /// Nothing that may be served.
    Nothing,
    /// The batch at `at` isn't all there: it needs so many bytes.
    NeedMore { at: Start, bytes: usize },
    /// The batch at `at` isn't what should be there.
    Bad { at: Start, reason: String },
}

impl ReadPlan {
    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.file.is_none()
    }

    /// It won't read more than this, unless its first batch is larger.
    pub fn bytes_max(&self) -> usize {
        let there = self.end_position - self.start.position;
        match self.file {
            Some(_) => self
                .max_bytes
                .min(usize::try_from(there).unwrap_or(usize::MAX)),
            None => 0,
        }
    }

    /// Whether the log has nothing to read beyond this plan's segment.
    pub fn reaches_end(&self) -> bool {
        self.upper <= self.segment_end
    }

    /// The same read, of at most so many bytes.
    pub fn limited(mut self, max_bytes: usize, first: FirstBatch) -> ReadPlan {
        self.max_bytes = self.max_bytes.min(max_bytes);
        self.first = first;
        self
    }

    /// Reads what is in memory; `None` if the disk would be touched: then call [`Self::read`]
    /// where that may be waited for.
    pub fn read_cached(&self) -> Result<Option<Bytes>, LogError> {
        let Some(file) = &self.file else {
            return Ok(Some(Bytes::new()));
        };
        self.carry_out(&|buffer, position| file.read_at_cached(buffer, position))
    }

    /// Reads, and waits for the disk.
    pub fn read(&self) -> Result<Bytes, LogError> {
        let Some(file) = &self.file else {
            return Ok(Bytes::new());
        };
        let read = |buffer: &mut [u8], position| file.read_at(buffer, position).map(Some);
        Ok(self.carry_out(&read)?.unwrap_or_default())
    }

    fn carry_out(&self, read: &ReadAt<'_>) -> Result<Option<Bytes>, LogError> {
        let mut start = self.start;
        let mut from_index = start.position != 0;
        let skip = match start.offset < self.from {
            true => SKIP_BYTES,
            false => 0,
        };
        let mut want = self.max_bytes.saturating_add(skip).max(READ_BYTES_MIN);
        loop {
            let left = usize::try_from(self.end_position - start.position).unwrap_or(usize::MAX);
            let len = want.min(left);
            let mut buffer = Buffer::take(len);
            let read = read(buffer.bytes_mut(len), start.position)
                .map_err(|e| LogError::storage("read", &self.path())(e))?;
            let Some(read) = read else {
                return Ok(None);
            };
            match self.look(&buffer.bytes()[..read], start) {
                Look::Nothing => return Ok(Some(Bytes::new())),
                Look::Found { from, to, end } => {
                    self.hints.note(self.segment, end);
                    return Ok(Some(buffer.into_bytes().slice(from..to)));
                }
                Look::NeedMore { at, bytes } if at != start || bytes > read => {
                    if read < len {
                        return self.too_short(read, len, at);
                    }
                    start = at;
                    want = want.max(bytes);
                }
                Look::NeedMore { at, .. } => return Err(self.corrupt(at, "it makes no sense")),
                // The index may be wrong, and not the batch.
                Look::Bad { at, .. } if from_index && at == self.start => {
                    from_index = false;
                    start = Start::of_segment(self.segment);
                }
                Look::Bad { at, reason } => return Err(self.corrupt(at, &reason)),
            }
        }
    }

    /// Fewer bytes came than there are. A cached read does that; otherwise the file was cut.
    fn too_short(&self, read: usize, len: usize, at: Start) -> Result<Option<Bytes>, LogError> {
        let file_len = self.file.as_ref().and_then(|f| f.len().ok());
        if file_len.is_some_and(|file_len| file_len >= self.end_position) {
            return Ok(None);
        }
        Err(self.corrupt(at, &format!("the file ends after {read} of {len} bytes")))
    }

    /// Walks over the batches in `bytes`, which begin at `start`.
    fn look(&self, bytes: &[u8], start: Start) -> Look {
        let mut next = start;
        let mut from = None;
        let mut at = 0;
        while next.position < self.end_position && next.offset < self.upper {
            let left = self.end_position - next.position;
            if left < BatchHeader::LEN as u64 && from.is_none() {
                let reason = format!("{left} bytes can't be a batch");
                return Look::Bad { at: next, reason };
            }
            let Some(rest) = bytes.get(at..).filter(|r| r.len() >= BatchHeader::LEN) else {
                return self.found_or(from, at, next, BatchHeader::LEN);
            };
            let header = match self.check_place(rest, next) {
                Ok(header) => header,
                Err(reason) => return Look::Bad { at: next, reason },
            };
            let size = header.size();
            if header.last_offset() >= self.from {
                let total = at + size - from.unwrap_or(at);
                let always = from.is_none() && self.first == FirstBatch::Always;
                let fits = total <= self.max_bytes || always;
                if header.next_offset() > self.upper || !fits {
                    break;
                }
                if rest.len() < size {
                    return self.found_or(from, at, next, size);
                }
                if let Err(reason) = self.check_content(&header, &rest[..size]) {
                    return Look::Bad { at: next, reason };
                }
                from.get_or_insert(at);
            }
            at += size;
            next = Start {
                offset: header.next_offset(),
                position: next.position + size as u64,
            };
        }
        match from {
            Some(from) => Look::Found {
                from,
                to: at,
                end: next,
            },
            None if next.position == self.end_position && next.offset < self.segment_end => {
                Look::Bad {
                    at: next,
                    reason: ends_too_early(self.segment_end),
                }
            }
            None => Look::Nothing,
        }
    }

    /// What was found before the batch at `next`, of which `bytes` are needed.
    fn found_or(&self, from: Option<usize>, at: usize, next: Start, bytes: usize) -> Look {
        match from {
            Some(from) => Look::Found {
                from,
                to: at,
                end: next,
            },
            None => Look::NeedMore { at: next, bytes },
        }
    }

    fn check_place(&self, bytes: &[u8], at: Start) -> Result<BatchHeader, String> {
        let header = BatchHeader::decode(bytes).map_err(|e| e.to_string())?;
        check_header(&header, at.offset, self.end_position - at.position)?;
        Ok(header)
    }

    fn check_content(&self, header: &BatchHeader, bytes: &[u8]) -> Result<(), String> {
        header.check_crc(bytes).map_err(|e| e.to_string())?;
        match self.epochs.of(header.base_offset) {
            Some(epoch) if epoch != header.leader_epoch => Err(format!(
                "the batch says leader epoch {}, and {epoch} wrote it",
                header.leader_epoch
            )),
            _ => Ok(()),
        }
    }

    fn path(&self) -> PathBuf {
        segment_path(&self.dir, self.segment, LOG_SUFFIX)
    }

    fn corrupt(&self, at: Start, reason: &str) -> LogError {
        if self.hints.is_stale() {
            return LogError::Truncated;
        }
        LogError::Corrupt {
            file: self.path(),
            position: at.position,
            offset: at.offset,
            reason: reason.to_owned(),
        }
    }
}

impl Log {
    /// Plans a read of whole batches: from the one that holds `from`, all of them below `upper`,
    /// at most `max_bytes` together, and never beyond one segment.
    pub fn plan_read(
        &self,
        from: Offset,
        upper: Offset,
        max_bytes: usize,
        first: FirstBatch,
    ) -> Result<ReadPlan, LogError> {
        if from < self.start_offset || from > self.end_offset {
            return Err(LogError::OffsetOutOfRange {
                asked: from,
                start: self.start_offset,
                end: self.end_offset,
            });
        }
        let upper = upper.min(self.end_offset);
        let (segment, segment_end, end_position) = match self.sealed_with(from) {
            Some(sealed) => (sealed.base, sealed.next, sealed.size),
            None => (self.active.base, self.end_offset, self.active.size),
        };
        let mut plan = ReadPlan {
            file: None,
            dir: self.dir.clone(),
            segment,
            segment_end,
            start: Start::of_segment(segment),
            end_position,
            from,
            upper,
            max_bytes,
            first,
            epochs: self.epochs.clone(),
            hints: self.hints.clone(),
        };
        if from < upper {
            plan.file = Some(self.segment_file(segment)?);
            plan.start = self.start_for(from);
        }
        Ok(plan)
    }

    /// The sealed segment that holds `offset`; `None` where it is the active one.
    pub(super) fn sealed_with(&self, offset: Offset) -> Option<&Sealed> {
        if offset >= self.active.base {
            return None;
        }
        let after = self.sealed.partition_point(|s| s.base <= offset);
        self.sealed.get(after.checked_sub(1)?).map(Arc::as_ref)
    }

    /// Where to start walking to reach the batch that holds `offset`.
    pub(super) fn start_for(&self, offset: Offset) -> Start {
        let sealed = self.sealed_with(offset);
        let segment = sealed.map_or(self.active.base, |s| s.base);
        if let Some(start) = self.hints.find(segment, offset) {
            return start;
        }
        match sealed {
            Some(sealed) => sealed.start_for(&self.fs, &self.dir, offset),
            None => self.active.indexer.start_for(offset),
        }
    }

    /// The data file of a segment; that of the sealed one that was read last stays open.
    pub(super) fn segment_file(&self, base: Offset) -> Result<Arc<dyn File>, LogError> {
        if base == self.active.base {
            return Ok(self.active.file.clone());
        }
        let mut last_read = self.last_read.borrow_mut();
        if let Some((_, file)) = last_read.as_ref().filter(|(open, _)| *open == base) {
            return Ok(file.clone());
        }
        let path = segment_path(&self.dir, base, LOG_SUFFIX);
        let file = open_segment(self, &path)?;
        *last_read = Some((base, file.clone()));
        Ok(file)
    }
}

fn open_segment(log: &Log, path: &Path) -> Result<Arc<dyn File>, LogError> {
    log.fs
        .open_read_only(path)
        .map_err(LogError::storage("open", path))
}
