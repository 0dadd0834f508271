//! The composition root: opens what is on disk, starts the actors and the listeners, and stops
//! them in order.
//!
//! Start: data directory (one broker at a time, what the last run left), arbiters, links with the other
//! nodes, metadata, identity, controller, registration, guardian, and once every replica is at work or
//! known to be offline, the listeners.
//! Stop: no new connections, what is in flight gets its time, logs are closed, the metadata is
//! stopped, and only if all of that went well the directory is marked clean.

mod groups;
mod listeners;
mod membership;
mod registration;
mod strays;
mod versions;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::Arbiter;
use futures_util::future::join_all;
use rustix::process::{getrlimit, setrlimit, Resource};
use thiserror::Error;
use tokio::signal::unix::{signal, Signal, SignalKind};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::actors::connection::Budget;
use crate::actors::controller::{keep_sessions, ChangeService, ControllerHandle, QuorumService};
use crate::actors::guardian::{GuardianHandle, PartitionSettings, Ward, Wards};
use crate::actors::log_dir::LogDir;
use crate::actors::log_keeper::{KeepSettings, LogWorkers};
use crate::actors::log_leases::LogLeases;
use crate::actors::partitions::Partitions;
use crate::actors::replication::{follow_links, keep_throttles, ReplicationReceiver, Replicator};
use crate::actors::vitals::Registry;
use crate::api::{ApiSettings, Checkers, ProducerIds, Shared};
use crate::config::{self, Config, FlushPolicy, TimestampType};
use crate::engine::metadata::change::ChangeSettings;
use crate::engine::metadata::create_topics::NewTopicDefaults;
use crate::engine::metadata::{BrokerDefaults, MetadataImage, MetadataLimits};
use crate::engine::replica::{CommitRule, ReplicaSelector};
use crate::model::{ClusterId, Incarnation, Refusal, Timestamp};
use crate::protocol::peer::Kind;
use crate::raft::{ProposeError, Raft, RaftError};
use crate::storage::cleaner::Cleaner;
use crate::storage::data_dir::{DataDir, DataDirError};
use crate::storage::fs::RealFs;
use crate::storage::meta::MetaError;
use crate::storage::syncer::{AbortProcess, SyncPool};

use groups::{offsets_topic, start_groups};
use listeners::{Bound, WayIn};
use membership::{await_unfenced, join_cluster, leave, past, start_raft, unless_faulty, Links};
use registration::{registration, Registrar};
use strays::settle_strays;

pub use versions::Versions;

/// Threads of each runtime for what waits for the disk.
const BLOCKING_THREADS_MAX: usize = 8;
/// What the records of one batch may become when they are decompressed: so many times
/// `message_max_bytes`, which bounds what a zip bomb costs.
const DECOMPRESSION_FACTOR_MAX: usize = 128;
/// How long a guardian that has died stays dead, so that one that can't live costs little.
const GUARDIAN_RESTART_DELAY: Duration = Duration::from_millis(50);
/// A follower that lacks something for longer isn't in sync: Kafka's `replica.lag.time.max.ms`, which a
/// push needn't be as patient as.
const REPLICA_LAG_MAX: Duration = Duration::from_secs(10);
/// Producers that have been silent for so long are forgotten: `producer.id.expiration.ms`.
const PRODUCER_EXPIRATION_MS: i64 = 24 * 60 * 60 * 1000;

/// Why a broker does not run, or stopped.
#[derive(Debug, Error)]
pub enum NodeError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    MetaStore(#[from] MetaError),
    #[error(transparent)]
    Raft(#[from] RaftError),
    #[error(
        "the metadata got no leader in time: a majority of the voters must run and reach each other"
    )]
    NoLeader,
    #[error("nobody has said in time which cluster this is")]
    NoCluster,
    #[error("the metadata: {0}")]
    Propose(#[from] ProposeError),
    #[error("this broker can't join: {0}")]
    Registration(Refusal),
    #[error(
        "the data directory belongs to cluster {cluster_id}, and its metadata is empty: it was \
         lost or moved; restore it, the records are still there"
    )]
    MetadataLost { cluster_id: ClusterId },
    #[error("listeners.{listener}.bind {address}: {source}")]
    Bind {
        listener: &'static str,
        address: SocketAddr,
        source: io::Error,
    },
    #[error("the topics' defaults: {0}")]
    Defaults(Refusal),
    #[error("this node can't keep its metadata any more: {0}")]
    MetadataFault(String),
    #[error("stopped without a clean mark: {0}")]
    UncleanStop(Refusal),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Runs a broker until it is told to stop by SIGTERM or SIGINT; a second SIGINT ends the process at
/// once.
pub fn run(config: Config, versions: Versions) -> Result<(), NodeError> {
    raise_descriptor_limit();
    let system = actix::System::with_tokio_rt(runtime);
    system.block_on(async {
        let mut signals = Signals::new()?;
        let node = tokio::select! {
            node = Node::start(config, versions) => node?,
            name = signals.stop() => {
                log::info!("{name}: stopping before the start was done");
                return Ok(());
            }
        };
        let served = tokio::select! {
            served = node.serve() => served,
            name = signals.stop() => {
                log::info!("{name}: stopping; SIGINT once more stops at once");
                Ok(())
            }
        };
        tokio::select! {
            stopped = node.stop() => served.and(stopped),
            () = signals.insist() => std::process::exit(130),
        }
    })
}

/// Each log keeps a file open, and each connection a socket: as many as the system allows us.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        log::warn!("the limit of open files stays as it is: {error}");
    }
}

/// Each arbiter has a runtime of its own. Its blocking threads come when they are needed.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .unwrap_or_else(|error| panic!("a runtime can't be started: {error}"))
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn stop(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Whoever asks twice does not want to wait.
    async fn insist(&mut self) {
        self.interrupt.recv().await;
    }
}

/// A broker that runs in this process, on the present actix system.
pub struct Node {
    wards: Arc<Wards>,
    guardian: GuardianHandle,
    links: Option<Links>,
    ways_in: Vec<WayIn>,
    stopping: CancellationToken,
    incarnation: Incarnation,
    drain_timeout: Duration,
    raft_heartbeat: Duration,
    arbiters: Vec<Arbiter>,
}

impl Node {
    /// Returns when every partition is led, or known to be offline with the reason in the log.
    pub async fn start(config: Config, versions: Versions) -> Result<Node, NodeError> {
        let file_system = Arc::new(RealFs);
        let mut data_dir = DataDir::open(file_system.clone(), &config.node.data_dir)?;
        data_dir.check_node(config.node.id)?;
        let incarnation = Incarnation::random();
        let registry = Registry::default();
        let arbiters = start_arbiters(config.actors.arbiters);
        let handles: Vec<_> = arbiters.iter().map(Arbiter::handle).collect();
        let links = Links::start(
            &config,
            &versions,
            &data_dir,
            incarnation,
            &registry,
            &handles,
        )?;
        let past = past(&data_dir, &config)?;
        let raft = start_raft(&config, &versions, &data_dir, links.as_ref()).await?;
        let joined = join_cluster(&raft, &versions, &mut data_dir, config.node.id);
        let cluster_id = unless_faulty(&raft, joined).await?;
        let budget = Budget::new(config.listeners.queued_max_request_bytes);
        let bound = Bound::all(&config.listeners, &budget).await?;

        let defaults = broker_defaults(&config).map_err(NodeError::Defaults)?;
        let partitions = Partitions::default();
        let peers = links.as_ref().map(|links| links.peers.clone());
        let controller = ControllerHandle::new(config.node.id, &raft, peers, &registry);
        let guardian = GuardianHandle::new(&registry, &partitions);
        let changes = Arc::new(change_settings(&config, defaults.clone()));
        // Before the guardian: what this node led in its last life it doesn't lead in this one.
        let life_line = guardian.life_line(Ward::Controller, 0);
        controller.start(raft.clone(), changes.clone(), life_line);
        if let Some(links) = &links {
            links.peers.join(cluster_id.clone());
            let service = Arc::new(ChangeService::new(controller.clone(), raft.image()));
            links.services.serve(Kind::CONTROLLER, service);
            let service = Arc::new(QuorumService(raft.clone()));
            links.services.serve(Kind::QUORUM, service);
        }
        actix_rt::spawn(keep_sessions(
            config.node.id,
            Duration::from_millis(config.cluster.broker_session_timeout_ms),
            raft.clone(),
            controller.clone(),
            links.as_ref().map(|links| links.peers.clone()),
        ));
        let registrar = Registrar {
            controller: controller.clone(),
            raft: raft.clone(),
            registration: registration(&config, &bound, &cluster_id, incarnation, past, &versions)?,
        };
        unless_faulty(&raft, registrar.register()).await?;
        actix_rt::spawn(registrar.repeat());
        await_unfenced(&raft, &data_dir, config.node.id).await?;
        // Before anybody opens a log.
        settle_strays(&current(&raft), &data_dir, config.node.id, incarnation)?;

        let log = &config.log;
        let workers = LogWorkers {
            syncer: Arc::new(SyncPool::start(log.sync_threads, Arc::new(AbortProcess))?),
            cleaner: Arc::new(Cleaner::start(
                log.cleaner_threads,
                log.cleaner_dedupe_buffer_bytes,
            )?),
        };
        let wards = Arc::new(Wards {
            node: config.node.id,
            incarnation,
            file_system,
            data_dir,
            workers,
            raft: raft.clone(),
            defaults: defaults.clone(),
            settings: partition_settings(&config),
            changes,
            arbiters: handles,
            registry: registry.clone(),
            partitions: partitions.clone(),
            log_leases: LogLeases::default(),
            controller: controller.clone(),
            replicator: Replicator::new(links.as_ref().map(|links| links.peers.clone())),
        });
        let catch_up = wards.replicator.catch_up.clone();
        actix_rt::spawn(keep_throttles(config.node.id, raft.image(), catch_up));
        guard_the_guardian(&guardian, &wards);
        if let Some(links) = &links {
            let receiver = ReplicationReceiver::new(partitions.clone());
            links.services.receive(Arc::new(receiver));
            follow_links(&links.peers, &partitions);
        }
        let stopping = CancellationToken::new();
        let groups = start_groups(&config.groups, &wards, stopping.clone());
        let shared = Arc::new(Shared {
            node: config.node.id,
            cluster_id,
            started: Timestamp::now(),
            settings: api_settings(&config, defaults),
            images: raft.image(),
            partitions,
            controller,
            groups,
            offsets_topic: offsets_topic(&config.groups, config.cluster.nodes.0.len().max(1)),
            peers: links.as_ref().map(|links| links.peers.clone()),
            producer_ids: ProducerIds::default(),
            fetch_sessions: Arc::default(),
            log_dir: LogDir::new(wards.file_system.clone(), &config.node.data_dir),
            checkers: Checkers::start(cores())?,
            registry,
            stopping,
        });
        let node = Node {
            wards,
            guardian,
            links,
            ways_in: bound.into_iter().map(|bound| bound.open(&shared)).collect(),
            stopping: shared.stopping.clone(),
            incarnation,
            drain_timeout: Duration::from_millis(config.shutdown.drain_timeout_ms),
            raft_heartbeat: Duration::from_millis(config.metadata.heartbeat_ms),
            arbiters,
        };
        node.await_partitions().await;
        Ok(node)
    }

    /// Accepts connections, until the metadata fails. Drop the future to accept no more.
    async fn serve(&self) -> Result<(), NodeError> {
        let described = self.ways_in.iter().map(WayIn::description);
        log::info!(
            "broker {} listens {}, data in {}",
            self.wards.node,
            described.collect::<io::Result<Vec<_>>>()?.join(", "),
            self.wards.data_dir.path().display()
        );
        let arbiters = &self.wards.arbiters;
        let accepting = self
            .ways_in
            .iter()
            .map(|way_in| way_in.accept_all(arbiters));
        tokio::select! {
            _ = join_all(accepting) => Ok(()),
            fault = self.wards.raft.fault() => Err(NodeError::MetadataFault(fault)),
        }
    }

    /// Stops in order, and marks the data directory clean if all went well.
    async fn stop(&self) -> Result<(), NodeError> {
        if self.links.is_some() {
            let Wards {
                controller,
                raft,
                node,
                ..
            } = &*self.wards;
            leave(controller, raft, *node, self.raft_heartbeat).await;
        }
        self.stopping.cancel();
        let closing = self.ways_in.iter().map(WayIn::all_closed);
        let drained = timeout(self.drain_timeout, join_all(closing)).await;
        if drained.is_err() {
            log::warn!("some requests in flight got no answer in time");
        }
        // A replica whose role changes is between two actors.
        if timeout(self.drain_timeout, self.await_partitions())
            .await
            .is_err()
        {
            log::warn!("some replicas are between two roles");
        }
        let closed = self.guardian.close().await;
        self.wards.raft.shutdown().await;
        if let Some(links) = &self.links {
            links.peers.close().await;
            links.control.stop();
        }
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
        closed.map_err(NodeError::UncleanStop)?;
        self.wards.data_dir.mark_clean(self.incarnation)?;
        log::info!("stopped, all logs are closed");
        Ok(())
    }

    async fn await_partitions(&self) {
        let image = self.wards.raft.image().borrow().clone();
        for (id, topic, _) in image.partitions_on(self.wards.node) {
            let (name, partitions) = (topic.name.as_str(), &self.wards.partitions);
            partitions.settled(topic.id, name, id.partition).await;
        }
    }
}

fn current(raft: &Raft) -> Arc<MetadataImage> {
    raft.image().borrow().clone()
}

/// As many as are asked for; 0 asks for one a core.
fn start_arbiters(asked: usize) -> Vec<Arbiter> {
    let count = if asked == 0 { cores() } else { asked };
    (0..count)
        .map(|_| Arbiter::with_tokio_rt(runtime))
        .collect()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Starts the guardian, and the next one whenever it ends. It is there when this returns: a broker
/// that is told to stop at once has someone to close its logs.
fn guard_the_guardian(guardian: &GuardianHandle, wards: &Arc<Wards>) {
    let guardian = guardian.clone();
    let wards = wards.clone();
    let mut ended = guardian.start(wards.clone());
    actix_rt::spawn(async move {
        loop {
            // An error says that the other end was dropped: the guardian has ended.
            let _ = ended.await;
            log::error!("the guardian has died, and is started again");
            guardian.disconnect();
            guardian.vitals().restarting();
            tokio::time::sleep(GUARDIAN_RESTART_DELAY).await;
            ended = guardian.start(wards.clone());
        }
    });
}

fn partition_settings(config: &Config) -> PartitionSettings {
    PartitionSettings {
        keep: KeepSettings {
            commit_rule: match config.log.flush {
                FlushPolicy::Synced => CommitRule::Synced,
                FlushPolicy::Os => CommitRule::Written,
            },
            checkpoint_interval: Duration::from_millis(config.log.checkpoint_interval_ms),
            retention_interval: Duration::from_millis(config.log.retention_check_interval_ms),
            compaction_interval: Duration::from_millis(config.log.cleaner_backoff_ms),
        },
        mailbox_capacity: config.actors.partition_mailbox_capacity,
        replica_lag_max: REPLICA_LAG_MAX,
        replica_selector: match config.cluster.replica_selector {
            config::ReplicaSelector::Leader => ReplicaSelector::Leader,
            config::ReplicaSelector::RackAware => ReplicaSelector::RackAware,
        },
        producer_expiration_ms: PRODUCER_EXPIRATION_MS,
    }
}

/// What the config says of topics, under the names that `DescribeConfigs` gives it.
fn broker_defaults(config: &Config) -> Result<BrokerDefaults, Refusal> {
    let log = &config.log;
    let timestamp_type = match log.message_timestamp_type {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    };
    BrokerDefaults::new([
        ("log.segment.bytes", log.segment_bytes.to_string()),
        ("log.roll.ms", log.segment_ms.to_string()),
        ("log.retention.ms", log.retention_ms.to_string()),
        ("log.retention.bytes", log.retention_bytes.to_string()),
        (
            "log.index.interval.bytes",
            log.index_interval_bytes.to_string(),
        ),
        ("message.max.bytes", log.message_max_bytes.to_string()),
        ("log.message.timestamp.type", timestamp_type.to_owned()),
        (
            "min.insync.replicas",
            config.topics.min_insync_replicas.to_string(),
        ),
    ])
}

/// What is the same for the requests of all listeners.
fn api_settings(config: &Config, defaults: BrokerDefaults) -> ApiSettings {
    ApiSettings {
        auto_create_topics: config.topics.auto_create_topics_enable,
        batch_records_bytes_max: DECOMPRESSION_FACTOR_MAX * config.log.message_max_bytes,
        defaults,
    }
}

/// By what the controller decides.
fn change_settings(config: &Config, defaults: BrokerDefaults) -> ChangeSettings {
    ChangeSettings {
        new_topics: NewTopicDefaults {
            partitions: config.topics.num_partitions,
            replication_factor: config.topics.default_replication_factor,
        },
        defaults,
        limits: MetadataLimits {
            partitions_per_cluster_max: config.topics.partitions_max,
            ..MetadataLimits::default()
        },
        voters: config.cluster.voters(),
    }
}
