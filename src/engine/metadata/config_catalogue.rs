//! The catalogue of configs, of topics and of brokers: Kafka's names, types, defaults and valid values.
//!
//! Only configs that act are in it. One that Kafka knows but that would have no effect here is
//! refused rather than stored: who sets it expects something to happen.

use super::throttles::ThrottledReplicas;
use super::Refusal;
use crate::model::ErrorCode;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigKind {
    String,
    /// 32 bits.
    Int,
    /// 64 bits.
    Long,
    /// A number with a point.
    Double,
    /// Values with commas between them.
    List,
    /// `true` or `false`, in letters of any case.
    Boolean,
}

/// Which values are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Valid {
    Between(i64, i64),
    /// From 0 to 1.
    Ratio,
    /// Just one of these words; for a list, one or more of them.
    Words(&'static [&'static str]),
    TrueOrFalse,
    /// `*`, or `partition:broker` with commas between them.
    Replicas,
}

/// One config of a topic or broker.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigKey {
    pub name: &'static str,
    pub kind: ConfigKind,
    pub default: &'static str,
    /// The broker's config that gives the default for all topics; empty where there is none.
    pub broker_synonym: &'static str,
    pub doc: &'static str,
    valid: Valid,
}

/// Whose copies are throttled (KIP-73).
pub(super) const FOLLOWER_THROTTLED_REPLICAS: &str = "follower.replication.throttled.replicas";
pub(super) const LEADER_THROTTLED_REPLICAS: &str = "leader.replication.throttled.replicas";
/// And to what.
pub(super) const FOLLOWER_THROTTLED_RATE: &str = "follower.replication.throttled.rate";
pub(super) const LEADER_THROTTLED_RATE: &str = "leader.replication.throttled.rate";

const INT_MAX: i64 = i32::MAX as i64;
const LONG_MAX: i64 = i64::MAX;

/// All of a topic, by name.
pub static TOPIC_CONFIG_KEYS: &[ConfigKey] = &[
    ConfigKey {
        name: "cleanup.policy",
        kind: ConfigKind::List,
        default: "delete",
        broker_synonym: "log.cleanup.policy",
        doc: "What becomes of old segments: 'delete' discards them when retention.ms or retention.bytes is passed, 'compact' keeps the last record of each key; both can be given.",
        valid: Valid::Words(&["delete", "compact"]),
    },
    ConfigKey {
        name: "compression.type",
        kind: ConfigKind::String,
        default: "producer",
        broker_synonym: "compression.type",
        doc: "How batches are compressed: 'producer' keeps them as the producer sent them.",
        valid: Valid::Words(&["producer"]),
    },
    ConfigKey {
        name: "delete.retention.ms",
        kind: ConfigKind::Long,
        default: "86400000",
        broker_synonym: "log.cleaner.delete.retention.ms",
        doc: "How long compaction keeps a record without a value, which deletes its key, after it first met it.",
        valid: Valid::Between(0, LONG_MAX),
    },
    ConfigKey {
        name: FOLLOWER_THROTTLED_REPLICAS,
        kind: ConfigKind::List,
        default: "",
        broker_synonym: "",
        doc: "Replicas, as partition:broker, or '*' for all, that are filled no faster than their brokers' follower.replication.throttled.rate.",
        valid: Valid::Replicas,
    },
    ConfigKey {
        name: "index.interval.bytes",
        kind: ConfigKind::Int,
        default: "4096",
        broker_synonym: "log.index.interval.bytes",
        doc: "How many bytes of the log lie between two entries of the offset index.",
        valid: Valid::Between(0, INT_MAX),
    },
    ConfigKey {
        name: LEADER_THROTTLED_REPLICAS,
        kind: ConfigKind::List,
        default: "",
        broker_synonym: "",
        doc: "Replicas, as partition:broker, or '*' for all, that fill others, where they lead, no faster than their brokers' leader.replication.throttled.rate.",
        valid: Valid::Replicas,
    },
    ConfigKey {
        name: "max.compaction.lag.ms",
        kind: ConfigKind::Long,
        default: "9223372036854775807",
        broker_synonym: "log.cleaner.max.compaction.lag.ms",
        doc: "After this time a record is compacted, however little else there is to compact.",
        valid: Valid::Between(1, LONG_MAX),
    },
    ConfigKey {
        name: "max.message.bytes",
        kind: ConfigKind::Int,
        default: "1048588",
        broker_synonym: "message.max.bytes",
        doc: "The largest record batch that is accepted, in bytes, after compression.",
        valid: Valid::Between(0, INT_MAX),
    },
    ConfigKey {
        name: "message.timestamp.after.max.ms",
        kind: ConfigKind::Long,
        default: "3600000",
        broker_synonym: "log.message.timestamp.after.max.ms",
        doc: "How far a record's timestamp may lie after the broker's time; not checked with LogAppendTime.",
        valid: Valid::Between(0, LONG_MAX),
    },
    ConfigKey {
        name: "message.timestamp.before.max.ms",
        kind: ConfigKind::Long,
        default: "9223372036854775807",
        broker_synonym: "log.message.timestamp.before.max.ms",
        doc: "How far a record's timestamp may lie before the broker's time; not checked with LogAppendTime.",
        valid: Valid::Between(0, LONG_MAX),
    },
    ConfigKey {
        name: "message.timestamp.type",
        kind: ConfigKind::String,
        default: "CreateTime",
        broker_synonym: "log.message.timestamp.type",
        doc: "Whose time a record carries: the producer's (CreateTime) or the broker's (LogAppendTime).",
        valid: Valid::Words(&["CreateTime", "LogAppendTime"]),
    },
    ConfigKey {
        name: "min.cleanable.dirty.ratio",
        kind: ConfigKind::Double,
        default: "0.5",
        broker_synonym: "log.cleaner.min.cleanable.ratio",
        doc: "How much of a log must not be compacted yet before it is.",
        valid: Valid::Ratio,
    },
    ConfigKey {
        name: "min.compaction.lag.ms",
        kind: ConfigKind::Long,
        default: "0",
        broker_synonym: "log.cleaner.min.compaction.lag.ms",
        doc: "Before this time a record isn't compacted.",
        valid: Valid::Between(0, LONG_MAX),
    },
    ConfigKey {
        name: "min.insync.replicas",
        kind: ConfigKind::Int,
        default: "1",
        broker_synonym: "min.insync.replicas",
        doc: "How many replicas must be in sync for a write with acks=all to be accepted.",
        valid: Valid::Between(1, INT_MAX),
    },
    ConfigKey {
        name: "retention.bytes",
        kind: ConfigKind::Long,
        default: "-1",
        broker_synonym: "log.retention.bytes",
        doc: "How large a partition may grow before its oldest segments are discarded; -1: without limit.",
        valid: Valid::Between(-1, LONG_MAX),
    },
    ConfigKey {
        name: "retention.ms",
        kind: ConfigKind::Long,
        default: "604800000",
        broker_synonym: "log.retention.ms",
        doc: "How old records may grow before their segments are discarded; -1: without limit.",
        valid: Valid::Between(-1, LONG_MAX),
    },
    ConfigKey {
        name: "segment.bytes",
        kind: ConfigKind::Int,
        default: "1073741824",
        broker_synonym: "log.segment.bytes",
        doc: "How large a segment file may grow before the next one is begun.",
        valid: Valid::Between(1_048_576, INT_MAX),
    },
    ConfigKey {
        name: "segment.ms",
        kind: ConfigKind::Long,
        default: "604800000",
        broker_synonym: "log.roll.ms",
        doc: "How old a segment may grow before the next one is begun, so that retention can discard it.",
        valid: Valid::Between(1, LONG_MAX),
    },
    ConfigKey {
        name: "unclean.leader.election.enable",
        kind: ConfigKind::Boolean,
        default: "false",
        broker_synonym: "unclean.leader.election.enable",
        doc: "Whether a replica that may lack committed records leads if there is no other; they are lost then.",
        valid: Valid::TrueOrFalse,
    },
];

/// Those of a broker that can be changed while it runs, by name.
pub static BROKER_CONFIG_KEYS: &[ConfigKey] = &[
    ConfigKey {
        name: FOLLOWER_THROTTLED_RATE,
        kind: ConfigKind::Long,
        default: "9223372036854775807",
        broker_synonym: "",
        doc: "How many bytes a second the broker takes for throttled replicas that aren't in sync.",
        valid: Valid::Between(0, LONG_MAX),
    },
    ConfigKey {
        name: LEADER_THROTTLED_RATE,
        kind: ConfigKind::Long,
        default: "9223372036854775807",
        broker_synonym: "",
        doc: "How many bytes a second the broker gives, of throttled replicas that it leads, to followers that aren't in sync.",
        valid: Valid::Between(0, LONG_MAX),
    },
];

/// Topic configs of Kafka that don't act here.
const WITHOUT_EFFECT: &[&str] = &[
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.zstd.level",
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "local.retention.bytes",
    "local.retention.ms",
    "message.downconversion.enable",
    "message.format.version",
    "message.timestamp.difference.max.ms",
    "preallocate",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "remote.storage.enable",
    "segment.index.bytes",
    "segment.jitter.ms",
];

impl ConfigKey {
    /// The one of a broker that has this name.
    pub fn find_of_broker(name: &str) -> Result<&'static ConfigKey, Refusal> {
        let found = BROKER_CONFIG_KEYS.iter().find(|key| key.name == name);
        found.ok_or_else(|| {
            let message = format!("Broker config {name} can't be changed while the broker runs.");
            Refusal::new(ErrorCode::InvalidConfig, message)
        })
    }

    /// The one of a topic. The error names it.
    pub fn find(name: &str) -> Result<&'static ConfigKey, Refusal> {
        if let Some(key) = TOPIC_CONFIG_KEYS.iter().find(|key| key.name == name) {
            return Ok(key);
        }
        let message = if WITHOUT_EFFECT.contains(&name) {
            format!("Topic config {name} has no effect in this version, so it can't be set.")
        } else {
            format!("Unknown topic config name: {name}")
        };
        Err(Refusal::new(ErrorCode::InvalidConfig, message))
    }

    /// The error names key and value, and says what would be valid.
    pub fn check(&self, value: &str) -> Result<(), Refusal> {
        let why = match (self.valid, self.kind) {
            (Valid::Between(min, max), _) => self.number_error(value, min, max),
            (Valid::Ratio, _) => ratio_error(value.trim()),
            (Valid::Words(words), ConfigKind::List) => list_error(value, words),
            (Valid::Words(words), _) => word_error(value.trim(), words),
            (Valid::TrueOrFalse, _) => boolean_error(value.trim()),
            (Valid::Replicas, _) => replicas_error(value),
        };
        match why {
            None => Ok(()),
            Some(why) => {
                let name = self.name;
                let message = format!("Invalid value {value} for configuration {name}: {why}");
                Err(Refusal::new(ErrorCode::InvalidConfig, message))
            }
        }
    }

    fn number_error(&self, value: &str, min: i64, max: i64) -> Option<String> {
        match value.trim().parse::<i64>() {
            Ok(number) if number < min => Some(format!("Value must be at least {min}")),
            Ok(number) if number > max => Some(format!("Value must be no more than {max}")),
            Ok(_) => None,
            Err(_) => {
                let kind = if self.kind == ConfigKind::Int {
                    "INT"
                } else {
                    "LONG"
                };
                Some(format!("Not a number of type {kind}"))
            }
        }
    }
}

fn word_error(value: &str, words: &[&str]) -> Option<String> {
    if words.contains(&value) {
        return None;
    }
    Some(format!("String must be one of: {}", words.join(", ")))
}

fn ratio_error(value: &str) -> Option<String> {
    match value.parse::<f64>() {
        Ok(ratio) if ratio < 0.0 => Some("Value must be at least 0".into()),
        Ok(ratio) if ratio > 1.0 => Some("Value must be no more than 1".into()),
        Ok(ratio) if !ratio.is_nan() => None,
        _ => Some("Not a number of type DOUBLE".into()),
    }
}

fn boolean_error(value: &str) -> Option<String> {
    let is_valid = ["true", "false"]
        .iter()
        .any(|word| value.eq_ignore_ascii_case(word));
    (!is_valid).then(|| "Expected value to be either true or false".into())
}

fn list_error(value: &str, words: &[&str]) -> Option<String> {
    let items = list_items(value);
    if items.is_empty() {
        return Some("the list can't be empty".into());
    }
    items.iter().find_map(|item| word_error(item, words))
}

fn replicas_error(value: &str) -> Option<String> {
    ThrottledReplicas::parse(value).is_none().then(|| {
        "it must be the literal '*' or a list of replicas in the following format: \
         [partitionId]:[brokerId],[partitionId]:[brokerId],..."
            .into()
    })
}

/// The values of a list, without blanks around them.
pub(super) fn list_items(value: &str) -> Vec<&str> {
    let items = value.split(',').map(str::trim);
    items.filter(|item| !item.is_empty()).collect()
}
