//! How a node becomes part of its cluster: links with its peers, its copy of the metadata, the
//! cluster's identity, and its own registration.
//!
//! A node whose config names no others is a cluster by itself, and has no links.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use actix::{Arbiter, ArbiterHandle};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{sleep, timeout_at, Instant};

use super::versions::Versions;
use super::NodeError;
use crate::actors::controller::ControllerHandle;
use crate::actors::peer::{PeerIdentity, PeerService, PeerSettings, Peers, RaftLinks, Services};
use crate::actors::vitals::Registry;
use crate::config::{self, Config};
use crate::engine::metadata::change::Change;
use crate::engine::metadata::register_broker::{bootstrap_cluster, Past, LOST_LOGS_MAX};
use crate::engine::metadata::{BrokerEpoch, BrokerState, MetadataImage};
use crate::model::{BrokerId, ClusterId, Incarnation, PartitionId};
use crate::protocol::peer::{CallError, CallErrorCode, Kind};
use crate::protocol::Segments;
use crate::raft::{Alone, Leadership, ProposeError, Raft, RaftRpc, RaftSettings, RaftTransport};
use crate::storage::data_dir::{DataDir, Identity};
use crate::storage::meta::MetaStore;

/// How long the metadata may take to get a leader, and this node to know the cluster, at the start.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a broker waits at its start until it is unfenced.
const UNFENCE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a broker that ends waits until others lead what it has led.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);

/// This node's links with the others.
pub struct Links {
    pub peers: Peers,
    pub services: Services,
    /// Nothing but control links and heartbeats lives on it.
    pub control: Arbiter,
}

impl Links {
    /// Accepts and dials from now on; `None` for a node that is alone.
    pub fn start(
        config: &Config,
        versions: &Versions,
        data_dir: &DataDir,
        incarnation: Incarnation,
        registry: &Registry,
        data: &[ArbiterHandle],
    ) -> Result<Option<Links>, NodeError> {
        let Some(mut settings) = PeerSettings::of(config, incarnation) else {
            return Ok(None);
        };
        settings.versions = versions.links.clone();
        settings.cluster_id = data_dir.identity().map(|mine| mine.cluster_id.clone());
        let address = config.listeners.peer.bind;
        let socket = Peers::bind(address).map_err(|source| NodeError::Bind {
            listener: "peer",
            address,
            source,
        })?;
        let control = Arbiter::with_tokio_rt(super::runtime);
        let services = Services::default();
        let peers = Peers::start(
            settings,
            socket,
            services.clone(),
            registry,
            control.handle(),
            data,
        );
        for node in &config.cluster.nodes.0 {
            peers.introduce(node.id, node.address());
        }
        Ok(Some(Links {
            peers,
            services,
            control,
        }))
    }
}

/// Starts this node's copy of the metadata, and returns when somebody leads them.
pub async fn start_raft(
    config: &Config,
    versions: &Versions,
    data_dir: &DataDir,
    links: Option<&Links>,
) -> Result<Raft, NodeError> {
    let store = MetaStore::open(&data_dir.metadata_dir())?;
    let voters = match links {
        Some(_) => config.cluster.voters(),
        None => vec![config.node.id],
    };
    let settings = RaftSettings {
        heartbeat: Duration::from_millis(config.metadata.heartbeat_ms),
        election_timeout_min: Duration::from_millis(config.metadata.election_timeout_min_ms),
        election_timeout_max: Duration::from_millis(config.metadata.election_timeout_max_ms),
        snapshot_every_bytes: config.metadata.snapshot_every_bytes,
        metadata_version_max: versions.metadata_max,
        ..RaftSettings::new(config.node.id, voters)
    };
    let transport: Arc<dyn RaftTransport> = match links {
        // An answer that is later than that would come after the next question.
        Some(links) => Arc::new(RaftLinks::new(
            links.peers.clone(),
            settings.election_timeout_min,
        )),
        None => Arc::new(Alone),
    };
    let raft = Raft::start(settings, store, transport)?;
    if let Some(links) = links {
        let service = Arc::new(RaftService(raft.clone()));
        links.services.serve(Kind::RAFT, service);
    }
    let mut leadership = raft.leadership();
    let led = async {
        let known = leadership.wait_for(|now| *now != Leadership::Follower { leader: None });
        match timeout_at(Instant::now() + JOIN_TIMEOUT, known).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(NodeError::NoLeader),
        }
    };
    unless_faulty(&raft, led).await?;
    Ok(raft)
}

/// What a wait of the start comes to, or why this node can't keep its metadata, if it can't.
pub async fn unless_faulty<T>(
    raft: &Raft,
    waiting: impl Future<Output = Result<T, NodeError>>,
) -> Result<T, NodeError> {
    tokio::select! {
        biased;
        fault = raft.fault() => Err(NodeError::MetadataFault(fault)),
        done = waiting => done,
    }
}

/// Serves what other voters ask.
struct RaftService(Raft);

#[async_trait]
impl PeerService for RaftService {
    async fn call(&self, from: PeerIdentity, body: Bytes) -> Result<Segments, CallError> {
        let answer = self.0.handle(from.node, RaftRpc(body)).await;
        let failed = |error| CallError::new(CallErrorCode::Failed, format!("{error}"));
        Ok(answer.map_err(failed)?.0.into())
    }
}

/// The cluster's identity. It is drawn at the very first start, by whoever leads the metadata, and
/// checked at each later one: data never changes its cluster.
pub async fn join_cluster(
    raft: &Raft,
    versions: &Versions,
    data_dir: &mut DataDir,
    node_id: BrokerId,
) -> Result<ClusterId, NodeError> {
    let deadline = Instant::now() + JOIN_TIMEOUT;
    let (mut images, mut leadership) = (raft.image(), raft.leadership());
    let cluster_id = loop {
        let leads = matches!(*leadership.borrow_and_update(), Leadership::Leader { .. });
        let image = images.borrow_and_update().clone();
        if let Some(known) = image.cluster_id() {
            break known.clone();
        }
        if leads {
            bootstrap(raft, versions, data_dir, &image).await?;
            continue;
        }
        let news = async {
            tokio::select! {
                _ = images.changed() => {}
                _ = leadership.changed() => {}
            }
        };
        if timeout_at(deadline, news).await.is_err() {
            return Err(NodeError::NoCluster);
        }
    };
    data_dir.claim(&Identity {
        node_id,
        cluster_id: cluster_id.clone(),
    })?;
    Ok(cluster_id)
}

/// First the metadata, then the directory: killed in between, the next start finds a cluster that this
/// directory may join, and not a directory whose metadata is lost.
async fn bootstrap(
    raft: &Raft,
    versions: &Versions,
    data_dir: &DataDir,
    image: &MetadataImage,
) -> Result<(), NodeError> {
    if let Some(identity) = data_dir.identity() {
        return Err(NodeError::MetadataLost {
            cluster_id: identity.cluster_id.clone(),
        });
    }
    let drawn = ClusterId(uuid::Uuid::new_v4().simple().to_string());
    let commands = bootstrap_cluster(image, drawn, versions.metadata_max);
    match raft.propose(commands).await {
        // Another one leads by now, and has drawn one or will.
        Ok(_) | Err(ProposeError::NotLeader { .. } | ProposeError::Unknown) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What this node's disk tells of its last life, and the logs that it lacks. Ask before it joins a cluster,
/// which leaves its trace.
pub fn past(
    data_dir: &DataDir,
    config: &Config,
) -> Result<(Past, BTreeSet<PartitionId>), NodeError> {
    let lost = data_dir.lost_logs()?;
    for id in &lost {
        let dir = data_dir.log_dir(id);
        log::warn!("{} was there once, and is missing", dir.display());
    }
    Ok(match (past_of_all(data_dir, config), lost.len()) {
        (Past::Kept(epoch), LOST_LOGS_MAX..) => (Past::Unclean(epoch), BTreeSet::new()),
        (Past::Kept(epoch), _) => (Past::Kept(epoch), lost),
        (past, _) => (past, BTreeSet::new()),
    })
}

fn past_of_all(data_dir: &DataDir, config: &Config) -> Past {
    let has_kept_all =
        data_dir.closed_by().is_some() || config.log.flush == config::FlushPolicy::Synced;
    match (data_dir.registration(), data_dir.identity()) {
        (Some(epoch), _) if has_kept_all => Past::Kept(BrokerEpoch(epoch)),
        (Some(epoch), _) => Past::Unclean(BrokerEpoch(epoch)),
        // It was killed before it could note its first registration, or is of an earlier version.
        (None, Some(_)) => Past::Unclean(BrokerEpoch(-1)),
        (None, None) => Past::Unknown,
    }
}

/// Waits until the active controller lets this broker take part, and notes as which broker it does.
/// Without that it serves too: its controller may be able to reach it later.
pub async fn await_unfenced(
    raft: &Raft,
    data_dir: &DataDir,
    node: BrokerId,
) -> Result<(), NodeError> {
    let mut images = raft.image();
    let is_unfenced = |image: &Arc<MetadataImage>| {
        let broker = image.broker(node);
        broker.is_some_and(|broker| broker.state == BrokerState::Unfenced)
    };
    let unfenced = images.wait_for(is_unfenced);
    if timeout_at(Instant::now() + UNFENCE_TIMEOUT, unfenced)
        .await
        .is_err()
    {
        log::warn!("the active controller can't reach this broker yet: it is fenced");
    }
    let image = raft.image().borrow().clone();
    if let Some(broker) = image.broker(node) {
        data_dir.note_registration(broker.epoch.0)?;
    }
    Ok(())
}

/// Has others lead what this broker leads, before it ends (Kafka's controlled shutdown). What nobody else
/// can lead ends with it.
pub async fn leave(
    controller: &ControllerHandle,
    raft: &Raft,
    node: BrokerId,
    heartbeat: Duration,
) {
    let Some(epoch) = current_epoch(raft, node) else {
        return;
    };
    let leaving = async {
        let change = Change::ControlledShutdown {
            broker: node,
            epoch,
        };
        if let Err(refusal) = controller.change_one(change).await {
            return log::warn!("nobody takes over what this broker leads: {refusal}");
        }
        let mut images = raft.image();
        let leads_nothing = |image: &Arc<MetadataImage>| {
            let mut here = image.partitions_on(node);
            here.all(|(_, _, partition)| partition.leader != node)
        };
        // An error means that the metadata are stopped.
        let _ = images.wait_for(leads_nothing).await;
        // If this node leads Raft, the others hear with its next heartbeat that this is committed, and
        // without it only from the next leader.
        sleep(2 * heartbeat).await;
    };
    if timeout_at(Instant::now() + LEAVE_TIMEOUT, leaving)
        .await
        .is_err()
    {
        log::warn!("some partitions are led by this broker until its end");
    }
}

fn current_epoch(raft: &Raft, node: BrokerId) -> Option<BrokerEpoch> {
    raft.image()
        .borrow()
        .broker(node)
        .map(|broker| broker.epoch)
}
