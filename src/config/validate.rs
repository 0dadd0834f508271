//! What a config may not say, although each value has the right kind.

use std::net::Ipv6Addr;

use super::{
    cluster, Actors, Config, ConfigError, Groups, Listener, Listeners, Log, Metadata, Node,
    PeerListener, Shutdown, Topics,
};

/// Shorter intervals only burn CPU.
const INTERVAL_MS_MIN: u64 = 10;
/// A day. Timeouts beyond it are slips of a unit.
const TIMEOUT_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// Offsets in a segment's index are 32 bits.
const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;
/// A segment that holds less than this is all overhead. A topic may not have less either.
const SEGMENT_BYTES_MIN: u64 = 1024 * 1024;
/// Topics have it as a number of 32 bits.
const INDEX_INTERVAL_BYTES_MAX: u64 = i32::MAX as u64;
/// Topics have it as a number of 64 bits with a sign.
const SEGMENT_MS_MAX: u64 = i64::MAX as u64;
/// The header of a record batch is 61 bytes; less can't hold a record.
const MESSAGE_BYTES_MIN: usize = 128;
/// What the names and numbers around the largest batch may take in a frame.
const FRAME_OVERHEAD_BYTES: usize = 4096;
/// A frame's length has 32 bits, and half of them is far too much already.
const FRAME_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// What one connection may have in flight is counted in 32 bits.
const IN_FLIGHT_BYTES_MAX: usize = i32::MAX as usize;
/// A TiB. No machine that this is meant for has more memory.
const QUEUED_BYTES_MAX: usize = 1 << 40;
/// actix's default of 16 makes sends across threads 12 times as dear.
const MAILBOX_CAPACITY_MIN: usize = 256;
const MAILBOX_CAPACITY_MAX: usize = 1 << 20;
/// Each is a log that is open all the time.
const OFFSETS_PARTITIONS_MAX: i32 = 1_000;
/// A string in a record has a length of 16 bits with a sign.
const OFFSET_METADATA_BYTES_MAX: u16 = i16::MAX as u16;
/// The answers to so many members of one group leave together.
const GROUP_SIZE_MAX: usize = 100_000;
const ARBITERS_MAX: usize = 1024;
const SYNC_THREADS_MAX: usize = 1024;
/// Kafka's: with less, a log of any size takes too many goes.
const DEDUPE_BUFFER_BYTES_MIN: usize = 1024 * 1024;
/// Raft needs several heartbeats in an election timeout.
const HEARTBEATS_A_TIMEOUT_MIN: u64 = 2;

impl Config {
    /// The first value that can't be meant, with its key's path.
    pub fn validate(&self) -> Result<(), ConfigError> {
        validate_node(&self.node)?;
        cluster::validate(self)?;
        validate_listeners(&self.listeners, &self.log)?;
        if self.cluster.is_configured() {
            validate_peer_listener(&self.listeners.peer, &self.log)?;
        }
        validate_log(&self.log)?;
        validate_topics(&self.topics)?;
        validate_groups(&self.groups)?;
        validate_metadata(&self.metadata)?;
        validate_actors(&self.actors)?;
        validate_shutdown(&self.shutdown)
    }
}

fn validate_node(node: &Node) -> Result<(), ConfigError> {
    require(node.id.0 >= 0, "node.id", "can't be negative")?;
    require(
        !node.data_dir.as_os_str().is_empty(),
        "node.data_dir",
        "can't be empty",
    )?;
    require(
        node.rack.as_deref() != Some(""),
        "node.rack",
        "can't be empty; leave it out for no rack",
    )
}

fn validate_listeners(listeners: &Listeners, log: &Log) -> Result<(), ConfigError> {
    let Listeners {
        queued_max_request_bytes: queued,
        native,
        kafka,
        peer: _,
    } = listeners;
    require(
        native.enabled || kafka.enabled,
        "listeners.native.enabled",
        "and listeners.kafka.enabled can't both be false: nobody could reach the broker",
    )?;
    for (name, listener) in [("native", native), ("kafka", kafka)] {
        validate_listener(name, listener, log)?;
        let in_flight = listener.in_flight_bytes_max;
        require(
            *queued >= in_flight || !listener.enabled,
            "listeners.queued_max_request_bytes",
            format!(
                "must be at least listeners.{name}.in_flight_bytes_max, {in_flight}, and is {queued}"
            ),
        )?;
    }
    at_most(
        "listeners.queued_max_request_bytes",
        *queued,
        QUEUED_BYTES_MAX,
    )
}

fn validate_listener(name: &str, listener: &Listener, log: &Log) -> Result<(), ConfigError> {
    let Listener {
        enabled: _,
        bind,
        advertised,
        connections_max,
        connections_per_address_max,
        frame_bytes_max,
        in_flight_bytes_max,
        greeting_timeout_ms,
        frame_timeout_ms,
        idle_timeout_ms,
    } = listener;
    let key = |key: &str| format!("listeners.{name}.{key}");

    match advertised {
        Some(text) => validate_advertised(&key("advertised"), text)?,
        None => require(
            !bind.ip().is_unspecified(),
            &key("advertised"),
            format!("must say where clients reach this broker, since bind is {bind}"),
        )?,
    }
    at_least(&key("connections_max"), *connections_max, 1)?;
    at_least(
        &key("connections_per_address_max"),
        *connections_per_address_max,
        1,
    )?;
    validate_sizes(name, *frame_bytes_max, *in_flight_bytes_max, log)?;
    timeout(&key("greeting_timeout_ms"), *greeting_timeout_ms)?;
    timeout(&key("frame_timeout_ms"), *frame_timeout_ms)?;
    timeout(&key("idle_timeout_ms"), *idle_timeout_ms)
}

fn validate_peer_listener(listener: &PeerListener, log: &Log) -> Result<(), ConfigError> {
    let PeerListener {
        bind: _,
        advertised,
        connections_max,
        frame_bytes_max,
        in_flight_bytes_max,
        handshake_timeout_ms,
    } = listener;
    if let Some(text) = advertised {
        validate_advertised("listeners.peer.advertised", text)?;
    }
    at_least("listeners.peer.connections_max", *connections_max, 1)?;
    validate_sizes("peer", *frame_bytes_max, *in_flight_bytes_max, log)?;
    timeout("listeners.peer.handshake_timeout_ms", *handshake_timeout_ms)
}

fn validate_advertised(key: &str, text: &str) -> Result<(), ConfigError> {
    require(
        host_and_port(text).is_some(),
        key,
        format!("must be host:port with a port from 1 to 65535, and is {text:?}"),
    )
}

/// The largest frame of a listener, and what one of its connections may have in flight.
fn validate_sizes(
    name: &str,
    frame_bytes_max: usize,
    in_flight_bytes_max: usize,
    log: &Log,
) -> Result<(), ConfigError> {
    let key = |key: &str| format!("listeners.{name}.{key}");
    let frame_bytes_min = log.message_max_bytes.saturating_add(FRAME_OVERHEAD_BYTES);
    require(
        frame_bytes_max >= frame_bytes_min,
        &key("frame_bytes_max"),
        format!("must be at least {frame_bytes_min}: log.message_max_bytes and {FRAME_OVERHEAD_BYTES}, and is {frame_bytes_max}"),
    )?;
    at_most(&key("frame_bytes_max"), frame_bytes_max, FRAME_BYTES_MAX)?;
    require(
        in_flight_bytes_max >= frame_bytes_max,
        &key("in_flight_bytes_max"),
        format!(
            "must be at least frame_bytes_max, {frame_bytes_max}, and is {in_flight_bytes_max}"
        ),
    )?;
    at_most(
        &key("in_flight_bytes_max"),
        in_flight_bytes_max,
        IN_FLIGHT_BYTES_MAX,
    )
}

fn validate_log(log: &Log) -> Result<(), ConfigError> {
    at_least("log.segment_bytes", log.segment_bytes, SEGMENT_BYTES_MIN)?;
    at_most("log.segment_bytes", log.segment_bytes, SEGMENT_BYTES_MAX)?;
    at_least(
        "log.message_max_bytes",
        log.message_max_bytes,
        MESSAGE_BYTES_MIN,
    )?;
    require(
        log.message_max_bytes as u64 <= log.segment_bytes,
        "log.message_max_bytes",
        format!(
            "can't be above log.segment_bytes, {}, and is {}",
            log.segment_bytes, log.message_max_bytes
        ),
    )?;
    at_least("log.segment_ms", log.segment_ms, 1)?;
    at_most("log.segment_ms", log.segment_ms, SEGMENT_MS_MAX)?;
    unlimited_or_positive("log.retention_ms", log.retention_ms)?;
    unlimited_or_positive("log.retention_bytes", log.retention_bytes)?;
    interval(
        "log.retention_check_interval_ms",
        log.retention_check_interval_ms,
    )?;
    at_least("log.index_interval_bytes", log.index_interval_bytes, 1)?;
    at_most(
        "log.index_interval_bytes",
        log.index_interval_bytes,
        INDEX_INTERVAL_BYTES_MAX,
    )?;
    interval("log.checkpoint_interval_ms", log.checkpoint_interval_ms)?;
    at_least("log.sync_threads", log.sync_threads, 1)?;
    at_most("log.sync_threads", log.sync_threads, SYNC_THREADS_MAX)?;
    at_least("log.cleaner_threads", log.cleaner_threads, 1)?;
    at_most("log.cleaner_threads", log.cleaner_threads, SYNC_THREADS_MAX)?;
    at_least(
        "log.cleaner_dedupe_buffer_bytes",
        log.cleaner_dedupe_buffer_bytes,
        DEDUPE_BUFFER_BYTES_MIN,
    )?;
    interval("log.cleaner_backoff_ms", log.cleaner_backoff_ms)
}

fn validate_topics(topics: &Topics) -> Result<(), ConfigError> {
    at_least("topics.num_partitions", topics.num_partitions, 1)?;
    at_least(
        "topics.default_replication_factor",
        topics.default_replication_factor,
        1,
    )?;
    at_least("topics.min_insync_replicas", topics.min_insync_replicas, 1)?;
    at_least("topics.partitions_max", topics.partitions_max, 1)?;
    require(
        i64::from(topics.num_partitions) <= topics.partitions_max as i64,
        "topics.num_partitions",
        format!(
            "can't be above topics.partitions_max, {}, and is {}",
            topics.partitions_max, topics.num_partitions
        ),
    )
}

fn validate_groups(groups: &Groups) -> Result<(), ConfigError> {
    let Groups {
        min_session_timeout_ms,
        max_session_timeout_ms,
        max_size,
        initial_rebalance_delay_ms,
        consumer_session_timeout_ms: session_ms,
        consumer_heartbeat_interval_ms: heartbeat_ms,
        consumer_max_size,
        consumer_assignors: _,
        consumer_migration_policy: _,
        offset_metadata_max_bytes,
        offsets_retention_minutes,
        offsets_retention_check_interval_ms,
        offsets_topic_num_partitions: partitions,
        offsets_topic_replication_factor: replication_factor,
    } = groups;
    require(
        *min_session_timeout_ms > 0,
        "groups.min_session_timeout_ms",
        "must be above 0",
    )?;
    require(
        min_session_timeout_ms <= max_session_timeout_ms,
        "groups.max_session_timeout_ms",
        format!("can't be below groups.min_session_timeout_ms, {min_session_timeout_ms}"),
    )?;
    require(*max_size > 0, "groups.max_size", "must be above 0")?;
    at_most("groups.max_size", *max_size, GROUP_SIZE_MAX)?;
    at_most(
        "groups.initial_rebalance_delay_ms",
        u64::from(*initial_rebalance_delay_ms),
        TIMEOUT_MS_MAX,
    )?;
    require(
        *heartbeat_ms > 0,
        "groups.consumer_heartbeat_interval_ms",
        "must be above 0",
    )?;
    require(
        session_ms > heartbeat_ms,
        "groups.consumer_session_timeout_ms",
        format!("must be above groups.consumer_heartbeat_interval_ms, {heartbeat_ms}"),
    )?;
    require(
        *consumer_max_size > 0,
        "groups.consumer_max_size",
        "must be above 0",
    )?;
    at_most(
        "groups.consumer_max_size",
        *consumer_max_size,
        GROUP_SIZE_MAX,
    )?;
    at_most(
        "groups.offset_metadata_max_bytes",
        *offset_metadata_max_bytes,
        OFFSET_METADATA_BYTES_MAX,
    )?;
    require(
        *offsets_retention_minutes > 0,
        "groups.offsets_retention_minutes",
        "must be above 0",
    )?;
    require(
        u64::from(*offsets_retention_check_interval_ms) >= INTERVAL_MS_MIN,
        "groups.offsets_retention_check_interval_ms",
        format!("must be at least {INTERVAL_MS_MIN}"),
    )?;
    require(
        (1..=OFFSETS_PARTITIONS_MAX).contains(partitions),
        "groups.offsets_topic_num_partitions",
        format!("must be between 1 and {OFFSETS_PARTITIONS_MAX}"),
    )?;
    require(
        *replication_factor > 0,
        "groups.offsets_topic_replication_factor",
        "must be above 0",
    )
}

fn validate_metadata(metadata: &Metadata) -> Result<(), ConfigError> {
    interval("metadata.heartbeat_ms", metadata.heartbeat_ms)?;
    let election_min = metadata
        .heartbeat_ms
        .saturating_mul(HEARTBEATS_A_TIMEOUT_MIN);
    require(
        metadata.election_timeout_min_ms >= election_min,
        "metadata.election_timeout_min_ms",
        format!(
            "must be at least {HEARTBEATS_A_TIMEOUT_MIN} times metadata.heartbeat_ms, and is {}",
            metadata.election_timeout_min_ms
        ),
    )?;
    require(
        metadata.election_timeout_max_ms > metadata.election_timeout_min_ms,
        "metadata.election_timeout_max_ms",
        format!(
            "must be above metadata.election_timeout_min_ms, {}, and is {}",
            metadata.election_timeout_min_ms, metadata.election_timeout_max_ms
        ),
    )?;
    at_most(
        "metadata.election_timeout_max_ms",
        metadata.election_timeout_max_ms,
        TIMEOUT_MS_MAX,
    )?;
    at_least(
        "metadata.snapshot_every_bytes",
        metadata.snapshot_every_bytes,
        64 * 1024,
    )
}

fn validate_actors(actors: &Actors) -> Result<(), ConfigError> {
    at_most("actors.arbiters", actors.arbiters, ARBITERS_MAX)?;
    let capacity = actors.partition_mailbox_capacity;
    at_least(
        "actors.partition_mailbox_capacity",
        capacity,
        MAILBOX_CAPACITY_MIN,
    )?;
    at_most(
        "actors.partition_mailbox_capacity",
        capacity,
        MAILBOX_CAPACITY_MAX,
    )
}

fn validate_shutdown(shutdown: &Shutdown) -> Result<(), ConfigError> {
    at_most(
        "shutdown.drain_timeout_ms",
        shutdown.drain_timeout_ms,
        TIMEOUT_MS_MAX,
    )
}

/// `host:port`, where an IPv6 address stands in brackets. The host comes without them.
pub(super) fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    let host = match host.strip_prefix('[') {
        Some(address) => address
            .strip_suffix(']')
            .filter(|address| address.parse::<Ipv6Addr>().is_ok())?,
        None => host,
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_address = host.parse::<Ipv6Addr>().is_ok() && text.starts_with('[');
    (is_address || (!host.is_empty() && host.chars().all(is_name))).then_some((host, port))
}

pub(super) fn require(
    holds: bool,
    key: &str,
    reason: impl Into<String>,
) -> Result<(), ConfigError> {
    if holds {
        Ok(())
    } else {
        Err(ConfigError::value(key, reason))
    }
}

fn at_least<T: PartialOrd + std::fmt::Display>(
    key: &str,
    is: T,
    min: T,
) -> Result<(), ConfigError> {
    require(
        is >= min,
        key,
        format!("must be at least {min}, and is {is}"),
    )
}

fn at_most<T: PartialOrd + std::fmt::Display>(key: &str, is: T, max: T) -> Result<(), ConfigError> {
    require(
        is <= max,
        key,
        format!("must be at most {max}, and is {is}"),
    )
}

pub(super) fn interval(key: &str, is_ms: u64) -> Result<(), ConfigError> {
    at_least(key, is_ms, INTERVAL_MS_MIN)?;
    at_most(key, is_ms, TIMEOUT_MS_MAX)
}

fn timeout(key: &str, is_ms: u64) -> Result<(), ConfigError> {
    at_least(key, is_ms, 1)?;
    at_most(key, is_ms, TIMEOUT_MS_MAX)
}

fn unlimited_or_positive(key: &str, is: i64) -> Result<(), ConfigError> {
    require(
        is == -1 || is > 0,
        key,
        format!("must be above 0, or -1 for no limit, and is {is}"),
    )
}
