//! The handle: start, propose, stop.
//!
//! Raft runs on a thread and a runtime of its own, so a busy data plane never makes the node look
//! dead to the other voters, and async-raft's tasks never hold up anybody else's.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;

use async_raft::{Config, NodeId, SnapshotPolicy};
use bytes::Bytes;
use tokio::runtime;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};

use super::codec::{encode, Applied, LogBatch};
use super::directory::Directory;
use super::followers::Followers;
use super::forming::Forming;
use super::leadership::{self, Announcer};
use super::network::{Network, Speaker};
use super::proposer::{Answer, Proposer, Waiting, PROPOSAL_BYTES_MAX, WAITING_MAX};
use super::quorum::{Quorum, View};
use super::rpc::{node_id, voters, Append};
use super::server::{Asked, Server, ASKED_MAX};
use super::storage::{Storage, TREE};
use super::transport::RaftTransport;
use super::{Leadership, ProposeError, RaftError, RaftSettings};
use crate::engine::metadata::{MetadataCommand, MetadataImage};
use crate::model::BrokerId;
use crate::storage::meta::MetaStore;

pub(super) type Core = async_raft::Raft<LogBatch, Applied, Network, Storage>;

/// How many threads may wait for the disk: the log's writes and a snapshot's.
const BLOCKING_THREADS_MAX: usize = 2;
/// How many entries a message to another voter holds at most.
const ENTRIES_PER_MESSAGE_MAX: u64 = 64;

/// What another voter sends. Only Raft can read it.
#[derive(Clone, Debug)]
pub struct RaftRpc(pub Bytes);

/// What it is answered.
#[derive(Clone, Debug)]
pub struct RaftReply(pub Bytes);

/// A running Raft; clones share it. It stops when it is told to, or with its last handle.
#[derive(Clone, Debug)]
pub struct Raft {
    proposals: mpsc::Sender<Waiting>,
    asked: mpsc::Sender<Asked>,
    leadership: watch::Receiver<Leadership>,
    images: watch::Receiver<Arc<MetadataImage>>,
    fault: watch::Receiver<Option<String>>,
    stop: watch::Sender<Stop>,
    stopped: watch::Receiver<Stop>,
    view: View,
}

/// Whether something is to stop, or has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    NotYet,
    Now,
}

impl Raft {
    /// Reads what is on disk, and starts. The image is there at once, as far as it is known to be
    /// committed; to propose, wait for leadership.
    pub fn start(
        settings: RaftSettings,
        store: MetaStore,
        transport: Arc<dyn RaftTransport>,
    ) -> Result<Raft, RaftError> {
        let voters: HashSet<NodeId> = voters(&settings)?.into_iter().collect();
        let id = node_id(settings.node)?;
        let others = voters.iter().copied().filter(|voter| *voter != id);
        let others: HashSet<NodeId> = others.collect();
        let config = Arc::new(core_config(&settings)?);
        let directory = Arc::new(Directory::open(store.tree(TREE)?, &voters)?);
        let storage = Storage::open(&store, voters, settings.snapshot_every_bytes)?;
        drop(store);
        let storage = Arc::new(storage);
        let followers = Arc::new(Followers::new(others.iter().copied()));
        let speaker = Arc::new(Speaker {
            id,
            directory: directory.clone(),
            transport,
            storage: storage.clone(),
        });
        let network = Network {
            speaker: speaker.clone(),
            storage: storage.clone(),
            followers: followers.clone(),
            heartbeat: settings.heartbeat,
            vote_timeout: settings.election_timeout_min,
        };

        let (proposals, waiting) = mpsc::channel(WAITING_MAX);
        let (asked, questions) = mpsc::channel(ASKED_MAX);
        let (announced, leadership) = watch::channel(Leadership::Follower { leader: None });
        let (stop, stopping) = watch::channel(Stop::NotYet);
        let (has_stopped, stopped) = watch::channel(Stop::NotYet);
        let raft = Raft {
            proposals,
            asked,
            leadership: leadership.clone(),
            images: storage.state().images(),
            fault: storage.fault(),
            stop,
            stopped,
            view: View {
                node: settings.node,
                followers: followers.clone(),
                storage: Arc::downgrade(&storage),
                directory: Arc::downgrade(&directory),
            },
        };
        let parts = Running {
            id,
            others,
            settings,
            config,
            speaker,
            network,
            directory,
            storage,
            followers,
            waiting,
            questions,
            announced,
            leadership,
            stopping,
        };
        thread::Builder::new().name("raft".into()).spawn(move || {
            parts.run_here();
            has_stopped.send_replace(Stop::Now);
        })?;
        Ok(raft)
    }

    /// Returns the image that includes the commands, once they are committed and applied here.
    /// The commands take effect together. Proposals that come while one is being written share
    /// the next write.
    pub async fn propose(
        &self,
        commands: Vec<MetadataCommand>,
    ) -> Result<Arc<MetadataImage>, ProposeError> {
        let encoded = encode(&commands).map_err(|_| ProposeError::Stopped)?;
        let bytes = encoded.len();
        if bytes > PROPOSAL_BYTES_MAX {
            return Err(ProposeError::TooLarge { bytes });
        }
        self.submit(Some(encoded.into())).await
    }

    /// Returns when everything is applied here that was committed anywhere before the call.
    pub async fn barrier(&self) -> Result<(), ProposeError> {
        self.submit(None).await.map(|_| ())
    }

    async fn submit(&self, commands: Option<Bytes>) -> Answer {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { commands, answer };
        let sent = self.proposals.send(waiting).await;
        sent.map_err(|_| ProposeError::Stopped)?;
        // Dropped by a proposer that was stopped, perhaps in the middle of the write.
        answered.await.unwrap_or(Err(ProposeError::Unknown))
    }

    /// Whether this node leads; changes as it happens.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// All voters, if this node leads.
    pub fn quorum(&self) -> Option<Quorum> {
        match *self.leadership.borrow() {
            Leadership::Leader { term } => self.view.quorum(term),
            Leadership::Follower { .. } => None,
        }
    }

    /// The latest image; changes as commands are applied.
    pub fn image(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.images.clone()
    }

    /// Returns only when this node can't keep its metadata any more, with the reason. The node has
    /// to stop then: what it has in memory may not be what is on disk.
    pub async fn fault(&self) -> String {
        let mut fault = self.fault.clone();
        let found = fault.wait_for(Option::is_some).await;
        match found.map(|fault| fault.clone()) {
            Ok(Some(fault)) => fault,
            _ if *self.stop.borrow() == Stop::Now => std::future::pending().await,
            _ => "the thread of Raft has ended by itself".into(),
        }
    }

    /// Answers what another voter sends: on Raft's own thread, one after the other. `from` is the node
    /// that has proved to be at the other end. Errs if the message can't be read, or isn't from a voter or
    /// not from that node, or if Raft is stopped or can't keep up.
    pub async fn handle(&self, from: BrokerId, rpc: RaftRpc) -> Result<RaftReply, RaftError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.asked.try_send(Asked { from, rpc, answer });
        sent.map_err(|error| match error {
            TrySendError::Full(_) => RaftError::Busy,
            TrySendError::Closed(_) => RaftError::Stopped,
        })?;
        answered.await.unwrap_or(Err(RaftError::Stopped))
    }

    /// Returns when Raft has stopped and the store is released. Proposals that wait are answered
    /// that their outcome is unknown.
    pub async fn shutdown(&self) {
        self.stop.send_replace(Stop::Now);
        let mut stopped = self.stopped.clone();
        // An error means that the thread has ended, which is what we wait for.
        let _ = stopped.wait_for(|stopped| *stopped == Stop::Now).await;
    }
}

/// What lives on Raft's own thread.
struct Running {
    id: NodeId,
    /// The voters but this one.
    others: HashSet<NodeId>,
    settings: RaftSettings,
    config: Arc<Config>,
    speaker: Arc<Speaker>,
    network: Network,
    directory: Arc<Directory>,
    storage: Arc<Storage>,
    followers: Arc<Followers>,
    waiting: mpsc::Receiver<Waiting>,
    questions: mpsc::Receiver<Asked>,
    announced: watch::Sender<Leadership>,
    leadership: watch::Receiver<Leadership>,
    stopping: watch::Receiver<Stop>,
}

impl Running {
    /// Blocks until it is told to stop, and nothing writes any more; then the store is released.
    fn run_here(self) {
        let runtime = runtime::Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("raft-disk")
            .build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.run()),
            Err(error) => self
                .storage
                .report(&format!("no runtime for Raft: {error}")),
        }
    }

    async fn run(mut self) {
        let told_to_stop = {
            let mut stopping = self.stopping.clone();
            async move {
                // An error means that the last handle is gone.
                let _ = stopping.wait_for(|stop| *stop == Stop::Now).await;
            }
        };
        tokio::pin!(told_to_stop);
        if !self.directory.has_joined() {
            let forming = Forming {
                speaker: &self.speaker,
                others: &self.others,
                directory: &self.directory,
                storage: &self.storage,
                patience: self.settings.election_timeout_min,
                heartbeat: self.settings.heartbeat,
            };
            tokio::select! {
                () = &mut told_to_stop => return,
                joined = forming.run(&mut self.questions) => if let Err(error) = joined {
                    return self.storage.report(&error.to_string());
                },
            }
        }
        let network = Arc::new(self.network);
        let core = Core::new(self.id, self.config, network, self.storage.clone());
        begin(&core, self.id, &self.others, &self.storage).await;
        let proposer = Proposer {
            core: core.clone(),
            node: self.settings.node,
            waiting: self.waiting,
            leadership: self.leadership,
            images: self.storage.state().images(),
        };
        let server = Server {
            core: core.clone(),
            storage: self.storage.clone(),
            directory: self.directory,
            leadership: self.announced.subscribe(),
            others: self.others,
            asked: self.questions,
        };
        let announcer = Announcer {
            core: core.clone(),
            id: self.id,
            followers: self.followers.clone(),
            patience: self.settings.election_timeout_max,
            heartbeat: self.settings.heartbeat,
            announced: self.announced,
        };
        tokio::select! {
            () = &mut told_to_stop => {}
            () = proposer.run() => {}
            () = server.run() => {}
            () = announcer.run() => self.storage.report("async-raft has stopped by itself"),
            () = leadership::repair(&core, &self.followers, &self.storage) => {}
            () = self.storage.write_snapshots() => {}
        }
        let nobody = Leadership::Follower { leader: None };
        announcer.announced.send_replace(nobody);
        if let Err(error) = core.shutdown().await {
            log::error!("async-raft didn't stop as it should: {error}");
        }
    }
}

/// Makes async-raft take part.
async fn begin(core: &Core, id: NodeId, others: &HashSet<NodeId>, storage: &Storage) {
    if !others.is_empty() {
        // It would wait for half a minute before its first election, but not after it has heard a
        // leader. So it hears one, who says nothing.
        let nothing = Append {
            term: storage.log().hard_state().current_term,
            leader_id: id,
            prev_log_index: 0,
            prev_log_term: 0,
            entries: Vec::new(),
            leader_commit: 0,
        };
        if let Err(error) = core.append_entries(nothing).await {
            storage.report(&format!("Raft can't be started: {error}"));
        }
    } else if storage.is_pristine() {
        // A single voter without a log waits to be told that it is one.
        if let Err(error) = core.initialize(HashSet::from([id])).await {
            storage.report(&format!("Raft can't be initialised: {error}"));
        }
    }
}

fn core_config(settings: &RaftSettings) -> Result<Config, RaftError> {
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Config::build("metadata".into())
        .heartbeat_interval(millis(settings.heartbeat))
        .election_timeout_min(millis(settings.election_timeout_min))
        .election_timeout_max(millis(settings.election_timeout_max))
        .max_payload_entries(ENTRIES_PER_MESSAGE_MAX)
        // Never: we write our own.
        .snapshot_policy(SnapshotPolicy::LogsSinceLast(u64::MAX))
        .validate()
        .map_err(|error| RaftError::BadSettings(error.to_string()))
}
