//! What a fetch brought for one partition, as bytes: looked over once when it comes, so that it is
//! known where to go on, and read one batch at a time when it is polled.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::room::Charge;
use super::state::Key;
use super::FetchedBatch;
use crate::model::Offset;
use crate::record::{Batch, BatchHeader, RecordError};

/// Whole batches of one partition that wait to be polled.
#[derive(Debug)]
pub(super) struct Fetched {
    /// The next record that is wanted. Those before it came because batches come whole.
    pub from: Offset,
    rest: Bytes,
    /// Shared by all partitions of a fetch: as long as one of them keeps bytes, all are in memory.
    _charge: Arc<Charge>,
}

/// What a look at the headers says.
#[derive(Debug)]
pub(super) struct Survey {
    /// Whole batches; empty if nothing that is wanted came.
    pub batches: Bytes,
    /// Where to go on after them.
    pub next: Offset,
    /// Why not all of it can be read.
    pub error: Option<RecordError>,
}

/// A batch that is next to be polled, not looked into yet.
#[derive(Debug)]
pub(super) struct Raw {
    pub key: Key,
    pub generation: u64,
    pub from: Offset,
    /// Where to go on after it.
    pub next: Offset,
    bytes: Bytes,
}

/// The size of the batch at the front, and the offset after it.
fn look(bytes: &[u8]) -> Result<(usize, Offset), RecordError> {
    let header = BatchHeader::decode(bytes)?;
    if header.size() > bytes.len() {
        return Err(RecordError::Length {
            says: header.size() as i64,
            have: bytes.len(),
        });
    }
    let (base, delta) = (header.base_offset.0, header.last_offset_delta);
    let next = i64::from(delta)
        .checked_add(1)
        .and_then(|records| base.checked_add(records))
        .filter(|_| base >= 0 && delta >= 0);
    let next = next.ok_or_else(|| {
        RecordError::Invalid(format!("no offsets begin at {base} and go on for {delta}"))
    })?;
    Ok((header.size(), Offset(next)))
}

fn is_cut_off(error: &RecordError) -> bool {
    match error {
        RecordError::TooShort { .. } => true,
        RecordError::Length { says, have } => *says > *have as i64,
        _ => false,
    }
}

/// Looks the batches over that were fetched for `from`.
///
/// A last batch that is cut off is left out, as long as there is one before it: a broker may fill
/// its answer up to the byte. Of batches before `from` there must be others behind: else asking
/// again would bring the same.
pub(super) fn survey(records: &Bytes, from: Offset) -> Survey {
    let mut next = from;
    let (mut start, mut end) = (0, 0);
    let mut error = None;
    while end < records.len() {
        match look(&records[end..]) {
            Ok((size, after)) => {
                end += size;
                match after > next {
                    true => next = after,
                    false if next == from => start = end,
                    false => {}
                }
            }
            Err(wrong) if next > from && is_cut_off(&wrong) => break,
            Err(wrong) => {
                error = Some(wrong);
                break;
            }
        }
    }
    if next == from && error.is_none() && !records.is_empty() {
        let reason = format!("all batches that came lie below offset {from}");
        error = Some(RecordError::Invalid(reason));
    }
    Survey {
        batches: records.slice(start..end),
        next,
        error,
    }
}

impl Fetched {
    pub(super) fn new(from: Offset, batches: Bytes, charge: Arc<Charge>) -> Fetched {
        Fetched {
            from,
            rest: batches,
            _charge: charge,
        }
    }

    /// The batch at the front. It stays there until it is [taken](Fetched::take).
    pub(super) fn front(&self, key: &Key, generation: u64) -> Option<Raw> {
        let (size, next) = look(&self.rest).ok()?;
        Some(Raw {
            key: key.clone(),
            generation,
            from: self.from,
            next: next.max(self.from),
            bytes: self.rest.slice(..size),
        })
    }

    pub(super) fn take(&mut self, raw: &Raw) {
        self.rest.advance(raw.bytes.len());
        self.from = raw.next;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

impl Raw {
    /// Decompresses the batch, to `records_bytes_max` at most, and checks all of it.
    pub(super) fn read(&self, records_bytes_max: usize) -> Result<FetchedBatch, RecordError> {
        let batch = Batch::parse(self.bytes.clone())?;
        let records = batch.records(records_bytes_max)?;
        let mut len = 0;
        for record in &records {
            len += usize::from(record?.offset >= self.from);
        }
        Ok(FetchedBatch {
            topic: self.key.0.clone(),
            partition: self.key.1,
            records,
            from: self.from,
            len,
        })
    }
}
