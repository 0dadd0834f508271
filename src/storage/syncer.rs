//! stub: how many logs are put on disk side by side
use crate::storage::log::{Covered, SyncJob};
use std::io;
use std::sync::Arc;

/// What to do when a sync failed (reliability: the process must end, and the disk be read again).
pub trait FatalDisk: Send + Sync {
    fn fatal(&self, what: &str, error: &io::Error);
}
/// Logs the error and aborts the process.
pub struct AbortProcess;
impl FatalDisk for AbortProcess {
    fn fatal(&self, what: &str, error: &io::Error) {
        log::error!("{what}: {error}");
        std::process::abort()
    }
}
/// `done` is called on a thread of the syncer, when and only when the job's bytes are on disk.
pub trait Syncer: Send + Sync {
    fn submit(&self, job: SyncJob, done: Box<dyn FnOnce(Covered) + Send>);
}
pub struct SyncPool;
impl SyncPool {
    pub fn start(_threads: usize, _fatal: Arc<dyn FatalDisk>) -> io::Result<SyncPool> {
        todo!()
    }
}
impl Syncer for SyncPool {
    fn submit(&self, _job: SyncJob, _done: Box<dyn FnOnce(Covered) + Send>) {
        todo!()
    }
}
