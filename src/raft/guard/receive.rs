//! What a leader sends, on its way into async-raft.
//!
//! async-raft checks too little of it. On a term mismatch it answers with its own last index, which
//! the leader takes for a match. It cuts the log after `prev` even where the entries are the same,
//! so a message that is late or comes twice erases what was acknowledged. It takes the leader's
//! commit index without asking whether its own log agrees with the leader's that far. So it gets to
//! see only entries that it lacks, right after one that both have, and a commit index up to which
//! its log is verified.

use async_raft::raft::ConflictOpt;

use crate::raft::log::{Log, LogPosition};
use crate::raft::rpc::{Append, Appended};

/// What becomes of a message.
#[derive(Debug)]
pub(in crate::raft) enum Checked {
    /// async-raft may have this. Once it has taken it, everything up to `commit` can be applied.
    Fits { request: Append, commit: u64 },
    /// Our log differs. async-raft gets the heartbeat, which may depose it or be refused by it; if
    /// it is taken, the leader hears where to resume.
    Differs { heartbeat: Append, resume: Appended },
}

/// Decides on a message. Everything up to `applied` is committed, so each leader has it as we do.
pub(in crate::raft) fn check(log: &Log, applied: u64, mut request: Append) -> Checked {
    let prev = LogPosition {
        index: request.prev_log_index,
        term: request.prev_log_term,
    };
    if !has(log, prev) {
        let resume = resume_below(log, applied, prev);
        return differs(request, applied, resume);
    }
    let mut entries = std::mem::take(&mut request.entries);
    entries.retain(|entry| entry.index > prev.index);
    let has_hole = (prev.index + 1..)
        .zip(&entries)
        .any(|(expected, entry)| entry.index != expected);
    if has_hole {
        // async-raft drops events when it is busy, and sends what is left.
        return differs(request, applied, prev);
    }
    let last = prev.index + entries.len() as u64;
    let mut verified = prev;
    let mut known = 0;
    for entry in &entries {
        let position = LogPosition {
            index: entry.index,
            term: entry.term,
        };
        if !has(log, position) {
            break;
        }
        verified = position;
        known += 1;
    }
    entries.drain(..known);
    // Not below what is applied: a new leader may not know yet how far its predecessor committed.
    let commit = request.leader_commit.min(last).max(applied);
    let request = if entries.is_empty() {
        heartbeat(request, commit)
    } else {
        Append {
            prev_log_index: verified.index,
            prev_log_term: verified.term,
            entries,
            leader_commit: commit,
            ..request
        }
    };
    Checked::Fits { request, commit }
}

/// What is below the cut was committed, and so is the same everywhere.
fn has(log: &Log, position: LogPosition) -> bool {
    position.index < log.beginning().index || log.term(position.index) == Some(position.term)
}

/// Where the leader should go on: before the whole term that conflicts, but not below what is
/// applied, which can't conflict.
fn resume_below(log: &Log, applied: u64, prev: LogPosition) -> LogPosition {
    let last = log.last().index;
    let term = |index| log.term(index).unwrap_or(0);
    let conflicting = (prev.index <= last).then(|| term(prev.index));
    let mut index = last.min(prev.index.saturating_sub(1));
    while index > applied && (term(index) > prev.term || Some(term(index)) == conflicting) {
        index -= 1;
    }
    LogPosition {
        index,
        term: term(index),
    }
}

fn differs(request: Append, applied: u64, resume: LogPosition) -> Checked {
    let resume = Appended {
        term: request.term,
        success: false,
        conflict_opt: Some(ConflictOpt {
            term: resume.term,
            index: resume.index,
        }),
    };
    Checked::Differs {
        heartbeat: heartbeat(request, applied),
        resume,
    }
}

/// async-raft doesn't look at `prev` if there are no entries, so it is left out.
fn heartbeat(request: Append, commit: u64) -> Append {
    Append {
        prev_log_index: 0,
        prev_log_term: 0,
        entries: Vec::new(),
        leader_commit: commit,
        ..request
    }
}
