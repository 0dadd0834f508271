//! The sparse indexes of a segment: files of small entries that ascend, searched in the file.
//!
//! An index is a *hint*, never the truth: whoever follows an entry compares the batch that it
//! finds with what the entry says, and walks from the segment's start when they differ. So an
//! index may lag behind, be cut short by a crash, or be missing; it is rebuilt then. A wrong one
//! costs time, and never gives a wrong answer.
//!
//! Only the newest entries of the segment that is appended to are held in memory, so that a
//! thousand partitions cost little of it.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::Timestamp;
use crate::storage::fs::{File, FileSystem};

/// So many entries are collected before they are written.
const TAIL_ENTRIES_MAX: usize = 128;

/// When writing fails, so many are held; what comes after isn't indexed.
const TAIL_ENTRIES_UNWRITTEN_MAX: usize = 4096;

/// One entry of an index. Offsets are relative to the segment's base offset.
pub(super) trait Entry: Copy {
    /// Its size in the file.
    const LEN: usize;
    /// What the file's name ends with.
    const SUFFIX: &'static str;
    type Key: Ord + Copy;

    fn key(&self) -> Self::Key;
    /// The base offset of the batch that the entry is about.
    fn relative_offset(&self) -> u32;
    fn encode(&self, bytes: &mut Vec<u8>);
    /// `bytes` are exactly `LEN`.
    fn decode(bytes: &[u8]) -> Self;
    /// Whether this entry may stand after `before`.
    fn follows(&self, before: &Self) -> bool;
}

/// Where in the file a batch lies: u32 relative offset, u32 position, big-endian. Unlike Kafka's,
/// the offset is the batch's first and not its last, so that the header can be compared with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OffsetEntry {
    pub relative_offset: u32,
    pub position: u32,
}

impl Entry for OffsetEntry {
    const LEN: usize = 8;
    const SUFFIX: &'static str = "index";
    type Key = u32;

    fn key(&self) -> u32 {
        self.relative_offset
    }

    fn relative_offset(&self) -> u32 {
        self.relative_offset
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.relative_offset.to_be_bytes());
        bytes.extend_from_slice(&self.position.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Self {
        OffsetEntry {
            relative_offset: be_u32(&bytes[..4]),
            position: be_u32(&bytes[4..]),
        }
    }

    fn follows(&self, before: &Self) -> bool {
        self.relative_offset > before.relative_offset && self.position > before.position
    }
}

/// The largest timestamp up to some batch, which is the first that has it: i64 timestamp, u32
/// relative offset of the batch. All batches before it have smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeEntry {
    pub timestamp: Timestamp,
    pub relative_offset: u32,
}

impl Entry for TimeEntry {
    const LEN: usize = 12;
    const SUFFIX: &'static str = "timeindex";
    type Key = Timestamp;

    fn key(&self) -> Timestamp {
        self.timestamp
    }

    fn relative_offset(&self) -> u32 {
        self.relative_offset
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.timestamp.0.to_be_bytes());
        bytes.extend_from_slice(&self.relative_offset.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Self {
        let high = u64::from(be_u32(&bytes[..4])) << 32;
        TimeEntry {
            timestamp: Timestamp((high | u64::from(be_u32(&bytes[4..8]))) as i64),
            relative_offset: be_u32(&bytes[8..]),
        }
    }

    fn follows(&self, before: &Self) -> bool {
        self.timestamp > before.timestamp && self.relative_offset > before.relative_offset
    }
}

fn be_u32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |n, byte| n << 8 | u32::from(*byte))
}

/// An index file that is complete: that of a sealed segment, or the written part of an active one.
#[derive(Debug)]
pub(super) struct IndexFile {
    file: Arc<dyn File>,
    entries: u64,
}

impl IndexFile {
    pub fn open<E: Entry>(fs: &dyn FileSystem, path: &Path) -> io::Result<IndexFile> {
        let file = fs.open(path)?;
        let entries = file.len()? / E::LEN as u64;
        Ok(IndexFile { file, entries })
    }

    fn entry<E: Entry>(&self, at: u64) -> io::Result<E> {
        let mut bytes = [0; 16];
        let read = self
            .file
            .read_at(&mut bytes[..E::LEN], at * E::LEN as u64)?;
        if read < E::LEN {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(E::decode(&bytes[..E::LEN]))
    }

    /// The last entry.
    pub fn last<E: Entry>(&self) -> io::Result<Option<E>> {
        match self.entries {
            0 => Ok(None),
            n => self.entry(n - 1).map(Some),
        }
    }

    /// The last entry whose key isn't above `key`, by binary search in the file.
    pub fn lookup<E: Entry>(&self, key: E::Key) -> io::Result<Option<E>> {
        let (mut low, mut high, mut found) = (0, self.entries, None);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry: E = self.entry(middle)?;
            if entry.key() <= key {
                found = Some(entry);
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(found)
    }

    /// How many entries from the first on ascend, and satisfy `fits`; and whether these are all.
    pub fn check<E: Entry>(&self, fits: impl Fn(&E) -> bool) -> io::Result<(u64, Soundness)> {
        let len = self.file.len()?;
        let mut bytes = vec![0; (self.entries as usize) * E::LEN];
        let read = self.file.read_at(&mut bytes, 0)?;
        let mut sound = 0;
        let mut before: Option<E> = None;
        for entry in bytes[..read].chunks_exact(E::LEN).map(E::decode) {
            if !fits(&entry) || before.is_some_and(|b| !entry.follows(&b)) {
                break;
            }
            before = Some(entry);
            sound += 1;
        }
        let soundness = match sound * E::LEN as u64 == len {
            true => Soundness::Sound,
            false => Soundness::Wrong,
        };
        Ok((sound, soundness))
    }
}

/// Whether an index file holds what an index can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Soundness {
    Sound,
    Wrong,
}

/// The index of the segment that is appended to: what is written, and a tail in memory.
#[derive(Debug)]
pub(super) struct IndexWriter<E> {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    /// What is written; no file is made before there is something to write.
    written: Option<IndexFile>,
    tail: Vec<E>,
    last: Option<E>,
}

impl<E: Entry> IndexWriter<E> {
    /// An empty index. A file of that name is overwritten when there are entries.
    pub fn new(fs: Arc<dyn FileSystem>, path: PathBuf) -> IndexWriter<E> {
        IndexWriter {
            fs,
            path,
            written: None,
            tail: Vec::new(),
            last: None,
        }
    }

    /// Goes on with the file that is there, as far as its entries ascend and satisfy `fits`.
    pub fn load(
        fs: Arc<dyn FileSystem>,
        path: PathBuf,
        fits: impl Fn(&E) -> bool,
    ) -> io::Result<IndexWriter<E>> {
        let mut index = IndexWriter::new(fs, path);
        let mut file = match IndexFile::open::<E>(&*index.fs, &index.path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(index),
            Err(e) => return Err(e),
        };
        let (sound, soundness) = file.check(fits)?;
        file.entries = sound;
        if soundness == Soundness::Wrong {
            file.file.set_len(sound * E::LEN as u64)?;
        }
        index.last = file.last()?;
        index.written = Some(file);
        Ok(index)
    }

    /// Adds an entry, if it ascends. Writing may fail: the entries wait in memory then.
    pub fn push(&mut self, entry: E) {
        let follows = self.last.is_none_or(|last| entry.follows(&last));
        if !follows || self.tail.len() >= TAIL_ENTRIES_UNWRITTEN_MAX {
            return;
        }
        self.tail.push(entry);
        self.last = Some(entry);
        if self.tail.len().is_multiple_of(TAIL_ENTRIES_MAX) {
            if let Err(e) = self.flush() {
                log::warn!(
                    "can't write {}, which can be rebuilt: {e}",
                    self.path.display()
                );
            }
        }
    }

    /// Writes the tail, without a sync.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.tail.is_empty() {
            return Ok(());
        }
        let written = match &mut self.written {
            Some(written) => written,
            None => {
                let file = self.fs.create(&self.path)?;
                self.written.insert(IndexFile { file, entries: 0 })
            }
        };
        let mut bytes = Vec::with_capacity(self.tail.len() * E::LEN);
        for entry in &self.tail {
            entry.encode(&mut bytes);
        }
        let position = written.entries * E::LEN as u64;
        written
            .file
            .write_vectored_at(&[IoSlice::new(&bytes)], position)?;
        written.entries += self.tail.len() as u64;
        self.tail.clear();
        Ok(())
    }

    /// The last entry whose key isn't above `key`.
    pub fn lookup(&self, key: E::Key) -> io::Result<Option<E>> {
        let after = self.tail.partition_point(|entry| entry.key() <= key);
        if let Some(entry) = after.checked_sub(1).and_then(|at| self.tail.get(at)) {
            return Ok(Some(*entry));
        }
        match &self.written {
            Some(written) => written.lookup(key),
            None => Ok(None),
        }
    }

    /// Writes everything, and gives the file to be synced; makes an empty one if there is nothing.
    pub fn finish(mut self) -> io::Result<Arc<dyn File>> {
        self.flush()?;
        match self.written {
            Some(written) => Ok(written.file),
            None => self.fs.create(&self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::fs::FaultyFs;

    fn entry(n: u32) -> OffsetEntry {
        OffsetEntry {
            relative_offset: n * 10,
            position: n * 100,
        }
    }

    fn filled(fs: &Arc<dyn FileSystem>, path: &Path, entries: u32) -> IndexWriter<OffsetEntry> {
        let mut index = IndexWriter::new(fs.clone(), path.to_owned());
        (1..=entries).for_each(|n| index.push(entry(n)));
        index
    }

    #[test]
    fn a_lookup_finds_the_last_entry_at_or_below_in_file_and_in_memory() {
        let fs: Arc<dyn FileSystem> = Arc::new(FaultyFs::new(1));
        let path = Path::new("0.index");
        let index = filled(&fs, path, 300);
        assert_eq!(index.lookup(9).unwrap(), None);
        for n in 1..=300 {
            assert_eq!(index.lookup(n * 10).unwrap(), Some(entry(n)));
            assert_eq!(index.lookup(n * 10 + 9).unwrap(), Some(entry(n)));
        }
        index.finish().unwrap();
        let file = IndexFile::open::<OffsetEntry>(&*fs, path).unwrap();
        for n in 1..=300 {
            assert_eq!(file.lookup(n * 10 + 5).unwrap(), Some(entry(n)));
        }
        assert_eq!(file.last().unwrap(), Some(entry(300)));
    }

    #[test]
    fn what_does_not_ascend_or_lies_out_of_bounds_is_cut_from_the_index() {
        let fs: Arc<dyn FileSystem> = Arc::new(FaultyFs::new(1));
        let path = Path::new("0.index");
        let file = filled(&fs, path, 300).finish().unwrap();
        let load = || {
            let fits = |e: &OffsetEntry| e.position < 25_000;
            IndexWriter::load(fs.clone(), path.to_owned(), fits).unwrap()
        };
        assert_eq!(load().last, Some(entry(249)));
        file.write_vectored_at(&[IoSlice::new(&[0; 8])], 80)
            .unwrap();
        assert_eq!(load().last, Some(entry(10)));
        assert_eq!(file.len().unwrap(), 80);
    }

    #[test]
    fn a_time_entry_reads_back() {
        let time = TimeEntry {
            timestamp: Timestamp(1_700_000_000_123),
            relative_offset: 99,
        };
        let mut bytes = Vec::new();
        time.encode(&mut bytes);
        assert_eq!(TimeEntry::decode(&bytes), time);
    }
}
