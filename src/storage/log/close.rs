//! Closing a log, so that the next start has nothing to scan.

use super::{Log, LogError};

impl Log {
    /// Syncs everything, gives back reserved space, and writes indexes, producers and checkpoint.
    /// Appends are refused from then on.
    pub fn close(&mut self) -> Result<(), LogError> {
        if let Some(reason) = &self.failure {
            return Err(LogError::Failed(reason.clone()));
        }
        self.active
            .file
            .set_len(self.active.size)
            .map_err(LogError::storage("trim", &self.active.path))?;
        self.sync_now()?;
        if let Err(e) = self.active.indexer.flush() {
            log::warn!(
                "can't write the indexes of {}: {e}",
                self.active.path.display()
            );
        }
        if !self.producers.is_empty() {
            self.write_snapshot(self.end_offset);
        }
        self.write_checkpoint(self.end_offset)?;
        self.failure = Some("it is closed".into());
        Ok(())
    }
}
