//! Makes the two indexes of a segment while its batches pass by.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::index::{Entry, IndexWriter, OffsetEntry, TimeEntry};
use super::segment::{relative, segment_path, Largest, Start};
use crate::model::Offset;
use crate::record::BatchHeader;
use crate::storage::fs::{File, FileSystem};

/// The indexes so far, and the largest timestamp.
#[derive(Debug)]
pub(super) struct Indexer {
    pub base: Offset,
    pub offsets: IndexWriter<OffsetEntry>,
    pub times: IndexWriter<TimeEntry>,
    pub largest: Option<Largest>,
    /// The bytes since the last entry.
    since_entry: u64,
}

impl Indexer {
    pub fn new(fs: &Arc<dyn FileSystem>, dir: &Path, base: Offset) -> Indexer {
        let offsets = segment_path(dir, base, OffsetEntry::SUFFIX);
        let times = segment_path(dir, base, TimeEntry::SUFFIX);
        Indexer::in_files(fs, base, offsets, times)
    }

    /// Empty indexes in these files.
    pub fn in_files(
        fs: &Arc<dyn FileSystem>,
        base: Offset,
        offsets: PathBuf,
        times: PathBuf,
    ) -> Indexer {
        Indexer {
            base,
            offsets: IndexWriter::new(fs.clone(), offsets),
            times: IndexWriter::new(fs.clone(), times),
            largest: None,
            since_entry: 0,
        }
    }

    /// Goes on with the files that are there, as far as they speak of what lies below `end` and
    /// `size`. The largest timestamp isn't known then.
    pub fn load(
        fs: &Arc<dyn FileSystem>,
        dir: &Path,
        base: Offset,
        end: Offset,
        size: u64,
    ) -> io::Result<Indexer> {
        let mut indexer = Indexer::new(fs, dir, base);
        let limit = relative(base, end);
        indexer.offsets = IndexWriter::load(
            fs.clone(),
            segment_path(dir, base, OffsetEntry::SUFFIX),
            |e: &OffsetEntry| e.relative_offset < limit && u64::from(e.position) < size,
        )?;
        indexer.times = IndexWriter::load(
            fs.clone(),
            segment_path(dir, base, TimeEntry::SUFFIX),
            |e: &TimeEntry| e.relative_offset < limit,
        )?;
        Ok(indexer)
    }

    /// Notes a batch at `position`.
    pub fn note(&mut self, position: u64, header: &BatchHeader, interval_bytes: u64) {
        self.largest = Largest::with(self.largest, header);
        if self.since_entry > interval_bytes {
            self.offsets.push(OffsetEntry {
                relative_offset: relative(self.base, header.base_offset),
                // A segment has less than 4 GiB.
                position: u32::try_from(position).unwrap_or(u32::MAX),
            });
            self.push_largest();
            self.since_entry = 0;
        }
        self.since_entry += header.size() as u64;
    }

    fn push_largest(&mut self) {
        if let Some(largest) = self.largest {
            self.times.push(TimeEntry {
                timestamp: largest.timestamp,
                relative_offset: relative(self.base, largest.offset),
            });
        }
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.times.flush()?;
        self.offsets.flush()
    }

    /// Writes everything; the last entry of the time index is the largest timestamp. Gives the
    /// files, to be synced.
    pub fn finish(mut self) -> io::Result<[Arc<dyn File>; 2]> {
        self.push_largest();
        Ok([self.offsets.finish()?, self.times.finish()?])
    }

    pub fn start_for(&self, offset: Offset) -> Start {
        Start::from_entry(self.base, self.offsets.lookup(relative(self.base, offset)))
    }
}
