//! Configs of brokers, and the throttles that come of them.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::engine::metadata::alter_configs::ConfigChange;
use crate::engine::metadata::broker_configs::{
    alter_broker_configs, replace_broker_configs, BrokerConfigChanges, NewBrokerConfigs,
};
use crate::engine::metadata::throttles::{throttle_rates, ThrottledReplicas};
use crate::engine::replica::ThrottleRates;
use crate::model::ErrorCode as E;

const GIVEN: &str = "leader.replication.throttled.rate";
const TAKEN: &str = "follower.replication.throttled.rate";

fn alter(
    image: &mut MetadataImage,
    broker: Option<i32>,
    changes: &[(&str, ConfigChange)],
) -> Result<usize, E> {
    let changes = changes
        .iter()
        .map(|(name, change)| (name.to_string(), change.clone()));
    let changes = BrokerConfigChanges {
        broker: broker.map(BrokerId),
        changes: changes.collect(),
    };
    let limits = MetadataLimits::default();
    let commands = alter_broker_configs(image, &changes, &limits).map_err(|r| r.code)?;
    commands.iter().for_each(|command| image.replay(command));
    Ok(commands.len())
}

fn put(value: &str) -> ConfigChange {
    ConfigChange::Set(value.into())
}

#[test]
fn a_brokers_own_config_counts_before_that_of_all_brokers_and_that_before_the_default() {
    let mut image = cluster(2);
    let described = |image: &MetadataImage| {
        let entries = image.describe_broker_configs(BrokerId(1)).into_iter();
        let mut rates = entries.filter(|entry| entry.key.name == GIVEN);
        let entry = rates.next().unwrap();
        (entry.value, entry.origin, entry.synonyms.len())
    };
    assert_eq!(
        described(&image),
        (i64::MAX.to_string(), ConfigOrigin::Default, 1)
    );
    assert_eq!(alter(&mut image, None, &[(GIVEN, put("5"))]), Ok(1));
    assert_eq!(described(&image), ("5".into(), ConfigOrigin::AllBrokers, 2));
    assert_eq!(alter(&mut image, Some(1), &[(GIVEN, put("7"))]), Ok(1));
    assert_eq!(described(&image), ("7".into(), ConfigOrigin::Broker, 3));
    let all = image.describe_configs_of_all_brokers();
    assert_eq!((all.len(), all[0].value.as_str()), (1, "5"));
    assert_eq!(image.broker_config(BrokerId(2), GIVEN), Some("5"));
    // What is so already needs no command.
    assert_eq!(alter(&mut image, Some(1), &[(GIVEN, put("7"))]), Ok(0));
    assert_eq!(
        alter(&mut image, Some(1), &[(GIVEN, ConfigChange::Delete)]),
        Ok(1)
    );
    assert_eq!(
        alter(&mut image, Some(1), &[(GIVEN, ConfigChange::Delete)]),
        Ok(0)
    );
    assert_eq!(described(&image).0, "5");
    let nothing = NewBrokerConfigs {
        broker: None,
        configs: Vec::new(),
    };
    let replaced = replace_broker_configs(&image, &nothing, &MetadataLimits::default());
    replaced
        .unwrap()
        .iter()
        .for_each(|command| image.replay(command));
    assert_eq!(image.describe_configs_of_all_brokers(), []);
}

#[test]
fn what_a_broker_does_not_know_is_refused() {
    let mut image = cluster(1);
    let mut refused = |broker, name: &str, change| alter(&mut image, broker, &[(name, change)]);
    assert_eq!(
        refused(Some(9), GIVEN, put("1")),
        Err(E::BrokerIdNotRegistered)
    );
    assert_eq!(
        refused(Some(1), "log.dirs", put("x")),
        Err(E::InvalidConfig)
    );
    assert_eq!(refused(Some(1), GIVEN, put("-1")), Err(E::InvalidConfig));
    assert_eq!(refused(None, GIVEN, put("fast")), Err(E::InvalidConfig));
    let append = ConfigChange::Append("1".into());
    assert_eq!(refused(Some(1), GIVEN, append), Err(E::InvalidConfig));
}

#[test]
fn replicas_are_listed_one_by_one_or_all_together() {
    let parse = ThrottledReplicas::parse;
    let these = |all: &[(i32, i32)]| {
        let all = all
            .iter()
            .map(|(partition, id)| (*partition, BrokerId(*id)));
        Some(ThrottledReplicas::These(all.collect()))
    };
    assert_eq!(parse(" * "), Some(ThrottledReplicas::All));
    assert_eq!(parse(""), these(&[]));
    assert_eq!(parse("0:1, 7:22,"), these(&[(0, 1), (7, 22)]));
    for bad in [
        "0",
        "0:",
        ":1",
        "*,0:1",
        "0:1:2",
        "-1:2",
        "+1:2",
        "a:b",
        "0:99999999999",
    ] {
        assert_eq!(parse(bad), None, "{bad}");
    }
}

/// Partitions 0 and 1 are led by 1, 2 by 2; all of them are to be copied to 3.
#[test]
fn what_a_broker_takes_is_shared_by_the_leaders_that_fill_it() {
    let mut image = cluster(3);
    image.replay(&create("t", 1, &[&[1, 2, 3], &[1, 2, 3], &[2, 1, 3]]));
    let lists = [(
        "follower.replication.throttled.replicas".into(),
        "0:3,1:3,2:3".into(),
    )];
    image.replay(&MetadataCommand::SetTopicConfigs {
        id: topic_id(1),
        set: BTreeMap::from(lists),
        removed: BTreeSet::new(),
    });
    alter(&mut image, Some(1), &[(GIVEN, put("1000"))]).unwrap();
    alter(&mut image, Some(3), &[(TAKEN, put("900"))]).unwrap();
    let rates = |image: &MetadataImage, node| throttle_rates(image, BrokerId(node));
    let expected = |given, share| ThrottleRates {
        given,
        taken: BTreeMap::from([(BrokerId(3), share)]),
    };
    // All are in sync: nobody else fills it.
    assert_eq!(rates(&image, 1), expected(Some(1_000), 900));
    let leave = |image: &mut MetadataImage, partition| {
        let id = crate::model::PartitionId {
            topic_id: topic_id(1),
            partition,
        };
        let now = image.partition(id).unwrap();
        let change = PartitionChange {
            partition,
            seen: now.partition_epoch,
            isr: Some(brokers(&[1, 2])),
            ..PartitionChange::default()
        };
        image.replay(&MetadataCommand::ChangePartitions {
            topic: topic_id(1),
            changes: vec![change],
        });
    };
    leave(&mut image, 0);
    leave(&mut image, 1);
    assert_eq!(rates(&image, 1), expected(Some(1_000), 900));
    leave(&mut image, 2);
    assert_eq!(rates(&image, 1), expected(Some(1_000), 450));
    assert_eq!(rates(&image, 2), expected(None, 450));
    alter(&mut image, Some(3), &[(TAKEN, ConfigChange::Delete)]).unwrap();
    assert_eq!(rates(&image, 2), ThrottleRates::default());
}
