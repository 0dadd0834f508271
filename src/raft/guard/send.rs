//! What async-raft sends as a leader, on its way out, and the answers on their way back.
//!
//! A new leader believes its followers to have all of its log until they say otherwise, and may
//! announce entries of earlier terms as committed because of that. Its streams to followers outlive
//! its leadership. And a stream whose follower lacks what we have cut would stop the whole of
//! async-raft.

use async_raft::raft::ConflictOpt;

use crate::raft::log::Log;
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

/// Decides on a message to a follower. `term` is ours.
pub(in crate::raft) fn check(log: &Log, applied: u64, term: u64, mut request: Append) -> Checked {
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
    let fitting = fitting(&request.entries);
    let rest = if fitting < request.entries.len() {
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
    /// It needs entries from here on, and we have cut them: it has lost what it once had.
    LostItsLog { wanted: u64 },
}

/// Decides on an answer to what was sent.
pub(in crate::raft) fn answer(log: &Log, sent: &Sent, answer: Appended) -> Answer {
    if answer.success {
        let answer = match sent.rest {
            Rest::Nothing => answer,
            // async-raft would take this for all of it. As a conflict it is the truth, and makes
            // it go on from there.
            Rest::Later => Appended {
                success: false,
                conflict_opt: Some(ConflictOpt {
                    term: sent.term,
                    index: sent.last,
                }),
                ..answer
            },
        };
        return Answer::Pass(answer, Some(sent.last));
    }
    match &answer.conflict_opt {
        Some(conflict) if conflict.index < log.beginning().index => Answer::LostItsLog {
            wanted: conflict.index + 1,
        },
        _ => Answer::Pass(answer, None),
    }
}

/// What is remembered of a message until its answer comes.
#[derive(Clone, Copy, Debug)]
pub(in crate::raft) struct Sent {
    /// The last entry in it, or the one before it if it was empty.
    pub last: u64,
    pub term: u64,
    pub rest: Rest,
}

impl Sent {
    pub fn new(request: &Append, rest: Rest) -> Sent {
        let last = request.entries.last();
        Sent {
            last: last.map_or(request.prev_log_index, |entry| entry.index),
            term: last.map_or(request.prev_log_term, |entry| entry.term),
            rest,
        }
    }
}
