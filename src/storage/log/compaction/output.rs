//! The file of a cleaned segment while it is written, with its indexes, under temporary names.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::index::{Entry, OffsetEntry, TimeEntry};
use super::super::indexer::Indexer;
use super::super::segment::{segment_path, Largest, LOG_SUFFIX};
use super::super::LogError;
use crate::model::Offset;
use crate::record::{BatchHeader, EmptyBatch, ProducerStamp};
use crate::storage::fs::{File, FileSystem, TEMPORARY_SUFFIX};

/// So much is written and put on disk at once: a sync of more would hold up those of the logs that are written to.
const WRITE_BYTES: usize = 64 << 10;
/// How often longer than its sync the cleaner leaves the disk to others.
const REST_FACTOR: u32 = 3;
/// A disk that has hung is no reason to wait for longer.
const REST_MAX: Duration = Duration::from_secs(1);

/// The three files of a segment.
pub(super) const SUFFIXES: [&str; 3] = [LOG_SUFFIX, OffsetEntry::SUFFIX, TimeEntry::SUFFIX];

/// Where a file of the cleaned segment is until it takes its place.
pub(super) fn temporary_path(dir: &Path, base: Offset, suffix: &str) -> PathBuf {
    segment_path(dir, base, &format!("{suffix}.{TEMPORARY_SUFFIX}"))
}

/// The segment that is being written. What goes isn't missing in it: empty batches stand for it.
pub(super) struct Output {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    base: Offset,
    file: Arc<dyn File>,
    path: PathBuf,
    indexer: Indexer,
    index_interval_bytes: u64,
    written: u64,
    buffer: Vec<u8>,
    /// What goes since the last batch that stays.
    gone: Option<EmptyBatch>,
}

/// A cleaned segment on disk, under its temporary names.
#[derive(Debug)]
pub(super) struct Cleaned {
    pub size: u64,
    pub largest: Option<Largest>,
}

impl Output {
    pub fn create(
        fs: &Arc<dyn FileSystem>,
        dir: &Path,
        base: Offset,
        index_interval_bytes: u64,
    ) -> Result<Output, LogError> {
        let path = temporary_path(dir, base, LOG_SUFFIX);
        let file = fs
            .create(&path)
            .map_err(LogError::storage("create", &path))?;
        let index = temporary_path(dir, base, OffsetEntry::SUFFIX);
        let times = temporary_path(dir, base, TimeEntry::SUFFIX);
        Ok(Output {
            fs: fs.clone(),
            dir: dir.to_owned(),
            base,
            file,
            path,
            indexer: Indexer::in_files(fs, base, index, times),
            index_interval_bytes,
            written: 0,
            buffer: Vec::with_capacity(WRITE_BYTES),
            gone: None,
        })
    }

    /// Where the next byte goes.
    pub fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// A batch that stays.
    pub fn keep(&mut self, batch: &[u8]) -> Result<(), LogError> {
        self.fill_gap()?;
        self.push(batch)
    }

    /// A batch of which nothing is left but its offsets.
    pub fn drop_batch(&mut self, header: &BatchHeader) -> Result<(), LogError> {
        let last_offset = header.last_offset();
        if let Some(gone) = &mut self.gone {
            let fits = last_offset - gone.base_offset <= i64::from(i32::MAX);
            if gone.leader_epoch == header.leader_epoch && fits {
                gone.last_offset = last_offset;
                return Ok(());
            }
        }
        self.fill_gap()?;
        self.gone = Some(EmptyBatch {
            base_offset: header.base_offset,
            last_offset,
            leader_epoch: header.leader_epoch,
            stamp: ProducerStamp::NONE,
        });
        Ok(())
    }

    fn fill_gap(&mut self) -> Result<(), LogError> {
        match self.gone.take() {
            Some(gone) => self.push(&gone.encode()),
            None => Ok(()),
        }
    }

    fn push(&mut self, batch: &[u8]) -> Result<(), LogError> {
        let position = self.position();
        let header = match BatchHeader::decode(batch) {
            // An index holds no larger position.
            Ok(header) if position + batch.len() as u64 <= u64::from(u32::MAX) => header,
            Ok(_) => return Err(LogError::Failed("a cleaned segment is too large".into())),
            Err(e) => return Err(LogError::Failed(e.to_string())),
        };
        self.indexer
            .note(position, &header, self.index_interval_bytes);
        self.buffer.extend_from_slice(batch);
        match self.buffer.len() >= WRITE_BYTES {
            true => self.write_and_rest(),
            false => Ok(()),
        }
    }

    /// Leaves the disk to others for a while after it was busy.
    fn write_and_rest(&mut self) -> Result<(), LogError> {
        let began = Instant::now();
        self.write()?;
        let rest = began.elapsed().saturating_mul(REST_FACTOR).min(REST_MAX);
        std::thread::sleep(rest);
        Ok(())
    }

    /// Puts on disk what is in the buffer.
    fn write(&mut self) -> Result<(), LogError> {
        let written = self
            .file
            .write_vectored_at(&[IoSlice::new(&self.buffer)], self.written);
        written.map_err(LogError::storage("write", &self.path))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        // It has no part in the log yet: what fails here is written anew.
        let synced = self.file.sync_data();
        synced.map_err(LogError::storage("sync", &self.path))
    }

    /// Puts everything on disk.
    pub fn finish(mut self) -> Result<Cleaned, LogError> {
        self.fill_gap()?;
        self.write()?;
        let largest = self.indexer.largest;
        let indexer = std::mem::replace(
            &mut self.indexer,
            Indexer::new(&self.fs, &self.dir, self.base),
        );
        let indexes = indexer.finish();
        let synced = indexes.and_then(|files| files.iter().try_for_each(|file| file.sync_data()));
        synced.map_err(LogError::storage("write the indexes of", &self.path))?;
        // A name that isn't on disk can't take the place of one that is.
        let named = self.fs.sync_dir(&self.dir);
        named.map_err(LogError::storage("sync", &self.dir))?;
        Ok(Cleaned {
            size: self.written,
            largest,
        })
    }
}

/// Removes what was written, where it takes no place in the log.
pub(super) fn remove_temporary(fs: &dyn FileSystem, dir: &Path, base: Offset) {
    for suffix in SUFFIXES {
        // What isn't removed now is when the log is opened.
        let _ = fs.remove(&temporary_path(dir, base, suffix));
    }
}
