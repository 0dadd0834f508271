//! How far each file was synced, noted beside it, so that a test can play a power loss.
//!
//! When a process is killed, the kernel still has what it wrote. A test that wants to know what a power
//! loss would have left has to take away what was never synced, and so has to know how much was. In a
//! build for chaos tests each file therefore carries that as an extended attribute, [`ATTRIBUTE`], which
//! is written after each sync, and lowered before what is below it is written over. A sync of the whole
//! file system isn't noted.
//!
//! It also knows what a file has of the disk, and so what a disk that is full refuses ([`full_disk`]).

use std::io::{self, IoSlice};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::XattrFlags;

use super::real::RealFile;
use super::{full_disk, File};
use crate::model::Timestamp;

/// The attribute's name. Its value is a number of bytes, in decimal digits.
const ATTRIBUTE: &str = "user.klamm.synced";

/// A file that notes how far it was synced, and takes no more than fits the disk.
#[derive(Debug)]
pub(super) struct MarkedFile {
    file: RealFile,
    extent: Mutex<Extent>,
}

/// What of the file is on disk.
#[derive(Clone, Copy, Debug)]
struct Extent {
    /// Where the last byte that was written ends.
    written: u64,
    /// Where the space ends that was reserved ahead.
    reserved: u64,
    /// The first byte that was written since the last sync began; `u64::MAX` where none was.
    dirty_from: u64,
    /// What is noted; 0 while nothing is.
    synced: u64,
}

impl MarkedFile {
    pub fn new(file: RealFile) -> io::Result<MarkedFile> {
        let extent = Mutex::new(Extent {
            written: file.len()?,
            reserved: 0,
            dirty_from: u64::MAX,
            synced: 0,
        });
        Ok(MarkedFile { file, extent })
    }

    fn extent(&self) -> MutexGuard<'_, Extent> {
        self.extent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, extent: &mut Extent, synced: u64) -> io::Result<()> {
        let digits = synced.to_string();
        rustix::fs::fsetxattr(
            self.file.as_fd(),
            ATTRIBUTE,
            digits.as_bytes(),
            XattrFlags::empty(),
        )?;
        extent.synced = synced;
        Ok(())
    }

    fn write_at(
        &self,
        parts: &[IoSlice<'_>],
        position: u64,
        bytes: usize,
        extent: &mut Extent,
    ) -> io::Result<()> {
        // What is written over zeros isn't synced, though they were.
        self.lower(extent, position)?;
        extent.dirty_from = extent.dirty_from.min(position);
        self.file.write_vectored_at(parts, position)?;
        extent.written = extent.written.max(position + bytes as u64);
        Ok(())
    }

    /// From `position` on nothing is synced any more.
    fn lower(&self, extent: &mut Extent, position: u64) -> io::Result<()> {
        match extent.synced > position {
            true => self.note(extent, position),
            false => Ok(()),
        }
    }
}

impl Extent {
    /// How many of these bytes fit the disk.
    fn take_room(&self, position: u64, bytes: usize) -> usize {
        let has = self.written.max(self.reserved);
        let new = (position + bytes as u64).saturating_sub(has);
        let new = new.min(bytes as u64);
        bytes - (new - full_disk::take(new)) as usize
    }
}

impl File for MarkedFile {
    fn write_vectored_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let mut extent = self.extent();
        let fits = extent.take_room(position, bytes);
        if fits < bytes {
            let all = parts.iter().flat_map(|part| part.iter().copied());
            let first: Vec<u8> = all.take(fits).collect();
            let first = [IoSlice::new(&first)];
            let written = self.write_at(&first, position, fits, &mut extent);
            return written.and(Err(full_disk::is_full()));
        }
        self.write_at(parts, position, bytes, &mut extent)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn read_at_cached(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>> {
        self.file.read_at_cached(buffer, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        let written = {
            let mut extent = self.extent();
            extent.dirty_from = u64::MAX;
            extent.written
        };
        self.file.sync_data()?;
        let mut extent = self.extent();
        let synced = written.min(extent.dirty_from);
        self.note(&mut extent, synced)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut extent = self.extent();
        self.file.set_len(len)?;
        extent.written = extent.written.min(len);
        extent.reserved = 0;
        extent.dirty_from = extent.dirty_from.min(len);
        // What is written there next isn't synced.
        self.lower(&mut extent, len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn preallocate(&self, position: u64, len: u64) -> io::Result<()> {
        let mut extent = self.extent();
        let end = position + len;
        let new = end.saturating_sub(extent.written.max(extent.reserved));
        if full_disk::take(new) < new {
            return Err(full_disk::is_full());
        }
        self.file.preallocate(position, len)?;
        extent.reserved = extent.reserved.max(end);
        Ok(())
    }

    fn modified(&self) -> io::Result<Timestamp> {
        self.file.modified()
    }
}
