//! `[cluster]`: who takes part, and what proves it.
//!
//! Lists are strings, as Kafka has `controller.quorum.voters`, so that a file and the environment
//! write them alike.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};

use super::validate::{host_and_port, interval, require};
use super::{Config, ConfigError};
use crate::model::BrokerId;

/// The fewest bytes of a secret: as many as HMAC-SHA256 makes, below which RFC 2104 calls a key
/// weak.
pub const SECRET_BYTES_MIN: usize = 32;
/// No secret is longer; a file that is was not meant.
const SECRET_BYTES_MAX: usize = 4096;
/// The most nodes that a config names. Each is linked with each.
const NODES_MAX: usize = 64;
/// A majority of 2 or 4 voters bears no more losses than one of 1 or 3; more than 5 only slow it.
const VOTER_COUNTS: [usize; 3] = [1, 3, 5];
/// How many voters there are among other numbers of nodes, unless the config says who.
const DEFAULT_VOTERS: usize = 3;
/// A session has to survive the loss of a heartbeat.
const HEARTBEATS_A_SESSION_MIN: u64 = 2;

section! {
    /// `[cluster]`: the nodes that are one broker together. Without `nodes` this node is alone.
    Cluster {
        /// The nodes that take part from the start, this one among them.
        nodes: ClusterNodes = ClusterNodes::default(),
        /// Those that agree on the metadata; [`Cluster::voters`] says who they are if it is empty. The other
        /// nodes follow them.
        voters: Voters = Voters::default(),
        /// What all nodes know and nobody else: [`Config::load`] puts it here, wherever it was found.
        secret: Option<Secret> = None,
        /// A file that holds the secret instead.
        secret_file: Option<PathBuf> = None,
        /// KIP-631's `broker.heartbeat.interval.ms`.
        broker_heartbeat_interval_ms: u64 = 100,
        /// KIP-631's `broker.session.timeout.ms`: a broker that is silent for so long is fenced.
        broker_session_timeout_ms: u64 = 1_000,
        /// Kafka's `replica.selector.class`.
        replica_selector: ReplicaSelector = ReplicaSelector::Leader,
    }
}

/// From which replica a consumer reads that says in which rack it runs (KIP-392).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplicaSelector {
    /// From the leader, as all others.
    Leader,
    /// From one in its own rack: Kafka's `RackAwareReplicaSelector`.
    RackAware,
}

/// A node, and where its peers reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNode {
    pub id: BrokerId,
    pub host: String,
    pub port: u16,
}

impl ClusterNode {
    /// `host:port`, as a socket's address is resolved from it.
    pub fn address(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for ClusterNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.address())
    }
}

/// `1@host:port,2@host:port,3@host:port`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterNodes(pub Vec<ClusterNode>);

impl TryFrom<String> for ClusterNodes {
    type Error = String;

    fn try_from(text: String) -> Result<ClusterNodes, String> {
        let nodes = parts(&text).map(|part| {
            let node = part.split_once('@').and_then(|(id, address)| {
                let (host, port) = host_and_port(address)?;
                Some(ClusterNode {
                    id: BrokerId(id.parse().ok().filter(|id| *id >= 0)?),
                    host: host.to_owned(),
                    port,
                })
            });
            node.ok_or_else(|| format!("{part:?} isn't id@host:port"))
        });
        nodes.collect::<Result<_, _>>().map(ClusterNodes)
    }
}

impl From<ClusterNodes> for String {
    fn from(nodes: ClusterNodes) -> String {
        joined(&nodes.0)
    }
}

/// `1,2,3`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Voters(pub Vec<BrokerId>);

impl TryFrom<String> for Voters {
    type Error = String;

    fn try_from(text: String) -> Result<Voters, String> {
        let ids = parts(&text).map(|part| {
            let id = part.parse().ok().filter(|id| *id >= 0);
            id.map(BrokerId)
                .ok_or_else(|| format!("{part:?} isn't a node's id"))
        });
        ids.collect::<Result<_, _>>().map(Voters)
    }
}

impl From<Voters> for String {
    fn from(voters: Voters) -> String {
        joined(&voters.0)
    }
}

fn parts(list: &str) -> impl Iterator<Item = &str> {
    let list = list.trim();
    list.split(',')
        .map(str::trim)
        .filter(move |_| !list.is_empty())
}

fn joined<T: fmt::Display>(all: &[T]) -> String {
    let all: Vec<String> = all.iter().map(T::to_string).collect();
    all.join(",")
}

/// A shared secret. It is never shown: neither by `Debug` nor where a config is written out.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(secret: impl Into<String>) -> Secret {
        Secret(secret.into())
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("hidden")
    }
}

impl Cluster {
    /// Whether this node is one of several, or of one that others may join.
    pub fn is_configured(&self) -> bool {
        !self.nodes.0.is_empty()
    }

    pub fn node(&self, id: BrokerId) -> Option<&ClusterNode> {
        self.nodes.0.iter().find(|node| node.id == id)
    }

    /// Those that agree on the metadata. Unless the config names them, they are all nodes if these are one, three
    /// or five, and the three with the lowest ids if there are more of them.
    pub fn voters(&self) -> Vec<BrokerId> {
        if !self.voters.0.is_empty() {
            return self.voters.0.clone();
        }
        let mut voters: Vec<BrokerId> = self.nodes.0.iter().map(|node| node.id).collect();
        voters.sort_unstable();
        if !VOTER_COUNTS.contains(&voters.len()) {
            voters.truncate(DEFAULT_VOTERS);
        }
        voters
    }

    /// Takes the secret out of its file, if it lies in one.
    pub(super) fn read_secret_file(&mut self) -> Result<(), ConfigError> {
        let Some(path) = self.secret_file.take() else {
            return Ok(());
        };
        let key = "cluster.secret_file";
        let text = std::fs::read_to_string(&path).map_err(|error| {
            ConfigError::value(key, format!("{} can't be read: {error}", path.display()))
        })?;
        // An editor ends the line.
        let secret = text.trim_end_matches(['\n', '\r']);
        validate_secret(key, secret)?;
        self.secret = Some(Secret::new(secret));
        Ok(())
    }
}

pub(super) fn validate(config: &Config) -> Result<(), ConfigError> {
    let cluster = &config.cluster;
    interval(
        "cluster.broker_heartbeat_interval_ms",
        cluster.broker_heartbeat_interval_ms,
    )?;
    interval(
        "cluster.broker_session_timeout_ms",
        cluster.broker_session_timeout_ms,
    )?;
    let heartbeat_ms = cluster.broker_heartbeat_interval_ms;
    require(
        cluster.broker_session_timeout_ms >= HEARTBEATS_A_SESSION_MIN * heartbeat_ms,
        "cluster.broker_session_timeout_ms",
        format!(
            "must be at least {HEARTBEATS_A_SESSION_MIN} times \
             cluster.broker_heartbeat_interval_ms, {heartbeat_ms}, and is {}",
            cluster.broker_session_timeout_ms
        ),
    )?;
    if let Some(secret) = &cluster.secret {
        validate_secret("cluster.secret", &secret.0)?;
    }
    match cluster.is_configured() {
        true => {
            validate_nodes(cluster, config.node.id)?;
            validate_voters(cluster)?;
            validate_proof(cluster)
        }
        false => require(
            cluster.voters.0.is_empty(),
            "cluster.voters",
            "can't be set without cluster.nodes",
        ),
    }
}

fn validate_nodes(cluster: &Cluster, this: BrokerId) -> Result<(), ConfigError> {
    let key = "cluster.nodes";
    let nodes = &cluster.nodes.0;
    require(
        nodes.len() <= NODES_MAX,
        key,
        format!("can't name more than {NODES_MAX} nodes"),
    )?;
    for (at, node) in nodes.iter().enumerate() {
        let before = &nodes[..at];
        require(
            before.iter().all(|other| other.id != node.id),
            key,
            format!("names node {} twice", node.id),
        )?;
        let address = node.address();
        require(
            before.iter().all(|other| other.address() != address),
            key,
            format!("gives two nodes the address {address}"),
        )?;
    }
    require(
        cluster.node(this).is_some(),
        key,
        format!("must name this node too, {this}, which is node.id"),
    )
}

fn validate_voters(cluster: &Cluster) -> Result<(), ConfigError> {
    let key = "cluster.voters";
    let voters = cluster.voters();
    for (at, voter) in voters.iter().enumerate() {
        require(
            !voters[..at].contains(voter),
            key,
            format!("names node {voter} twice"),
        )?;
        require(
            cluster.node(*voter).is_some(),
            key,
            format!("names node {voter}, which cluster.nodes doesn't"),
        )?;
    }
    require(
        VOTER_COUNTS.contains(&voters.len()),
        key,
        format!(
            "must name 1, 3 or 5 of the {} nodes of cluster.nodes, and there are {}",
            cluster.nodes.0.len(),
            voters.len()
        ),
    )
}

fn validate_proof(cluster: &Cluster) -> Result<(), ConfigError> {
    match (&cluster.secret, &cluster.secret_file) {
        (Some(_), Some(_)) => Err(ConfigError::value(
            "cluster.secret_file",
            "can't be set beside cluster.secret: which of the two is it?",
        )),
        (None, None) => Err(ConfigError::value(
            "cluster.secret",
            "or cluster.secret_file must be set with cluster.nodes: it proves that a node is one \
             of them",
        )),
        _ => Ok(()),
    }
}

/// The secret itself is in no message.
fn validate_secret(key: &str, secret: &str) -> Result<(), ConfigError> {
    let bytes = secret.len();
    require(
        (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes),
        key,
        format!("must have {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes, and has {bytes}"),
    )
}
