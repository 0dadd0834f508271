//! Where a log lives, and what says elsewhere that it does.
//!
//! A log's directory can vanish: it lies on a disk that isn't mounted, or somebody has removed it. A
//! broker that finds no directory for a partition would make a new, empty log, and what was
//! acknowledged would be gone without a word. So each log has a [`Witness`], an empty file in another
//! directory. It is on disk before the first record is acknowledged, and after the log's directory
//! and first checkpoint are; so where the witness is, they must be.
//!
//! Without a witness nothing was acknowledged from disk: a partition that is new, or whose making a
//! crash cut off, gets its log.

use std::io;
use std::path::{Path, PathBuf};

use super::fs::{parent_of, FileSystem};

/// The file that says that a log was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// `None` for tools and tests, who know what they open.
    file: Option<PathBuf>,
}

impl Witness {
    pub fn at(file: PathBuf) -> Witness {
        Witness { file: Some(file) }
    }

    pub fn none() -> Witness {
        Witness { file: None }
    }

    /// The file, if it is there.
    pub fn find(&self, fs: &dyn FileSystem) -> io::Result<Option<&Path>> {
        let Some(file) = &self.file else {
            return Ok(None);
        };
        match fs.open_read_only(file) {
            Ok(_) => Ok(Some(file)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether a log without this file still has to write it.
    pub fn is_missing(&self, fs: &dyn FileSystem) -> io::Result<bool> {
        Ok(self.file.is_some() && self.find(fs)?.is_none())
    }

    /// Makes the file, in a directory that is there. When it returns, it is on disk.
    pub fn write(&self, fs: &dyn FileSystem) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        fs.create(file)?;
        fs.sync_dir(parent_of(file))
    }

    /// Removes the file, if it is there. When it returns, it doesn't come back.
    pub fn remove(&self, fs: &dyn FileSystem) -> io::Result<()> {
        let Some(file) = self.find(fs)? else {
            return Ok(());
        };
        fs.remove(file)?;
        fs.sync_dir(parent_of(file))
    }
}

/// The directory of a log, and its witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogHome {
    pub dir: PathBuf,
    pub witness: Witness,
}

impl LogHome {
    /// Whether there is anything in the directory.
    pub fn has_log(&self, fs: &dyn FileSystem) -> io::Result<bool> {
        Ok(fs.is_dir(&self.dir)? && !fs.list(&self.dir)?.is_empty())
    }

    /// For tools and tests.
    pub fn unwitnessed(dir: &Path) -> LogHome {
        LogHome {
            dir: dir.to_owned(),
            witness: Witness::none(),
        }
    }
}
