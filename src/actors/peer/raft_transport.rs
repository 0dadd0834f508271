//! Raft's way to the other voters: a request and its answer over the control link.

use std::time::Duration;

use async_trait::async_trait;

use super::Peers;
use crate::model::BrokerId;
use crate::protocol::peer::Kind;
use crate::raft::{RaftReply, RaftRpc, RaftTransport, RaftTransportError};

/// The transport. What it sends is answered by whoever serves [`Kind::RAFT`] there.
#[derive(Clone)]
pub struct RaftLinks {
    peers: Peers,
    patience: Duration,
}

impl RaftLinks {
    /// An rpc that isn't answered within `patience` has failed.
    pub fn new(peers: Peers, patience: Duration) -> RaftLinks {
        RaftLinks { peers, patience }
    }
}

#[async_trait]
impl RaftTransport for RaftLinks {
    async fn call(
        &self,
        voter: BrokerId,
        RaftRpc(body): RaftRpc,
    ) -> Result<RaftReply, RaftTransportError> {
        let failed = |reason: String| RaftTransportError { voter, reason };
        let peer = self.peers.peer(voter);
        let peer = peer.ok_or_else(|| failed("it isn't one of the cluster's nodes".into()))?;
        let answer = peer.call(Kind::RAFT, body.into(), self.patience).await;
        let answer = answer.map_err(|error| failed(error.to_string()))?;
        Ok(RaftReply(answer))
    }
}
