//! A partition's replication: what its leader decides.
//!
//! [`LeaderReplica`] knows how far the log has been written and how far it is on disk, from which
//! follows the high watermark; it holds everyone who waits for it, and says whom to answer and
//! whom to wake. It never touches the log: the partition leader's actor does, and reports.

mod leader;

pub use leader::{Acks, Commit, CommitRule, LeaderReplica, Patience, Released};
