//! Topic configs: what is valid, what it comes to, how it is changed and described.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::engine::metadata::alter_configs::{
    alter_topic_configs, ConfigChange, TopicConfigChanges,
};
use crate::engine::metadata::throttles::ThrottledReplicas;
use crate::engine::metadata::topic_config::check_settings;
use crate::model::ErrorCode as E;

fn set(settings: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = settings
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    pairs.collect()
}

#[test]
fn every_config_accepts_its_default_and_the_catalogue_is_sorted() {
    for keys in [TOPIC_CONFIG_KEYS, BROKER_CONFIG_KEYS] {
        for key in keys {
            assert_eq!(key.check(key.default), Ok(()), "{}", key.name);
        }
        assert!(keys.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}

#[test]
fn without_settings_kafkas_defaults_hold() {
    let config = TopicConfig::resolve(&BTreeMap::new(), &BrokerDefaults::default());
    let expected = TopicConfig {
        cleanup_policy: CleanupPolicy::Delete,
        delete_retention_ms: 86_400_000,
        follower_throttled: ThrottledReplicas::These(BTreeSet::new()),
        index_interval_bytes: 4_096,
        leader_throttled: ThrottledReplicas::These(BTreeSet::new()),
        max_compaction_lag_ms: i64::MAX,
        max_message_bytes: 1_048_588,
        message_timestamp_after_max_ms: 3_600_000,
        message_timestamp_before_max_ms: i64::MAX,
        message_timestamp_type: TimestampType::CreateTime,
        min_cleanable_dirty_millionths: 500_000,
        min_compaction_lag_ms: 0,
        min_insync_replicas: 1,
        retention_bytes: None,
        retention_ms: Some(604_800_000),
        segment_bytes: 1 << 30,
        segment_ms: 604_800_000,
    };
    assert_eq!(config, expected);
}

#[test]
fn a_setting_that_is_not_valid_is_refused_with_key_and_value() {
    let cases = [
        ("retention.ms", "soon", "Not a number of type LONG"),
        ("retention.ms", "-2", "at least -1"),
        ("retention.ms", "9223372036854775808", "Not a number"),
        ("segment.bytes", "2147483648", "no more than 2147483647"),
        ("segment.bytes", "1000", "at least 1048576"),
        ("segment.ms", "0", "at least 1"),
        ("min.insync.replicas", "0", "at least 1"),
        ("max.message.bytes", "", "Not a number of type INT"),
        (
            "message.timestamp.type",
            "createtime",
            "CreateTime, LogAppendTime",
        ),
        ("compression.type", "zstd", "producer"),
        ("cleanup.policy", "compact,tomorrow", "delete, compact"),
        ("min.cleanable.dirty.ratio", "1.5", "no more than 1"),
        ("min.cleanable.dirty.ratio", "NaN", "type DOUBLE"),
        ("cleanup.policy", "", "empty"),
        ("unclean.leader.election.enable", "perhaps", "true or false"),
        (
            "leader.replication.throttled.replicas",
            "0",
            "the literal '*'",
        ),
        ("flush.messages", "1", "no effect"),
        ("no.such.thing", "1", "Unknown topic config name"),
    ];
    for (name, value, words) in cases {
        let settings = set(&[(name, value)]);
        let refusal = check_settings(&settings, &MetadataLimits::default()).unwrap_err();
        assert_eq!(refusal.code, E::InvalidConfig);
        assert!(refusal.message.contains(name), "{refusal}");
        assert!(refusal.message.contains(words), "{refusal}");
    }
    let lags = set(&[
        ("min.compaction.lag.ms", "1001"),
        ("max.compaction.lag.ms", "1000"),
    ]);
    let refusal = check_settings(&lags, &MetadataLimits::default()).unwrap_err();
    assert!(refusal.message.contains("(1001) > "), "{refusal}");
    let long = set(&[("retention.ms", &"1".repeat(40_000))]);
    let refusal = check_settings(&long, &MetadataLimits::default()).unwrap_err();
    assert!(refusal.message.len() < 200, "{refusal}");
}

#[test]
fn a_topics_own_setting_counts_before_the_brokers_and_that_before_the_default() {
    let broker = [
        ("log.retention.ms", "1000".to_string()),
        ("log.segment.bytes", "2000000".to_string()),
    ];
    let defaults = BrokerDefaults::new(broker).unwrap();
    let settings = set(&[
        ("retention.ms", "-1"),
        ("message.timestamp.type", "LogAppendTime"),
    ]);
    let config = TopicConfig::resolve(&settings, &defaults);
    assert_eq!(config.retention_ms, None);
    assert_eq!(config.segment_bytes, 2_000_000);
    assert_eq!(config.message_timestamp_type, TimestampType::LogAppendTime);

    let described: BTreeMap<_, _> = TopicConfig::describe(&settings, &defaults)
        .map(|entry| (entry.key.name, entry))
        .collect();
    assert_eq!(described.len(), TOPIC_CONFIG_KEYS.len());
    let retention = &described["retention.ms"];
    assert_eq!(
        (retention.value.as_str(), retention.origin),
        ("-1", ConfigOrigin::Topic)
    );
    let synonyms: Vec<_> = retention
        .synonyms
        .iter()
        .map(|s| (s.name, s.value.as_str()))
        .collect();
    let expected = [
        ("retention.ms", "-1"),
        ("log.retention.ms", "1000"),
        ("log.retention.ms", "604800000"),
    ];
    assert_eq!(synonyms, expected);
    assert_eq!(
        described["segment.bytes"].origin,
        ConfigOrigin::StaticBroker
    );
    assert_eq!(described["segment.ms"].origin, ConfigOrigin::Default);
}

#[test]
fn a_value_that_a_later_version_has_stored_counts_as_not_set() {
    let settings = set(&[("cleanup.policy", "tomorrow"), ("retention.ms", "P1D")]);
    let defaults = BrokerDefaults::default();
    let config = TopicConfig::resolve(&settings, &defaults);
    assert_eq!(config.retention_ms, Some(604_800_000));
    let mut entries = TopicConfig::describe(&settings, &defaults);
    assert!(entries.all(|entry| entry.origin == ConfigOrigin::Default));
}

#[test]
fn a_brokers_defaults_are_checked_like_a_topics_settings() {
    let refused = |name, value: &str| BrokerDefaults::new([(name, value.to_string())]).unwrap_err();
    assert!(refused("log.segment.bytes", "1")
        .message
        .contains("segment.bytes"));
    assert!(refused("segment.bytes", "2000000")
        .message
        .contains("Unknown"));
}

#[test]
fn configs_are_altered_one_by_one_and_together_or_not_at_all() {
    let mut image = image(&[create("t", 1, &[&[1]])]);
    image.replay(&MetadataCommand::SetTopicConfigs {
        id: topic_id(1),
        set: set(&[("retention.ms", "1"), ("segment.ms", "2")]),
        removed: BTreeSet::new(),
    });
    let alter = |topic: &str, changes: &[(&str, ConfigChange)]| {
        let changes: Vec<_> = changes
            .iter()
            .map(|(n, c)| (n.to_string(), c.clone()))
            .collect();
        let changes = TopicConfigChanges {
            topic: topic.into(),
            changes,
        };
        let limits = MetadataLimits::default();
        alter_topic_configs(&image, &changes, &BrokerDefaults::default(), &limits)
    };
    let put = |value: &str| ConfigChange::Set(value.into());
    let changed = |set_: &[(&str, &str)], removed: &[&str]| {
        Ok(vec![MetadataCommand::SetTopicConfigs {
            id: topic_id(1),
            set: set(set_),
            removed: removed.iter().map(|name| name.to_string()).collect(),
        }])
    };
    let decided = alter(
        "t",
        &[
            ("retention.ms", put("5")),
            ("segment.ms", ConfigChange::Delete),
        ],
    );
    assert_eq!(decided, changed(&[("retention.ms", "5")], &["segment.ms"]));
    // What is so already needs no command.
    assert_eq!(alter("t", &[("retention.ms", put("1"))]), Ok(vec![]));
    assert_eq!(
        alter("t", &[("retention.bytes", ConfigChange::Delete)]),
        Ok(vec![])
    );
    let append = ConfigChange::Append("delete".into());
    let appended = alter("t", &[("cleanup.policy", append.clone())]);
    assert_eq!(appended, changed(&[("cleanup.policy", "delete")], &[]));

    let good = ("retention.ms", put("5"));
    let refused = [
        alter("x", std::slice::from_ref(&good)),
        alter("t", &[good.clone(), ("segment.ms", put("never"))]),
        alter("t", &[good.clone(), ("retention.ms", put("6"))]),
        alter("t", &[("retention.ms", append)]),
        alter(
            "t",
            &[("cleanup.policy", ConfigChange::Append("shrink".into()))],
        ),
        alter(
            "t",
            &[("cleanup.policy", ConfigChange::Subtract("delete".into()))],
        ),
        alter("t", &[("no.such", ConfigChange::Delete)]),
    ];
    let codes = refused.map(|refused| refused.unwrap_err().code);
    let expected = [
        E::UnknownTopicOrPartition,
        E::InvalidConfig,
        E::InvalidRequest,
        E::InvalidConfig,
        E::InvalidConfig,
        E::InvalidConfig,
        E::InvalidConfig,
    ];
    assert_eq!(codes, expected);
}
