//! What a topic's configs come to: its own settings, over the broker's defaults, over Kafka's.

use std::collections::{BTreeMap, BTreeSet};

use super::config_catalogue::{list_items, FOLLOWER_THROTTLED_REPLICAS, LEADER_THROTTLED_REPLICAS};
use super::throttles::ThrottledReplicas;
use super::{ConfigKey, MetadataLimits, Refusal, TOPIC_CONFIG_KEYS};
use crate::model::ErrorCode;

/// Whose time a record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// What becomes of old records: `cleanup.policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CleanupPolicy {
    Delete,
    Compact,
    CompactAndDelete,
}

impl CleanupPolicy {
    fn of(list: &str) -> CleanupPolicy {
        let items = list_items(list);
        match (items.contains(&"compact"), items.contains(&"delete")) {
            (true, true) => CleanupPolicy::CompactAndDelete,
            (true, false) => CleanupPolicy::Compact,
            (false, _) => CleanupPolicy::Delete,
        }
    }

    pub fn compacts(self) -> bool {
        self != CleanupPolicy::Delete
    }
}

/// Every config of one topic, typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    pub cleanup_policy: CleanupPolicy,
    pub delete_retention_ms: i64,
    /// Replicas that are filled no faster than their brokers say.
    pub follower_throttled: ThrottledReplicas,
    pub index_interval_bytes: i32,
    /// Replicas that fill others no faster than their brokers say.
    pub leader_throttled: ThrottledReplicas,
    pub max_compaction_lag_ms: i64,
    pub max_message_bytes: i32,
    pub message_timestamp_after_max_ms: i64,
    pub message_timestamp_before_max_ms: i64,
    pub message_timestamp_type: TimestampType,
    /// `min.cleanable.dirty.ratio`, in millionths.
    pub min_cleanable_dirty_millionths: u32,
    pub min_compaction_lag_ms: i64,
    pub min_insync_replicas: usize,
    /// `None`: without limit.
    pub retention_bytes: Option<i64>,
    /// `None`: without limit.
    pub retention_ms: Option<i64>,
    pub segment_bytes: i32,
    pub segment_ms: i64,
}

/// What the broker's own config says for all topics that don't say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerDefaults {
    /// By the topic's name of the config.
    values: BTreeMap<&'static str, String>,
}

/// Where a value comes from; the numbers are Kafka's `ConfigSource`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigOrigin {
    Topic = 1,
    /// Set for the broker while it runs.
    Broker = 2,
    /// Set for all brokers.
    AllBrokers = 3,
    StaticBroker = 4,
    Default = 5,
}

/// One config, described for DescribeConfigs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    pub key: &'static ConfigKey,
    pub value: String,
    pub origin: ConfigOrigin,
    /// All values that there are for it, the one that counts first.
    pub synonyms: Vec<ConfigSynonym>,
}

/// A place where a config's value is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSynonym {
    pub name: &'static str,
    pub value: String,
    pub origin: ConfigOrigin,
}

impl BrokerDefaults {
    /// From the broker's names (`log.retention.ms`) and values, each checked like a topic's. A
    /// value that is the default anyway counts as not set.
    pub fn new<'a>(
        settings: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Result<BrokerDefaults, Refusal> {
        let mut values = BTreeMap::new();
        for (name, value) in settings {
            let key = TOPIC_CONFIG_KEYS.iter().find(|k| k.broker_synonym == name);
            let key = key.ok_or_else(|| {
                let message = format!("Unknown broker default for topics: {name}");
                Refusal::new(ErrorCode::InvalidConfig, message)
            })?;
            key.check(&value)?;
            if value != key.default {
                values.insert(key.name, value);
            }
        }
        Ok(BrokerDefaults { values })
    }
}

impl TopicConfig {
    /// `set` is what the topic's entry in the image holds. A value there that isn't valid, which
    /// only a later version can have stored, counts as not set.
    pub fn resolve(set: &BTreeMap<String, String>, defaults: &BrokerDefaults) -> TopicConfig {
        let effective = |name: &str| effective(name, set, defaults);
        let long = |name| effective(name).trim().parse().unwrap_or(i64::MAX);
        let int = |name| i32::try_from(long(name)).unwrap_or(i32::MAX);
        let limit = |name| Some(long(name)).filter(|n| *n >= 0);
        let timestamp_type = match effective("message.timestamp.type").trim() {
            "LogAppendTime" => TimestampType::LogAppendTime,
            _ => TimestampType::CreateTime,
        };
        let ratio: f64 = effective("min.cleanable.dirty.ratio")
            .trim()
            .parse()
            .unwrap_or(1.0);
        let replicas = |name| {
            let parsed = ThrottledReplicas::parse(effective(name));
            parsed.unwrap_or(ThrottledReplicas::These(BTreeSet::new()))
        };
        TopicConfig {
            cleanup_policy: CleanupPolicy::of(effective("cleanup.policy")),
            delete_retention_ms: long("delete.retention.ms"),
            follower_throttled: replicas(FOLLOWER_THROTTLED_REPLICAS),
            index_interval_bytes: int("index.interval.bytes"),
            leader_throttled: replicas(LEADER_THROTTLED_REPLICAS),
            max_compaction_lag_ms: long("max.compaction.lag.ms"),
            max_message_bytes: int("max.message.bytes"),
            message_timestamp_after_max_ms: long("message.timestamp.after.max.ms"),
            message_timestamp_before_max_ms: long("message.timestamp.before.max.ms"),
            message_timestamp_type: timestamp_type,
            min_cleanable_dirty_millionths: (ratio * 1e6) as u32,
            min_compaction_lag_ms: long("min.compaction.lag.ms"),
            min_insync_replicas: usize::try_from(int("min.insync.replicas")).unwrap_or(1),
            retention_bytes: limit("retention.bytes"),
            retention_ms: limit("retention.ms"),
            segment_bytes: int("segment.bytes"),
            segment_ms: long("segment.ms"),
        }
    }

    /// `min.insync.replicas` alone: elections ask for it once a topic, of thousands.
    pub fn min_insync_replicas(set: &BTreeMap<String, String>, defaults: &BrokerDefaults) -> usize {
        let value = effective("min.insync.replicas", set, defaults);
        value.trim().parse().unwrap_or(1)
    }

    /// `unclean.leader.election.enable` alone.
    pub(super) fn allows_unclean_election(
        set: &BTreeMap<String, String>,
        defaults: &BrokerDefaults,
    ) -> bool {
        let value = effective("unclean.leader.election.enable", set, defaults);
        value.trim().eq_ignore_ascii_case("true")
    }

    /// Every config with its value and where that comes from, by name.
    pub fn describe<'a>(
        set: &'a BTreeMap<String, String>,
        defaults: &'a BrokerDefaults,
    ) -> impl Iterator<Item = ConfigEntry> + 'a {
        TOPIC_CONFIG_KEYS.iter().map(move |key| {
            let synonyms = synonyms(key, set, defaults);
            let counts = &synonyms[0];
            ConfigEntry {
                key,
                value: counts.value.clone(),
                origin: counts.origin,
                synonyms,
            }
        })
    }
}

/// Never empty: the default comes last.
fn synonyms(
    key: &'static ConfigKey,
    set: &BTreeMap<String, String>,
    defaults: &BrokerDefaults,
) -> Vec<ConfigSynonym> {
    let own = set.get(key.name).filter(|value| key.check(value).is_ok());
    let own = own.map(|value| (key.name, value.clone(), ConfigOrigin::Topic));
    let broker = defaults.values.get(key.name);
    let broker = broker.map(|v| (key.broker_synonym, v.clone(), ConfigOrigin::StaticBroker));
    let default_name = match key.broker_synonym {
        "" => key.name,
        synonym => synonym,
    };
    let default = (default_name, key.default.into(), ConfigOrigin::Default);
    let all = own.into_iter().chain(broker).chain([default]);
    let synonym = |(name, value, origin)| ConfigSynonym {
        name,
        value,
        origin,
    };
    all.map(synonym).collect()
}

fn effective<'a>(
    name: &str,
    set: &'a BTreeMap<String, String>,
    defaults: &'a BrokerDefaults,
) -> &'a str {
    let key = TOPIC_CONFIG_KEYS.iter().find(|key| key.name == name);
    let valid = |value: &&String| key.is_some_and(|key| key.check(value).is_ok());
    let given = set.get(name).filter(valid).or(defaults.values.get(name));
    given.map_or(key.map_or("", |key| key.default), String::as_str)
}

/// Checks a topic's settings as a whole.
pub(super) fn check_settings(
    set: &BTreeMap<String, String>,
    limits: &MetadataLimits,
) -> Result<(), Refusal> {
    check_each(set, ConfigKey::find, limits)?;
    check_lags(set)
}

/// Checks settings each for itself, in the catalogue that `find` looks into.
pub(super) fn check_each(
    set: &BTreeMap<String, String>,
    find: fn(&str) -> Result<&'static ConfigKey, Refusal>,
    limits: &MetadataLimits,
) -> Result<(), Refusal> {
    let max = limits.config_value_bytes_max;
    for (name, value) in set {
        let key = find(name)?;
        if value.len() > max {
            let message = format!("The value of configuration {name} has more than {max} bytes.");
            return Err(Refusal::new(ErrorCode::InvalidConfig, message));
        }
        key.check(value)?;
    }
    Ok(())
}

/// What must be compacted by then may not be forbidden up to then.
fn check_lags(set: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let config = TopicConfig::resolve(set, &BrokerDefaults::default());
    let (min, max) = (config.min_compaction_lag_ms, config.max_compaction_lag_ms);
    if min <= max {
        return Ok(());
    }
    let message = format!(
        "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
    );
    Err(Refusal::new(ErrorCode::InvalidConfig, message))
}
