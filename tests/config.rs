//! What the config promises to whoever writes one.

#![cfg(feature = "broker")]

use std::path::Path;

use klamm::config::{Config, ConfigError, FlushPolicy, Secret, TimestampType};
use klamm::model::BrokerId;

const DEFAULT_FILE: &str = include_str!("../config/klamm.toml");

fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment = environment
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()));
    Config::parse(Some(text), environment)
}

#[test]
fn the_default_file_is_what_runs_without_a_file() {
    assert_eq!(parse(DEFAULT_FILE, &[]).unwrap(), Config::default());
    assert_eq!(Config::parse(None, []).unwrap(), Config::default());
}

#[test]
fn the_default_file_names_every_key() {
    let defaults = serde_json::to_value(Config::default()).unwrap();
    let mut keys = Vec::new();
    collect_keys(&defaults, &mut keys);
    assert!(keys.len() > 25, "{keys:?}");
    for key in keys {
        let is_named = DEFAULT_FILE.lines().any(|line| {
            let line = line.trim_start_matches("# ");
            line.starts_with(&format!("{key} ="))
        });
        assert!(is_named, "config/klamm.toml doesn't name {key}");
    }
}

fn collect_keys(value: &serde_json::Value, keys: &mut Vec<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        match value.is_object() {
            true => collect_keys(value, keys),
            false => keys.push(key.clone()),
        }
    }
}

#[test]
fn the_environment_overrides_the_file_and_the_file_the_defaults() {
    let config = parse(
        "[node]\nid = 7\ndata_dir = \"/srv/klamm\"\n[log]\nflush = \"os\"",
        &[
            ("KLAMM__NODE__ID", "9"),
            ("KLAMM__NODE__RACK", "007"),
            ("KLAMM__LISTENERS__NATIVE__BIND", "127.0.0.1:0"),
            ("KLAMM__LOG__RETENTION_MS", "-1"),
            ("KLAMM__LOG__MESSAGE_TIMESTAMP_TYPE", "LogAppendTime"),
            ("KLAMM__TOPICS__AUTO_CREATE_TOPICS_ENABLE", "false"),
            ("KLAMM_BOOTSTRAP", "elsewhere:1"),
        ],
    )
    .unwrap();
    assert_eq!(config.node.id, BrokerId(9));
    assert_eq!(config.node.rack.as_deref(), Some("007"));
    assert_eq!(config.node.data_dir, Path::new("/srv/klamm"));
    assert_eq!(config.listeners.native.bind.port(), 0);
    assert_eq!(config.log.flush, FlushPolicy::Os);
    assert_eq!(config.log.retention_ms, -1);
    assert_eq!(
        config.log.message_timestamp_type,
        TimestampType::LogAppendTime
    );
    assert!(!config.topics.auto_create_topics_enable);
    assert_eq!(
        config.log.segment_bytes,
        Config::default().log.segment_bytes
    );
}

#[test]
fn an_unknown_key_is_refused_with_its_path_and_its_neighbours() {
    for (text, environment, expected) in [
        (
            "[log]\nflsh = \"os\"",
            None,
            "log.flsh isn't known; [log] knows checkpoint_interval_ms",
        ),
        (
            "nodes = 1",
            None,
            "nodes isn't known; the config knows actors",
        ),
        (
            "[listeners.natve]\nbind = \"x\"",
            None,
            "listeners.natve isn't known; [listeners] knows kafka, native",
        ),
        ("", Some(("KLAMM__LOG__FLSH", "os")), "log.flsh isn't known"),
        (
            "",
            Some(("KLAMM__LOG__FLUSH__NOW", "os")),
            "log.flush is a value, not a section",
        ),
        (
            "",
            Some(("KLAMM__LOG", "os")),
            "log is a section, not a value",
        ),
    ] {
        let environment: Vec<_> = environment.into_iter().collect();
        let error = parse(text, &environment).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
}

#[test]
fn an_impossible_value_is_refused_with_its_path_and_the_reason() {
    for (text, key, reason) in [
        ("[node]\nid = -1", "node.id", "negative"),
        ("[node]\nid = 1.5", "node.id", "whole number"),
        ("[node]\nid = true", "node.id", "whole number"),
        ("[node]\nid = 3000000000", "node.id", "32 bit"),
        ("[node]\ndata_dir = \"\"", "node.data_dir", "empty"),
        ("[node]\nrack = 1", "node.rack", "string"),
        (
            "[groups]\nconsumer_assignors = \"uniform,sticky\"",
            "groups.consumer_assignors",
            "must name uniform or range",
        ),
        (
            "[groups]\nconsumer_assignors = \"range, range\"",
            "groups.consumer_assignors",
            "twice",
        ),
        (
            "[groups]\nconsumer_session_timeout_ms = 1000",
            "groups.consumer_session_timeout_ms",
            "above groups.consumer_heartbeat_interval_ms",
        ),
        (
            "[groups]\nconsumer_migration_policy = \"sideways\"",
            "groups.consumer_migration_policy",
            "sideways",
        ),
        (
            "[listeners.native]\nbind = \"7070\"",
            "listeners.native.bind",
            "address",
        ),
        (
            "[listeners.native]\nbind = \"0.0.0.0:7070\"",
            "listeners.native.advertised",
            "0.0.0.0",
        ),
        (
            "[listeners.native]\nadvertised = \"host\"",
            "listeners.native.advertised",
            "host:port",
        ),
        (
            "[listeners.native]\nadvertised = \"a:0\"",
            "listeners.native.advertised",
            "65535",
        ),
        (
            "[listeners.native]\nadvertised = \"a b:1\"",
            "listeners.native.advertised",
            "host:port",
        ),
        (
            "[listeners.native]\nconnections_max = 0",
            "listeners.native.connections_max",
            "at least 1",
        ),
        (
            "[listeners.native]\nframe_bytes_max = 1000",
            "listeners.native.frame_bytes_max",
            "message_max_bytes",
        ),
        (
            "[listeners.native]\nin_flight_bytes_max = 1000",
            "listeners.native.in_flight_bytes_max",
            "frame_bytes_max",
        ),
        (
            "[listeners.native]\nin_flight_bytes_max = 4294967296",
            "listeners.native.in_flight_bytes_max",
            "at most",
        ),
        (
            "[listeners]\nnative.enabled = false\nkafka.enabled = false",
            "listeners.native.enabled",
            "nobody could reach",
        ),
        (
            "[listeners.kafka]\nbind = \"[::]:9092\"",
            "listeners.kafka.advertised",
            "where clients reach",
        ),
        (
            "[listeners]\nqueued_max_request_bytes = 16777215",
            "listeners.queued_max_request_bytes",
            "in_flight_bytes_max, 16777216",
        ),
        (
            "[listeners]\nqueued_max_request_bytes = 2199023255552",
            "listeners.queued_max_request_bytes",
            "at most",
        ),
        (
            "[listeners.native]\nidle_timeout_ms = 0",
            "listeners.native.idle_timeout_ms",
            "at least 1",
        ),
        ("[log]\nflush = \"sometimes\"", "log.flush", "sometimes"),
        ("[log]\nsegment_bytes = 1", "log.segment_bytes", "at least"),
        (
            "[log]\nsegment_bytes = 2147483648",
            "log.segment_bytes",
            "at most",
        ),
        ("[log]\nretention_ms = 0", "log.retention_ms", "-1"),
        ("[log]\nretention_bytes = -2", "log.retention_bytes", "-1"),
        (
            "[log]\nmessage_max_bytes = 1",
            "log.message_max_bytes",
            "at least",
        ),
        (
            "[log]\nmessage_timestamp_type = \"createtime\"",
            "log.message_timestamp_type",
            "createtime",
        ),
        ("[log]\nsync_threads = 0", "log.sync_threads", "at least 1"),
        ("[log]\ncleaner_threads = 0", "log.cleaner_threads", "at least 1"),
        ("[log]\ncleaner_dedupe_buffer_bytes = 1000", "log.cleaner_dedupe_buffer_bytes", "at least 1048576"),
        ("[log]\ncleaner_backoff_ms = 0", "log.cleaner_backoff_ms", "at least 1"),
        (
            "[topics]\nnum_partitions = 0",
            "topics.num_partitions",
            "at least 1",
        ),
        (
            "[topics]\nnum_partitions = 1000000",
            "topics.num_partitions",
            "partitions_max",
        ),
        (
            "[topics]\nauto_create_topics_enable = 1",
            "topics.auto_create_topics_enable",
            "true or false",
        ),
        (
            "[metadata]\nheartbeat_ms = 1",
            "metadata.heartbeat_ms",
            "at least",
        ),
        (
            "[metadata]\nelection_timeout_min_ms = 150",
            "metadata.election_timeout_min_ms",
            "heartbeat",
        ),
        (
            "[metadata]\nelection_timeout_max_ms = 300",
            "metadata.election_timeout_max_ms",
            "election_timeout_min_ms",
        ),
        (
            "[actors]\npartition_mailbox_capacity = 16",
            "actors.partition_mailbox_capacity",
            "at least 256",
        ),
        (
            "[cluster]\nnodes = \"1@127.0.0.1\"",
            "cluster.nodes",
            "isn't id@host:port",
        ),
        (
            "[cluster]\nnodes = [\"1@127.0.0.1:7171\"]",
            "cluster.nodes",
            "string",
        ),
        (
            "[cluster]\nnodes = \"-1@a:1\"",
            "cluster.nodes",
            "isn't id@host:port",
        ),
        (
            "[cluster]\nnodes = \"1@a:1,1@b:1\"",
            "cluster.nodes",
            "node 1 twice",
        ),
        (
            "[cluster]\nnodes = \"1@a:1,2@a:1\"",
            "cluster.nodes",
            "the address a:1",
        ),
        (
            "[cluster]\nnodes = \"2@a:1,3@a:2\"",
            "cluster.nodes",
            "this node too, 1",
        ),
        (
            "[cluster]\nnodes = \"1@a:1,2@a:2\"",
            "cluster.voters",
            "1, 3 or 5 of the 2 nodes",
        ),
        (
            "[cluster]\nnodes = \"1@a:1,2@a:2\"\nvoters = \"1,x\"",
            "cluster.voters",
            "isn't a node's id",
        ),
        (
            "[cluster]\nnodes = \"1@a:1,2@a:2\"\nvoters = \"3\"",
            "cluster.voters",
            "node 3, which cluster.nodes doesn't",
        ),
        (
            "[cluster]\nnodes = \"1@a:1,2@a:2\"\nvoters = \"1,1,2\"",
            "cluster.voters",
            "node 1 twice",
        ),
        (
            "[cluster]\nvoters = \"1\"",
            "cluster.voters",
            "without cluster.nodes",
        ),
        (
            "[cluster]\nnodes = \"1@a:1\"",
            "cluster.secret",
            "must be set with cluster.nodes",
        ),
        (
            "[cluster]\nnodes = \"1@a:1\"\nsecret = \"much too short\"",
            "cluster.secret",
            "32 to 4096 bytes, and has 14",
        ),
        (
            "[cluster]\nnodes = \"1@a:1\"\nsecret_file = \"x\"\nsecret = \"0123456789abcdef0123456789abcdef\"",
            "cluster.secret_file",
            "beside cluster.secret",
        ),
        (
            "[cluster]\nbroker_session_timeout_ms = 150",
            "cluster.broker_session_timeout_ms",
            "at least 2 times",
        ),
        (
            "[cluster]\nbroker_heartbeat_interval_ms = 1",
            "cluster.broker_heartbeat_interval_ms",
            "at least",
        ),
        (
            "[listeners.peer]\nadvertised = \"nowhere\"\n[cluster]\nnodes = \"1@a:1\"\nsecret = \"0123456789abcdef0123456789abcdef\"",
            "listeners.peer.advertised",
            "host:port",
        ),
        (
            "[listeners.peer]\nframe_bytes_max = 1000\n[cluster]\nnodes = \"1@a:1\"\nsecret = \"0123456789abcdef0123456789abcdef\"",
            "listeners.peer.frame_bytes_max",
            "message_max_bytes",
        ),
        (
            "[listeners.peer]\nin_flight_bytes_max = 1000\n[cluster]\nnodes = \"1@a:1\"\nsecret = \"0123456789abcdef0123456789abcdef\"",
            "listeners.peer.in_flight_bytes_max",
            "frame_bytes_max",
        ),
        (
            "[shutdown]\ndrain_timeout_ms = -1",
            "shutdown.drain_timeout_ms",
            "negative",
        ),
    ] {
        let error = parse(text, &[]).unwrap_err().to_string();
        assert!(
            error.contains(&format!("config key {key} ")),
            "{text:?}: {error}"
        );
        assert!(error.contains(reason), "{text:?}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_refused_with_its_name() {
    let error = Config::load(Some(Path::new("no/such/file.toml"))).unwrap_err();
    assert!(error.to_string().contains("no/such/file.toml"), "{error}");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("broken.toml");
    std::fs::write(&path, "[node\nid = 1").unwrap();
    let error = Config::load(Some(&path)).unwrap_err().to_string();
    assert!(error.contains("broken.toml"), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn a_section_that_says_little_keeps_the_defaults_of_its_own_listener() {
    let text = "[listeners.kafka]\nconnections_max = 5\n[listeners.native]\nenabled = false";
    let config = Config::parse(Some(text), []).unwrap();
    let mut expected = Config::default();
    expected.listeners.kafka.connections_max = 5;
    expected.listeners.native.enabled = false;
    assert_eq!(config, expected);
    assert_eq!(config.listeners.kafka.bind.port(), 9092);
    assert_eq!(config.listeners.native.bind.port(), 7070);
}

#[test]
fn clients_are_told_the_bound_address_unless_another_is_advertised() {
    let bound = "127.0.0.1:40123".parse().unwrap();
    let mut listener = Config::default().listeners.native;
    assert_eq!(listener.advertised(bound), ("127.0.0.1".to_owned(), 40123));
    for (text, host, port) in [
        ("broker-1.example.com:7070", "broker-1.example.com", 7070),
        ("[2001:db8::1]:1", "2001:db8::1", 1),
    ] {
        listener.advertised = Some(text.to_owned());
        assert_eq!(listener.advertised(bound), (host.to_owned(), port));
    }
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn the_environment_makes_a_node_one_of_a_cluster() {
    let config = parse(
        "",
        &[
            ("KLAMM__NODE__ID", "2"),
            (
                "KLAMM__CLUSTER__NODES",
                "1@one:7170, 2@[::1]:7170,3@10.0.0.3:7170,4@four:1",
            ),
            ("KLAMM__CLUSTER__VOTERS", "1, 2, 3"),
            ("KLAMM__CLUSTER__SECRET", SECRET),
            ("KLAMM__LISTENERS__PEER__BIND", "0.0.0.0:7170"),
        ],
    )
    .unwrap();
    let cluster = &config.cluster;
    let addresses: Vec<String> = cluster.nodes.0.iter().map(|node| node.address()).collect();
    assert_eq!(
        addresses,
        ["one:7170", "[::1]:7170", "10.0.0.3:7170", "four:1"]
    );
    assert_eq!(cluster.voters(), [1, 2, 3].map(BrokerId));
    assert_eq!(
        cluster.secret.as_ref().unwrap().as_bytes(),
        SECRET.as_bytes()
    );
    assert_eq!(config.peer_address(), Some(("::1".to_owned(), 7170)));
    assert!(!Config::default().cluster.is_configured());
    assert_eq!(Config::default().peer_address(), None);
}

#[test]
fn a_node_alone_may_have_any_listener_for_peers() {
    // What held for one node before there were clusters holds still.
    let text = "[log]\nmessage_max_bytes = 20000000\n[listeners]\n\
                native.frame_bytes_max = 30000000\nnative.in_flight_bytes_max = 30000000\n\
                kafka.frame_bytes_max = 30000000\nkafka.in_flight_bytes_max = 30000000";
    assert!(parse(text, &[]).is_ok());
}

#[test]
fn the_secret_may_lie_in_a_file_and_is_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let [file, secret] = ["node.toml", "secret"].map(|name| dir.path().join(name));
    let text = format!(
        "[cluster]\nnodes = \"1@a:1\"\nsecret_file = {:?}",
        secret.display().to_string()
    );
    std::fs::write(&file, text).unwrap();
    let error = Config::load(Some(&file)).unwrap_err().to_string();
    assert!(
        error.starts_with("config key cluster.secret_file") && error.contains("can't be read"),
        "{error}"
    );
    std::fs::write(&secret, "too short\n").unwrap();
    let error = Config::load(Some(&file)).unwrap_err().to_string();
    assert!(
        error.starts_with("config key cluster.secret_file") && error.contains("has 9"),
        "{error}"
    );
    assert!(!error.contains("too short"), "{error}");

    std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
    let config = Config::load(Some(&file)).unwrap();
    assert_eq!(config.cluster.secret, Some(Secret::new(SECRET)));
    assert_eq!(config.validate(), Ok(()));
    assert!(!format!("{config:?}").contains(SECRET));
    assert!(!serde_json::to_string(&config).unwrap().contains(SECRET));
}

#[test]
fn five_files_make_a_cluster_with_three_voters_on_one_machine() {
    let configs = [1, 2, 3, 4, 5].map(|number| {
        let path = format!("config/cluster/node-{number}.toml");
        let config = Config::load(Some(Path::new(&path))).unwrap();
        assert_eq!(config.node.id, BrokerId(number));
        config
    });
    let mut ports = std::collections::BTreeSet::new();
    let mut directories = std::collections::BTreeSet::new();
    for config in &configs {
        assert_eq!(config.cluster, configs[0].cluster);
        assert_eq!(config.cluster.voters(), [1, 2, 3].map(BrokerId));
        let bind = config.listeners.peer.bind;
        let address = (bind.ip().to_string(), bind.port());
        assert_eq!(config.peer_address(), Some(address));
        let listeners = &config.listeners;
        ports.extend([listeners.native.bind, listeners.kafka.bind, bind]);
        directories.insert(config.node.data_dir.clone());
    }
    assert_eq!((ports.len(), directories.len()), (15, 5));
}

#[test]
fn the_voters_are_all_of_one_three_or_five_nodes_and_the_lowest_three_of_others() {
    let voters = |nodes: &str, voters: &str| {
        let variables = [
            ("KLAMM__NODE__ID", "2"),
            ("KLAMM__CLUSTER__NODES", nodes),
            ("KLAMM__CLUSTER__VOTERS", voters),
            ("KLAMM__CLUSTER__SECRET", SECRET),
        ];
        let config = parse("", &variables).unwrap();
        let ids = config.cluster.voters().into_iter().map(|id| id.0);
        ids.collect::<Vec<_>>()
    };
    let five = "1@a:1,2@a:2,3@a:3,4@a:4,5@a:5";
    assert_eq!(voters("2@a:1", ""), [2]);
    assert_eq!(voters("1@a:1,2@a:2,3@a:3", ""), [1, 2, 3]);
    assert_eq!(voters(five, ""), [1, 2, 3, 4, 5]);
    assert_eq!(voters("4@a:4,2@a:2,3@a:3,1@a:1", ""), [1, 2, 3]);
    assert_eq!(voters(&format!("{five},6@a:6"), ""), [1, 2, 3]);
    assert_eq!(voters(five, "3,4,5"), [3, 4, 5]);
}
