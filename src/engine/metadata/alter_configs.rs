//! Changing the settings of a topic: some of them (IncrementalAlterConfigs, KIP-339), or all
//! together (AlterConfigs).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::config_catalogue::list_items;
use super::topic_config::check_settings;
use super::{
    BrokerDefaults, ConfigKey, ConfigKind, MetadataCommand, MetadataImage, MetadataLimits, Refusal,
    Topic, TopicConfig,
};
use crate::model::ErrorCode;

/// What is done to one config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigChange {
    Set(String),
    /// Back to the default.
    Delete,
    /// Adds to a list what it doesn't hold yet.
    Append(String),
    /// Takes from a list.
    Subtract(String),
}

/// Changes of one topic, of which all or none take effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicConfigChanges {
    pub topic: String,
    pub changes: Vec<(String, ConfigChange)>,
}

/// All that a topic shall have set. A name without a value is refused, as in Kafka.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTopicConfigs {
    pub topic: String,
    pub configs: Vec<(String, Option<String>)>,
}

/// Some configs of one topic. There is nothing to do if the changes change nothing.
pub fn alter_topic_configs(
    image: &MetadataImage,
    TopicConfigChanges { topic, changes }: &TopicConfigChanges,
    defaults: &BrokerDefaults,
    limits: &MetadataLimits,
) -> Result<Vec<MetadataCommand>, Refusal> {
    let topic = find(image, topic)?;
    let current = |configs: &Configs, key: &ConfigKey| {
        let mut entries = TopicConfig::describe(configs, defaults);
        let entry = entries.find(|entry| entry.key == key);
        entry.map_or_else(String::new, |entry| entry.value)
    };
    let configs = altered(&topic.configs, changes, ConfigKey::find, current)?;
    set_configs(topic, &configs, limits)
}

/// Sets just these configs of one topic: every other goes back to its default.
pub fn replace_topic_configs(
    image: &MetadataImage,
    NewTopicConfigs { topic, configs }: &NewTopicConfigs,
    limits: &MetadataLimits,
) -> Result<Vec<MetadataCommand>, Refusal> {
    let topic = find(image, topic)?;
    set_configs(topic, &replaced(configs)?, limits)
}

fn find<'a>(image: &'a MetadataImage, topic: &str) -> Result<&'a Topic, Refusal> {
    let found = image.topic_by_name(topic).map(|topic| &**topic);
    found.ok_or_else(|| {
        let message = format!("The topic '{topic}' does not exist.");
        Refusal::new(ErrorCode::UnknownTopicOrPartition, message)
    })
}

/// The command that makes `configs` the topic's; none if they are.
fn set_configs(
    topic: &Topic,
    configs: &Configs,
    limits: &MetadataLimits,
) -> Result<Vec<MetadataCommand>, Refusal> {
    check_settings(configs, limits)?;
    let command = difference(&topic.configs, configs).map(|(set, removed)| {
        MetadataCommand::SetTopicConfigs {
            id: topic.id,
            set,
            removed,
        }
    });
    Ok(command.into_iter().collect())
}

/// What is set, by name.
pub(super) type Configs = BTreeMap<String, String>;

/// What is set after the changes, of names that `find` knows. `current` tells the value that counts now.
pub(super) fn altered(
    now: &Configs,
    changes: &[(String, ConfigChange)],
    find: fn(&str) -> Result<&'static ConfigKey, Refusal>,
    current: impl Fn(&Configs, &ConfigKey) -> String,
) -> Result<Configs, Refusal> {
    let mut configs = now.clone();
    let mut seen = BTreeSet::new();
    for (name, change) in changes {
        if !seen.insert(name) {
            return Err(twice(name));
        }
        let list = |operation: &str| {
            let key = find(name)?;
            if key.kind != ConfigKind::List {
                let message =
                    format!("Can't {operation} to key {name} because its type is not LIST.");
                return Err(Refusal::new(ErrorCode::InvalidConfig, message));
            }
            Ok(current(&configs, key))
        };
        let value = match change {
            ConfigChange::Set(value) => value.clone(),
            ConfigChange::Delete => {
                // What is set can be deleted even if this version doesn't know it.
                if configs.remove(name).is_none() {
                    find(name)?;
                }
                continue;
            }
            ConfigChange::Append(value) => {
                let now = list("APPEND")?;
                let mut items = list_items(&now);
                let is_new = |item: &&str| !list_items(&now).contains(item);
                items.extend(list_items(value).into_iter().filter(is_new));
                items.join(",")
            }
            ConfigChange::Subtract(value) => {
                let now = list("SUBTRACT")?;
                let taken = list_items(value);
                let mut items = list_items(&now);
                items.retain(|item| !taken.contains(item));
                items.join(",")
            }
        };
        configs.insert(name.clone(), value);
    }
    Ok(configs)
}

/// What is set if just this is.
pub(super) fn replaced(configs: &[(String, Option<String>)]) -> Result<Configs, Refusal> {
    let mut set = BTreeMap::new();
    for (name, value) in configs {
        let value = value.clone().ok_or_else(|| {
            let message = format!("The config {name} needs a value.");
            Refusal::new(ErrorCode::InvalidConfig, message)
        })?;
        if set.insert(name.clone(), value).is_some() {
            return Err(twice(name));
        }
    }
    Ok(set)
}

fn twice(name: &str) -> Refusal {
    let message = format!("The config {name} is in the request twice.");
    Refusal::new(ErrorCode::InvalidRequest, message)
}

/// What is to be set and removed to come from `now` to `wanted`; `None` if nothing is.
pub(super) fn difference(now: &Configs, wanted: &Configs) -> Option<(Configs, BTreeSet<String>)> {
    let is_new = |(name, value): &(&String, &String)| now.get(*name) != Some(*value);
    let set = wanted.iter().filter(is_new);
    let set: Configs = set
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let gone = now.keys().filter(|name| !wanted.contains_key(*name));
    let removed: BTreeSet<String> = gone.cloned().collect();
    (!set.is_empty() || !removed.is_empty()).then_some((set, removed))
}
