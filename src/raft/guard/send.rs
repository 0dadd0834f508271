//! AppendEntries, before it leaves.

use async_raft::raft::{AppendEntriesRequest, AppendEntriesResponse};

use crate::raft::codec::LogBatch;
use crate::raft::storage::Storage;

/// Makes the request say no more than is true. An answer means that it isn't sent: a stream of an
/// earlier term goes on after its end, and is told so here.
pub(in crate::raft) fn prepare_append(
    storage: &Storage,
    request: &mut AppendEntriesRequest<LogBatch>,
) -> Option<AppendEntriesResponse> {
    let term = storage.log().hard_state().current_term;
    if term > request.term {
        return Some(AppendEntriesResponse {
            term,
            success: false,
            conflict_opt: None,
        });
    }
    // A leader commits by entries of its own term only; what it says of others may not be so.
    let committed = request.leader_commit;
    if committed > 0 && storage.log().term_at(committed) != Some(request.term) {
        request.leader_commit = committed.min(storage.state().applied());
    }
    None
}
