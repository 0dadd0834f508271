//! Walks the batches of a segment's file, header by header or byte by byte.

use std::io;

use super::segment::Start;
use crate::model::Offset;
use crate::record::BatchHeader;
use crate::storage::fs::File;

/// How much is read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// What a scan finds next.
#[derive(Debug)]
pub(super) enum Step {
    Batch {
        position: u64,
        header: BatchHeader,
    },
    /// The file ends after the last batch.
    End,
    /// From here to the file's end there are zeros only: they were written ahead of batches that never
    /// came.
    Zeros,
    /// What is at `position` isn't the batch that should be there.
    Bad {
        position: u64,
        reason: String,
    },
}

/// Whether the checksum of each batch is compared with its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// Header and place only; the records aren't read.
    Headers,
    Checksums,
}

/// A walk over the batches of a file, each of which must start where the one before it ends, and
/// with the offset after the last one's.
pub(super) struct Scanner<'a> {
    file: &'a dyn File,
    check: Check,
    position: u64,
    /// The end of the file, or of what of it is looked at.
    end: u64,
    /// The offset that must come next.
    expected: Offset,
    buffer: Vec<u8>,
    /// How much of the buffer was read.
    filled: usize,
    /// Where in the file the buffer's first byte lies.
    buffer_at: u64,
}

impl<'a> Scanner<'a> {
    /// Starts at `position`, where a batch with base offset `expected` must be.
    pub fn new(
        file: &'a dyn File,
        check: Check,
        position: u64,
        end: u64,
        expected: Offset,
    ) -> Scanner<'a> {
        Scanner {
            file,
            check,
            position,
            end,
            expected,
            buffer: Vec::new(),
            filled: 0,
            buffer_at: position,
        }
    }

    /// Where the next batch starts.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next batch's base offset.
    pub fn expected(&self) -> Offset {
        self.expected
    }

    /// The place of the next batch.
    pub fn here(&self) -> Start {
        Start {
            offset: self.expected,
            position: self.position,
        }
    }

    pub fn next(&mut self) -> io::Result<Step> {
        let position = self.position;
        let left = self.end - position;
        let bad = |reason: String| Ok(Step::Bad { position, reason });
        if left == 0 {
            return Ok(Step::End);
        }
        let head = self.bytes(BatchHeader::LEN.min(usize::try_from(left).unwrap_or(usize::MAX)))?;
        if is_zeros(head) && self.only_zeros_follow()? {
            return Ok(Step::Zeros);
        }
        if left < BatchHeader::LEN as u64 {
            return bad(format!("{left} bytes can't hold a batch"));
        }
        let header = match BatchHeader::decode(self.bytes(BatchHeader::LEN)?) {
            Ok(header) => header,
            Err(e) => return bad(e.to_string()),
        };
        if let Err(reason) = check_header(&header, self.expected, left) {
            return bad(reason);
        }
        if self.check == Check::Checksums {
            let bytes = self.bytes(header.size())?;
            let checked = if bytes.len() < header.size() {
                return bad("the file ends within the batch".into());
            } else {
                header.check_crc(bytes)
            };
            if let Err(e) = checked {
                return bad(e.to_string());
            }
        }
        self.position += header.size() as u64;
        self.expected = header.next_offset();
        Ok(Step::Batch { position, header })
    }

    /// Walks to the end, where one of `later` must come next. What is bad before it: position and reason.
    pub fn walk_to_end(&mut self, later: &[Offset]) -> io::Result<Option<(u64, String)>> {
        loop {
            match self.next()? {
                Step::Batch { .. } => {}
                Step::End | Step::Zeros if later.contains(&self.expected) => return Ok(None),
                Step::End | Step::Zeros => {
                    let next = later.first().copied().unwrap_or(Offset::NONE);
                    return Ok(Some((self.position, ends_too_early(next))));
                }
                Step::Bad { position, reason } => return Ok(Some((position, reason))),
            }
        }
    }

    /// Walks until `point` comes next. What is bad before it: position and reason.
    pub fn walk_to(
        &mut self,
        point: Offset,
        mut each: impl FnMut(u64, &BatchHeader),
    ) -> io::Result<Option<(u64, String)>> {
        while self.expected < point {
            match self.next()? {
                Step::Batch { position, header } => each(position, &header),
                Step::End | Step::Zeros => {
                    let reason = "the batches end below the synced point".to_owned();
                    return Ok(Some((self.position, reason)));
                }
                Step::Bad { position, reason } => return Ok(Some((position, reason))),
            }
        }
        Ok(None)
    }

    /// The whole batch that `next` gave last: valid until `next` is called again.
    pub fn batch(&mut self, position: u64, header: &BatchHeader) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; header.size()];
        let read = self.file.read_at(&mut bytes, position)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Whether there is nothing but zeros up to the end.
    fn only_zeros_follow(&self) -> io::Result<bool> {
        let mut position = self.position;
        let mut chunk = vec![0; CHUNK_BYTES];
        while position < self.end {
            let len = (self.end - position).min(CHUNK_BYTES as u64) as usize;
            let read = self.file.read_at(&mut chunk[..len], position)?;
            if read < len || !is_zeros(&chunk[..read]) {
                return Ok(false);
            }
            position += read as u64;
        }
        Ok(true)
    }

    /// `len` bytes at the current position, or fewer where the file ends.
    fn bytes(&mut self, len: usize) -> io::Result<&[u8]> {
        let from = self.position - self.buffer_at;
        let have = (self.filled as u64).saturating_sub(from);
        if have < len as u64 {
            let want = (len.max(CHUNK_BYTES) as u64).min(self.end - self.position) as usize;
            if self.buffer.len() < want {
                self.buffer = vec![0; want];
            }
            let buffer = &mut self.buffer[..want];
            self.filled = self.file.read_at(buffer, self.position)?;
            self.buffer_at = self.position;
        }
        let from = (self.position - self.buffer_at) as usize;
        let to = (from + len).min(self.filled);
        Ok(&self.buffer[from.min(to)..to])
    }
}

fn is_zeros(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// What is wrong with a segment whose batches end before the next one begins, at `next`.
pub(super) fn ends_too_early(next: Offset) -> String {
    format!("the segment's batches end here, and should reach offset {next}")
}

/// What can be said about a header without its records: that it is the batch which should be at
/// this place, with `left` bytes from its first byte to the end.
pub(super) fn check_header(
    header: &BatchHeader,
    expected: Offset,
    left: u64,
) -> Result<(), String> {
    if header.base_offset != expected {
        return Err(format!(
            "the batch's base offset is {}, and {expected} should be here",
            header.base_offset
        ));
    }
    if header.size() as u64 > left {
        return Err(format!(
            "the batch says it has {} bytes, and {left} are there",
            header.size()
        ));
    }
    let last = header.last_offset_delta;
    if last < 0
        || header
            .base_offset
            .0
            .checked_add(i64::from(last) + 1)
            .is_none()
    {
        return Err(format!("the batch's last offset delta is {last}"));
    }
    Ok(())
}
