//! Finding records by time.

use bytes::Bytes;

use super::scan::{ends_too_early, Check, Step};
use super::segment::{segment_path, Largest, Sealed, Start, LOG_SUFFIX};
use super::{Log, LogError};
use crate::model::{LeaderEpoch, Offset, Timestamp};
use crate::record::{Batch, BatchHeader, RecordView};

/// How far a batch is decompressed to find a record in it.
const RECORDS_BYTES_MAX: usize = 64 << 20;

/// A record, by its place and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampedOffset {
    pub offset: Offset,
    pub timestamp: Timestamp,
    pub leader_epoch: LeaderEpoch,
}

/// Which record of a batch is looked for.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    /// The first that is as late as this, at or after the offset.
    AtOrAfter(Timestamp, Offset),
    /// The first of the batch's largest timestamp.
    Largest,
}

impl Log {
    /// The first record, in the order of offsets, whose timestamp is `at` or later; `None` if
    /// there is none below `upper`.
    pub fn find_timestamp(
        &self,
        at: Timestamp,
        upper: Offset,
    ) -> Result<Option<TimestampedOffset>, LogError> {
        for sealed in &self.sealed {
            let largest = sealed.largest(&self.fs, &self.dir)?;
            if sealed.next > self.start_offset && largest.is_some_and(|l| l.timestamp >= at) {
                let found = self.find_in(sealed.base, at, upper)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        match self.active.largest() {
            Some(largest) if largest.timestamp >= at => self.find_in(self.active.base, at, upper),
            _ => Ok(None),
        }
    }

    /// The record with the largest timestamp below `upper`, the first of them where several have
    /// it (KIP-734).
    pub fn max_timestamp(&self, upper: Offset) -> Result<Option<TimestampedOffset>, LogError> {
        let mut best: Option<Largest> = None;
        for sealed in &self.sealed {
            if sealed.base >= upper || sealed.next <= self.start_offset {
                continue;
            }
            let whole = sealed.base >= self.start_offset && sealed.next <= upper;
            let largest = match whole {
                true => sealed.largest(&self.fs, &self.dir)?,
                false => self.largest_between(sealed.base, upper)?,
            };
            best = later(best, largest);
        }
        if self.active.base < upper && self.end_offset > self.start_offset {
            let whole = self.active.base >= self.start_offset && self.end_offset <= upper;
            let largest = match whole {
                true => self.active.largest(),
                false => self.largest_between(self.active.base, upper)?,
            };
            best = later(best, largest);
        }
        let Some(best) = best else {
            return Ok(None);
        };
        let segment = self.segment_of(best.offset);
        let start = self.start_for(best.offset);
        let found = self.walk(segment, start, |header| header.base_offset == best.offset)?;
        Ok(found.map(|(header, batch)| resolve(&header, batch, Wanted::Largest)))
    }

    fn find_in(
        &self,
        segment: Offset,
        at: Timestamp,
        upper: Offset,
    ) -> Result<Option<TimestampedOffset>, LogError> {
        let entry = match self.sealed_with(segment) {
            Some(sealed) => sealed.offset_for_time(&self.fs, &self.dir, at),
            None => self.active.indexer.times.lookup(at).ok().flatten(),
        };
        let hint = entry.map_or(segment, |e| segment + i64::from(e.relative_offset));
        let start = match hint > segment {
            true => self.start_for(hint),
            false => Start::of_segment(segment),
        };
        let log_start = self.start_offset;
        let late = |header: &BatchHeader| {
            header.next_offset() > upper
                || header.max_timestamp >= at && header.last_offset() >= log_start
        };
        // The entry is only a hint: it holds if the batch that it names has its timestamp.
        let holds = |header: &BatchHeader| {
            entry.is_none_or(|e| header.base_offset != hint || header.max_timestamp == e.timestamp)
        };
        let mut sound = true;
        let mut found = self.walk(segment, start, |header| {
            sound &= holds(header);
            !sound || late(header)
        })?;
        if !sound || found.is_none() {
            found = self.walk(segment, Start::of_segment(segment), late)?;
        }
        Ok(found
            .filter(|(header, _)| header.next_offset() <= upper)
            .map(|(header, batch)| resolve(&header, batch, Wanted::AtOrAfter(at, log_start))))
    }

    fn largest_between(&self, segment: Offset, upper: Offset) -> Result<Option<Largest>, LogError> {
        let mut largest = None;
        let log_start = self.start_offset;
        self.walk(segment, Start::of_segment(segment), |header| {
            if header.next_offset() > upper {
                return true;
            }
            if header.last_offset() >= log_start {
                largest = Largest::with(largest, header);
            }
            false
        })?;
        Ok(largest)
    }

    fn segment_of(&self, offset: Offset) -> Offset {
        self.sealed_with(offset)
            .map_or(self.active.base, |s: &Sealed| s.base)
    }

    /// The first batch of a segment, from `start` on, that is `wanted`, with its bytes.
    fn walk(
        &self,
        segment: Offset,
        start: Start,
        mut wanted: impl FnMut(&BatchHeader) -> bool,
    ) -> Result<Option<(BatchHeader, Bytes)>, LogError> {
        let path = segment_path(&self.dir, segment, LOG_SUFFIX);
        let (size, next) = match self.sealed_with(segment) {
            Some(sealed) => (sealed.size, sealed.next),
            None => (self.active.size, self.end_offset),
        };
        let file = self.segment_file(segment)?;
        let failed = |e| LogError::storage("read", &path)(e);
        let mut scanner = start.scanner(&*file, size, Check::Headers);
        loop {
            match scanner.next().map_err(failed)? {
                Step::Batch { position, header } if wanted(&header) => {
                    let batch = scanner.batch(position, &header).map_err(failed)?;
                    return Ok(Some((header, batch.into())));
                }
                Step::Batch { .. } => {}
                Step::End if scanner.expected() == next => return Ok(None),
                Step::End => {
                    let (at, reason) = (scanner.here(), ends_too_early(next));
                    return Err(LogError::corrupt(path, at, reason));
                }
                // Where an index was wrong, the walk begins anew from the segment's start.
                Step::Bad { position, .. } if position == start.position && position != 0 => {
                    return self.walk(segment, Start::of_segment(segment), wanted);
                }
                Step::Bad { reason, .. } => {
                    return Err(LogError::corrupt(path, scanner.here(), reason))
                }
            }
        }
    }
}

fn later(a: Option<Largest>, b: Option<Largest>) -> Option<Largest> {
    match (a, b) {
        (Some(a), Some(b)) if b.timestamp > a.timestamp => Some(b),
        (None, b) => b,
        (a, _) => a,
    }
}

/// Which record of the batch it is. Where the records can't be read, the batch's first stands for
/// them: the offset is then too low rather than too high.
fn resolve(header: &BatchHeader, batch: Bytes, wanted: Wanted) -> TimestampedOffset {
    let is_wanted = |record: &RecordView<'_>| match wanted {
        Wanted::AtOrAfter(at, from) => record.timestamp >= at && record.offset >= from,
        Wanted::Largest => record.timestamp >= header.max_timestamp,
    };
    let records = Batch::parse(batch).and_then(|batch| batch.records(RECORDS_BYTES_MAX));
    let found = records.ok().and_then(|records| {
        let record = records.iter().filter_map(Result::ok).find(is_wanted)?;
        Some((record.offset, record.timestamp))
    });
    let (offset, timestamp) = found.unwrap_or((header.base_offset, header.max_timestamp));
    TimestampedOffset {
        offset,
        timestamp,
        leader_epoch: header.leader_epoch,
    }
}
