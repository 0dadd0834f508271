//! The guard: what stands between async-raft and the other voters, because async-raft alone is not safe.
//!
//! | rule | where | because async-raft |
//! |---|---|---|
//! | take only what continues the log, and strip what is there | `receive` | takes a term mismatch for a match, cuts what was acknowledged when a message comes late, and applies a stale tail on a heartbeat |
//! | announce as committed only what is | `send` | announces entries of earlier terms |
//! | end streams of earlier terms | `send` | goes on with them |
//! | compare logs lexicographically | `vote` | compares term and index, and then nobody may be elected |
//! | lead only with a majority that answers | `quorum` | goes on alone for ever |

mod quorum;
mod receive;
mod send;
mod vote;

pub(super) use quorum::Quorum;
pub(super) use receive::receive_append;
pub(super) use send::{answer_append, prepare_append};
pub(super) use vote::receive_vote;
