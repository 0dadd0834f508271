//! A voter that was away until the others had cut what it lacks from their logs.
//!
//! No entry brings it up to date any more: it takes the state that they stand for. It does so while async-raft
//! runs, so that it votes and is heard; only then async-raft is stopped for the moment in which the log begins
//! anew, and started again on what is there (Raft's InstallSnapshot, of which async-raft's own isn't used).
//!
//! Nothing that it has acknowledged is lost with its log. What it lacks is committed, so what it has beside it
//! isn't: logs that share an entry share all before it. Its term and its vote stay.

use async_raft::NodeId;
use tokio::sync::watch;

use super::copying::{fetch, StateCopy, Wanted};
use super::network::Speaker;
use super::storage::Storage;
use super::RaftError;

/// Waits until a leader's log is found to begin above this one's end, and brings its state.
pub(super) async fn missing_state(
    speaker: &Speaker,
    storage: &Storage,
    mut behind: watch::Receiver<Option<NodeId>>,
) -> Result<StateCopy, RaftError> {
    loop {
        behind.changed().await.map_err(|_| RaftError::Stopped)?;
        let leader = *behind.borrow_and_update();
        let Some(leader) = leader else { continue };
        // It says so with each heartbeat, until it can give its state.
        let copy = fetch(speaker, leader, Wanted::Committed).await?;
        if let Some(copy) = copy.filter(|copy| storage.lacks(copy.position)) {
            return Ok(copy);
        }
    }
}
