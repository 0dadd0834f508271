//! Raft's way to the other voters, which somebody else provides.

use async_trait::async_trait;
use thiserror::Error;

use super::{RaftReply, RaftRpc};
use crate::model::BrokerId;

/// Carries what voters ask each other.
#[async_trait]
pub trait RaftTransport: Send + Sync + 'static {
    /// One request and its answer. Errs when the voter can't be reached or doesn't answer in time.
    async fn call(&self, voter: BrokerId, rpc: RaftRpc) -> Result<RaftReply, RaftTransportError>;
}

/// A voter that didn't answer. Whether it has got the request isn't known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("voter {voter} doesn't answer: {reason}")]
pub struct RaftTransportError {
    pub voter: BrokerId,
    pub reason: String,
}

/// For a single voter: there is nobody to reach.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

#[async_trait]
impl RaftTransport for Alone {
    async fn call(&self, voter: BrokerId, _: RaftRpc) -> Result<RaftReply, RaftTransportError> {
        let reason = "this node is the only voter".into();
        Err(RaftTransportError { voter, reason })
    }
}
