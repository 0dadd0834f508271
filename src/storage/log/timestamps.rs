//! Finding records by time.
//!
//! A look-up reads headers of up to a whole segment, and decompresses a batch. So the log's owner
//! only plans it, and it is carried out elsewhere, as a read is.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::index::TimeEntry;
use super::read::ReadHints;
use super::scan::{ends_too_early, Check, Step};
use super::segment::{segment_path, Largest, Sealed, Start, LOG_SUFFIX};
use super::{Log, LogError};
use crate::model::{LeaderEpoch, Offset, Timestamp};
use crate::record::{Batch, BatchHeader, RecordView};
use crate::storage::fs::{File, FileSystem};
use crate::storage::lease::Lease;

/// How far a batch is decompressed to find a record in it.
const RECORDS_BYTES_MAX: usize = 64 << 20;

/// A record, by its place and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampedOffset {
    pub offset: Offset,
    pub timestamp: Timestamp,
    pub leader_epoch: LeaderEpoch,
}

/// Which record is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookFor {
    /// The first, in the order of offsets, that is as late as this.
    AtOrAfter(Timestamp),
    /// The one with the largest timestamp, the first of them where several have it (KIP-734).
    Largest,
}

/// Which record of a batch is looked for.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    /// The first that is as late as this, at or after the offset.
    AtOrAfter(Timestamp, Offset),
    /// The first of the batch's largest timestamp.
    Largest,
}

/// A planned look-up. The log may go on meanwhile; where a segment is removed that it needs, it
/// fails, and can be asked again.
#[derive(Debug)]
pub struct TimeLookup {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    look_for: LookFor,
    log_start: Offset,
    upper: Offset,
    sealed: Vec<Arc<Sealed>>,
    active: Option<ActiveView>,
    hints: Arc<ReadHints>,
    /// Indexes that are wrong are rebuilt.
    _lease: Lease,
}

/// The active segment as it was when the look-up was planned.
#[derive(Debug)]
struct ActiveView {
    base: Offset,
    /// The end of the log.
    next: Offset,
    size: u64,
    file: Arc<dyn File>,
    largest: Option<Largest>,
    /// What the time index says of the time that is looked for.
    entry: Option<TimeEntry>,
    /// A batch at or before the one that the index leads to.
    start: Start,
}

/// One of the segments.
#[derive(Clone, Copy)]
enum Segment<'a> {
    Sealed(&'a Sealed),
    Active(&'a ActiveView),
}

impl Segment<'_> {
    fn base(self) -> Offset {
        match self {
            Segment::Sealed(sealed) => sealed.base,
            Segment::Active(active) => active.base,
        }
    }

    fn next(self) -> Offset {
        match self {
            Segment::Sealed(sealed) => sealed.next,
            Segment::Active(active) => active.next,
        }
    }

    fn size(self) -> u64 {
        match self {
            Segment::Sealed(sealed) => sealed.size,
            Segment::Active(active) => active.size,
        }
    }
}

impl Log {
    /// Plans to look for a record below `upper`.
    pub fn plan_lookup(&self, look_for: LookFor, upper: Offset) -> TimeLookup {
        let upper = upper.min(self.end_offset);
        let log_start = self.start_offset;
        let matters = |sealed: &&Arc<Sealed>| sealed.base < upper && sealed.next > log_start;
        let active = self.active.base < upper && self.end_offset > log_start;
        TimeLookup {
            fs: self.fs.clone(),
            dir: self.dir.clone(),
            look_for,
            log_start,
            upper,
            sealed: self.sealed.iter().filter(matters).cloned().collect(),
            active: active.then(|| self.view_active(look_for)),
            hints: self.hints.clone(),
            _lease: self.lease.clone(),
        }
    }

    fn view_active(&self, look_for: LookFor) -> ActiveView {
        let active = &self.active;
        let entry = match look_for {
            LookFor::AtOrAfter(at) => active.indexer.times.lookup(at).ok().flatten(),
            LookFor::Largest => None,
        };
        let target = match look_for {
            LookFor::AtOrAfter(_) => entry.map(|e| active.base + i64::from(e.relative_offset)),
            LookFor::Largest => active.largest().map(|largest| largest.offset),
        };
        ActiveView {
            base: active.base,
            next: self.end_offset,
            size: active.size,
            file: active.file.clone(),
            largest: active.largest(),
            entry,
            start: active.indexer.start_for(target.unwrap_or(active.base)),
        }
    }
}

impl TimeLookup {
    /// Looks, and waits for the disk. `None` where there is no such record.
    pub fn run(self) -> Result<Option<TimestampedOffset>, LogError> {
        let found = match self.look_for {
            LookFor::AtOrAfter(at) => self.find_timestamp(at),
            LookFor::Largest => self.find_largest(),
        };
        match found {
            Err(LogError::Corrupt { .. } | LogError::Storage { .. }) if self.hints.is_stale() => {
                Err(LogError::Truncated)
            }
            found => found,
        }
    }

    fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        let sealed = self.sealed.iter().map(|sealed| Segment::Sealed(sealed));
        sealed.chain(self.active.as_ref().map(Segment::Active))
    }

    fn find_timestamp(&self, at: Timestamp) -> Result<Option<TimestampedOffset>, LogError> {
        for segment in self.segments() {
            if self.largest(segment)?.is_some_and(|l| l.timestamp >= at) {
                let found = self.find_in(segment, at)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }

    fn find_largest(&self) -> Result<Option<TimestampedOffset>, LogError> {
        let mut best: Option<(Largest, Segment<'_>)> = None;
        for segment in self.segments() {
            let largest = match self.is_whole(segment) {
                true => self.largest(segment)?,
                false => self.largest_between(segment)?,
            };
            let before = best.map(|(best, _)| best.timestamp);
            if let Some(largest) = largest.filter(|l| Some(l.timestamp) > before) {
                best = Some((largest, segment));
            }
        }
        let Some((best, segment)) = best else {
            return Ok(None);
        };
        let start = self.start_for(segment, best.offset);
        let found = self.walk(segment, start, |header| header.base_offset == best.offset)?;
        Ok(found.map(|(header, batch)| resolve(&header, batch, Wanted::Largest)))
    }

    /// Whether all of the segment is looked at.
    fn is_whole(&self, segment: Segment<'_>) -> bool {
        segment.base() >= self.log_start && segment.next() <= self.upper
    }

    fn largest(&self, segment: Segment<'_>) -> Result<Option<Largest>, LogError> {
        match segment {
            Segment::Sealed(sealed) => sealed.largest(&self.fs, &self.dir),
            Segment::Active(active) => Ok(active.largest),
        }
    }

    fn start_for(&self, segment: Segment<'_>, offset: Offset) -> Start {
        match segment {
            Segment::Sealed(sealed) => sealed.start_for(&self.fs, &self.dir, offset),
            Segment::Active(active) if active.start.offset <= offset => active.start,
            Segment::Active(active) => Start::of_segment(active.base),
        }
    }

    fn find_in(
        &self,
        segment: Segment<'_>,
        at: Timestamp,
    ) -> Result<Option<TimestampedOffset>, LogError> {
        let base = segment.base();
        let entry = match segment {
            Segment::Sealed(sealed) => sealed.offset_for_time(&self.fs, &self.dir, at),
            Segment::Active(active) => active.entry,
        };
        let hint = entry.map_or(base, |e| base + i64::from(e.relative_offset));
        let start = match hint > base {
            true => self.start_for(segment, hint),
            false => Start::of_segment(base),
        };
        let (log_start, upper) = (self.log_start, self.upper);
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
            found = self.walk(segment, Start::of_segment(base), late)?;
        }
        Ok(found
            .filter(|(header, _)| header.next_offset() <= upper)
            .map(|(header, batch)| resolve(&header, batch, Wanted::AtOrAfter(at, log_start))))
    }

    fn largest_between(&self, segment: Segment<'_>) -> Result<Option<Largest>, LogError> {
        let mut largest = None;
        self.walk(segment, Start::of_segment(segment.base()), |header| {
            if header.next_offset() > self.upper {
                return true;
            }
            if header.last_offset() >= self.log_start {
                largest = Largest::with(largest, header);
            }
            false
        })?;
        Ok(largest)
    }

    fn open(&self, segment: Segment<'_>) -> Result<Arc<dyn File>, LogError> {
        if let Segment::Active(active) = segment {
            return Ok(active.file.clone());
        }
        let path = segment_path(&self.dir, segment.base(), LOG_SUFFIX);
        let file = self.fs.open_read_only(&path);
        file.map_err(LogError::storage("open", &path))
    }

    /// The first batch of a segment, from `start` on, that is `wanted`, with its bytes.
    fn walk(
        &self,
        segment: Segment<'_>,
        start: Start,
        mut wanted: impl FnMut(&BatchHeader) -> bool,
    ) -> Result<Option<(BatchHeader, Bytes)>, LogError> {
        let path = segment_path(&self.dir, segment.base(), LOG_SUFFIX);
        let file = self.open(segment)?;
        let failed = |e| LogError::storage("read", &path)(e);
        let mut scanner = start.scanner(&*file, segment.size(), Check::Headers);
        loop {
            match scanner.next().map_err(failed)? {
                Step::Batch { position, header } if wanted(&header) => {
                    let batch = scanner.batch(position, &header).map_err(failed)?;
                    return Ok(Some((header, batch.into())));
                }
                Step::Batch { .. } => {}
                Step::End | Step::Zeros if scanner.expected() == segment.next() => return Ok(None),
                Step::End | Step::Zeros => {
                    let (at, reason) = (scanner.here(), ends_too_early(segment.next()));
                    return Err(LogError::corrupt(path, at, reason));
                }
                // Where an index was wrong, the walk begins anew from the segment's start.
                Step::Bad { position, .. } if position == start.position && position != 0 => {
                    return self.walk(segment, Start::of_segment(segment.base()), wanted);
                }
                Step::Bad { reason, .. } => {
                    return Err(LogError::corrupt(path, scanner.here(), reason))
                }
            }
        }
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
