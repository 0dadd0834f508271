//! What goes to other voters. There are none yet, and async-raft never calls this with one voter.

use anyhow::{anyhow, Result};
use async_raft::async_trait::async_trait;
use async_raft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use async_raft::{NodeId, RaftNetwork};

use super::codec::LogBatch;

pub(super) struct NoPeers;

#[async_trait]
impl RaftNetwork<LogBatch> for NoPeers {
    async fn append_entries(
        &self,
        target: NodeId,
        _: AppendEntriesRequest<LogBatch>,
    ) -> Result<AppendEntriesResponse> {
        Err(no_peer(target))
    }

    async fn install_snapshot(
        &self,
        target: NodeId,
        _: InstallSnapshotRequest,
    ) -> Result<InstallSnapshotResponse> {
        Err(no_peer(target))
    }

    async fn vote(&self, target: NodeId, _: VoteRequest) -> Result<VoteResponse> {
        Err(no_peer(target))
    }
}

fn no_peer(target: NodeId) -> anyhow::Error {
    anyhow!("there are no peers: voter {target} can't be reached")
}
