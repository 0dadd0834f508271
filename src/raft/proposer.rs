//! The proposer: one write at a time, of all proposals that wait.
//!
//! Each entry costs a flush, and async-raft makes them one after the other. So while one is being
//! written the proposals gather, and go into the next entry together. That also gives each
//! proposal its number in order, which is all that replay needs to recognise a second attempt.

use std::sync::Arc;

use async_raft::raft::ClientWriteRequest;
use async_raft::ClientWriteError;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{timeout, Duration, Instant};
use uuid::Uuid;

use super::codec::{LogBatch, LoggedProposal};
use super::handle::Core;
use super::rpc::broker_id;
use super::{Leadership, ProposeError};
use crate::engine::metadata::{MetadataImage, ProposalId, SessionId};
use crate::model::BrokerId;

/// How many proposals wait at most; who comes later waits outside.
pub(super) const WAITING_MAX: usize = 4_096;
/// The largest proposal, in bytes.
pub(super) const PROPOSAL_BYTES_MAX: usize = 8 << 20;
/// How many proposals go into one entry at most.
const BATCH_LEN_MAX: usize = 1_024;
/// Above so many bytes no further proposal joins an entry.
const BATCH_BYTES_MAX: usize = 512 << 10;
/// After which a write that isn't answered is sent once more.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// After which its outcome counts as unknown.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) type Answer = Result<Arc<MetadataImage>, ProposeError>;

/// A proposal on its way; encoded already, and empty for a barrier.
pub(super) struct Waiting {
    pub commands: Option<Bytes>,
    pub answer: oneshot::Sender<Answer>,
}

pub(super) struct Proposer<'a> {
    pub core: Core,
    pub node: BrokerId,
    pub waiting: &'a mut mpsc::Receiver<Waiting>,
    pub leadership: watch::Receiver<Leadership>,
    pub images: watch::Receiver<Arc<MetadataImage>>,
}

impl Proposer<'_> {
    /// Runs until all who could propose are gone. Dropped before, it leaves them to the next one, but for those
    /// whose write is under way: they hear that its outcome is unknown.
    pub async fn run(mut self) {
        let session = SessionId(Uuid::new_v4());
        let mut sequence = 0;
        let mut gathered = Vec::new();
        while let Some(first) = self.waiting.recv().await {
            self.gather(first, &mut gathered);
            let mut batch = LogBatch::default();
            for commands in gathered.iter_mut().filter_map(|w| w.commands.take()) {
                sequence += 1;
                let id = ProposalId {
                    proposer: self.node,
                    session,
                    sequence,
                };
                batch.proposals.push(LoggedProposal { id, commands });
            }
            let answer = self.write(batch).await;
            for waiting in gathered.drain(..) {
                // Who asked may have gone.
                let _ = waiting.answer.send(answer.clone());
            }
        }
    }

    fn gather(&mut self, first: Waiting, gathered: &mut Vec<Waiting>) {
        let size = |waiting: &Waiting| waiting.commands.as_ref().map_or(0, Bytes::len);
        let mut bytes = size(&first);
        gathered.push(first);
        while gathered.len() < BATCH_LEN_MAX && bytes < BATCH_BYTES_MAX {
            match self.waiting.try_recv() {
                Ok(next) => {
                    bytes += size(&next);
                    gathered.push(next);
                }
                Err(_) => break,
            }
        }
    }

    async fn write(&self, batch: LogBatch) -> Answer {
        if let Leadership::Follower { leader } = *self.leadership.borrow() {
            return Err(ProposeError::NotLeader { leader });
        }
        tokio::select! {
            answer = self.write_as_leader(&batch) => answer,
            // async-raft would leave it without an answer until somebody else leads. Whoever asked
            // can look for the new leader now.
            () = self.leadership_lost() => Err(ProposeError::Unknown),
        }
    }

    async fn leadership_lost(&self) {
        let mut leadership = self.leadership.clone();
        let lost = |now: &Leadership| matches!(now, Leadership::Follower { .. });
        // An error means that Raft is being stopped.
        let _ = leadership.wait_for(lost).await;
    }

    async fn write_as_leader(&self, batch: &LogBatch) -> Answer {
        let deadline = Instant::now() + WRITE_TIMEOUT;
        let mut attempts = 0;
        while Instant::now() < deadline {
            attempts += 1;
            let request = ClientWriteRequest::new(batch.clone());
            match timeout(ATTEMPT_TIMEOUT, self.core.client_write(request)).await {
                Ok(Ok(_)) => return Ok(self.images.borrow().clone()),
                Ok(Err(ClientWriteError::ForwardToLeader(_, leader))) if attempts == 1 => {
                    let leader = leader.and_then(broker_id);
                    return Err(ProposeError::NotLeader { leader });
                }
                Ok(Err(_)) => return Err(ProposeError::Unknown),
                Err(_) => log::warn!("a write of metadata takes more than {ATTEMPT_TIMEOUT:?}"),
            }
        }
        Err(ProposeError::Unknown)
    }
}

/// On a node that never leads: says who does.
pub(super) async fn refuse_all(
    waiting: &mut mpsc::Receiver<Waiting>,
    leadership: watch::Receiver<Leadership>,
) {
    while let Some(Waiting { answer, .. }) = waiting.recv().await {
        let leader = match *leadership.borrow() {
            Leadership::Follower { leader } => leader,
            Leadership::Leader { .. } => None,
        };
        // Who asked may have gone.
        let _ = answer.send(Err(ProposeError::NotLeader { leader }));
    }
}
