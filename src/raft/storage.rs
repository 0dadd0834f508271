//! What async-raft keeps its state in: log, snapshot and state machine of one node.
//!
//! It is asked for the membership and answers the configured voters, whatever the log says. Its
//! snapshots are refused: we write our own ([`super::snapshot`]), and cut the log where the one before
//! was written. So a node that was away for a while finds the entries that it lacks, and one that was
//! away for longer takes a copy of the state (`docs/adr/0020-a-log-is-cut-whoever-is-away.md`).
//!
//! After the first fault nothing is written any more, and [`Storage::fault`] tells the node, which
//! has to stop: a node that can't keep its replicated state must not go on with what it has in
//! memory.

use std::collections::HashSet;
use std::io::Cursor;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_raft::async_trait::async_trait;
use async_raft::raft::{Entry, MembershipConfig};
use async_raft::storage::{CurrentSnapshotData, HardState, InitialState};
use async_raft::{NodeId, RaftStorage};
use thiserror::Error;
use tokio::sync::{watch, Notify};
use tokio::task::spawn_blocking;

use super::codec::{Applied, LogBatch};
use super::copying::{Copying, StateCopy};
use super::log::{Log, LogPosition};
use super::rpc::broker_id;
use super::snapshot::Snapshots;
use super::state::StateMachine;
use super::RaftError;
use crate::model::DirectoryId;
use crate::storage::meta::{MetaBatch, MetaStore};

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
    /// Up to which entry the last snapshot goes. The next cut goes there.
    snapshot_index: AtomicU64,
    /// How much of the log it covers.
    covered_bytes: AtomicU64,
}

/// What blocking tasks need of it.
#[derive(Debug)]
struct Parts {
    log: Log,
    /// Locked by whoever changes the snapshot or the beginning of the log, as long as that takes.
    snapshots: Mutex<Snapshots>,
    state: StateMachine,
}

impl Parts {
    fn snapshots(&self) -> MutexGuard<'_, Snapshots> {
        self.snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage {
    /// Reads what is on disk, and applies what is known to be committed.
    pub fn open(
        store: &MetaStore,
        voters: HashSet<NodeId>,
        snapshot_every_bytes: u64,
        metadata_version_max: u16,
    ) -> Result<Storage, RaftError> {
        let tree = store.tree(TREE)?;
        let snapshots = Snapshots::new(tree.clone());
        let snapshot = snapshots.load()?;
        let (log, applied) = Log::open(tree, snapshot.position)?;
        let state = StateMachine::new(snapshot.image, snapshot.position, metadata_version_max)?;
        state.apply_up_to(applied, &log)?;
        let covered_bytes = log.bytes_up_to(snapshot.position.index);
        let parts = Parts {
            log,
            snapshots: Mutex::new(snapshots),
            state,
        };
        Ok(Storage {
            voters,
            parts: Arc::new(parts),
            fault: watch::Sender::new(None),
            snapshot_due: Notify::new(),
            snapshot_every_bytes,
            snapshot_bytes: AtomicU64::new(snapshot.bytes),
            snapshot_index: AtomicU64::new(snapshot.position.index),
            covered_bytes: AtomicU64::new(covered_bytes),
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
            let written = self.blocking(|parts| {
                let snapshots = parts.snapshots();
                let (image, position) = parts.state.image_and_position()?;
                let bytes = snapshots.write(&image, position)?;
                Ok((bytes, position.index))
            });
            let Ok((bytes, index)) = written.await else {
                return;
            };
            self.snapshot_bytes.store(bytes, Ordering::Relaxed);
            let before = self.snapshot_index.swap(index, Ordering::Relaxed);
            // One entry stays in any case: async-raft reads the one after which it appends. And they are forgotten
            // on the thread on which async-raft runs: what it is told to read it finds.
            let forgotten = self.parts.log.forget(before.min(index.saturating_sub(1)));
            let covered = self.parts.log.bytes_up_to(index);
            self.covered_bytes.store(covered, Ordering::Relaxed);
            let removed = self.blocking(|parts| {
                let _snapshots = parts.snapshots();
                parts.log.remove(forgotten)
            });
            if removed.await.is_err() {
                return;
            }
        }
    }

    /// What is committed, for a node that lacks it.
    pub async fn copy(&self) -> anyhow::Result<Copying> {
        self.blocking(|parts| loop {
            let (image, position) = parts.state.image_and_position()?;
            let cut = parts.log.beginning();
            let (beginning, entries) = match position.index.checked_sub(1) {
                Some(before) if position.index > cut.index => {
                    let term = parts.log.term(before);
                    let entries = parts.log.entries(position.index, position.index + 1)?;
                    let beginning = term.map(|term| LogPosition {
                        index: before,
                        term,
                    });
                    (beginning, entries)
                }
                _ => (Some(position), Vec::new()),
            };
            // None if the log was cut meanwhile.
            let is_whole = position.index <= cut.index || !entries.is_empty();
            if let Some(beginning) = beginning.filter(|_| is_whole) {
                return Copying::new(&StateCopy {
                    image,
                    position,
                    beginning,
                    entries,
                });
            }
        })
        .await
    }

    /// Whether a copy with what is committed up to there has something that this node doesn't. If it has not, then
    /// what this node has beside it isn't committed.
    pub fn lacks(&self, committed: LogPosition) -> bool {
        let LogPosition { index, term } = committed;
        index > self.parts.state.applied() && self.parts.log.term(index) != Some(term)
    }

    /// Takes over a copy in the place of all that this node has, which lacks its last entry. The hard state
    /// becomes the given one.
    pub async fn install(&self, copy: StateCopy, hard_state: HardState) -> anyhow::Result<()> {
        let installed = self.blocking(move |parts| {
            let StateCopy {
                image,
                position,
                beginning,
                entries,
            } = copy;
            parts.state.check(&image)?;
            let last = entries.last().map_or(beginning.index, |entry| entry.index);
            if last != position.index {
                return Err(RaftError::Damaged("a copy without its last entry".into()));
            }
            let snapshots = parts.snapshots();
            let prepared = snapshots.prepare(&image, position)?;
            let mut batch = MetaBatch::default();
            prepared.count(&mut batch)?;
            let log = &parts.log;
            parts.state.install(image, position, || {
                log.replace(batch, beginning, &entries, &hard_state)
            })?;
            let bytes = snapshots.settle(prepared)?;
            Ok((bytes, position.index, log.bytes()))
        });
        let (bytes, index, covered) = installed.await?;
        self.snapshot_bytes.store(bytes, Ordering::Relaxed);
        self.snapshot_index.store(index, Ordering::Relaxed);
        self.covered_bytes.store(covered, Ordering::Relaxed);
        Ok(())
    }

    /// The copy that a voter was readmitted with, if any.
    pub fn readmitted(&self, voter: NodeId) -> Option<DirectoryId> {
        let voter = broker_id(voter)?;
        self.parts.state.images().borrow().readmitted(voter)
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

fn no_snapshots() -> anyhow::Error {
    anyhow::anyhow!("async-raft's snapshots are not used")
}
