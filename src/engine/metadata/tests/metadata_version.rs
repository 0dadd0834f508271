//! When the cluster goes on to a later metadata version, and when it doesn't.

use super::decisions::settings;
use super::*;
use crate::engine::metadata::alter_configs::ConfigChange;
use crate::engine::metadata::broker_configs::BrokerConfigChanges;
use crate::engine::metadata::change::{Change, ChangeSettings, Intent};
use crate::engine::metadata::change_batch::ChangeBatch;
use crate::engine::metadata::register_broker::BrokerRegistration;
use crate::model::ErrorCode as E;

fn registration_of(id: i32, incarnation: u128, known: Option<u16>) -> BrokerRegistration {
    BrokerRegistration {
        metadata_version_max: known,
        ..registration(id, incarnation)
    }
}

/// A cluster that speaks this version, with brokers 1, 2, … that know these.
fn speaking(metadata_version: u16, known: &[Option<u16>]) -> MetadataImage {
    let mut image = image(&[MetadataCommand::BootstrapCluster {
        cluster_id: ClusterId("klamm-1".into()),
        metadata_version,
    }]);
    for (id, known) in (1..).zip(known) {
        let change = Change::RegisterBroker(registration_of(id, id as u128, *known));
        carry_out(&mut image, &change, &settings()).unwrap();
    }
    image
}

fn voters(ids: &[i32]) -> ChangeSettings {
    ChangeSettings {
        voters: brokers(ids),
        ..settings()
    }
}

/// Makes a change of one part, and says of how many commands it was.
fn carry_out(
    image: &mut MetadataImage,
    change: &Change,
    settings: &ChangeSettings,
) -> Result<usize, Refusal> {
    let commands = change.decide(image, settings).remove(0)?;
    commands.iter().for_each(|command| image.replay(command));
    Ok(commands.len())
}

/// What needs version 5.
fn set_config() -> Change {
    let rate = "leader.replication.throttled.rate";
    Change::AlterBrokerConfigs(vec![BrokerConfigChanges {
        broker: None,
        changes: vec![(rate.into(), ConfigChange::Set("5".into()))],
    }])
}

/// What needs version 4.
fn unregister(id: i32) -> Change {
    Change::UnregisterBroker {
        broker: BrokerId(id),
    }
}

#[test]
fn the_first_change_that_needs_a_later_version_raises_it_and_no_further() {
    let mut image = speaking(2, &[Some(5), Some(7)]);
    assert_eq!(carry_out(&mut image, &unregister(2), &settings()), Ok(2));
    assert_eq!(image.metadata_version(), 4);
    assert_eq!(carry_out(&mut image, &set_config(), &voters(&[1])), Ok(2));
    assert_eq!(image.metadata_version(), 5);
    let mut image = speaking(5, &[Some(5)]);
    assert_eq!(carry_out(&mut image, &set_config(), &voters(&[1])), Ok(1));
}

#[test]
fn a_change_is_refused_as_long_as_somebody_is_not_known_to_know_what_it_needs() {
    let mut image = speaking(4, &[Some(5), Some(4), None]);
    let before = image.clone();
    let refused = carry_out(&mut image, &set_config(), &voters(&[1, 2, 4])).unwrap_err();
    assert_eq!(refused.code, E::UnsupportedVersion);
    assert_eq!(
        refused.message,
        "This needs metadata version 5, and the cluster speaks 4, because broker 2 knows none above 4, broker 3 \
         doesn't say what it knows, voter 4 isn't registered. It can be done when all nodes run a build that knows \
         version 5."
    );
    assert_eq!(image, before);
    for (id, life) in [(2, 22), (3, 33), (4, 44)] {
        assert!(carry_out(&mut image, &set_config(), &voters(&[1, 2, 4])).is_err());
        let change = Change::RegisterBroker(registration_of(id, life, Some(5)));
        carry_out(&mut image, &change, &settings()).unwrap();
    }
    assert_eq!(
        carry_out(&mut image, &set_config(), &voters(&[1, 2, 4])),
        Ok(2)
    );
}

#[test]
fn who_is_gone_for_good_is_not_asked() {
    let mut image = speaking(3, &[Some(5), None, None]);
    let three = voters(&[1, 2, 3]);
    assert!(carry_out(&mut image, &unregister(3), &three).is_err());
    image.replay(&MetadataCommand::UnregisterBroker {
        id: BrokerId(2),
        epoch: image.broker(BrokerId(2)).unwrap().epoch,
    });
    assert_eq!(
        carry_out(&mut image, &unregister(3), &voters(&[1, 3])),
        Ok(2)
    );
    let mut image = speaking(2, &[Some(5), None]);
    let readmit = Change::ReadmitVoter {
        voter: BrokerId(2),
        directory: crate::model::DirectoryId(Uuid::from_u128(7)),
    };
    assert_eq!(carry_out(&mut image, &readmit, &voters(&[1, 2])), Ok(2));
    assert_eq!(image.metadata_version(), 3);
}

#[test]
fn a_broker_that_does_not_know_what_the_cluster_speaks_is_refused() {
    let mut image = speaking(5, &[Some(5)]);
    let mut register = |known| {
        let change = Change::RegisterBroker(registration_of(2, 2, known));
        carry_out(&mut image, &change, &settings()).map_err(|refusal| refusal.code)
    };
    assert_eq!(register(Some(4)), Err(E::UnsupportedVersion));
    // Builds that don't say it know 5 at most.
    assert_eq!(register(None), Ok(1));
    let mut image = speaking(6, &[Some(6)]);
    let change = Change::RegisterBroker(registration_of(2, 2, None));
    let refused = carry_out(&mut image, &change, &settings()).unwrap_err();
    assert_eq!(
        refused.message,
        "Broker 2 knows no metadata version above 5, and the cluster speaks 6: it needs a later build."
    );
}

#[test]
fn what_a_controller_of_an_earlier_build_has_not_kept_is_told_again() {
    let mut image = speaking(4, &[None]);
    let broker = image.broker(BrokerId(1)).unwrap().clone();
    image.replay(&MetadataCommand::ChangeBrokerState {
        id: broker.id,
        epoch: broker.epoch,
        state: BrokerState::Unfenced,
    });
    let again = Change::RegisterBroker(registration_of(1, 1, Some(5)));
    assert_eq!(carry_out(&mut image, &again, &settings()), Ok(1));
    let told = image.broker(BrokerId(1)).unwrap();
    assert_eq!(told.metadata_version_max, Some(5));
    assert_eq!(
        (told.epoch, told.state),
        (broker.epoch, BrokerState::Unfenced)
    );
    assert_eq!(carry_out(&mut image, &again, &settings()), Ok(0));
}

#[test]
fn of_a_change_and_a_registration_that_comes_with_it_the_first_one_counts() {
    let image = speaking(4, &[Some(5), Some(5)]);
    let older = Change::RegisterBroker(registration_of(2, 22, Some(4)));
    let change = set_config();
    let decide = |changes: [&Change; 2]| {
        let changes = changes.map(|change| (change, Intent::Apply));
        let batch = ChangeBatch::decide(changes, &image, &settings());
        let outcomes = batch.decided.iter().map(|parts| parts[0].is_ok());
        outcomes.collect::<Vec<_>>()
    };
    assert_eq!(decide([&older, &change]), [true, false]);
    assert_eq!(decide([&change, &older]), [true, false]);
}
