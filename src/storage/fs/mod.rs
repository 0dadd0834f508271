//! The file system, as the storage needs it: positioned reads and writes, syncs of files, of
//! directories and of the whole file system.
//!
//! It is a trait so that a test can lose power: [`RealFs`] is Linux, and `FaultyFs` keeps what
//! was written apart from what was synced, and fails when told to. The traits are called
//! dynamically: a call costs nanoseconds, a system call hundreds of them.
//!
//! A file's position is always given: no file has a cursor, so a file can be read by one thread
//! while another appends to it.

#[cfg(any(test, feature = "chaos"))]
mod faulty;
#[cfg(feature = "chaos")]
pub mod full_disk;
#[cfg(any(test, feature = "chaos"))]
mod random;
mod real;
#[cfg(feature = "chaos")]
mod synced_mark;

use std::fmt;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

#[cfg(any(test, feature = "chaos"))]
pub use faulty::{FaultyFs, Io};
#[cfg(any(test, feature = "chaos"))]
pub use random::Random;
pub use real::{RealFs, Removed};

use crate::model::Timestamp;

/// An open file. Dropping the last handle closes it.
pub trait File: fmt::Debug + Send + Sync {
    /// Writes all of `parts`, one after the other, from `position` on. After an error any part of
    /// them may have been written.
    fn write_vectored_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()>;

    /// Reads from `position` until `buffer` is full or the file ends; says how many bytes it read.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;

    /// Reads what is in memory already, as one read does: maybe less than `buffer` holds.
    /// `None` where the first byte would have to come from the disk.
    fn read_at_cached(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>>;

    /// Puts the content and the length on disk (`fdatasync`). An error is final: the kernel
    /// may have dropped the pages, and a second call could say "done" of what is lost.
    fn sync_data(&self) -> io::Result<()>;

    /// Cuts the file to `len` bytes, or makes it longer by zeros. Space that was preallocated
    /// beyond the end is given back.
    fn set_len(&self, len: u64) -> io::Result<()>;

    fn len(&self) -> io::Result<u64>;

    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reserves `len` bytes from `position` on, without making the file longer.
    fn preallocate(&self, position: u64, len: u64) -> io::Result<()>;

    /// When the content was last changed.
    fn modified(&self) -> io::Result<Timestamp>;
}

/// The size of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub total_bytes: u64,
    /// What is free of it for this process.
    pub usable_bytes: u64,
}

/// Keeps a lock until it is dropped, or until the process ends, however it ends.
pub trait Lock: fmt::Debug + Send + Sync {}

/// A file system. Paths are those of the process.
pub trait FileSystem: fmt::Debug + Send + Sync {
    /// Opens an existing file to read and write.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Opens an existing file to read it only.
    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Makes an empty file, or empties the one that is there.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Gives a file or directory another name; a file that has that name already is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// The same for two files of one directory, but what had the name `to` is called `from` then, where the
    /// file system can do that: so it can be [removed](FileSystem::remove) by somebody who has the time.
    fn replace(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. The disk gets back what it held when the answer is dropped, which takes a while if that
    /// is large.
    fn remove(&self, path: &Path) -> io::Result<Removed>;

    /// Removes a directory with all that is in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, in no order. A name that isn't UTF-8 is none of ours: left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Whether there is a directory of that name.
    fn is_dir(&self, path: &Path) -> io::Result<bool>;

    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Puts the names in a directory on disk: creations, renames and removals.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Puts everything on disk that was written to the file system that holds `path` (`syncfs`),
    /// by whomever.
    fn sync_file_system(&self, path: &Path) -> io::Result<()>;

    /// How much the file system that holds `path` can take.
    fn space(&self, path: &Path) -> io::Result<Space>;

    /// Takes the lock that a file stands for, and makes the file when it is missing. `None` when
    /// somebody else holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>>;
}

/// Reads a whole file.
pub fn read_all(fs: &dyn FileSystem, path: &Path) -> io::Result<Vec<u8>> {
    let file = fs.open_read_only(path)?;
    let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Replaces a file as a whole: after a crash it has either the old content or the new one.
///
/// The new content is synced under a temporary name, renamed, and the directory is synced.
pub fn replace_file(fs: &dyn FileSystem, path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(TEMPORARY_SUFFIX);
    let file = fs.create(&temporary)?;
    file.write_vectored_at(&[IoSlice::new(content)], 0)?;
    file.sync_data()?;
    fs.rename(&temporary, path)?;
    fs.sync_dir(parent_of(path))
}

/// Makes a directory with all its parents. When it returns, the names of those that it made are on
/// disk.
pub fn create_dir_durably(fs: &dyn FileSystem, dir: &Path) -> io::Result<()> {
    let mut made = Vec::new();
    for dir in dir.ancestors().filter(|dir| !dir.as_os_str().is_empty()) {
        if fs.is_dir(dir)? {
            break;
        }
        made.push(dir);
    }
    fs.create_dir_all(dir)?;
    made.into_iter()
        .rev()
        .try_for_each(|dir| fs.sync_dir(parent_of(dir)))
}

/// The directory that holds the name.
pub fn parent_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Replaces a file for the process only: after a crash it may hold anything, or be missing.
pub fn replace_unsynced(fs: &dyn FileSystem, path: &Path, content: &[u8]) -> io::Result<()> {
    fs.create(path)?
        .write_vectored_at(&[IoSlice::new(content)], 0)
}

/// What the names of files end with that are being written; such a file is rubbish after a crash.
pub const TEMPORARY_SUFFIX: &str = "tmp";
