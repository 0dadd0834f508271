//! The guard: what async-raft 0.6.1 gets wrong between voters is put right on its way in and out.
//!
//! As it comes, async-raft loses acknowledged entries, commits what only the leader holds, and can
//! elect nobody for good. Each rule here stands against one of these
//! (`docs/adr/0002-metadata-by-async-raft.md`). The decisions are plain functions of a message and
//! a log, so that a test can ask them anything.

pub(super) mod receive;
pub(super) mod send;
pub(super) mod vote;
