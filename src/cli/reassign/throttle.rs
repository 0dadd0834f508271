//! Throttles of what moves, set and removed as kafka-reassign-partitions does.

use std::collections::{BTreeMap, BTreeSet};

use super::print;
use crate::cli::error::CliError;
use crate::cli::output::joined;
use crate::cli::placement::Placed;
use crate::client::{Admin, ConfigChange, Reassigning, Resource};
use crate::model::{BrokerId, ErrorCode};
use crate::protocol::describe_configs::ConfigSource;
use crate::protocol::incremental_alter_configs::AlterConfigOp;

const RATES: [&str; 2] = [
    "leader.replication.throttled.rate",
    "follower.replication.throttled.rate",
];
const GIVING: &str = "leader.replication.throttled.replicas";
const TAKING: &str = "follower.replication.throttled.replicas";

/// Whose copies a move makes.
#[derive(Debug, PartialEq)]
struct Move {
    topic: String,
    partition: i32,
    /// Each of them may lead.
    from: Vec<BrokerId>,
    to: Vec<BrokerId>,
}

/// Has the copies of what is planned, and of what moves already, go no faster than this at any broker that takes
/// part, in bytes a second.
pub async fn set(admin: &Admin, planned: &[Placed], rate: i64) -> Result<(), CliError> {
    let moving = admin.list_reassignments().await?;
    let mut now = BTreeMap::new();
    for topic in admin.newest_topics().await? {
        for partition in &topic.partitions {
            let key = (topic.name.to_string(), partition.index);
            now.insert(key, partition.replicas.clone());
        }
    }
    let moves = moves(planned, &moving, &now);
    let involved = moves.iter().flat_map(|one| one.from.iter().chain(&one.to));
    let involved: BTreeSet<BrokerId> = involved.copied().collect();
    for broker in &involved {
        let rates = RATES.map(|name| put(name, rate.to_string()));
        admin
            .alter_configs(&Resource::Broker(*broker), &rates)
            .await?;
    }
    let mut topics: BTreeMap<&str, (Vec<String>, Vec<String>)> = BTreeMap::new();
    for one in &moves {
        let (giving, taking) = topics.entry(&one.topic).or_default();
        let replica = |id: &BrokerId| format!("{}:{id}", one.partition);
        giving.extend(one.from.iter().map(replica));
        taking.extend(one.to.iter().map(replica));
    }
    for (topic, (giving, taking)) in topics {
        let lists = [put(GIVING, joined(&giving)), put(TAKING, joined(&taking))];
        admin
            .alter_configs(&Resource::Topic(topic.into()), &lists)
            .await?;
    }
    let involved: Vec<BrokerId> = involved.into_iter().collect();
    print(&format!(
        "copies are throttled to {rate} bytes a second at brokers {}",
        joined(&involved)
    ))
}

/// Removes the throttles of these topics and of all brokers, if there are any and nothing moves any more.
pub async fn remove(admin: &Admin, topics: BTreeSet<&str>) -> Result<(), CliError> {
    if !admin.list_reassignments().await?.is_empty() {
        return Ok(());
    }
    let mut throttled = Vec::new();
    for topic in topics {
        let topic = Resource::Topic(topic.into());
        let configs = match admin.describe_configs(&topic).await {
            Ok(configs) => configs,
            Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => continue,
            Err(error) => return Err(error.into()),
        };
        let is_set = |name: &str, source: i8| {
            [GIVING, TAKING].contains(&name) && source == ConfigSource::DynamicTopicConfig as i8
        };
        if configs
            .iter()
            .any(|config| is_set(&config.name, config.config_source))
        {
            throttled.push(topic);
        }
    }
    if throttled.is_empty() {
        return Ok(());
    }
    for topic in &throttled {
        let lists = [GIVING, TAKING].map(unset);
        admin.alter_configs(topic, &lists).await?;
    }
    for broker in admin.describe_cluster().await?.brokers {
        let rates = RATES.map(unset);
        admin
            .alter_configs(&Resource::Broker(broker.broker_id), &rates)
            .await?;
    }
    print("the throttles are removed")
}

fn put(name: &str, value: String) -> ConfigChange {
    (name.to_owned(), AlterConfigOp::Set, Some(value))
}

fn unset(name: &str) -> ConfigChange {
    (name.to_owned(), AlterConfigOp::Delete, None)
}

/// What is copied for the plan, and for what else is on its way.
fn moves(
    planned: &[Placed],
    moving: &[Reassigning],
    now: &BTreeMap<(String, i32), Vec<BrokerId>>,
) -> Vec<Move> {
    let mut targets: BTreeMap<(String, i32), &[BrokerId]> = BTreeMap::new();
    let mut coming: BTreeMap<(String, i32), &[BrokerId]> = BTreeMap::new();
    for moving in moving {
        let key = (moving.topic.clone(), moving.partition);
        targets.insert(key.clone(), &moving.replicas);
        coming.insert(key, &moving.adding);
    }
    targets.extend(
        planned
            .iter()
            .map(|placed| (placed.key(), &placed.replicas[..])),
    );
    let one = |(key, target): ((String, i32), &[BrokerId])| {
        let adding = coming.get(&key).copied().unwrap_or_default();
        let is_here = |id: &&BrokerId| !adding.contains(id);
        let from: Vec<BrokerId> = now.get(&key)?.iter().filter(is_here).copied().collect();
        let is_new = |id: &&BrokerId| !from.contains(id);
        let to = target.iter().filter(is_new).copied().collect();
        let (topic, partition) = key;
        Some(Move {
            topic,
            partition,
            from,
            to,
        })
    };
    targets.into_iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[i32]) -> Vec<BrokerId> {
        ids.iter().copied().map(BrokerId).collect()
    }

    #[test]
    fn what_is_planned_and_what_moves_already_is_copied_from_those_who_have_it() {
        let planned = ["a", "b"].map(|topic| Placed {
            topic: topic.into(),
            partition: 0,
            replicas: ids(&[2, 3]),
        });
        let under_way = |topic: &str| Reassigning {
            topic: topic.into(),
            partition: 0,
            replicas: ids(&[3, 2, 1]),
            adding: ids(&[3]),
            removing: ids(&[1]),
        };
        let now = BTreeMap::from([
            (("a".into(), 0), ids(&[1, 2])),
            // It is on its way to 3 already.
            (("b".into(), 0), ids(&[3, 2, 1])),
            (("c".into(), 0), ids(&[3, 2, 1])),
        ]);
        let moves = moves(&planned, &[under_way("b"), under_way("c")], &now);
        let told: Vec<_> = moves
            .iter()
            .map(|one| (&*one.topic, joined(&one.from), joined(&one.to)))
            .collect();
        let told: Vec<_> = told
            .iter()
            .map(|(t, from, to)| (*t, &**from, &**to))
            .collect();
        assert_eq!(
            told,
            [("a", "1,2", "3"), ("b", "2,1", "3"), ("c", "2,1", "3")]
        );
    }
}
