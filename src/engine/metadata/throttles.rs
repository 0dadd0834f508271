//! What the metadata say of throttles: whose copies are held to a rate, and to which (KIP-73).
//!
//! A topic names the replicas, a broker the rates. Those that it takes from several leaders together are shared
//! evenly among the leaders that have something for it, which each of them works out for itself: when one has
//! nothing more to fill there, the others have its share with the next image.

use std::collections::{BTreeMap, BTreeSet};

use super::config_catalogue::{
    list_items, FOLLOWER_THROTTLED_RATE, FOLLOWER_THROTTLED_REPLICAS, LEADER_THROTTLED_RATE,
};
use super::sweep::numbered;
use super::MetadataImage;
use crate::engine::replica::ThrottleRates;
use crate::model::BrokerId;

/// The replicas of a topic that a list names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThrottledReplicas {
    All,
    /// Each with its partition.
    These(BTreeSet<(i32, BrokerId)>),
}

impl ThrottledReplicas {
    /// Of `*`, or of `partition:broker` with commas between them; `None` of anything else.
    pub fn parse(list: &str) -> Option<ThrottledReplicas> {
        let items = list_items(list);
        if items == ["*"] {
            return Some(ThrottledReplicas::All);
        }
        let replica = |item: &str| {
            let (partition, broker) = item.split_once(':')?;
            Some((number(partition)?, BrokerId(number(broker)?)))
        };
        let replicas = items.into_iter().map(replica);
        replicas
            .collect::<Option<_>>()
            .map(ThrottledReplicas::These)
    }

    pub fn contains(&self, partition: i32, broker: BrokerId) -> bool {
        match self {
            ThrottledReplicas::All => true,
            ThrottledReplicas::These(replicas) => replicas.contains(&(partition, broker)),
        }
    }
}

/// Without a sign.
fn number(text: &str) -> Option<i32> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// The rates to which the copies out of a broker's logs are held.
pub fn throttle_rates(image: &MetadataImage, node: BrokerId) -> ThrottleRates {
    let ids = image.brokers().map(|broker| broker.id);
    let taken = ids.filter_map(|id| Some((id, rate(image, id, FOLLOWER_THROTTLED_RATE)?)));
    let mut taken: BTreeMap<BrokerId, u64> = taken.collect();
    if !taken.is_empty() {
        let givers = givers(image);
        for (id, rate) in &mut taken {
            let others = givers.get(id).into_iter().flatten();
            let others = others.filter(|giver| **giver != node).count();
            *rate = rate.div_ceil(others as u64 + 1);
        }
    }
    ThrottleRates {
        given: rate(image, node, LEADER_THROTTLED_RATE),
        taken,
    }
}

/// Bytes a second, if there is a limit.
fn rate(image: &MetadataImage, broker: BrokerId, name: &str) -> Option<u64> {
    let rate: i64 = image.broker_config(broker, name)?.trim().parse().ok()?;
    u64::try_from(rate).ok().filter(|_| rate < i64::MAX)
}

/// For each broker those that lead partitions of which it has a throttled replica that isn't in sync.
fn givers(image: &MetadataImage) -> BTreeMap<BrokerId, BTreeSet<BrokerId>> {
    let mut givers: BTreeMap<BrokerId, BTreeSet<BrokerId>> = BTreeMap::new();
    for topic in image.topics_by_id() {
        let list = topic.configs.get(FOLLOWER_THROTTLED_REPLICAS);
        let Some(throttled) = list.and_then(|list| ThrottledReplicas::parse(list)) else {
            continue;
        };
        for (number, partition) in numbered(topic) {
            let lags = |id: &&BrokerId| !partition.isr.contains(id);
            for id in partition.replicas.iter().filter(lags) {
                if throttled.contains(number, *id) && partition.leader != BrokerId::NONE {
                    givers.entry(*id).or_default().insert(partition.leader);
                }
            }
        }
    }
    givers
}
