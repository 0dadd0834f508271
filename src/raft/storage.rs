//! What async-raft keeps its state in: log, snapshot and state machine of one node.
//!
//! It is asked for the membership and answers the configured voters, whatever the log says. Its
//! snapshots are refused: we write our own ([`super::snapshot`]), and cut the log below them, but
//! only as far as every voter has it: there is no other way to bring a voter up to date.
//! After the first fault nothing is written any more, and [`Storage::fault`] tells the node, which
//! has to stop: a node that can't keep its replicated state must not go on with what it has in
//! memory.

use std::collections::HashSet;
use std::io::Cursor;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use async_raft::async_trait::async_trait;
use async_raft::raft::{Entry, MembershipConfig};
use async_raft::storage::{CurrentSnapshotData, HardState, InitialState};
use async_raft::{NodeId, RaftStorage};
use thiserror::Error;
use tokio::sync::{watch, Notify};
use tokio::task::spawn_blocking;

use super::codec::{Applied, LogBatch};
use super::forming::StateCopy;
use super::log::{Log, LogPosition};
use super::rpc::broker_id;
use super::snapshot::Snapshots;
use super::state::StateMachine;
use super::RaftError;
use crate::model::DirectoryId;
use crate::storage::meta::MetaStore;

/// The tree of the metadata store that holds all of it, so that one batch can change any of it.
pub(super) const TREE: &str = "raft";

/// Stops async-raft, which honours just this type of error when it applies.
#[derive(Debug, Error)]
#[error("{0}")]
pub(super) struct Fault(String);

#[derive(Debug)]
pub(super) struct Storage {
    voters: HashSet<NodeId>,
    parts: Arc<Parts>,
    fault: watch::Sender<Option<String>>,
    /// Rung when the log has grown enough for a snapshot.
    snapshot_due: Notify,
    snapshot_every_bytes: u64,
    snapshot_bytes: AtomicU64,
    /// How much of the log the last snapshot covers, because some voter may need it.
    covered_bytes: AtomicU64,
    /// Up to here every voter has the log, as far as this node knows. The log is cut below.
    everywhere: AtomicU64,
}

/// What blocking tasks need of it.
#[derive(Debug)]
struct Parts {
    log: Log,
    snapshots: Snapshots,
    state: StateMachine,
}

impl Storage {
    /// Reads what is on disk, and applies what is known to be committed.
    pub fn open(
        store: &MetaStore,
        voters: HashSet<NodeId>,
        snapshot_every_bytes: u64,
    ) -> Result<Storage, RaftError> {
        let tree = store.tree(TREE)?;
        let snapshots = Snapshots::new(tree.clone());
        let snapshot = snapshots.load()?;
        let (log, applied) = Log::open(tree, snapshot.position)?;
        let state = StateMachine::new(snapshot.image, snapshot.position);
        state.apply_up_to(applied, &log)?;
        let covered_bytes = log.bytes_up_to(snapshot.position.index);
        let everywhere = match voters.len() {
            1 => u64::MAX,
            _ => everywhere_after(log.beginning()),
        };
        let parts = Parts {
            log,
            snapshots,
            state,
        };
        Ok(Storage {
            voters,
            parts: Arc::new(parts),
            fault: watch::Sender::new(None),
            snapshot_due: Notify::new(),
            snapshot_every_bytes,
            snapshot_bytes: AtomicU64::new(snapshot.bytes),
            covered_bytes: AtomicU64::new(covered_bytes),
            everywhere: AtomicU64::new(everywhere),
        })
    }

    pub fn state(&self) -> &StateMachine {
        &self.parts.state
    }

    pub fn log(&self) -> &Log {
        &self.parts.log
    }

    /// Whether this node has never written an entry.
    pub fn is_pristine(&self) -> bool {
        self.parts.log.last().index == 0
    }

    /// What made the node unable to go on, once that has happened.
    pub fn fault(&self) -> watch::Receiver<Option<String>> {
        self.fault.subscribe()
    }

    /// Remembers the first fault, and wakes who waits for it.
    pub fn report(&self, fault: &str) {
        self.fault.send_if_modified(|known| {
            let is_first = known.is_none();
            known.get_or_insert_with(|| fault.into());
            is_first
        });
    }

    /// Whether it still works.
    pub fn check(&self) -> Result<(), Fault> {
        match self.fault.borrow().as_ref() {
            Some(fault) => Err(Fault(fault.clone())),
            None => Ok(()),
        }
    }

    fn faulty<T>(&self, result: Result<T, RaftError>) -> anyhow::Result<T> {
        result.map_err(|error| {
            let fault = error.to_string();
            self.report(&fault);
            Fault(fault).into()
        })
    }

    /// Does what blocks beside the runtime's one thread, on which heartbeats must go on.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Parts) -> Result<T, RaftError> + Send + 'static,
    ) -> anyhow::Result<T> {
        self.check()?;
        let parts = self.parts.clone();
        let done = spawn_blocking(move || work(&parts)).await;
        let result = done.unwrap_or_else(|panic| Err(RaftError::Damaged(panic.to_string())));
        self.faulty(result)
    }

    /// Applies what is committed, from this node's own log.
    pub fn apply_up_to(&self, committed: u64) -> anyhow::Result<()> {
        self.check()?;
        self.faulty(self.parts.state.apply_up_to(committed, &self.parts.log))?;
        let snapshot_bytes = self.snapshot_bytes.load(Ordering::Relaxed);
        let covered_bytes = self.covered_bytes.load(Ordering::Relaxed);
        let grown = self.parts.log.bytes().saturating_sub(covered_bytes);
        if grown >= snapshot_bytes.max(self.snapshot_every_bytes) {
            self.snapshot_due.notify_one();
        }
        Ok(())
    }

    /// Writes a snapshot and cuts the log, each time that it has grown enough. Runs until it is
    /// dropped, or until the first fault.
    pub async fn write_snapshots(&self) {
        loop {
            self.snapshot_due.notified().await;
            let is_alone = self.voters.len() == 1;
            let everywhere = self.everywhere.load(Ordering::Relaxed);
            let written = self.blocking(move |parts| {
                let (image, position) = parts.state.image_and_position()?;
                let bytes = parts.snapshots.write(&image, position)?;
                // With other voters one entry more stays of what is applied, and of what every
                // voter has: async-raft reads the entry after which it appends or sends others.
                let covered = position.index.min(everywhere);
                let cut = covered.saturating_sub(u64::from(!is_alone));
                parts.log.cut(cut)?;
                Ok((bytes, parts.log.bytes_up_to(position.index)))
            });
            let Ok((bytes, covered)) = written.await else {
                return;
            };
            self.snapshot_bytes.store(bytes, Ordering::Relaxed);
            self.covered_bytes.store(covered, Ordering::Relaxed);
        }
    }

    /// What a new copy of another voter takes over.
    pub async fn copy(&self) -> anyhow::Result<StateCopy> {
        self.blocking(|parts| loop {
            let (image, position) = parts.state.image_and_position()?;
            let beginning = parts.log.beginning();
            let entries = parts.log.entries(beginning.index + 1, position.index + 1)?;
            // None if the log was cut meanwhile.
            let is_whole = position.index <= beginning.index || !entries.is_empty();
            if is_whole && parts.log.beginning() == beginning {
                return Ok(StateCopy {
                    image,
                    position,
                    beginning,
                    entries,
                });
            }
        })
        .await
    }

    /// Takes over the leader's state into an empty store, as a voter that has given its vote in `term` to
    /// itself: so it gives it to nobody else up to then.
    pub async fn install(&self, copy: StateCopy, term: u64, node: NodeId) -> Result<(), RaftError> {
        let beginning = copy.beginning;
        let installed = self.blocking(move |parts| {
            let last = copy.entries.last().map(|entry| entry.index);
            if last.unwrap_or(beginning.index) != copy.position.index {
                return Err(RaftError::Damaged("a copy without its last entries".into()));
            }
            let hard_state = HardState {
                current_term: term.max(copy.position.term),
                voted_for: Some(node),
            };
            parts.log.begin_at(beginning, &copy.entries, &hard_state)?;
            let bytes = parts.snapshots.write(&copy.image, copy.position)?;
            parts.state.install(copy.image, copy.position);
            Ok((bytes, parts.log.bytes_up_to(copy.position.index)))
        });
        let (bytes, covered) = installed
            .await
            .map_err(|error| RaftError::Damaged(error.to_string()))?;
        self.snapshot_bytes.store(bytes, Ordering::Relaxed);
        self.covered_bytes.store(covered, Ordering::Relaxed);
        self.learn_everywhere(everywhere_after(beginning));
        Ok(())
    }

    /// The copy that a voter was readmitted with, if any.
    pub fn readmitted(&self, voter: NodeId) -> Option<DirectoryId> {
        let voter = broker_id(voter)?;
        self.parts.state.images().borrow().readmitted(voter)
    }

    /// Up to where every voter has the log, as far as is known here.
    pub fn everywhere(&self) -> LogPosition {
        let index = self.everywhere.load(Ordering::Relaxed);
        let term = self.parts.log.term(index);
        term.map_or(LogPosition::default(), |term| LogPosition { index, term })
    }

    /// Every voter has the log up to this index.
    pub fn learn_everywhere(&self, index: u64) {
        self.everywhere.fetch_max(index, Ordering::Relaxed);
    }
}

#[async_trait]
impl RaftStorage<LogBatch, Applied> for Storage {
    type Snapshot = Cursor<Vec<u8>>;
    type ShutdownError = Fault;

    async fn get_membership_config(&self) -> anyhow::Result<MembershipConfig> {
        Ok(MembershipConfig {
            members: self.voters.clone(),
            members_after_consensus: None,
        })
    }

    async fn get_initial_state(&self) -> anyhow::Result<InitialState> {
        let last = self.parts.log.last();
        let mut hard_state = self.parts.log.hard_state();
        if self.voters.len() == 1 && self.is_pristine() {
            // It may have saved its first term and then stopped before its first entry. async-raft
            // would never initialise such a node, and there is no other voter to remember the term.
            hard_state.current_term = 0;
            hard_state.voted_for = None;
        }
        Ok(InitialState {
            last_log_index: last.index,
            last_log_term: last.term,
            last_applied_log: self.parts.state.applied(),
            hard_state,
            membership: self.get_membership_config().await?,
        })
    }

    async fn save_hard_state(&self, hard_state: &HardState) -> anyhow::Result<()> {
        let hard_state = hard_state.clone();
        self.blocking(move |parts| parts.log.save_hard_state(&hard_state))
            .await
    }

    async fn get_log_entries(&self, start: u64, stop: u64) -> anyhow::Result<Vec<Entry<LogBatch>>> {
        self.check()?;
        self.faulty(self.parts.log.entries(start, stop))
    }

    async fn delete_logs_from(&self, start: u64, stop: Option<u64>) -> anyhow::Result<()> {
        if let Some(stop) = stop {
            let what = format!("it was told to remove entries {start} to {stop} out of the middle");
            return self.faulty(Err(RaftError::Damaged(what)));
        }
        self.blocking(move |parts| parts.log.truncate(start, parts.state.applied()))
            .await
    }

    async fn append_entry_to_log(&self, entry: &Entry<LogBatch>) -> anyhow::Result<()> {
        self.replicate_to_log(std::slice::from_ref(entry)).await
    }

    async fn replicate_to_log(&self, entries: &[Entry<LogBatch>]) -> anyhow::Result<()> {
        let entries = entries.to_vec();
        self.blocking(move |parts| parts.log.append(&entries, parts.state.applied()))
            .await
    }

    async fn apply_entry_to_state_machine(
        &self,
        index: &u64,
        _: &LogBatch,
    ) -> anyhow::Result<Applied> {
        self.apply_up_to(*index)?;
        Ok(Applied { index: *index })
    }

    async fn replicate_to_state_machine(
        &self,
        entries: &[(&u64, &LogBatch)],
    ) -> anyhow::Result<()> {
        match entries.last() {
            Some((index, _)) => self.apply_up_to(**index),
            None => Ok(()),
        }
    }

    async fn do_log_compaction(&self) -> anyhow::Result<CurrentSnapshotData<Self::Snapshot>> {
        Err(no_snapshots())
    }

    async fn create_snapshot(&self) -> anyhow::Result<(String, Box<Self::Snapshot>)> {
        Err(no_snapshots())
    }

    async fn finalize_snapshot_installation(
        &self,
        _: u64,
        _: u64,
        _: Option<u64>,
        _: String,
        _: Box<Self::Snapshot>,
    ) -> anyhow::Result<()> {
        Err(no_snapshots())
    }

    async fn get_current_snapshot(
        &self,
    ) -> anyhow::Result<Option<CurrentSnapshotData<Self::Snapshot>>> {
        Ok(None)
    }
}

/// A log is cut one entry below what every voter has.
fn everywhere_after(cut: LogPosition) -> u64 {
    match cut.index {
        0 => 0,
        cut => cut + 1,
    }
}

fn no_snapshots() -> anyhow::Error {
    anyhow::anyhow!("async-raft's snapshots are not used")
}
