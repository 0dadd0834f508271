//! The guard's decisions, each against what async-raft 0.6.1 does without it.

use async_raft::raft::{AppendEntriesResponse, ConflictOpt, Entry, EntryPayload, VoteRequest};
use tempfile::TempDir;

use crate::raft::guard::receive::{self, Checked};
use crate::raft::guard::send::{self, Answer, Ours, Rest, Sent};
use crate::raft::guard::vote;
use crate::raft::log::{Log, LogPosition};
use crate::raft::rpc::{Append, Appended, LogEntry};
use crate::storage::meta::MetaStore;

use super::entry;

struct Kept {
    log: Log,
    _dir: TempDir,
}

/// A log whose entries have these terms, from entry 1 on.
fn log(terms: &[u64]) -> Kept {
    let dir = TempDir::new().unwrap();
    let store = MetaStore::open(dir.path()).unwrap();
    let tree = store.tree("raft").unwrap();
    let (log, _) = Log::open(tree, LogPosition::default()).unwrap();
    log.append(&entries(1, terms), 0).unwrap();
    Kept { log, _dir: dir }
}

fn cut(log: &Log, to: u64) {
    log.remove(log.forget(to)).unwrap();
}

fn entries(first: u64, terms: &[u64]) -> Vec<LogEntry> {
    let blank = |(index, term): (u64, &u64)| Entry {
        term: *term,
        index,
        payload: EntryPayload::Blank,
    };
    (first..).zip(terms).map(blank).collect()
}

/// From the leader of term 5: entries of these terms after `prev`.
fn append(prev: (u64, u64), terms: &[u64], commit: u64) -> Append {
    Append {
        term: 5,
        leader_id: 2,
        prev_log_index: prev.0,
        prev_log_term: prev.1,
        entries: entries(prev.0 + 1, terms),
        leader_commit: commit,
    }
}

/// What async-raft gets: the entry before, the indexes, the commit index; and up to where is applied.
type Passed = ((u64, u64), Vec<u64>, u64);

fn passed(request: &Append) -> Passed {
    let indexes = request.entries.iter().map(|entry| entry.index).collect();
    let prev = (request.prev_log_index, request.prev_log_term);
    (prev, indexes, request.leader_commit)
}

fn fits(checked: Checked) -> Passed {
    match checked {
        Checked::Fits { request, commit } => {
            assert_eq!(request.leader_commit, commit);
            passed(&request)
        }
        Checked::Differs { resume, .. } => panic!("it differs: {resume:?}"),
    }
}

/// Where the leader resumes.
fn differs(checked: Checked) -> (u64, u64) {
    match checked {
        Checked::Differs { heartbeat, resume } => {
            assert!(heartbeat.entries.is_empty() && !resume.success);
            assert_eq!((heartbeat.term, heartbeat.leader_id), (5, 2));
            let conflict = resume.conflict_opt.expect("a place to resume at");
            (conflict.index, conflict.term)
        }
        Checked::Fits { request, .. } => panic!("it fits: {request:?}"),
    }
}

#[test]
fn what_is_new_goes_after_the_last_entry_that_both_have() {
    let ours = log(&[1, 1, 2]);
    let next = receive::check(&ours.log, 2, append((3, 2), &[5, 5], 4));
    assert_eq!(fits(next), ((3, 2), vec![4, 5], 4));
    let overlapping = receive::check(&ours.log, 2, append((1, 1), &[1, 2, 5], 2));
    assert_eq!(fits(overlapping), ((3, 2), vec![4], 2));
    // The third is another one there.
    let conflicting = receive::check(&ours.log, 2, append((1, 1), &[1, 5, 5], 4));
    assert_eq!(fits(conflicting), ((2, 1), vec![3, 4], 4));
    // From the very beginning, where async-raft would append without removing anything.
    let all = receive::check(&log(&[1]).log, 0, append((0, 0), &[5, 5], 1));
    assert_eq!(fits(all), ((0, 0), vec![1, 2], 1));
}

#[test]
fn a_message_that_is_late_or_comes_twice_removes_nothing() {
    let ours = log(&[1, 1, 2, 5, 5]);
    for (prev, terms) in [((1, 1), &[1, 2][..]), ((0, 0), &[1]), ((3, 2), &[5, 5])] {
        let late = receive::check(&ours.log, 2, append(prev, terms, 3));
        let ((index, _), entries, _) = fits(late);
        assert_eq!((index, entries), (0, vec![]), "{prev:?} {terms:?}");
    }
}

#[test]
fn an_entry_of_another_term_is_no_match_and_the_leader_goes_back_before_that_term() {
    let ours = log(&[1, 1, 2, 2, 2]);
    let mismatch = receive::check(&ours.log, 0, append((5, 4), &[5], 1));
    assert_eq!(differs(mismatch), (2, 1));
    let mismatch = receive::check(&ours.log, 0, append((4, 1), &[5], 1));
    assert_eq!(differs(mismatch), (2, 1));
    // Never below what is applied.
    let mismatch = receive::check(&ours.log, 3, append((5, 4), &[5], 1));
    assert_eq!(differs(mismatch), (3, 2));
    // Also in a heartbeat, whose `prev` async-raft doesn't look at.
    let heartbeat = receive::check(&ours.log, 0, append((5, 4), &[], 5));
    assert_eq!(differs(heartbeat), (2, 1));
    // What comes after our end is no match either, wherever it comes from.
    let beyond = receive::check(&ours.log, 0, append((9, 2), &[5], 1));
    assert_eq!(differs(beyond), (5, 2));
}

#[test]
fn a_log_that_differs_commits_nothing_of_it() {
    let ours = log(&[1, 1, 2]);
    let checked = receive::check(&ours.log, 1, append((3, 4), &[], 3));
    match checked {
        Checked::Differs { heartbeat, .. } => assert_eq!(passed(&heartbeat), ((0, 0), vec![], 1)),
        Checked::Fits { .. } => panic!("it differs"),
    }
}

#[test]
fn a_message_with_a_hole_is_refused_as_a_whole() {
    let ours = log(&[1, 1, 2]);
    let mut request = append((3, 2), &[5, 5, 5], 3);
    request.entries.remove(1);
    assert_eq!(differs(receive::check(&ours.log, 1, request)), (3, 2));
    let mut request = append((3, 2), &[5, 5, 5], 3);
    request.entries.remove(0);
    assert_eq!(differs(receive::check(&ours.log, 1, request)), (3, 2));
}

#[test]
fn nothing_is_committed_beyond_what_is_verified_and_nothing_is_uncommitted() {
    // The leader has committed up to 9. Our entries after the second may be others than its.
    let ours = log(&[1, 1, 2, 2, 2]);
    let heartbeat = receive::check(&ours.log, 1, append((2, 1), &[], 9));
    assert_eq!(fits(heartbeat), ((0, 0), vec![], 2));
    let append_one = receive::check(&ours.log, 1, append((2, 1), &[2], 9));
    assert_eq!(fits(append_one), ((0, 0), vec![], 3));
    // A new leader doesn't know yet.
    let unaware = receive::check(&ours.log, 4, append((5, 2), &[], 1));
    assert_eq!(fits(unaware), ((0, 0), vec![], 4));
}

#[test]
fn entries_below_the_cut_count_as_present() {
    let ours = log(&[1, 1, 2, 2, 2]);
    cut(&ours.log, 3);
    let late = receive::check(&ours.log, 4, append((1, 1), &[1, 2, 2], 4));
    assert_eq!(fits(late), ((0, 0), vec![], 4));
    let longer = receive::check(&ours.log, 4, append((1, 1), &[1, 2, 2, 5], 4));
    assert_eq!(fits(longer), ((4, 2), vec![5], 4));
    let at_the_cut = receive::check(&ours.log, 4, append((3, 2), &[2, 2, 5], 4));
    assert_eq!(fits(at_the_cut), ((5, 2), vec![6], 4));
}

/// Ours, of which nothing is cut.
fn ours(log: &Log, term: u64) -> Ours<'_> {
    Ours {
        log,
        applied: 2,
        term,
        floor: LogPosition::default(),
    }
}

fn send(ours: Ours, request: Append) -> (Append, Rest) {
    match send::check(ours, request) {
        send::Checked::Send { request, rest } => (request, rest),
        send::Checked::Over(answer) => panic!("it isn't over: {answer:?}"),
    }
}

#[test]
fn a_leader_announces_only_entries_of_its_own_term_as_committed() {
    let kept = log(&[1, 1, 2, 2, 5, 5]);
    let (earlier, _) = send(ours(&kept.log, 5), append((6, 5), &[], 4));
    assert_eq!(earlier.leader_commit, 2);
    let (own, _) = send(ours(&kept.log, 5), append((6, 5), &[], 5));
    assert_eq!(own.leader_commit, 5);
    let (unknown, _) = send(ours(&kept.log, 5), append((6, 5), &[], 8));
    assert_eq!(unknown.leader_commit, 2);
}

#[test]
fn a_stream_of_a_term_that_is_over_ends() {
    let kept = log(&[1, 1, 2]);
    match send::check(ours(&kept.log, 6), append((3, 2), &[5], 3)) {
        send::Checked::Over(answer) => assert_eq!((answer.term, answer.success), (6, false)),
        send::Checked::Send { .. } => panic!("it is over"),
    }
}

#[test]
fn what_is_too_much_for_one_message_goes_in_several() {
    let kept = log(&[1]);
    let large = |index| {
        let name = "x".repeat(600 << 10);
        let set = crate::engine::metadata::MetadataCommand::SetTopicConfigs {
            id: crate::model::TopicId(uuid::Uuid::from_u128(1)),
            set: [(name, "1".to_owned())].into(),
            removed: Default::default(),
        };
        entry(index, 5, index, &[set])
    };
    let request = Append {
        entries: (2..=4).map(large).collect(),
        ..append((1, 1), &[], 1)
    };
    let (request, rest) = send(ours(&kept.log, 5), request);
    assert_eq!((request.entries.len(), rest), (1, Rest::Later));
    let sent = Sent::new(&request, rest);
    // async-raft must not take the success for the whole.
    match send::answer(LogPosition::default(), &sent, success()) {
        Answer::Pass(answer, Some(2)) => {
            let conflict = answer.conflict_opt.expect("a place to go on");
            assert_eq!(
                (answer.success, conflict.index, conflict.term),
                (false, 2, 5)
            );
        }
        other => panic!("{other:?}"),
    }
    let (request, rest) = send(ours(&kept.log, 5), append((1, 1), &[5, 5], 1));
    assert_eq!((request.entries.len(), rest), (2, Rest::Nothing));
    let answered = send::answer(
        LogPosition::default(),
        &Sent::new(&request, rest),
        success(),
    );
    assert!(matches!(answered, Answer::Pass(answer, Some(3)) if answer.success));
}

fn success() -> Appended {
    AppendEntriesResponse {
        term: 5,
        success: true,
        conflict_opt: None,
    }
}

#[test]
fn a_stream_that_needs_what_is_cut_goes_on_from_the_first_entry_that_is_left() {
    let kept = log(&[1, 1, 2, 2, 5]);
    cut(&kept.log, 2);
    let floor = LogPosition { index: 3, term: 2 };
    let ours = Ours {
        floor,
        ..ours(&kept.log, 5)
    };
    // The entries from 2 on are asked for, and what there is begins later.
    let mut request = append((1, 1), &[1, 2, 2, 5], 3);
    request.entries.drain(..3);
    let (request, rest) = send(ours, request);
    assert_eq!(passed(&request), ((3, 2), vec![], 2));
    assert_eq!(rest, Rest::Later);
    let (request, rest) = send(ours, append((1, 1), &[1, 2, 2, 5], 5));
    assert_eq!(passed(&request), ((3, 2), vec![4, 5], 5));
    match send::answer(floor, &Sent::new(&request, rest), success()) {
        Answer::Pass(answer, Some(5)) => assert_eq!(answer.conflict_opt.unwrap().index, 5),
        other => panic!("{other:?}"),
    }
    // There and above nothing changes.
    let (request, rest) = send(ours, append((3, 2), &[2], 3));
    assert_eq!((passed(&request).0, rest), ((3, 2), Rest::Nothing));
}

#[test]
fn a_follower_that_goes_back_too_far_is_told_apart_from_one_that_needs_a_copy() {
    let floor = LogPosition { index: 3, term: 2 };
    let sent = |prev, term| Sent::new(&append((prev, term), &[], 3), Rest::Nothing);
    let conflict = |index| AppendEntriesResponse {
        success: false,
        conflict_opt: Some(ConflictOpt { term: 0, index }),
        ..success()
    };
    match send::answer(floor, &sent(5, 5), conflict(0)) {
        Answer::Pass(answer, None) => {
            let conflict = answer.conflict_opt.unwrap();
            assert_eq!((conflict.index, conflict.term), (3, 2));
        }
        other => panic!("{other:?}"),
    }
    let lost = send::answer(floor, &sent(3, 2), conflict(2));
    assert!(matches!(lost, Answer::NeedsCopy), "{lost:?}");
    let behind = send::answer(floor, &sent(5, 5), conflict(4));
    assert!(matches!(behind, Answer::Pass(_, None)), "{behind:?}");
}

#[test]
fn a_candidate_with_a_later_term_is_never_behind() {
    let ours = LogPosition { index: 25, term: 2 };
    let seen = |index, term| {
        let request = VoteRequest::new(9, 3, index, term);
        let checked = vote::check(ours, request);
        assert_eq!((checked.term, checked.candidate_id), (9, 3));
        // async-raft's comparison, of which the outcome has to be Raft's.
        checked.last_log_term >= ours.term && checked.last_log_index >= ours.index
    };
    assert!(seen(20, 3));
    assert!(seen(25, 2));
    assert!(seen(30, 2));
    assert!(!seen(24, 2));
    assert!(!seen(30, 1));
}

#[test]
fn a_cut_is_remembered_and_may_stay_below_the_snapshot() {
    let dir = TempDir::new().unwrap();
    let store = MetaStore::open(dir.path()).unwrap();
    let tree = store.tree("raft").unwrap();
    let (log, _) = Log::open(tree.clone(), LogPosition::default()).unwrap();
    log.append(&entries(1, &[1, 1, 2, 2, 3]), 0).unwrap();
    assert_eq!(log.floor(), LogPosition::default(), "nothing is cut");
    cut(&log, 2);
    // Nothing is ever given back, and nothing is cut that isn't there.
    cut(&log, 1);
    cut(&log, 9);
    assert_eq!(log.floor(), LogPosition { index: 3, term: 2 });
    let snapshot = LogPosition { index: 4, term: 2 };
    let (log, applied) = Log::open(tree, snapshot).unwrap();
    assert_eq!(applied, 4);
    assert_eq!(log.beginning(), LogPosition { index: 2, term: 1 });
    assert_eq!(
        (log.term(1), log.term(2), log.term(3)),
        (None, Some(1), Some(2))
    );
    assert_eq!(log.entries(3, 6).unwrap(), entries(3, &[2, 2, 3]));
    // Not a part of what was asked for.
    assert_eq!(log.entries(2, 6).unwrap(), vec![]);
    assert!(log.entries(3, 7).is_err());
}
