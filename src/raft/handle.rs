//! The handle: start, propose, stop.
//!
//! Raft runs on a thread and a runtime of its own, so a busy data plane never makes the node look
//! dead to the other voters, and async-raft's tasks never hold up anybody else's.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;

use async_raft::raft::AppendEntriesRequest;
use async_raft::{Config, NodeId, SnapshotPolicy};
use bytes::Bytes;
use tokio::runtime;
use tokio::sync::{mpsc, oneshot, watch};

use super::codec::{decode, encode, Applied, Envelope, LogBatch, RaftAnswer, RaftMessage};
use super::guard::{receive_append, receive_vote, Quorum};
use super::leadership;
use super::network::Network;
use super::proposer::{Answer, Proposer, Waiting, PROPOSAL_BYTES_MAX, WAITING_MAX};
use super::storage::Storage;
use super::transport::RaftTransport;
use super::{Leadership, ProposeError, RaftError, RaftSettings};
use crate::engine::metadata::{MetadataCommand, MetadataImage};
use crate::model::BrokerId;
use crate::storage::meta::MetaStore;

pub(super) type Core = async_raft::Raft<LogBatch, Applied, Network, Storage>;

/// How many threads may wait for the disk: the log's writes and a snapshot's.
const BLOCKING_THREADS_MAX: usize = 2;
/// Requests of other voters that wait.
const RPCS_MAX: usize = 64;
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
    rpcs: mpsc::Sender<Rpc>,
    leadership: watch::Receiver<Leadership>,
    images: watch::Receiver<Arc<MetadataImage>>,
    fault: watch::Receiver<Option<String>>,
    stop: watch::Sender<Stop>,
    stopped: watch::Receiver<Stop>,
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
        let (node, voters) = check_voters(&settings)?;
        let config = Arc::new(core_config(&settings)?);
        let others = voters.iter().copied().filter(|voter| *voter != node);
        let quorum = Arc::new(Quorum::new(others));
        let storage = Storage::open(&store, voters, settings.snapshot_every_bytes)?;
        drop(store);
        let storage = Arc::new(storage);
        let network = Arc::new(Network {
            transport,
            storage: storage.clone(),
            quorum: quorum.clone(),
            node: settings.node,
            heartbeat: settings.heartbeat,
            vote_timeout: settings.election_timeout_min,
        });

        let (proposals, waiting) = mpsc::channel(WAITING_MAX);
        let (rpcs, received) = mpsc::channel(RPCS_MAX);
        let (announced, leadership) = watch::channel(Leadership::Follower { leader: None });
        let (stop, stopping) = watch::channel(Stop::NotYet);
        let (has_stopped, stopped) = watch::channel(Stop::NotYet);
        let raft = Raft {
            proposals,
            rpcs,
            leadership: leadership.clone(),
            images: storage.state().images(),
            fault: storage.fault(),
            stop,
            stopped,
        };
        let parts = Running {
            settings,
            id: node,
            config,
            network,
            quorum,
            storage,
            waiting,
            received,
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

    /// Takes what another voter sends.
    pub async fn handle(&self, rpc: RaftRpc) -> Result<RaftReply, RaftError> {
        let stopped = || RaftError::Rpc("the metadata is stopped".into());
        let (answer, answered) = oneshot::channel();
        let rpc = Rpc { rpc, answer };
        self.rpcs.send(rpc).await.map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
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

/// A request of another voter.
#[derive(Debug)]
struct Rpc {
    rpc: RaftRpc,
    answer: oneshot::Sender<Result<RaftReply, RaftError>>,
}

/// What lives on Raft's own thread.
struct Running {
    settings: RaftSettings,
    id: NodeId,
    config: Arc<Config>,
    network: Arc<Network>,
    quorum: Arc<Quorum>,
    storage: Arc<Storage>,
    waiting: mpsc::Receiver<Waiting>,
    received: mpsc::Receiver<Rpc>,
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
        let core = Core::new(self.id, self.config, self.network, self.storage.clone());
        if let Err(error) = kick_start(&core, &self.storage, &self.settings, self.id).await {
            let fault = format!("Raft can't be started: {error}");
            self.storage.report(&fault);
        }
        let proposer = Proposer {
            core: core.clone(),
            node: self.settings.node,
            waiting: self.waiting,
            leadership: self.leadership,
            images: self.storage.state().images(),
        };
        let told_to_stop = async {
            // An error means that the last handle is gone.
            let _ = self.stopping.wait_for(|stop| *stop == Stop::Now).await;
        };
        let announcer = leadership::Announcer {
            core: &core,
            node: self.id,
            quorum: &self.quorum,
            storage: &self.storage,
            settings: &self.settings,
            announced: &self.announced,
        };
        tokio::select! {
            () = told_to_stop => {}
            () = proposer.run() => {}
            () = announcer.announce() => self.storage.report("async-raft has stopped by itself"),
            () = self.storage.write_snapshots() => {}
            () = serve(&core, &self.storage, self.received) => {}
        }
        let nobody = Leadership::Follower { leader: None };
        self.announced.send_replace(nobody);
        if let Err(error) = core.shutdown().await {
            log::error!("async-raft didn't stop as it should: {error}");
        }
    }
}

/// Makes async-raft hold elections.
async fn kick_start(
    core: &Core,
    storage: &Storage,
    settings: &RaftSettings,
    id: NodeId,
) -> anyhow::Result<()> {
    if settings.voters.len() > 1 {
        // Otherwise a pristine node waits for ever to be told that it is a voter, and any other one waits
        // for 30 seconds. To have heard of itself as of a leader does no harm.
        let hard_state = storage.log().hard_state();
        core.append_entries(AppendEntriesRequest {
            term: hard_state.current_term,
            leader_id: id,
            prev_log_index: 0,
            prev_log_term: 0,
            entries: Vec::new(),
            leader_commit: 0,
        })
        .await?;
    } else if storage.is_pristine() {
        core.initialize(HashSet::from([id])).await?;
    }
    Ok(())
}

/// Answers what other voters send, one after the other.
async fn serve(core: &Core, storage: &Storage, mut received: mpsc::Receiver<Rpc>) {
    while let Some(Rpc { rpc, answer }) = received.recv().await {
        let answered = answer_rpc(core, storage, rpc).await;
        // Who asked may have gone.
        let _ = answer.send(answered.map_err(|error| RaftError::Rpc(error.to_string())));
    }
    // The last handle is gone: `Running` ends too.
    std::future::pending().await
}

async fn answer_rpc(
    core: &Core,
    storage: &Storage,
    RaftRpc(body): RaftRpc,
) -> anyhow::Result<RaftReply> {
    let envelope: Envelope = decode("a voter's request", &body)?;
    storage.check_voter(envelope.from)?;
    let answer = match envelope.message {
        RaftMessage::Append(request) => {
            storage.may_cut_up_to(envelope.cut_up_to);
            RaftAnswer::Append(receive_append(core, storage, request).await?)
        }
        RaftMessage::Vote(request) => RaftAnswer::Vote(receive_vote(core, storage, request).await?),
    };
    Ok(RaftReply(encode(&answer)?.into()))
}

fn check_voters(settings: &RaftSettings) -> Result<(NodeId, HashSet<NodeId>), RaftError> {
    let RaftSettings { node, voters, .. } = settings;
    if !voters.contains(node) {
        return Err(RaftError::NotAVoter {
            node: *node,
            voters: voters.clone(),
        });
    }
    let id = |voter: &BrokerId| {
        let id = NodeId::try_from(voter.0);
        id.map_err(|_| RaftError::BadVoterId(*voter))
    };
    let ids = voters.iter().map(id).collect::<Result<HashSet<_>, _>>()?;
    match ids.len() {
        1 | 3 | 5 if ids.len() == voters.len() => Ok((id(node)?, ids)),
        _ => Err(RaftError::VoterCount {
            count: voters.len(),
        }),
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
