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
    let mut configs = topic.configs.clone();
    let mut seen = BTreeSet::new();
    for (name, change) in changes {
        if !seen.insert(name) {
            return Err(twice(name));
        }
        apply(&mut configs, name, change, defaults)?;
    }
    set_configs(topic, configs, limits)
}

/// Sets just these configs of one topic: every other goes back to its default.
pub fn replace_topic_configs(
    image: &MetadataImage,
    NewTopicConfigs { topic, configs }: &NewTopicConfigs,
    limits: &MetadataLimits,
) -> Result<Vec<MetadataCommand>, Refusal> {
    let topic = find(image, topic)?;
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
    set_configs(topic, set, limits)
}

fn find<'a>(image: &'a MetadataImage, topic: &str) -> Result<&'a Topic, Refusal> {
    let found = image.topic_by_name(topic).map(|topic| &**topic);
    found.ok_or_else(|| {
        let message = format!("The topic '{topic}' does not exist.");
        Refusal::new(ErrorCode::UnknownTopicOrPartition, message)
    })
}

fn twice(name: &str) -> Refusal {
    let message = format!("The config {name} is in the request twice.");
    Refusal::new(ErrorCode::InvalidRequest, message)
}

/// The command that makes `configs` the topic's; none if they are.
fn set_configs(
    topic: &Topic,
    configs: BTreeMap<String, String>,
    limits: &MetadataLimits,
) -> Result<Vec<MetadataCommand>, Refusal> {
    check_settings(&configs, limits)?;
    let is_new = |(name, value): &(&String, &String)| topic.configs.get(*name) != Some(*value);
    let set: BTreeMap<String, String> = configs
        .iter()
        .filter(is_new)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let gone = topic
        .configs
        .keys()
        .filter(|name| !configs.contains_key(*name));
    let removed: BTreeSet<String> = gone.cloned().collect();
    if set.is_empty() && removed.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![MetadataCommand::SetTopicConfigs {
        id: topic.id,
        set,
        removed,
    }])
}

fn apply(
    configs: &mut BTreeMap<String, String>,
    name: &str,
    change: &ConfigChange,
    defaults: &BrokerDefaults,
) -> Result<(), Refusal> {
    match change {
        ConfigChange::Set(value) => {
            configs.insert(name.into(), value.clone());
        }
        ConfigChange::Delete => {
            // What is set can be deleted even if this version doesn't know it.
            if configs.remove(name).is_none() {
                ConfigKey::find(name)?;
            }
        }
        ConfigChange::Append(value) => {
            let now = current_list(configs, name, "APPEND", defaults)?;
            let mut items = list_items(&now);
            let new = list_items(value);
            items.extend(
                new.into_iter()
                    .filter(|item| !list_items(&now).contains(item)),
            );
            configs.insert(name.into(), items.join(","));
        }
        ConfigChange::Subtract(value) => {
            let now = current_list(configs, name, "SUBTRACT", defaults)?;
            let taken = list_items(value);
            let mut items = list_items(&now);
            items.retain(|item| !taken.contains(item));
            configs.insert(name.into(), items.join(","));
        }
    }
    Ok(())
}

/// The value that counts now, which must be a list's.
fn current_list(
    configs: &BTreeMap<String, String>,
    name: &str,
    operation: &str,
    defaults: &BrokerDefaults,
) -> Result<String, Refusal> {
    let key = ConfigKey::find(name)?;
    if key.kind != ConfigKind::List {
        let message = format!("Can't {operation} to key {name} because its type is not LIST.");
        return Err(Refusal::new(ErrorCode::InvalidConfig, message));
    }
    let entry = TopicConfig::describe(configs, defaults).find(|entry| entry.key == key);
    Ok(entry.map_or_else(String::new, |entry| entry.value))
}
