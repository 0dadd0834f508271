//! AppendEntries, before it leaves.

use async_raft::raft::{AppendEntriesRequest, AppendEntriesResponse};

use crate::raft::codec::LogBatch;
use crate::raft::storage::Storage;

/// Where async-raft goes on after a follower has said that the logs don't agree. Below the cut there is
/// nothing to send, and async-raft would wait for a snapshot for ever; but above it every voter has at
/// least one entry that is ours.
pub(in crate::raft) fn answer_append(storage: &Storage, answer: &mut AppendEntriesResponse) {
    let (first, term) = storage.log().first();
    if let Some(conflict) = answer.conflict_opt.as_mut() {
        if conflict.index < first && first > 1 {
            conflict.index = first;
            conflict.term = term;
        }
    }
}

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
    // A stream begins with the term of the leader instead of that of the entry.
    if let Some(term) = storage.log().term_at(request.prev_log_index) {
        request.prev_log_term = term;
    }
    // A leader commits by entries of its own term only; what it says of others may not be so.
    let committed = request.leader_commit;
    if committed > 0 && storage.log().term_at(committed) != Some(request.term) {
        request.leader_commit = committed.min(storage.state().applied());
    }
    None
}
