//! The mark: how many flushes the store has acknowledged, kept outside sled.
//!
//! When sled finds a damaged message in its log at open, it takes it for the end that a crash has
//! torn, and goes on without everything that came later: one flipped bit silently takes back
//! acknowledged writes. So each flush is numbered. The number goes into sled before the flush, and
//! into this file after it; a store that opens with a lower number than the file's has lost
//! something.
//!
//! The file itself is not synced: it may fall behind when the power fails, never run ahead. Two
//! slots are written in turn, so that a torn write leaves the number before.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The file's name in the store's directory.
pub const FILE_NAME: &str = "mark";
const MAGIC: [u8; 8] = *b"klammark";
/// Magic, number, and the CRC-32C of both.
const SLOT_LEN: usize = 20;
/// Each slot in a page of its own.
const SLOT_STRIDE: u64 = 4_096;

#[derive(Debug)]
pub struct Mark {
    file: File,
    flushes: u64,
}

/// What the file says.
#[derive(Debug)]
pub enum Found {
    Mark(Mark),
    /// There is no file.
    Nothing,
    /// Neither slot can be read.
    Damaged,
}

impl Mark {
    pub fn open(dir: &Path) -> io::Result<Found> {
        let opened = File::options()
            .read(true)
            .write(true)
            .open(dir.join(FILE_NAME));
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(error),
        };
        let slots = [read_slot(&file, 0)?, read_slot(&file, 1)?];
        Ok(match slots.into_iter().flatten().max() {
            Some(flushes) => Found::Mark(Mark { file, flushes }),
            None => Found::Damaged,
        })
    }

    /// A new one at 0, on disk when this returns but for the directory's entry.
    pub fn create(dir: &Path) -> io::Result<Mark> {
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false);
        let file = file.open(dir.join(FILE_NAME))?;
        write_slot(&file, 0)?;
        file.sync_all()?;
        Ok(Mark { file, flushes: 0 })
    }

    /// The highest number that was acknowledged.
    pub fn flushes(&self) -> u64 {
        self.flushes
    }

    /// Acknowledges a flush; lower numbers than the last change nothing.
    pub fn raise(&mut self, flushes: u64) -> io::Result<()> {
        if flushes > self.flushes {
            write_slot(&self.file, flushes)?;
            self.flushes = flushes;
        }
        Ok(())
    }
}

fn write_slot(file: &File, flushes: u64) -> io::Result<()> {
    let mut slot = [0; SLOT_LEN];
    slot[..8].copy_from_slice(&MAGIC);
    slot[8..16].copy_from_slice(&flushes.to_be_bytes());
    let crc = crc32c::crc32c(&slot[..16]);
    slot[16..].copy_from_slice(&crc.to_be_bytes());
    file.write_all_at(&slot, flushes % 2 * SLOT_STRIDE)
}

/// `None` if it holds nothing that can be read.
fn read_slot(file: &File, number: u64) -> io::Result<Option<u64>> {
    let mut slot = [0; SLOT_LEN];
    match file.read_exact_at(&mut slot, number * SLOT_STRIDE) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let (body, crc) = slot.split_at(16);
    if body[..8] != MAGIC || crc32c::crc32c(body).to_be_bytes() != crc {
        return Ok(None);
    }
    let flushes = body[8..]
        .iter()
        .fold(0, |n, byte| n << 8 | u64::from(*byte));
    Ok(Some(flushes))
}
