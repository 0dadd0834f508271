//! What concerns a whole broker is done whole, however many partitions it has, in steps of bounded size.

use std::collections::BTreeSet;

use super::*;
use crate::engine::metadata::change::Change;
use crate::engine::metadata::register_broker::{BrokerRegistration, Past};

const PARTITIONS: usize = 2 * CHANGES_PER_PROPOSAL_MAX + 5;

/// Broker 1 leads all partitions, and 2 is in sync of them.
fn large() -> MetadataImage {
    let mut image = cluster(2);
    let partitions = vec![&[1, 2][..]; PARTITIONS];
    image.replay(&create("t", 1, &partitions));
    image
}

/// Decides until nothing is left, and says in how many steps.
fn carry_out(image: &mut MetadataImage, change: &Change) -> usize {
    let settings = decisions::settings();
    for step in 1.. {
        let decided = change.decide(image, &settings);
        let mut changed = 0;
        for command in decided[0].as_ref().unwrap() {
            if let MetadataCommand::ChangePartitions { changes, .. } = command {
                changed += changes.len();
            }
            image.replay(command);
        }
        assert!(changed <= CHANGES_PER_PROPOSAL_MAX);
        if !change.is_unfinished(&decided) {
            return step;
        }
    }
    unreachable!()
}

fn leads(image: &MetadataImage, broker: i32) -> usize {
    let here = image.partitions_on(BrokerId(broker));
    here.filter(|(_, _, partition)| partition.leader == BrokerId(broker))
        .count()
}

fn in_sync(image: &MetadataImage, broker: i32) -> usize {
    let here = image.partitions_on(BrokerId(broker));
    here.filter(|(_, _, partition)| partition.isr.contains(&BrokerId(broker)))
        .count()
}

#[test]
fn a_broker_that_comes_back_leads_nothing_of_its_last_life_before_it_is_registered() {
    let mut image = large();
    let change = Change::RegisterBroker(BrokerRegistration {
        cluster_id: None,
        id: BrokerId(1),
        incarnation: Incarnation(Uuid::from_u128(7)),
        endpoints: vec![endpoint(7070)],
        rack: None,
        past: Past::Unknown,
        lost: BTreeSet::new(),
        metadata_version_max: None,
    });
    assert_eq!(carry_out(&mut image, &change), 3);
    let broker = image.broker(BrokerId(1)).unwrap();
    assert_eq!(broker.incarnation, Incarnation(Uuid::from_u128(7)));
    assert_eq!(broker.state, BrokerState::Fenced);
    assert_eq!((leads(&image, 1), in_sync(&image, 1)), (0, 0));
    assert_eq!(leads(&image, 2), PARTITIONS);
}

#[test]
fn a_broker_is_fenced_unfenced_and_forgotten_with_all_that_it_has() {
    let mut image = large();
    let (id, epoch) = (BrokerId(1), image.broker(BrokerId(1)).unwrap().epoch);
    let shutdown = Change::ControlledShutdown { broker: id, epoch };
    assert_eq!(carry_out(&mut image, &shutdown), 3);
    assert_eq!(leads(&image, 1), 0);

    let other = image.broker(BrokerId(2)).unwrap().epoch;
    let fence = Change::FenceBroker {
        broker: BrokerId(2),
        epoch: other,
    };
    assert_eq!(carry_out(&mut image, &fence), 3);
    assert_eq!(leads(&image, 2), 0);
    let unfence = Change::UnfenceBroker {
        broker: BrokerId(2),
        epoch: other,
    };
    assert_eq!(carry_out(&mut image, &unfence), 3);
    assert_eq!(leads(&image, 2), PARTITIONS);

    assert_eq!(carry_out(&mut image, &fence), 3);
    let forget = Change::UnregisterBroker {
        broker: BrokerId(2),
    };
    assert_eq!(carry_out(&mut image, &forget), 3);
    assert!(image.broker(BrokerId(2)).is_none());
    let here = image.partitions_on(BrokerId(2));
    assert!(here
        .into_iter()
        .all(|(_, _, partition)| partition.eligible_leaders.is_empty()));
}
