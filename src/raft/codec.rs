//! How what Raft keeps is written: MessagePack with the fields' names, so that fields can be added.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use bytes::Bytes;

use super::RaftError;
use crate::engine::metadata::ProposalId;

/// Metadata is nested a few levels; what is deeper isn't ours.
const DEPTH_MAX: usize = 32;

/// What one entry of the Raft log holds: proposals that waited for the same write.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct LogBatch {
    pub proposals: Vec<LoggedProposal>,
}

/// One proposal, its commands encoded by whoever proposed it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct LoggedProposal {
    pub id: ProposalId,
    pub commands: Bytes,
}

/// async-raft's answer to a write.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Applied {
    pub index: u64,
}

impl async_raft::AppData for LogBatch {}
impl async_raft::AppDataResponse for Applied {}

/// Fails only for types that MessagePack can't hold, of which there are none here.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, RaftError> {
    let encoded = rmp_serde::to_vec_named(value);
    encoded.map_err(|error| RaftError::Damaged(format!("it can't be written: {error}")))
}

/// `what` names the value in the error.
pub(super) fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, RaftError> {
    let mut decoder = rmp_serde::Deserializer::new(bytes);
    decoder.set_max_depth(DEPTH_MAX);
    T::deserialize(&mut decoder)
        .map_err(|error| RaftError::Damaged(format!("{what} can't be read: {error}")))
}
