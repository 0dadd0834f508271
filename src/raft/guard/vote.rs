//! RequestVote, before async-raft sees it.

use async_raft::raft::{VoteRequest, VoteResponse};

use crate::raft::handle::Core;
use crate::raft::storage::Storage;

/// Answers one request. A candidate whose log ends in a higher term is ahead, however short its log is:
/// async-raft would want the index to be as high too.
pub(in crate::raft) async fn receive_vote(
    core: &Core,
    storage: &Storage,
    mut request: VoteRequest,
) -> anyhow::Result<VoteResponse> {
    let ours = storage.log().last();
    let theirs = (request.last_log_term, request.last_log_index);
    if theirs >= (ours.term, ours.index) {
        request.last_log_index = request.last_log_index.max(ours.index);
    }
    Ok(core.vote(request).await?)
}
