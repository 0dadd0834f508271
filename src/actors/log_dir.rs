//! The directory that holds this node's logs, for those who want to know how full it is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::storage::fs::FileSystem;

pub use crate::storage::fs::Space;

/// Where the logs are.
pub struct LogDir {
    file_system: Arc<dyn FileSystem>,
    path: PathBuf,
}

impl LogDir {
    /// The path is told as an absolute one.
    pub fn new(file_system: Arc<dyn FileSystem>, path: &Path) -> LogDir {
        LogDir {
            file_system,
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn space(&self) -> io::Result<Space> {
        self.file_system.space(&self.path)
    }
}
