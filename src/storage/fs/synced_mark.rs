//! How far each file was synced, noted beside it, so that a test can play a power loss.
//!
//! When a process is killed, the kernel still has what it wrote. A test that wants to know what a power
//! loss would have left has to take away what was never synced, and so has to know how much was. In a
//! build for chaos tests each file therefore carries that as an extended attribute, [`ATTRIBUTE`], which
//! is written after each sync. A sync of the whole file system isn't noted.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use rustix::fs::XattrFlags;

use super::real::RealFile;
use super::File;
use crate::model::Timestamp;

/// The attribute's name. Its value is a number of bytes, in decimal digits.
const ATTRIBUTE: &str = "user.klamm.synced";

/// A file that notes how far it was synced.
#[derive(Debug)]
pub(super) struct MarkedFile {
    file: RealFile,
    /// Where the last byte that was written ends.
    written: AtomicU64,
    /// What is noted; 0 while nothing is.
    synced: AtomicU64,
}

impl MarkedFile {
    pub fn new(file: RealFile) -> io::Result<MarkedFile> {
        let written = AtomicU64::new(file.len()?);
        let synced = AtomicU64::new(0);
        Ok(MarkedFile {
            file,
            written,
            synced,
        })
    }

    fn note(&self, synced: u64) -> io::Result<()> {
        let digits = synced.to_string();
        rustix::fs::fsetxattr(
            self.file.as_fd(),
            ATTRIBUTE,
            digits.as_bytes(),
            XattrFlags::empty(),
        )?;
        self.synced.store(synced, SeqCst);
        Ok(())
    }
}

impl File for MarkedFile {
    fn write_vectored_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        self.file.write_vectored_at(parts, position)?;
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        self.written.fetch_max(position + bytes as u64, SeqCst);
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn read_at_cached(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>> {
        self.file.read_at_cached(buffer, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        let written = self.written.load(SeqCst);
        self.file.sync_data()?;
        self.note(written)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.written.fetch_min(len, SeqCst);
        match self.synced.load(SeqCst) {
            // What is written there next isn't synced.
            synced if synced > len => self.note(len),
            _ => Ok(()),
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn preallocate(&self, position: u64, len: u64) -> io::Result<()> {
        self.file.preallocate(position, len)
    }

    fn modified(&self) -> io::Result<Timestamp> {
        self.file.modified()
    }
}
