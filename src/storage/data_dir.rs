//! stub: the data directory
use crate::model::{BrokerId, ClusterId, Incarnation, PartitionId};
use crate::storage::fs::FileSystem;
use crate::storage::log::Shutdown;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum DataDirError {
    #[error("the data directory {} is in use by another broker", .0.display())]
    InUse(PathBuf),
    #[error("can't {operation} {}: {source}", file.display())]
    Storage {
        operation: &'static str,
        file: PathBuf,
        source: io::Error,
    },
    #[error("{}: {reason}", file.display())]
    Identity { file: PathBuf, reason: String },
}
/// Whose data this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub node_id: BrokerId,
    pub cluster_id: ClusterId,
}
#[derive(Debug)]
pub struct DataDir;
impl DataDir {
    pub fn open(_fs: Arc<dyn FileSystem>, _path: &Path) -> Result<DataDir, DataDirError> {
        todo!()
    }
    pub fn path(&self) -> &Path {
        todo!()
    }
    pub fn shutdown_of_last_run(&self) -> Shutdown {
        todo!()
    }
    /// The incarnation that closed cleanly, when one did.
    pub fn last_incarnation(&self) -> Option<Incarnation> {
        todo!()
    }
    /// `None` when the directory is new.
    pub fn identity(&self) -> Option<&Identity> {
        todo!()
    }
    /// Writes the identity of a new directory, or checks that of an old one.
    pub fn claim(&mut self, _identity: &Identity) -> Result<(), DataDirError> {
        todo!()
    }
    pub fn log_dir(&self, _id: &PartitionId) -> PathBuf {
        todo!()
    }
    pub fn logs(&self) -> Result<Vec<PartitionId>, DataDirError> {
        todo!()
    }
    pub fn metadata_dir(&self) -> PathBuf {
        todo!()
    }
    pub fn remove_log(&self, _id: &PartitionId) -> Result<(), DataDirError> {
        todo!()
    }
    pub fn mark_clean(&self, _incarnation: Incarnation) -> Result<(), DataDirError> {
        todo!()
    }
}
