//! A segment: one file of batches, named by its first offset, with its two indexes.
//!
//! All but the last segment of a log are sealed: they never change, and cost some 50 bytes of
//! memory and no file descriptor each.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use super::ahead::{Ahead, Growth, Syncs};
use super::compaction::IndexNames;
use super::index::{Entry, IndexFile, OffsetEntry, Soundness, TimeEntry};
use super::indexer::Indexer;
use super::scan::{ends_too_early, Check, Scanner, Step};
use super::LogError;
use crate::model::{Offset, Timestamp};
use crate::record::BatchHeader;
use crate::storage::fs::{File, FileSystem};

/// What the name of a segment's data file ends with.
pub(super) const LOG_SUFFIX: &str = "log";
/// What the name of a snapshot of the producers ends with.
pub(super) const SNAPSHOT_SUFFIX: &str = "snapshot";

/// The path of one of a segment's files: `<20-digit base offset>.<suffix>`, as Kafka names them.
pub(super) fn segment_path(dir: &Path, base: Offset, suffix: &str) -> PathBuf {
    dir.join(format!("{:020}.{suffix}", base.0))
}

/// Reads a file's name back: its base offset, if it ends with `suffix`.
pub(super) fn base_of(name: &str, suffix: &str) -> Option<Offset> {
    let digits = name.strip_suffix(suffix)?.strip_suffix('.')?;
    if digits.len() != 20 {
        return None;
    }
    digits.parse().ok().filter(|o| *o >= 0).map(Offset)
}

/// The largest timestamp of a segment, and the base offset of the first batch that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Largest {
    pub timestamp: Timestamp,
    pub offset: Offset,
}

impl Largest {
    /// The larger of what was there and a batch that comes after it.
    pub fn with(before: Option<Largest>, header: &BatchHeader) -> Option<Largest> {
        match before {
            Some(l) if l.timestamp >= header.max_timestamp => before,
            _ => Some(Largest {
                timestamp: header.max_timestamp,
                offset: header.base_offset,
            }),
        }
    }
}

/// What was found out about the indexes of a sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Indexes {
    Sound,
    /// They are wrong and could not be rebuilt: reads walk from the segment's start.
    Unusable,
}

/// A segment that won't change any more. It is shared with look-ups that run elsewhere; whoever
/// first needs to know something about it finds that out for all.
#[derive(Debug)]
pub(super) struct Sealed {
    pub base: Offset,
    /// The next segment's base offset.
    pub next: Offset,
    pub size: u64,
    largest: OnceLock<Largest>,
    indexes: OnceLock<Indexes>,
    /// Locked while its indexes are written.
    place: RwLock<Place>,
}

/// Whether the files of a segment's name are its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Taken,
    /// Compaction has put another segment there.
    Replaced,
}

impl Sealed {
    pub fn new(base: Offset, next: Offset, size: u64) -> Sealed {
        Sealed {
            base,
            next,
            size,
            largest: OnceLock::new(),
            indexes: OnceLock::new(),
            place: RwLock::new(Place::Taken),
        }
    }

    /// Gives up the segments' files to others: from now on nobody writes indexes for these. `false` where
    /// somebody is just writing some; then nothing was done.
    pub fn retire(segments: &[Arc<Sealed>]) -> bool {
        let places: Result<Vec<_>, _> = segments.iter().map(|s| s.place.try_write()).collect();
        let Ok(mut places) = places else {
            return false;
        };
        for place in &mut places {
            **place = Place::Replaced;
        }
        true
    }

    /// What is known of a segment that compaction has made.
    pub fn know(&self, largest: Option<Largest>, indexes: IndexNames) {
        if let Some(largest) = largest {
            let _ = self.largest.set(largest);
        }
        if indexes == IndexNames::InPlace {
            let _ = self.indexes.set(Indexes::Sound);
        }
    }

    /// Takes a segment as its file is. Its end is compared with where the next one begins, by the headers
    /// from the last entry of the index on; zeros may follow, where the file was never cut to its batches.
    /// `later` are the bases of those after it: where compaction made one segment of several, and was cut
    /// off, it reaches beyond the first of them. The inner error is what is wrong with it: where, and why.
    pub fn find(
        fs: &dyn FileSystem,
        dir: &Path,
        base: Offset,
        later: &[Offset],
    ) -> io::Result<Result<Sealed, (Start, String)>> {
        let file = fs.open_read_only(&segment_path(dir, base, LOG_SUFFIX))?;
        let len = file.len()?;
        let index = segment_path(dir, base, OffsetEntry::SUFFIX);
        let last = IndexFile::open::<OffsetEntry>(fs, &index).and_then(|index| index.last());
        let indexed = Start::from_entry(base, last);
        if indexed.position < len {
            let mut scanner = indexed.scanner(&*file, len, Check::Headers);
            if scanner.walk_to_end(later)?.is_none() {
                let (next, size) = (scanner.expected(), scanner.position());
                return Ok(Ok(Sealed::new(base, next, size)));
            }
        }
        // The entry may be wrong, and not the batches.
        let mut scanner = Start::of_segment(base).scanner(&*file, len, Check::Headers);
        let bad = scanner.walk_to_end(later)?;
        Ok(match bad {
            None => Ok(Sealed::new(base, scanner.expected(), scanner.position())),
            Some((_, reason)) => Err((scanner.here(), reason)),
        })
    }

    /// Where to start walking to reach `offset`: a batch's base offset and its position. What is
    /// found there must be compared.
    pub fn start_for(&self, fs: &Arc<dyn FileSystem>, dir: &Path, offset: Offset) -> Start {
        if self.checked_indexes(fs, dir) != Indexes::Sound {
            return Start::of_segment(self.base);
        }
        let path = segment_path(dir, self.base, OffsetEntry::SUFFIX);
        let found = IndexFile::open::<OffsetEntry>(&**fs, &path)
            .and_then(|index| index.lookup::<OffsetEntry>(relative(self.base, offset)));
        Start::from_entry(self.base, found)
    }

    /// The offset of a batch before which all timestamps are smaller than `at`.
    pub fn offset_for_time(
        &self,
        fs: &Arc<dyn FileSystem>,
        dir: &Path,
        at: Timestamp,
    ) -> Option<TimeEntry> {
        if self.checked_indexes(fs, dir) != Indexes::Sound {
            return None;
        }
        let path = segment_path(dir, self.base, TimeEntry::SUFFIX);
        let found = IndexFile::open::<TimeEntry>(&**fs, &path)
            .and_then(|index| index.lookup::<TimeEntry>(at));
        found.ok().flatten()
    }

    /// The segment's largest timestamp: the last entry of its time index, when the batch there
    /// says the same, and otherwise by a walk over all headers.
    pub fn largest(
        &self,
        fs: &Arc<dyn FileSystem>,
        dir: &Path,
    ) -> Result<Option<Largest>, LogError> {
        if let Some(largest) = self.largest.get() {
            return Ok(Some(*largest));
        }
        let mut largest = None;
        if self.checked_indexes(fs, dir) == Indexes::Sound {
            largest = self.indexed_largest(fs, dir);
        }
        if largest.is_none() {
            largest = self.rebuild(fs, dir)?;
        }
        if let Some(largest) = largest {
            // Another may have been first, and has found the same.
            let _ = self.largest.set(largest);
        }
        Ok(largest)
    }

    fn indexed_largest(&self, fs: &Arc<dyn FileSystem>, dir: &Path) -> Option<Largest> {
        let path = segment_path(dir, self.base, TimeEntry::SUFFIX);
        let index = IndexFile::open::<TimeEntry>(&**fs, &path).ok()?;
        let last = index.last::<TimeEntry>().ok()??;
        let offset = self.base + i64::from(last.relative_offset);
        let file = fs
            .open_read_only(&segment_path(dir, self.base, LOG_SUFFIX))
            .ok()?;
        let start = self.start_for(fs, dir, offset);
        let mut scanner = start.scanner(&*file, self.size, Check::Headers);
        loop {
            match scanner.next().ok()? {
                Step::Batch { header, .. } if header.base_offset == offset => {
                    let same = header.max_timestamp == last.timestamp;
                    return same.then_some(Largest {
                        timestamp: last.timestamp,
                        offset,
                    });
                }
                Step::Batch { header, .. } if header.base_offset < offset => {}
                _ => return None,
            }
        }
    }

    /// Checks both index files on first use, and rebuilds them when they are missing or wrong.
    fn checked_indexes(&self, fs: &Arc<dyn FileSystem>, dir: &Path) -> Indexes {
        *self.indexes.get_or_init(|| self.check_indexes(fs, dir))
    }

    fn check_indexes(&self, fs: &Arc<dyn FileSystem>, dir: &Path) -> Indexes {
        let sound = self
            .index_is_sound::<OffsetEntry>(fs, dir, |e| u64::from(e.position) < self.size)
            && self.index_is_sound::<TimeEntry>(fs, dir, |_| true);
        if sound {
            return Indexes::Sound;
        }
        let path = segment_path(dir, self.base, LOG_SUFFIX);
        log::warn!(
            "the indexes of {} are missing or wrong: rebuilding",
            path.display()
        );
        match self.rebuild(fs, dir) {
            Ok(_) => Indexes::Sound,
            Err(e) => {
                log::warn!("can't rebuild the indexes of {}: {e}", path.display());
                Indexes::Unusable
            }
        }
    }

    fn index_is_sound<E: Entry>(
        &self,
        fs: &Arc<dyn FileSystem>,
        dir: &Path,
        fits: impl Fn(&E) -> bool,
    ) -> bool {
        let path = segment_path(dir, self.base, E::SUFFIX);
        let limit = relative(self.base, self.next);
        let checked = IndexFile::open::<E>(&**fs, &path)
            .and_then(|index| index.check::<E>(|e| e.relative_offset() < limit && fits(e)));
        matches!(checked, Ok((_, Soundness::Sound)))
    }

    /// Writes both indexes anew from the batches' headers.
    fn rebuild(&self, fs: &Arc<dyn FileSystem>, dir: &Path) -> Result<Option<Largest>, LogError> {
        let place = self.place.read().unwrap_or_else(PoisonError::into_inner);
        if *place == Place::Replaced {
            return Err(LogError::Truncated);
        }
        let path = segment_path(dir, self.base, LOG_SUFFIX);
        let failed = |e| LogError::storage("read", &path)(e);
        let file = fs.open_read_only(&path).map_err(failed)?;
        let mut indexer = Indexer::new(fs, dir, self.base);
        let mut scanner = Start::of_segment(self.base).scanner(&*file, self.size, Check::Headers);
        loop {
            match scanner.next().map_err(failed)? {
                Step::Batch { position, header } => {
                    indexer.note(position, &header, REBUILD_INTERVAL_BYTES)
                }
                Step::End if scanner.expected() == self.next => break,
                Step::End | Step::Zeros => {
                    let (at, reason) = (scanner.here(), ends_too_early(self.next));
                    return Err(LogError::corrupt(path, at, reason));
                }
                Step::Bad { reason, .. } => {
                    return Err(LogError::corrupt(path, scanner.here(), reason))
                }
            }
        }
        let largest = indexer.largest;
        indexer
            .finish()
            .map_err(LogError::storage("write the indexes of", &path))?;
        Ok(largest)
    }
}

/// How far apart the entries of an index are that is rebuilt.
const REBUILD_INTERVAL_BYTES: u64 = 4096;

/// An error that is told twice.
fn copy_of(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

/// A relative offset, as the indexes hold it.
pub(super) fn relative(base: Offset, offset: Offset) -> u32 {
    u32::try_from(offset - base).unwrap_or(u32::MAX)
}

/// A place to start walking from: the batch that should be there, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub offset: Offset,
    pub position: u64,
}

impl Start {
    pub fn of_segment(base: Offset) -> Start {
        Start {
            offset: base,
            position: 0,
        }
    }

    /// An index that can't be read leads to the segment's start.
    pub fn from_entry(base: Offset, entry: io::Result<Option<OffsetEntry>>) -> Start {
        match entry {
            Ok(Some(entry)) => Start {
                offset: base + i64::from(entry.relative_offset),
                position: u64::from(entry.position),
            },
            _ => Start::of_segment(base),
        }
    }

    pub fn scanner<'a>(&self, file: &'a dyn File, end: u64, check: Check) -> Scanner<'a> {
        Scanner::new(file, check, self.position, end, self.offset)
    }
}

/// The segment that is appended to: the last of a log.
#[derive(Debug)]
pub(super) struct Active {
    pub base: Offset,
    pub file: Arc<dyn File>,
    pub path: PathBuf,
    pub size: u64,
    /// The first batch's largest timestamp, for rolling by time.
    pub first_timestamp: Option<Timestamp>,
    /// When the segment was made or opened, for batches without timestamps.
    pub since: Timestamp,
    pub indexer: Indexer,
    ahead: Ahead,
}

impl Active {
    pub fn new(
        file: Arc<dyn File>,
        path: PathBuf,
        size: u64,
        indexer: Indexer,
        since: Timestamp,
    ) -> Active {
        Active {
            base: indexer.base,
            file,
            path,
            size,
            first_timestamp: None,
            since,
            indexer,
            ahead: Ahead::new(size, Syncs::Unknown),
        }
    }

    /// Makes a new, empty segment, whose file's name isn't on disk until its directory is synced.
    pub fn create(
        fs: &Arc<dyn FileSystem>,
        dir: &Path,
        base: Offset,
        now: Timestamp,
    ) -> Result<Active, LogError> {
        let path = segment_path(dir, base, LOG_SUFFIX);
        let file = fs
            .create(&path)
            .map_err(LogError::storage("create", &path))?;
        Ok(Active::new(file, path, 0, Indexer::new(fs, dir, base), now))
    }

    /// Appends `parts`, of `bytes` together, and sees to it that there is room for what follows. After an
    /// error the file is as it was, unless the cut fails as well: then `Err` has that error too.
    pub fn write(
        &mut self,
        parts: &mut Vec<IoSlice<'_>>,
        bytes: u64,
        segment_bytes: u64,
    ) -> Result<(), (io::Error, Option<io::Error>)> {
        match self.ahead.grow(self.size, bytes, segment_bytes) {
            Growth::None => {}
            // Failure is none: the write will tell.
            Growth::Reserve { from, bytes } => {
                let _ = self.file.preallocate(from, bytes);
            }
            Growth::Zeros(zeros) => {
                parts.push(IoSlice::new(zeros));
                if self.file.write_vectored_at(parts, self.size).is_ok() {
                    return Ok(());
                }
                // There may be room for the batches alone.
                parts.pop();
                self.cut().map_err(|e| (copy_of(&e), Some(e)))?;
            }
        }
        let written = self.file.write_vectored_at(parts, self.size);
        written.map_err(|e| (e, self.cut().err()))
    }

    /// Cuts the file to its batches, after a write that failed.
    fn cut(&mut self) -> io::Result<()> {
        self.ahead.was_cut(self.size);
        self.file.set_len(self.size)
    }

    /// A sync of this segment has ended.
    pub fn note_sync(&mut self) {
        self.ahead.note_sync(self.size);
    }

    /// Goes on with what was found out about the segment before.
    pub fn continue_from(&mut self, before: &Active) {
        self.ahead = Ahead::new(self.size, before.ahead.syncs());
    }

    /// Reads when the first batch of an opened segment is from.
    pub fn find_first_timestamp(&mut self) -> Result<(), LogError> {
        let start = Start::of_segment(self.base);
        let first = start.scanner(&*self.file, self.size, Check::Headers).next();
        self.first_timestamp = match first.map_err(LogError::storage("read", &self.path))? {
            Step::Batch { header, .. } => Some(header.max_timestamp),
            _ => None,
        };
        Ok(())
    }

    /// Notes a batch that was written at the end.
    pub fn note(&mut self, header: &BatchHeader, interval_bytes: u64) {
        self.first_timestamp.get_or_insert(header.max_timestamp);
        self.indexer.note(self.size, header, interval_bytes);
        self.size += header.size() as u64;
    }

    pub fn largest(&self) -> Option<Largest> {
        self.indexer.largest
    }

    /// Ends the segment at `next`: what became of it, and its files, to be synced.
    pub fn seal(
        self,
        fs: &dyn FileSystem,
        dir: &Path,
        next: Offset,
    ) -> (Sealed, Vec<Arc<dyn File>>) {
        if let Err(e) = self.file.set_len(self.size) {
            log::warn!(
                "can't give back what {} has reserved: {e}",
                self.path.display()
            );
        }
        let sealed = Sealed::new(self.base, next, self.size);
        if let Some(largest) = self.largest() {
            let _ = sealed.largest.set(largest);
        }
        let mut files = vec![self.file];
        match self.indexer.finish() {
            Ok(indexes) => {
                files.extend(indexes);
                let _ = sealed.indexes.set(Indexes::Sound);
            }
            Err(e) => {
                log::warn!("can't write the indexes of {}: {e}", self.path.display());
                // Half an index would hide the largest timestamp; none at all is rebuilt.
                for suffix in [OffsetEntry::SUFFIX, TimeEntry::SUFFIX] {
                    let _ = fs.remove(&segment_path(dir, sealed.base, suffix));
                }
            }
        }
        (sealed, files)
    }
}
