//! The config of a broker: a documented, flat tree, from a TOML file and then from the
//! environment.
//!
//! A key has Kafka's name where Kafka has the thing. `config/klamm.toml` documents each key and
//! gives its default, and a test holds it equal to [`Config::default`], which is what runs without
//! a file. `KLAMM__LOG__FLUSH=os` in the environment sets `log.flush`.
//!
//! A wrong config never starts a broker: an unknown key and an impossible value are refused with
//! the key's full path and the reason ([`ConfigError`]). So the rest of the house takes these
//! plain structs as they are, and checks nothing again.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::BrokerId;

pub use cluster::{
    Cluster, ClusterNode, ClusterNodes, ReplicaSelector, Secret, Voters, SECRET_BYTES_MIN,
};
pub use load::ConfigError;

/// Declares a section with each key's default beside it.
macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$key_doc:meta])* $key:ident: $kind:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $($(#[$key_doc])* pub $key: $kind,)* }

        impl Default for $name {
            fn default() -> $name {
                $name { $($key: $default,)* }
            }
        }
    };
}

mod cluster;
mod load;
mod validate;

section! {
    /// Everything that a broker is told.
    Config {
        node: Node = Node::default(),
        cluster: Cluster = Cluster::default(),
        listeners: Listeners = Listeners::default(),
        log: Log = Log::default(),
        topics: Topics = Topics::default(),
        groups: Groups = Groups::default(),
        metadata: Metadata = Metadata::default(),
        actors: Actors = Actors::default(),
        shutdown: Shutdown = Shutdown::default(),
    }
}

section! {
    /// `[node]`: who this broker is, and where it keeps its data.
    Node {
        /// This broker's number in its cluster.
        id: BrokerId = BrokerId(1),
        /// Relative to the working directory.
        data_dir: PathBuf = PathBuf::from("./data"),
        rack: Option<String> = None,
    }
}

section! {
    /// `[listeners]`: one section for each way in, and what they share.
    Listeners {
        /// Kafka's `queued.max.request.bytes`: what the requests of all connections may take until
        /// they are answered. Beyond it only small ones are read.
        queued_max_request_bytes: usize = 256 * 1024 * 1024,
        native: Listener = Listener::on_port(7070),
        kafka: Listener = Listener::on_port(9092),
        peer: PeerListener = PeerListener::default(),
    }
}

section! {
    /// `[listeners.native]`, the MessagePack protocol, and `[listeners.kafka]`, Kafka's: where, and
    /// what a client may cost.
    Listener {
        /// Whether the broker has this listener.
        enabled: bool = true,
        /// An IP address and a port; port 0 takes a free one.
        bind: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 0)),
        /// What clients are told to connect to, as `host:port`, where that differs from `bind`.
        advertised: Option<String> = None,
        connections_max: usize = 20_000,
        connections_per_address_max: usize = 10_000,
        /// The largest frame that is taken, and the largest that is answered with.
        frame_bytes_max: usize = 16 * 1024 * 1024,
        /// Bytes of requests, for each connection, that are not yet answered. The broker stops
        /// reading from the connection above it.
        in_flight_bytes_max: usize = 16 * 1024 * 1024,
        /// A new connection is closed unless its first request has come by then.
        greeting_timeout_ms: u64 = 10_000,
        /// A connection is closed if the rest of a frame takes longer.
        frame_timeout_ms: u64 = 30_000,
        /// A connection without any request is closed after it.
        idle_timeout_ms: u64 = 600_000,
    }
}

section! {
    /// `[listeners.peer]`: where the other nodes of the cluster come in, and what they may cost. It
    /// is there if `[cluster]` names nodes.
    PeerListener {
        bind: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7170)),
        /// What nodes are told that `cluster.nodes` doesn't tell, as `host:port`; else it is what
        /// `cluster.nodes` says of this node.
        advertised: Option<String> = None,
        /// Each node opens two, one for control and one for data.
        connections_max: usize = 256,
        /// The largest message of a peer that has proved who it is.
        frame_bytes_max: usize = 16 * 1024 * 1024,
        /// For each connection, bytes that wait to be sent, and bytes received that are not yet
        /// dealt with.
        in_flight_bytes_max: usize = 64 * 1024 * 1024,
        /// A new connection is closed unless its peer has proved by then who it is.
        handshake_timeout_ms: u64 = 2_000,
    }
}

section! {
    /// `[log]`: how partitions lie on disk. What a topic may set for itself has its default here.
    Log {
        flush: FlushPolicy = FlushPolicy::Synced,
        /// Kafka's `log.segment.bytes`.
        segment_bytes: u64 = 1024 * 1024 * 1024,
        /// Kafka's `log.roll.ms`: a segment is closed at this age even if it isn't full.
        segment_ms: u64 = 7 * DAY_MS,
        /// Kafka's `log.retention.ms`; -1 keeps for ever.
        retention_ms: i64 = 7 * DAY_MS as i64,
        /// Kafka's `log.retention.bytes`, for each partition; -1 sets no limit.
        retention_bytes: i64 = -1,
        retention_check_interval_ms: u64 = 300_000,
        /// One entry of the offset index covers so many bytes of the log.
        index_interval_bytes: u64 = 4096,
        /// The largest record batch, compressed as it came.
        message_max_bytes: usize = 1024 * 1024 + 12,
        message_timestamp_type: TimestampType = TimestampType::CreateTime,
        /// How often the synced ends of the logs are written down. After an unclean stop only
        /// what lies past them is scanned.
        checkpoint_interval_ms: u64 = 5_000,
        /// How many logs are synced side by side.
        sync_threads: usize = 8,
        /// Kafka's `log.cleaner.threads`: how many logs are compacted side by side.
        cleaner_threads: usize = 1,
        /// Kafka's `log.cleaner.dedupe.buffer.size`: what compaction may remember of keys, 24 bytes
        /// each, in all threads together. With less memory it takes more than one go.
        cleaner_dedupe_buffer_bytes: usize = 128 * 1024 * 1024,
        /// Kafka's `log.cleaner.backoff.ms`: how often it is looked what there is to compact.
        cleaner_backoff_ms: u64 = 15_000,
    }
}

section! {
    /// `[topics]`: what a topic gets that doesn't say otherwise.
    Topics {
        num_partitions: i32 = 1,
        default_replication_factor: i16 = 1,
        min_insync_replicas: i32 = 1,
        /// Whether asking for an unknown topic's metadata creates it.
        auto_create_topics_enable: bool = true,
        /// The most partitions that this broker takes.
        partitions_max: usize = 4_000,
    }
}

section! {
    /// `[groups]`: consumer groups, and the offsets that they commit. The keys are Kafka's, with `group.`
    /// or `offsets.` in front.
    Groups {
        min_session_timeout_ms: i32 = 6_000,
        max_session_timeout_ms: i32 = 1_800_000,
        /// The most members of a group.
        max_size: usize = 1_000,
        /// How long an empty group waits for more members than the first.
        initial_rebalance_delay_ms: u32 = 3_000,
        /// Of members that speak the consumer protocol (KIP-848): they are told, and don't ask for it.
        consumer_session_timeout_ms: i32 = 45_000,
        consumer_heartbeat_interval_ms: i32 = 1_000,
        /// The most members of a group that speaks it.
        consumer_max_size: usize = 1_000,
        /// Those that members may ask for; the first is for groups that don't.
        consumer_assignors: ConsumerAssignors = ConsumerAssignors::default(),
        consumer_migration_policy: MigrationPolicy = MigrationPolicy::Bidirectional,
        /// What a consumer may write beside an offset.
        offset_metadata_max_bytes: u16 = 4_096,
        /// Offsets of a group without members are forgotten after it.
        offsets_retention_minutes: u32 = 7 * 24 * 60,
        offsets_retention_check_interval_ms: u32 = 600_000,
        /// Of the topic `__consumer_offsets`, when it is created.
        offsets_topic_num_partitions: i32 = 50,
        /// No more than there are nodes.
        offsets_topic_replication_factor: i16 = 3,
    }
}

section! {
    /// `[metadata]`: how the brokers agree on topics and configs (Raft).
    Metadata {
        heartbeat_ms: u64 = 150,
        election_timeout_min_ms: u64 = 500,
        election_timeout_max_ms: u64 = 1_000,
        /// The state is snapshotted, and the Raft log cut, after so many
        /// bytes of log.
        snapshot_every_bytes: u64 = 1024 * 1024,
    }
}

section! {
    /// `[actors]`: the threads and mailboxes.
    Actors {
        /// Threads for connections and partitions together; 0 takes one a core.
        arbiters: usize = 0,
        /// Messages that wait for one partition before it answers "overloaded".
        partition_mailbox_capacity: usize = 1024,
    }
}

section! {
    /// `[shutdown]`: what SIGTERM does.
    Shutdown {
        /// How long requests in flight get before the broker stops without them.
        drain_timeout_ms: u64 = 10_000,
    }
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// What "on disk" means before acks=all is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlushPolicy {
    /// Synced: survives the loss of power.
    Synced,
    /// In the page cache, as Kafka does by default: survives the end of the process only.
    Os,
}

/// How partitions are shared out among consumers: Kafka's assignors of the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerAssignor {
    /// Evenly, and with as few moves as possible.
    Uniform,
    /// In ranges, the same ones for topics alike.
    Range,
}

impl ConsumerAssignor {
    fn name(self) -> &'static str {
        match self {
            ConsumerAssignor::Uniform => "uniform",
            ConsumerAssignor::Range => "range",
        }
    }
}

/// At least one, each once; written with commas between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConsumerAssignors(Vec<ConsumerAssignor>);

impl ConsumerAssignors {
    pub fn iter(&self) -> impl Iterator<Item = ConsumerAssignor> + '_ {
        self.0.iter().copied()
    }
}

impl Default for ConsumerAssignors {
    fn default() -> ConsumerAssignors {
        ConsumerAssignors(vec![ConsumerAssignor::Uniform, ConsumerAssignor::Range])
    }
}

impl TryFrom<String> for ConsumerAssignors {
    type Error = String;

    fn try_from(names: String) -> Result<ConsumerAssignors, String> {
        let mut assignors = Vec::new();
        for name in names.split(',').map(str::trim) {
            let mut known = ConsumerAssignors::default().0.into_iter();
            let assignor = known.find(|assignor| assignor.name() == name);
            let assignor =
                assignor.ok_or_else(|| format!("must name uniform or range, and not {name:?}"))?;
            if assignors.contains(&assignor) {
                return Err(format!("names {name} twice"));
            }
            assignors.push(assignor);
        }
        Ok(ConsumerAssignors(assignors))
    }
}

impl From<ConsumerAssignors> for String {
    fn from(assignors: ConsumerAssignors) -> String {
        let names: Vec<&str> = assignors.iter().map(ConsumerAssignor::name).collect();
        names.join(",")
    }
}

/// Whether groups that have members may change from one protocol to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MigrationPolicy {
    Bidirectional,
    /// Only from the classic to the consumer protocol.
    Upgrade,
    /// Only from the consumer to the classic protocol.
    Downgrade,
    Disabled,
}

/// Whose clock a record's timestamp comes from: Kafka's `log.message.timestamp.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's, at the append.
    LogAppendTime,
}

impl Config {
    /// The host and port at which other nodes reach this one, if it is one of a cluster.
    pub fn peer_address(&self) -> Option<(String, u16)> {
        let node = self.cluster.node(self.node.id)?;
        let advertised = self.listeners.peer.advertised.as_deref();
        match advertised.and_then(validate::host_and_port) {
            Some((host, port)) => Some((host.to_owned(), port)),
            None => Some((node.host.clone(), node.port)),
        }
    }
}

impl Listener {
    fn on_port(port: u16) -> Listener {
        Listener {
            bind: SocketAddr::from(([127, 0, 0, 1], port)),
            ..Listener::default()
        }
    }

    /// The host and port that clients are told, once the listener is bound to `bound`.
    pub fn advertised(&self, bound: SocketAddr) -> (String, u16) {
        match self.advertised.as_deref().and_then(validate::host_and_port) {
            Some((host, port)) => (host.to_owned(), port),
            None => (bound.ip().to_string(), bound.port()),
        }
    }
}
