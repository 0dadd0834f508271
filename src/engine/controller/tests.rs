//! Who is fenced and unfenced, and when.

use uuid::Uuid;

use super::*;
use crate::engine::metadata::change::{ChangeSettings, Decided};
use crate::engine::metadata::create_topics::NewTopicDefaults;
use crate::engine::metadata::elect_leaders::not_led_by_preferred;
use crate::engine::metadata::{BrokerDefaults, Endpoint, MetadataCommand, MetadataLimits};
use crate::model::{ErrorCode, TopicId};

const SESSION_MS: i64 = 1_000;

fn life(number: u128) -> Incarnation {
    Incarnation(Uuid::from_u128(number))
}

/// Brokers 1 to 3, each in its first life; 1 is the controller's.
fn image(states: [BrokerState; 3]) -> MetadataImage {
    let mut image = MetadataImage::default();
    for (id, state) in (1..).zip(states) {
        image.replay(&MetadataCommand::RegisterBroker {
            id: BrokerId(id),
            incarnation: life(1),
            endpoints: vec![Endpoint {
                listener: "native".into(),
                host: "b".into(),
                port: 1,
            }],
            rack: None,
            state,
            metadata_version_max: None,
        });
    }
    image
}

fn told(changes: &[Change]) -> Vec<String> {
    let tell = |change: &Change| match change {
        Change::FenceBroker { broker, .. } => format!("fence {broker}"),
        Change::UnfenceBroker { broker, .. } => format!("unfence {broker}"),
        other => panic!("{other:?}"),
    };
    changes.iter().map(tell).collect()
}

#[test]
fn who_is_heard_is_unfenced_and_who_is_gone_is_fenced_at_once() {
    use BrokerState::{Fenced, Unfenced};
    let image = image([Fenced, Fenced, Unfenced]);
    let mut sessions = Sessions::new(BrokerId(1), SESSION_MS, Timestamp(0));
    assert_eq!(told(&sessions.due(&image, Timestamp(0))), ["unfence 1"]);
    sessions.note(BrokerId(2), Presence::Here(life(1)), Timestamp(1));
    sessions.note(BrokerId(3), Presence::Gone, Timestamp(1));
    let due = sessions.due(&image, Timestamp(1));
    assert_eq!(told(&due), ["unfence 1", "unfence 2", "fence 3"]);
}

#[test]
fn a_new_controller_gives_everyone_a_session_and_the_silent_a_part_of_one() {
    use BrokerState::Unfenced;
    let image = image([Unfenced; 3]);
    let mut sessions = Sessions::new(BrokerId(1), SESSION_MS, Timestamp(5_000));
    sessions.note(BrokerId(2), Presence::Silent, Timestamp(4_000));
    assert!(sessions.due(&image, Timestamp(5_249)).is_empty());
    assert_eq!(sessions.next_deadline(&image), Some(Timestamp(5_250)));
    // Nobody has told anything of 3.
    assert_eq!(told(&sessions.due(&image, Timestamp(5_250))), ["fence 2"]);
    assert_eq!(told(&sessions.due(&image, Timestamp(5_999))), ["fence 2"]);
    assert_eq!(
        told(&sessions.due(&image, Timestamp(6_000))),
        ["fence 2", "fence 3"]
    );
    sessions.note(BrokerId(2), Presence::Here(life(1)), Timestamp(6_001));
    sessions.note(BrokerId(3), Presence::Here(life(1)), Timestamp(6_001));
    assert!(sessions.due(&image, Timestamp(60_000)).is_empty());
    assert_eq!(sessions.next_deadline(&image), None);
    sessions.note(BrokerId(2), Presence::Unlinked, Timestamp(60_000));
    sessions.note(BrokerId(2), Presence::Unlinked, Timestamp(60_900));
    assert!(sessions.due(&image, Timestamp(60_999)).is_empty());
    assert_eq!(told(&sessions.due(&image, Timestamp(61_000))), ["fence 2"]);
}

#[test]
fn a_link_that_was_silent_for_a_session_is_the_end_of_it() {
    let image = image([BrokerState::Unfenced; 3]);
    let mut sessions = Sessions::new(BrokerId(1), SESSION_MS, Timestamp(0));
    for broker in [2, 3] {
        let here = Presence::Here(life(1));
        sessions.note(BrokerId(broker), here, Timestamp(10));
    }
    sessions.note(BrokerId(2), Presence::Silent, Timestamp(5_000));
    assert_eq!(told(&sessions.due(&image, Timestamp(5_000))), ["fence 2"]);
}

#[test]
fn another_life_is_not_the_one_that_has_registered() {
    use BrokerState::{Fenced, Unfenced};
    let mut sessions = Sessions::new(BrokerId(1), SESSION_MS, Timestamp(0));
    sessions.note(BrokerId(2), Presence::Here(life(2)), Timestamp(0));
    sessions.note(BrokerId(3), Presence::Here(life(2)), Timestamp(0));
    let due = sessions.due(&image([Unfenced, Unfenced, Fenced]), Timestamp(0));
    assert_eq!(told(&due), ["fence 2"]);
}

/// So many partitions whose preferred replica, 1, is in sync and doesn't lead.
fn misled(partitions: usize) -> MetadataImage {
    let mut image = image([
        BrokerState::Fenced,
        BrokerState::Unfenced,
        BrokerState::Unfenced,
    ]);
    let id = TopicId(Uuid::from_u128(1));
    image.replay(&MetadataCommand::CreateTopic {
        name: "t".parse().unwrap(),
        id,
        partitions: vec![vec![BrokerId(1), BrokerId(2)]; partitions],
        configs: BTreeMap::new(),
    });
    image.replay(&MetadataCommand::ChangeBrokerState {
        id: BrokerId(1),
        epoch: image.broker(BrokerId(1)).unwrap().epoch,
        state: BrokerState::Unfenced,
    });
    let join = |partition: i32| crate::engine::metadata::PartitionChange {
        partition,
        isr: Some(vec![BrokerId(1), BrokerId(2)]),
        ..Default::default()
    };
    image.replay(&MetadataCommand::ChangePartitions {
        topic: id,
        changes: (0..partitions as i32).map(join).collect(),
    });
    assert_eq!(not_led_by_preferred(&image).count(), partitions);
    image
}

fn decide(image: &mut MetadataImage, change: &Change) -> Vec<Decided> {
    let settings = ChangeSettings {
        new_topics: NewTopicDefaults {
            partitions: 1,
            replication_factor: 1,
        },
        defaults: BrokerDefaults::default(),
        limits: MetadataLimits::default(),
        voters: Vec::new(),
    };
    let decided = change.decide(image, &settings);
    for command in decided.iter().flatten().flatten() {
        image.replay(command);
    }
    decided
}

#[test]
fn leadership_goes_back_step_by_step_without_a_long_wait_in_between() {
    let mut image = misled(1_000);
    let mut balance = Balance::new(Timestamp(0));
    assert_eq!(balance.due(&image, Timestamp(14_999)), None);
    let (mut now, mut steps) = (balance.next_due(), Vec::new());
    while let Some(change) = balance.due(&image, now) {
        steps.push(change.parts());
        let decided = decide(&mut image, &change);
        balance.decided(&decided, now);
        now = balance.next_due();
    }
    assert_eq!(steps, [250; 4]);
    assert_eq!(not_led_by_preferred(&image).count(), 0);
    assert!(now < Timestamp(18_000), "it took until {now}");
}

#[test]
fn elections_that_come_to_nothing_are_not_asked_for_again_soon() {
    let image = misled(1_000);
    let mut balance = Balance::new(Timestamp(0));
    let change = balance.due(&image, Timestamp(15_000)).unwrap();
    let refused = vec![Err(ErrorCode::PreferredLeaderNotAvailable.into()); change.parts()];
    balance.decided(&refused, Timestamp(15_000));
    assert_eq!(balance.due(&image, Timestamp(29_999)), None);
    assert!(balance.due(&image, Timestamp(30_000)).is_some());
}
