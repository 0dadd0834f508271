//! AppendEntries, before async-raft sees it.
//!
//! async-raft is given either a heartbeat that says nothing of the log, or entries that begin exactly
//! where the agreeing part of the log ends. What doesn't continue the log is answered here, with a place
//! at or below which the leader tries next.

use async_raft::raft::{AppendEntriesRequest, AppendEntriesResponse, ConflictOpt, Entry};

use crate::raft::codec::LogBatch;
use crate::raft::handle::Core;
use crate::raft::log::Log;
use crate::raft::storage::Storage;

type Request = AppendEntriesRequest<LogBatch>;

/// Answers one request. Only one is at work at a time: what is checked must still hold when async-raft
/// acts on it.
pub(in crate::raft) async fn receive_append(
    core: &Core,
    storage: &Storage,
    request: Request,
) -> anyhow::Result<AppendEntriesResponse> {
    let log = storage.log();
    let (term, previous) = (request.term, request.prev_log_index);
    let applied = storage.state().applied();
    let entries = continuing(previous, request.entries);
    let conflict = if !log.agrees_at(previous, request.prev_log_term) {
        Some(conflict_below(
            log,
            previous,
            request.prev_log_term,
            applied,
        ))
    } else if entries.is_none() {
        // A hole in what was sent: from the last entry that agrees on, again.
        Some(ConflictOpt {
            term: request.prev_log_term,
            index: previous,
        })
    } else {
        None
    };
    let (Some(entries), None) = (entries, &conflict) else {
        // Nothing of this is taken; async-raft hears that there is a leader.
        let committed = request.leader_commit.min(applied);
        let heartbeat = heartbeat(term, request.leader_id, committed);
        let answer = core.append_entries(heartbeat).await?;
        return Ok(match answer.success {
            true => AppendEntriesResponse {
                term: answer.term,
                success: false,
                conflict_opt: conflict,
            },
            false => answer,
        });
    };
    // Beyond what was just seen to agree nothing is known to be committed.
    let verified = entries.last().map_or(previous, |last| last.index);
    let committed = request.leader_commit.min(verified);
    let (matched, new) = strip(log, previous, request.prev_log_term, entries);
    let answer = if new.is_empty() {
        let heartbeat = heartbeat(term, request.leader_id, committed);
        core.append_entries(heartbeat).await?
    } else {
        core.append_entries(Request {
            term,
            leader_id: request.leader_id,
            prev_log_index: matched.0,
            prev_log_term: matched.1,
            entries: new,
            leader_commit: committed,
        })
        .await?
    };
    if answer.success && answer.term == term {
        // async-raft skips entries when the leader changes, so nobody waits for it.
        storage.apply_up_to(committed)?;
    }
    Ok(answer)
}

fn heartbeat(term: u64, leader_id: u64, leader_commit: u64) -> Request {
    Request {
        term,
        leader_id,
        prev_log_index: 0,
        prev_log_term: 0,
        entries: Vec::new(),
        leader_commit,
    }
}

/// The entries behind the previous one; `None` if one is missing among them.
fn continuing(previous: u64, mut entries: Vec<Entry<LogBatch>>) -> Option<Vec<Entry<LogBatch>>> {
    entries.retain(|entry| entry.index > previous);
    let is_whole = (previous + 1..).zip(&entries).all(|(n, e)| e.index == n);
    is_whole.then_some(entries)
}

/// Without what is in the log already, and the last position that agrees: a message that comes late
/// must not cut what came after it.
fn strip(
    log: &Log,
    previous: u64,
    previous_term: u64,
    entries: Vec<Entry<LogBatch>>,
) -> ((u64, u64), Vec<Entry<LogBatch>>) {
    let mut matched = (previous, previous_term);
    let mut rest = entries.into_iter().peekable();
    while let Some(entry) = rest.next_if(|entry| log.agrees_at(entry.index, entry.term)) {
        matched = (entry.index, entry.term);
    }
    (matched, rest.collect())
}

/// Where the leader may try next: below the conflicting entry and its whole term, and not below what is
/// applied, up to which all logs agree.
fn conflict_below(log: &Log, previous: u64, previous_term: u64, applied: u64) -> ConflictOpt {
    let term_of = |index| log.term_at(index).unwrap_or(0);
    let mut at = log.last().index.min(previous.saturating_sub(1));
    while at > applied && term_of(at) > previous_term {
        at -= 1;
    }
    if let Some(conflicting) = log.term_at(previous) {
        while at > applied && term_of(at) == conflicting {
            at -= 1;
        }
    }
    ConflictOpt {
        term: term_of(at),
        index: at,
    }
}
