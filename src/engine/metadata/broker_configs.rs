//! The configs of brokers that can be changed while they run (KIP-226): of one broker, or of all that don't say
//! otherwise.

use serde::{Deserialize, Serialize};

use super::alter_configs::{altered, difference, replaced, ConfigChange, Configs};
use super::topic_config::check_each;
use super::{
    ConfigEntry, ConfigKey, ConfigOrigin, ConfigSynonym, MetadataCommand, MetadataImage,
    MetadataLimits, Refusal, BROKER_CONFIG_KEYS,
};
use crate::model::{BrokerId, ErrorCode};

/// Changes of one broker, or of all, of which all or none take effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerConfigChanges {
    /// `None`: what all brokers have that don't say otherwise.
    pub broker: Option<BrokerId>,
    pub changes: Vec<(String, ConfigChange)>,
}

/// All that a broker, or all, shall have set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewBrokerConfigs {
    /// `None`: what all brokers have that don't say otherwise.
    pub broker: Option<BrokerId>,
    pub configs: Vec<(String, Option<String>)>,
}

/// Some configs of a broker. There is nothing to do if the changes change nothing.
pub fn alter_broker_configs(
    image: &MetadataImage,
    BrokerConfigChanges { broker, changes }: &BrokerConfigChanges,
    limits: &MetadataLimits,
) -> Result<Vec<MetadataCommand>, Refusal> {
    let now = find(image, *broker)?;
    // None of them is a list.
    let configs = altered(&now, changes, ConfigKey::find_of_broker, |_, _| {
        String::new()
    })?;
    set_configs(*broker, &now, &configs, limits)
}

/// Sets just these configs of a broker: every other goes back to its default.
pub fn replace_broker_configs(
    image: &MetadataImage,
    NewBrokerConfigs { broker, configs }: &NewBrokerConfigs,
    limits: &MetadataLimits,
) -> Result<Vec<MetadataCommand>, Refusal> {
    let now = find(image, *broker)?;
    set_configs(*broker, &now, &replaced(configs)?, limits)
}

/// What is set for a broker that is known, or was when it was set; or for all.
fn find(image: &MetadataImage, broker: Option<BrokerId>) -> Result<Configs, Refusal> {
    let set = image.broker_configs.get(&broker);
    match (set, broker) {
        (None, Some(id)) if image.broker(id).is_none() => {
            let message = format!("No node with id {id} found.");
            Err(Refusal::new(ErrorCode::BrokerIdNotRegistered, message))
        }
        (set, _) => Ok(set.cloned().unwrap_or_default()),
    }
}

fn set_configs(
    broker: Option<BrokerId>,
    now: &Configs,
    configs: &Configs,
    limits: &MetadataLimits,
) -> Result<Vec<MetadataCommand>, Refusal> {
    check_each(configs, ConfigKey::find_of_broker, limits)?;
    let Some((set, removed)) = difference(now, configs) else {
        return Ok(Vec::new());
    };
    Ok(vec![MetadataCommand::SetBrokerConfigs {
        broker,
        set,
        removed,
    }])
}

impl MetadataImage {
    /// What is set for a broker, or else for all; `None` if neither is, or if it isn't valid, which only a later
    /// version can have stored.
    pub fn broker_config(&self, broker: BrokerId, name: &str) -> Option<&str> {
        let mut set = self.broker_configs_set(Some(broker), name);
        set.next().map(|(value, _)| value)
    }

    /// The values of a config, the one that counts first.
    fn broker_configs_set(
        &self,
        broker: Option<BrokerId>,
        name: &str,
    ) -> impl Iterator<Item = (&str, ConfigOrigin)> {
        let set = |broker: Option<BrokerId>| {
            let value = self.broker_configs.get(&broker)?.get(name)?;
            let key = ConfigKey::find_of_broker(name).ok()?;
            key.check(value).is_ok().then_some(value.as_str())
        };
        let own = broker.and_then(|broker| set(Some(broker)));
        let own = own.map(|value| (value, ConfigOrigin::Broker));
        let all = set(None).map(|value| (value, ConfigOrigin::AllBrokers));
        own.into_iter().chain(all)
    }

    /// Every config of a broker that can be changed while it runs, by name.
    pub fn describe_broker_configs(&self, broker: BrokerId) -> Vec<ConfigEntry> {
        let entry = |key: &'static ConfigKey| {
            let set = self.broker_configs_set(Some(broker), key.name);
            let default = (key.default, ConfigOrigin::Default);
            entry(key, set.chain([default]))
        };
        BROKER_CONFIG_KEYS.iter().filter_map(entry).collect()
    }

    /// What is set for all brokers.
    pub fn describe_configs_of_all_brokers(&self) -> Vec<ConfigEntry> {
        let entry = |key: &'static ConfigKey| entry(key, self.broker_configs_set(None, key.name));
        BROKER_CONFIG_KEYS.iter().filter_map(entry).collect()
    }
}

/// `None` if there is no value.
fn entry<'a>(
    key: &'static ConfigKey,
    values: impl Iterator<Item = (&'a str, ConfigOrigin)>,
) -> Option<ConfigEntry> {
    let synonyms = values.map(|(value, origin)| ConfigSynonym {
        name: key.name,
        value: value.to_owned(),
        origin,
    });
    let synonyms: Vec<ConfigSynonym> = synonyms.collect();
    let counts = synonyms.first()?;
    Some(ConfigEntry {
        key,
        value: counts.value.clone(),
        origin: counts.origin,
        synonyms,
    })
}
