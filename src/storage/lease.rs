//! Who may touch the directory of a log.
//!
//! A log's jobs ([`crate::storage::log::SyncJob`], [`crate::storage::checkpoint::CheckpointJob`],
//! [`crate::storage::log::Removed`]) run on other threads and outlive the log: its owner may die
//! while one of them waits for the disk. If the directory were opened again, or removed, before
//! they end, an old checkpoint would overwrite the new log's, an old removal would unlink files
//! that the new log knows, and a sync would find no directory and end the process.
//!
//! So whoever opens a log lends it a guard (of a mutex for that directory, say), and the log and
//! each job hold a [`Lease`] on it. The guard is dropped with the last of them: only then may the
//! directory be opened again or removed. Planned reads need none: they hold their open file.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// A share of the right to touch a log's directory; a clone is another share.
#[derive(Clone)]
pub struct Lease {
    /// Only ever dropped.
    _guard: Arc<dyn Any + Send + Sync>,
}

impl Lease {
    /// Keeps `guard` until the last clone is dropped, on whatever thread that is.
    pub fn new(guard: impl Any + Send + Sync) -> Lease {
        Lease {
            _guard: Arc::new(guard),
        }
    }

    /// For tools and tests, where nobody else opens the directory.
    pub fn none() -> Lease {
        Lease::new(())
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease")
    }
}
