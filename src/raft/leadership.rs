//! Leadership, announced with care.
//!
//! async-raft says "leader" before it has applied what earlier leaders committed. So a node that
//! has become leader first writes an entry without commands: once that is applied, so is
//! everything before it. Only then is the leadership announced.

use async_raft::raft::ClientWriteRequest;
use async_raft::{NodeId, State};
use tokio::sync::watch;
use tokio::time::{timeout, Duration};

use super::codec::LogBatch;
use super::handle::Core;
use super::Leadership;
use crate::model::BrokerId;

/// After which the entry is written once more.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(2);

/// Announces until async-raft has stopped.
pub(super) async fn announce(core: &Core, node: NodeId, announced: &watch::Sender<Leadership>) {
    let mut metrics = core.metrics();
    loop {
        let (state, term, leader) = {
            let now = metrics.borrow_and_update();
            (now.state, now.current_term, now.current_leader)
        };
        let next = if state != State::Leader {
            let other = leader.filter(|leader| *leader != node);
            Some(Leadership::Follower {
                leader: other.and_then(|id| i32::try_from(id).ok()).map(BrokerId),
            })
        } else if *announced.borrow() == (Leadership::Leader { term }) || barrier(core).await {
            Some(Leadership::Leader { term })
        } else {
            None
        };
        if let Some(next) = next {
            announced.send_if_modified(|now| std::mem::replace(now, next) != next);
            if metrics.changed().await.is_err() {
                return;
            }
        } else if metrics.has_changed().is_err() {
            return;
        }
    }
}

/// Whether an entry of our own was committed and applied.
async fn barrier(core: &Core) -> bool {
    let write = core.client_write(ClientWriteRequest::new(LogBatch::default()));
    matches!(timeout(BARRIER_TIMEOUT, write).await, Ok(Ok(_)))
}
