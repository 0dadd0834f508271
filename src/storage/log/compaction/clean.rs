//! The cleaner's part: finding the last record of each key, and writing segments without the others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::scan::{ends_too_early, Check, Step};
use super::super::segment::{segment_path, Sealed, Start, LOG_SUFFIX};
use super::super::LogError;
use super::offset_map::{Full, OffsetMap};
use super::output::{remove_temporary, Cleaned, Output};
use super::{Cancel, Compaction, Replaced, Replacement};
use crate::model::Offset;
use crate::record::{
    filter, Batch, BatchHeader, BatchRecords, EmptyBatch, Fate, Filtered, ProducerStamp, RecordView,
};

/// How far a batch is decompressed. One that becomes larger stays as it is.
const RECORDS_BYTES_MAX: usize = 64 << 20;
/// For how long a cleaner works at once, if no batch takes it longer.
const SHIFT: Duration = Duration::from_micros(500);
/// For how long it leaves the core to others then.
const BREAK: Duration = Duration::from_micros(200);

impl Compaction {
    /// Cleans, and waits for the disk. `replace` has the log's owner call [`Log::replace`].
    ///
    /// [`Log::replace`]: super::Log::replace
    pub fn run(
        mut self,
        mut replace: impl FnMut(Replacement) -> Result<Replaced, LogError>,
    ) -> Result<Compacted, LogError> {
        self.leftovers.remove_any(&*self.fs, &self.dir)?;
        let (map, clean_to) = self.find_last_records()?;
        let (mut bytes_before, mut bytes_after) = (0, 0);
        while self.segments.front().is_some_and(|s| s.base < clean_to) {
            if let Some(replacement) = self.clean(&map, clean_to)? {
                bytes_before += replacement.group.iter().map(|s| s.size).sum::<u64>();
                bytes_after += replacement.cleaned.size;
                replace(replacement)?.finish()?;
                self.check_wanted()?;
            }
        }
        Ok(Compacted {
            clean_to,
            cancelled: self.cancelled,
            bytes_before,
            bytes_after,
        })
    }

    fn check_wanted(&self) -> Result<(), LogError> {
        match self.cancelled.is_set() {
            true => Err(LogError::Superseded),
            false => Ok(()),
        }
    }

    /// Notes the keys from the first dirty offset on, until the map is full; says up to which offset.
    fn find_last_records(&self) -> Result<(OffsetMap, Offset), LogError> {
        let keys_max = self.cleanable_to - self.dirty_from;
        let mut map = OffsetMap::new(self.map_bytes, keys_max.max(0) as u64);
        let mut end = self.dirty_from;
        let dirty_from = self.dirty_from;
        let dirty = self.segments.iter().filter(|s| s.next > dirty_from);
        for sealed in dirty {
            let mut full = None;
            self.each_batch(sealed, |batch| {
                let header = *batch.header();
                if full.is_some() || header.next_offset() <= dirty_from {
                    return Ok(());
                }
                let records = readable(batch);
                let keyed = records.iter().flatten().filter_map(Result::ok);
                for record in keyed {
                    if let Some(key) = record.key {
                        if let Err(Full) = map.note(key, record.offset) {
                            full = Some(header);
                            return Ok(());
                        }
                    }
                }
                end = header.next_offset();
                Ok(())
            })?;
            if let Some(header) = full {
                // A batch that alone is too much for the map is passed over.
                if end == dirty_from {
                    end = header.next_offset();
                }
                break;
            }
        }
        Ok((map, end))
    }

    /// Writes one segment in the place of the next ones, as many as it can hold; nothing where it would be
    /// the same.
    fn clean(
        &mut self,
        map: &OffsetMap,
        clean_to: Offset,
    ) -> Result<Option<Replacement>, LogError> {
        let mut group = Vec::from_iter(self.segments.pop_front());
        let Some(base) = group.first().map(|s| s.base) else {
            return Ok(None);
        };
        let cleaned = self.write_cleaned(map, clean_to, &mut group);
        let same = |size: u64, rewritten| {
            group.len() == 1 && size == group[0].size && rewritten == Rewritten::No
        };
        match cleaned {
            Ok((cleaned, rewritten)) if !same(cleaned.size, rewritten) => Ok(Some(Replacement {
                group,
                cleaned,
                fs: self.fs.clone(),
                dir: self.dir.clone(),
                _lease: self.lease.clone(),
            })),
            other => {
                remove_temporary(&*self.fs, &self.dir, base);
                other.map(|_| None)
            }
        }
    }

    fn write_cleaned(
        &mut self,
        map: &OffsetMap,
        clean_to: Offset,
        group: &mut Vec<Arc<Sealed>>,
    ) -> Result<(Cleaned, Rewritten), LogError> {
        let (base, interval) = (group[0].base, self.index_interval_bytes);
        let mut output = Output::create(&self.fs, &self.dir, base, interval)?;
        let mut rewritten = Rewritten::No;
        let mut next = group.first().cloned();
        while let Some(sealed) = next {
            self.each_batch(&sealed, |batch| match self.filtered(map, clean_to, batch) {
                Filtered::All => output.keep(batch.bytes()),
                Filtered::Some(bytes) => {
                    rewritten = Rewritten::Yes;
                    output.keep(&bytes)
                }
                Filtered::Nothing => match self.sequence_of(batch.header()) {
                    Some(empty) => output.keep(&empty),
                    None => output.drop_batch(batch.header()),
                },
            })?;
            next = self.next_beside(base, output.position(), clean_to);
            group.extend(next.clone());
        }
        Ok((output.finish()?, rewritten))
    }

    /// The next segment, if it has room beside `bytes` in one that begins at `base`.
    fn next_beside(&mut self, base: Offset, bytes: u64, clean_to: Offset) -> Option<Arc<Sealed>> {
        let next = self.segments.front()?;
        let fits = bytes + next.size <= self.segment_bytes
            && next.next - base <= i64::from(i32::MAX)
            && next.base < clean_to;
        fits.then(|| self.segments.pop_front()).flatten()
    }

    /// What is left of a batch. Control batches stay, and so do transactions, of which it isn't known
    /// here how they ended, and what can't be read.
    fn filtered(&self, map: &OffsetMap, clean_to: Offset, batch: &Batch) -> Filtered {
        // Of the keys beyond it the map knows nothing: a tombstone could go before what it deletes.
        if batch.header().base_offset >= clean_to {
            return Filtered::All;
        }
        let Some(records) = readable(batch) else {
            return Filtered::All;
        };
        let header = batch.header();
        let horizon_passed =
            header.attributes.has_delete_horizon() && header.base_timestamp < self.now;
        let fate_of = |record: &RecordView<'_>| {
            let superseded = match record.key {
                Some(key) => map.last_of(key).is_some_and(|last| last > record.offset),
                None => true,
            };
            match record.value {
                _ if superseded => Fate::Goes,
                Some(_) => Fate::Stays,
                None if horizon_passed => Fate::Goes,
                None => Fate::StaysForNow,
            }
        };
        let filtered = filter(batch, &records, self.delete_horizon, fate_of);
        filtered.unwrap_or(Filtered::All)
    }

    /// What stays of a batch without records if it is the last of its producer: its sequence, by which
    /// the next one is checked.
    fn sequence_of(&self, header: &BatchHeader) -> Option<Bytes> {
        let last = self.last_of_producers.get(&header.producer_id)?;
        let empty = EmptyBatch {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            leader_epoch: header.leader_epoch,
            stamp: ProducerStamp {
                producer_id: header.producer_id,
                producer_epoch: header.producer_epoch,
                base_sequence: header.base_sequence,
            },
        };
        (*last == header.base_offset).then(|| empty.encode())
    }

    /// Shows each batch of a segment, whole and checked.
    fn each_batch(
        &self,
        sealed: &Sealed,
        mut each: impl FnMut(&Batch) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let path = segment_path(&self.dir, sealed.base, LOG_SUFFIX);
        let failed = |e| LogError::storage("read", &path)(e);
        self.check_wanted()?;
        let file = match self.fs.open_read_only(&path) {
            // Retention was here.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(LogError::Superseded),
            file => file.map_err(failed)?,
        };
        let start = Start::of_segment(sealed.base);
        let mut scanner = start.scanner(&*file, sealed.size, Check::Headers);
        let mut shift = Shift::begin();
        loop {
            self.check_wanted()?;
            shift.end_in_time();
            match scanner.next().map_err(failed)? {
                Step::Batch { position, header } => {
                    let bytes = scanner.batch(position, &header).map_err(failed)?;
                    let at = Start {
                        offset: header.base_offset,
                        position,
                    };
                    let batch = Batch::parse(bytes.into());
                    each(&batch.map_err(|e| LogError::corrupt(path.clone(), at, e.to_string()))?)?;
                }
                Step::End if scanner.expected() == sealed.next => return Ok(()),
                Step::End | Step::Zeros => {
                    let (at, reason) = (scanner.here(), ends_too_early(sealed.next));
                    return Err(LogError::corrupt(path, at, reason));
                }
                Step::Bad { reason, .. } => {
                    return Err(LogError::corrupt(path, scanner.here(), reason))
                }
            }
        }
    }
}

/// What a cleaner does without a break. While it is at it, an actor that has got something to do may have to
/// wait: the scheduler doesn't take the core from a thread before it had it for some milliseconds.
struct Shift {
    began: Instant,
}

impl Shift {
    fn begin() -> Shift {
        let began = Instant::now();
        Shift { began }
    }

    /// Takes the break when it is due, and begins another one.
    fn end_in_time(&mut self) {
        if self.began.elapsed() >= SHIFT {
            std::thread::sleep(BREAK);
            *self = Shift::begin();
        }
    }
}

/// Whether a batch was made anew.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rewritten {
    No,
    Yes,
}

/// The records of a batch that may be compacted, if they can be read.
fn readable(batch: &Batch) -> Option<BatchRecords> {
    let attributes = batch.header().attributes;
    if attributes.is_control() || attributes.is_transactional() {
        return None;
    }
    let records = batch.records(RECORDS_BYTES_MAX).ok()?;
    let all_read = records.iter().all(|record| record.is_ok());
    all_read.then_some(records)
}

/// The offset up to which the log is clean, and what that came to.
#[derive(Clone, Debug)]
pub struct Compacted {
    pub(super) clean_to: Offset,
    pub(super) cancelled: Cancel,
    /// The segments that were replaced: their bytes, and those of what took their place.
    pub bytes_before: u64,
    pub bytes_after: u64,
}
