//! Closing a log, so that the next start has nothing to scan.

use std::path::PathBuf;
use std::sync::Arc;

use super::segment::{segment_path, SNAPSHOT_SUFFIX};
use super::{Log, LogError, SyncJob};
use crate::storage::checkpoint::CheckpointJob;
use crate::storage::fs::{replace_unsynced, File, FileSystem};

/// What is left to do for a log that takes no more appends. It waits for the disk, so it runs off
/// the arbiter: many logs are closed side by side.
#[derive(Debug)]
#[must_use = "the log isn't closed until run() is called"]
pub struct CloseJob {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    active: Arc<dyn File>,
    active_path: PathBuf,
    active_size: u64,
    sync: Option<SyncJob>,
    /// The producers, where there are any, and the name of their snapshot.
    snapshot: Option<(PathBuf, Vec<u8>)>,
    checkpoint: CheckpointJob,
}

impl CloseJob {
    /// Gives back reserved space, puts everything on disk, and writes producers and checkpoint.
    pub fn run(self) -> Result<(), LogError> {
        self.active
            .set_len(self.active_size)
            .map_err(LogError::storage("trim", &self.active_path))?;
        if let Some(sync) = &self.sync {
            sync.run().map_err(LogError::sync_failed(&self.dir))?;
        }
        if let Some((path, bytes)) = &self.snapshot {
            if let Err(e) = replace_unsynced(&*self.fs, path, bytes) {
                log::warn!("can't write {}: {e}", path.display());
            }
        }
        let path = self.checkpoint.path();
        self.checkpoint
            .run()
            .map_err(LogError::storage("write", &path))
    }
}

impl Log {
    /// Begins to close the log: appends are refused from now on.
    pub fn begin_close(&mut self) -> Result<CloseJob, LogError> {
        if let Some(reason) = &self.failure {
            return Err(LogError::Failed(reason.clone()));
        }
        if let Err(e) = self.active.indexer.flush() {
            log::warn!(
                "can't write the indexes of {}: {e}",
                self.active.path.display()
            );
        }
        let end = self.end_offset;
        let snapshot = (!self.producers.is_empty()).then(|| {
            let path = segment_path(&self.dir, end, SNAPSHOT_SUFFIX);
            (path, self.producers.encode())
        });
        self.failure = Some("it is closed".into());
        self.compaction.0.set();
        Ok(CloseJob {
            fs: self.fs.clone(),
            dir: self.dir.clone(),
            active: self.active.file.clone(),
            active_path: self.active.path.clone(),
            active_size: self.active.size,
            sync: self.begin_sync(),
            snapshot,
            checkpoint: self.checkpoint_with(end),
        })
    }
}
