//! Whose corrupt log may be given up, and what follows from that.

use super::*;
use crate::engine::metadata::give_up_log::give_up_log;
use crate::model::{ErrorCode, LeaderEpoch, PartitionId};

const ID: PartitionId = PartitionId {
    topic_id: TopicId(Uuid::from_u128(1)),
    partition: 0,
};

/// One partition on the first of three brokers, all of them in sync.
fn replicated(replicas: &[i32]) -> MetadataImage {
    let mut image = cluster(3);
    image.replay(&create("t", 1, &[replicas]));
    image
}

fn give_up(image: &mut MetadataImage, broker: i32) -> Result<(), ErrorCode> {
    let id = BrokerId(broker);
    let epoch = image.broker(id).unwrap().epoch;
    let decided = give_up_log(image, id, epoch, ID, &BrokerDefaults::default());
    let commands = decided.map_err(|refusal| refusal.code)?;
    commands.iter().for_each(|command| image.replay(command));
    Ok(())
}

/// Leader, leader epoch, ISR and eligible leaders.
fn state(image: &MetadataImage) -> (i32, i32, Vec<i32>, usize) {
    let now = image.partition(ID).unwrap();
    let isr = now.isr.iter().map(|id| id.0).collect();
    let LeaderEpoch(epoch) = now.leader_epoch;
    (now.leader.0, epoch, isr, now.eligible_leaders.len())
}

#[test]
fn nobody_counts_on_it_any_more_and_the_leader_epoch_rises_in_any_case() {
    let mut image = replicated(&[1, 2, 3]);
    give_up(&mut image, 3).unwrap();
    assert_eq!(state(&image), (1, 1, vec![1, 2], 0));
    // It has gone already, and may have been told of the epoch before.
    give_up(&mut image, 3).unwrap();
    assert_eq!(state(&image), (1, 2, vec![1, 2], 0));
    give_up(&mut image, 1).unwrap();
    assert_eq!(state(&image), (2, 3, vec![2], 0));
}

#[test]
fn with_too_few_in_sync_it_is_no_eligible_leader_either() {
    let mut image = replicated(&[1, 2]);
    image.replay(&MetadataCommand::SetTopicConfigs {
        id: topic_id(1),
        set: BTreeMap::from([("min.insync.replicas".into(), "2".into())]),
        removed: Default::default(),
    });
    give_up(&mut image, 2).unwrap();
    assert_eq!(state(&image), (1, 1, vec![1], 0));
}

#[test]
fn the_last_one_that_has_all_of_it_is_kept_and_so_is_what_belongs_to_others() {
    let mut image = replicated(&[1, 2]);
    give_up(&mut image, 1).unwrap();
    let before = state(&image);
    let nobody = Err(ErrorCode::EligibleLeadersNotAvailable);
    assert_eq!(give_up(&mut image, 2), nobody);
    assert_eq!(
        give_up(&mut image, 3),
        Err(ErrorCode::UnknownTopicOrPartition)
    );
    let old = BrokerEpoch(-1);
    let refused = give_up_log(&image, BrokerId(1), old, ID, &BrokerDefaults::default());
    assert_eq!(refused.unwrap_err().code, ErrorCode::StaleBrokerEpoch);
    assert_eq!(state(&image), before);
    // Who is in sync isn't there.
    let mut image = replicated(&[1, 2]);
    let epoch = image.broker(BrokerId(2)).unwrap().epoch;
    image.replay(&MetadataCommand::ChangeBrokerState {
        id: BrokerId(2),
        epoch,
        state: BrokerState::Fenced,
    });
    assert_eq!(give_up(&mut image, 1), nobody);
}
