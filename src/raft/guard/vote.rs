//! A candidate's request, on its way into async-raft.
//!
//! Raft compares the last term first and the index only if the terms are equal. async-raft wants
//! both to be at least ours. With logs that end at (25, term 1) and (20, term 2), and the third
//! voter dead, neither would ever vote for the other.

use async_raft::raft::VoteRequest;

use crate::raft::log::LogPosition;

/// The same request, such that async-raft's comparison comes out as Raft's.
pub(in crate::raft) fn check(ours: LogPosition, mut request: VoteRequest) -> VoteRequest {
    if request.last_log_term > ours.term {
        request.last_log_index = request.last_log_index.max(ours.index);
    }
    request
}
