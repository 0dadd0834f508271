//! What async-raft sends as a leader, on its way out, and the answers on their way back.
//!
//! A new leader believes its followers to have all of its log until they say otherwise, and may
//! announce entries of earlier terms as committed because of that. Its streams to followers outlive
//! its leadership. And a stream that would need what we have cut sends nothing for ever, as fast as
//! it can, or waits for ever for a snapshot. So it goes on from the first entry that is there; and a
//! follower that lacks that one takes a copy of all, and hears heartbeats meanwhile.

use async_raft::raft::ConflictOpt;

use crate::raft::log::{Log, LogPosition};
use crate::raft::rpc::{Append, Appended, LogEntry};

/// How many bytes of entries go into one message, unless one entry alone has more. A frame between
/// nodes holds the largest entry.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// What is to be sent, if anything.
#[derive(Debug)]
pub(in crate::raft) enum Checked {
    Send {
        request: Append,
        /// It was shortened: what isn't sent has to be asked for.
        rest: Rest,
    },
    /// The stream belongs to a term that is over. This answer ends it.
    Over(Appended),
}

/// Whether entries were left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::raft) enum Rest {
    Nothing,
    Later,
}

/// What a message is held against.
#[derive(Clone, Copy, Debug)]
pub(in crate::raft) struct Ours<'a> {
    pub log: &'a Log,
    pub applied: u64,
    pub term: u64,
    /// The first entry that is there, if others were cut before it.
    pub floor: LogPosition,
}

/// Decides on a message to a follower.
pub(in crate::raft) fn check(ours: Ours, mut request: Append) -> Checked {
    let Ours {
        log,
        applied,
        term,
        floor,
    } = ours;
    if term > request.term {
        return Checked::Over(Appended {
            term,
            success: false,
            conflict_opt: None,
        });
    }
    // Raft counts holders only of entries of the leader's own term (figure 8 of its paper).
    if log.term(request.leader_commit) != Some(request.term) {
        request.leader_commit = request.leader_commit.min(applied);
    }
    let is_behind = request.prev_log_index < floor.index;
    if is_behind {
        request.prev_log_index = floor.index;
        request.prev_log_term = floor.term;
        request.entries.retain(|entry| entry.index > floor.index);
        let next = request.entries.first().map(|entry| entry.index);
        if next.is_some_and(|next| next > floor.index + 1) {
            request.entries.clear();
        }
    }
    let fitting = fitting(&request.entries);
    let rest = if is_behind || fitting < request.entries.len() {
        Rest::Later
    } else {
        Rest::Nothing
    };
    request.entries.truncate(fitting);
    Checked::Send { request, rest }
}

/// How many of the entries go into one message: as many as its bytes allow, but one at least.
fn fitting(entries: &[LogEntry]) -> usize {
    let mut bytes = 0;
    for (count, entry) in entries.iter().enumerate() {
        bytes += size(entry);
        if bytes > MESSAGE_BYTES_MAX && count > 0 {
            return count;
        }
    }
    entries.len()
}

fn size(entry: &LogEntry) -> usize {
    match &entry.payload {
        async_raft::raft::EntryPayload::Normal(normal) => {
            let proposals = normal.data.proposals.iter();
            proposals.map(|proposal| proposal.commands.len()).sum()
        }
        _ => 0,
    }
}

/// A follower's answer, as it concerns us.
#[derive(Debug)]
pub(in crate::raft) enum Answer {
    /// For async-raft. If the follower has our log up to some index, that is the second value.
    Pass(Appended, Option<u64>),
    /// No entry that is left continues its log.
    NeedsCopy,
}

/// Decides on an answer to what was sent.
pub(in crate::raft) fn answer(floor: LogPosition, sent: &Sent, answer: Appended) -> Answer {
    if answer.success {
        return match sent.rest {
            Rest::Nothing => Answer::Pass(answer, Some(sent.last.index)),
            // async-raft would take this for all of it. As a conflict it is the truth, and makes
            // it go on from there.
            Rest::Later => Answer::Pass(resume(answer, sent.last), Some(sent.last.index)),
        };
    }
    match answer.conflict_opt {
        Some(ConflictOpt { index, .. }) if index < floor.index => {
            if sent.prev <= floor.index {
                return Answer::NeedsCopy;
            }
            // It goes back further than it must, before a whole term.
            Answer::Pass(resume(answer, floor), None)
        }
        _ => Answer::Pass(answer, None),
    }
}

fn resume(answer: Appended, LogPosition { index, term }: LogPosition) -> Appended {
    Appended {
        success: false,
        conflict_opt: Some(ConflictOpt { term, index }),
        ..answer
    }
}

/// What is remembered of a message until its answer comes.
#[derive(Clone, Copy, Debug)]
pub(in crate::raft) struct Sent {
    pub prev: u64,
    /// The last entry in it, or the one before it if it was empty.
    pub last: LogPosition,
    pub rest: Rest,
}

impl Sent {
    pub fn new(request: &Append, rest: Rest) -> Sent {
        let prev = LogPosition {
            index: request.prev_log_index,
            term: request.prev_log_term,
        };
        let last = request.entries.last().map(|entry| LogPosition {
            index: entry.index,
            term: entry.term,
        });
        Sent {
            prev: prev.index,
            last: last.unwrap_or(prev),
            rest,
        }
    }
}
