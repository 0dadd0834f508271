//! What the voters of the metadata are like, asked of the node that leads them, whichever it is.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::handle::{Active, ControllerHandle};
use super::remote::{decode, encode};
use crate::actors::peer::{PeerIdentity, PeerService};
use crate::model::{BrokerId, ErrorCode, Refusal};
use crate::protocol::peer::{CallError, CallErrorCode, Kind};
use crate::protocol::Segments;
use crate::raft::{Quorum, Raft};

/// How long the question may take. Whoever asks wants to know just now how things are.
const PATIENCE: Duration = Duration::from_secs(2);

impl ControllerHandle {
    /// The voters, as the one that leads them sees them.
    pub async fn quorum(&self) -> Result<Quorum, Refusal> {
        let deadline = Instant::now() + PATIENCE;
        match self.active(deadline).await? {
            Active::Here => self.quorum_here(),
            Active::There(broker) => self.quorum_at(broker, deadline).await,
        }
    }

    fn quorum_here(&self) -> Result<Quorum, Refusal> {
        let why = "this node doesn't lead the metadata any more";
        let refusal = || Refusal::new(ErrorCode::NotController, why);
        self.raft().quorum().ok_or_else(refusal)
    }

    async fn quorum_at(&self, broker: BrokerId, deadline: Instant) -> Result<Quorum, Refusal> {
        let unreachable = |why: String| {
            let message = format!("node {broker}, which leads the metadata: {why}");
            Refusal::new(ErrorCode::NotController, message)
        };
        let peer = self.peer(broker);
        let peer = peer.ok_or_else(|| unreachable("it isn't linked".into()))?;
        let patience = deadline.saturating_duration_since(Instant::now());
        let answer = peer.call(Kind::QUORUM, Bytes::new().into(), patience).await;
        let answer = answer.map_err(|error| unreachable(error.to_string()))?;
        let quorum: Option<Quorum> = decode(&answer).map_err(unreachable)?;
        quorum.ok_or_else(|| unreachable("it leads them no more".into()))
    }
}

/// Serves the question. `nil` says that this node doesn't lead.
pub struct QuorumService(pub Raft);

#[async_trait]
impl PeerService for QuorumService {
    async fn call(&self, _: PeerIdentity, _: Bytes) -> Result<Segments, CallError> {
        let failed = |reason| CallError::new(CallErrorCode::Failed, reason);
        encode(&self.0.quorum()).map_err(failed)
    }
}
