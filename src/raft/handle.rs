//! The handle: start, propose, stop.
//!
//! Raft runs on a thread and a runtime of its own, so a busy data plane never makes the node look
//! dead to the other voters, and async-raft's tasks never hold up anybody else's.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::{io, thread};

use async_raft::{Config, NodeId, SnapshotPolicy};
use bytes::Bytes;
use tokio::runtime;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};

use super::codec::{encode, Applied, LogBatch};
use super::directory::{Directory, Role};
use super::followers::Followers;
use super::network::{Network, Speaker};
use super::observer::{Following, Observer};
use super::observers::Observers;
use super::proposer::{Answer, Waiting, PROPOSAL_BYTES_MAX, WAITING_MAX};
use super::quorum::{Quorum, View};
use super::rpc::{node_id, voters};
use super::server::{Asked, ASKED_MAX};
use super::storage::{Storage, TREE};
use super::transport::RaftTransport;
use super::voter::Voter;
use super::{Leadership, ProposeError, RaftError, RaftSettings};
use crate::engine::metadata::{MetadataCommand, MetadataImage};
use crate::model::BrokerId;
use crate::storage::meta::MetaStore;

pub(super) type Core = async_raft::Raft<LogBatch, Applied, Network, Storage>;

/// How many threads may wait for the disk: the log's writes and a snapshot's.
const BLOCKING_THREADS_MAX: usize = 2;
/// How many entries a message to another voter holds at most.
const ENTRIES_PER_MESSAGE_MAX: u64 = 64;

/// What another node sends. Only Raft can read it.
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
pub(super) enum Stop {
    NotYet,
    Now,
}

/// Returns when Raft is to stop.
pub(super) async fn told_to_stop(mut stopping: watch::Receiver<Stop>) {
    // An error means that the last handle is gone.
    let _ = stopping.wait_for(|stop| *stop == Stop::Now).await;
}

impl Raft {
    /// Reads what is on disk, and starts. The image is there at once, as far as it is known to be
    /// committed; to propose, wait for leadership. A node that is none of the voters follows them.
    pub fn start(
        settings: RaftSettings,
        store: MetaStore,
        transport: Arc<dyn RaftTransport>,
    ) -> Result<Raft, RaftError> {
        let voters: HashSet<NodeId> = voters(&settings)?.into_iter().collect();
        let id = node_id(settings.node)?;
        let role = match voters.contains(&id) {
            true => Role::Voter,
            false => Role::Observer,
        };
        let others = voters.iter().copied().filter(|voter| *voter != id);
        let others: HashSet<NodeId> = others.collect();
        let config = Arc::new(core_config(&settings)?);
        let directory = Arc::new(Directory::open(store.tree(TREE)?, &voters, role)?);
        let storage = Storage::open(
            &store,
            voters,
            settings.snapshot_every_bytes,
            settings.metadata_version_max,
        )?;
        drop(store);
        let storage = Arc::new(storage);
        let followers = Arc::new(Followers::new(others.iter().copied()));
        let observers = Arc::new(Observers::default());
        let speaker = Arc::new(Speaker {
            id,
            directory: directory.clone(),
            transport,
            storage: storage.clone(),
        });

        let (proposals, waiting) = mpsc::channel(WAITING_MAX);
        let (asked, questions) = mpsc::channel(ASKED_MAX);
        let (announced, leadership) = watch::channel(Leadership::Follower { leader: None });
        let (stop, stopping) = watch::channel(Stop::NotYet);
        let (has_stopped, stopped) = watch::channel(Stop::NotYet);
        let raft = Raft {
            proposals,
            asked,
            leadership,
            images: storage.state().images(),
            fault: storage.fault(),
            stop,
            stopped,
            view: View {
                node: settings.node,
                followers: followers.clone(),
                observers: observers.clone(),
                storage: Arc::downgrade(&storage),
                directory: Arc::downgrade(&directory),
            },
        };
        match role {
            Role::Voter => {
                let network = Network {
                    speaker: speaker.clone(),
                    storage: storage.clone(),
                    followers: followers.clone(),
                    heartbeat: settings.heartbeat,
                    vote_timeout: settings.election_timeout_min,
                };
                let voter = Voter {
                    id,
                    others,
                    settings,
                    config,
                    speaker,
                    network: Arc::new(network),
                    directory,
                    storage: storage.clone(),
                    followers,
                    observers,
                    waiting,
                    questions,
                    announced,
                    stopping,
                };
                run_apart(storage, voter.run(), has_stopped)?;
            }
            Role::Observer => {
                // All that it has is committed.
                let last = storage.log().last().index;
                storage.state().apply_up_to(last, storage.log())?;
                let observer = Observer {
                    voters: others.into_iter().collect(),
                    following: Following {
                        speaker,
                        storage: storage.clone(),
                        heartbeat: settings.heartbeat,
                        announced,
                    },
                    waiting,
                    questions,
                    stopping,
                };
                run_apart(storage, observer.run(), has_stopped)?;
            }
        }
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

    /// What is behind the handle, while it runs.
    #[cfg(test)]
    pub(super) fn storage(&self) -> Arc<Storage> {
        self.view.storage.upgrade().expect("it runs")
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

/// Runs it on a thread of its own. When that ends nothing writes any more, and the store is released.
fn run_apart(
    storage: Arc<Storage>,
    node: impl Future<Output = ()> + Send + 'static,
    has_stopped: watch::Sender<Stop>,
) -> io::Result<()> {
    let run = move || {
        let runtime = runtime::Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("raft-disk")
            .build();
        match runtime {
            Ok(runtime) => runtime.block_on(node),
            Err(error) => storage.report(&format!("no runtime for Raft: {error}")),
        }
        drop(storage);
        has_stopped.send_replace(Stop::Now);
    };
    thread::Builder::new().name("raft".into()).spawn(run)?;
    Ok(())
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
