//! Replay: brokers, leaders, producer ids, and commands that don't fit.

use super::*;
use crate::engine::metadata::change_leader::change_leader;
use crate::engine::metadata::image::DELETED_TOPICS_KEPT_MAX;
use crate::engine::metadata::producer_ids::{
    allocate_producer_ids, allocated, PRODUCER_ID_BLOCK_LEN,
};
use crate::engine::metadata::register_broker::Past;
use crate::engine::metadata::register_broker::{
    bootstrap_cluster, register_broker, BrokerRegistration,
};
use crate::model::{ErrorCode as E, LeaderEpoch, PartitionId};

fn partition(topic: u128, partition: i32) -> PartitionId {
    PartitionId {
        topic_id: topic_id(topic),
        partition,
    }
}

fn epochs(image: &MetadataImage, topic: u128) -> Vec<i32> {
    let topic = image.topic(topic_id(topic)).unwrap();
    topic.partitions.iter().map(|p| p.leader_epoch.0).collect()
}

fn registered(
    image: &MetadataImage,
    registration: &BrokerRegistration,
) -> Result<Vec<MetadataCommand>, Refusal> {
    register_broker(image, registration, &BrokerDefaults::default())
}

#[test]
fn a_restarted_broker_raises_the_leader_epochs_of_what_it_leads_and_of_nothing_else() {
    let mut image = cluster(2);
    image.replay(&create("t", 1, &[&[1, 2], &[2, 1], &[1]]));
    image.replay(&create("u", 2, &[&[2]]));
    let first = image.broker(BrokerId(1)).unwrap().epoch;
    // The same life again: only its endpoints are told.
    image.replay(&register(1, 101, Some("r")));
    assert_eq!(epochs(&image, 1), [0, 0, 0]);
    assert_eq!(image.broker(BrokerId(1)).unwrap().epoch, first);
    assert_eq!(
        image.broker(BrokerId(1)).unwrap().rack.as_deref(),
        Some("r")
    );

    image.replay(&register(1, 999, None));
    assert_eq!(epochs(&image, 1), [1, 0, 1]);
    assert_eq!(epochs(&image, 2), [0]);
    assert!(image.broker(BrokerId(1)).unwrap().epoch > first);
    assert_eq!(
        image.partition(partition(1, 0)).unwrap().leader,
        BrokerId(1)
    );
}

#[test]
fn a_broker_registers_when_something_is_new_and_only_in_its_own_cluster() {
    let mut image = cluster(1);
    assert_eq!(registered(&image, &registration(1, 101)), Ok(vec![]));
    let moved = BrokerRegistration {
        endpoints: vec![endpoint(7171)],
        ..registration(1, 101)
    };
    let commands = registered(&image, &moved).unwrap();
    image.replay(&commands[0]);
    let broker = image.broker(BrokerId(1)).unwrap();
    assert_eq!(broker.endpoint("native"), Some(&endpoint(7171)));
    assert_eq!(broker.endpoint("kafka"), None);

    let foreign = BrokerRegistration {
        cluster_id: Some(ClusterId("other".into())),
        ..registration(2, 1)
    };
    let nowhere = BrokerRegistration {
        endpoints: vec![],
        ..registration(2, 1)
    };
    let code = |registration| registered(&image, &registration).unwrap_err().code;
    assert_eq!(code(foreign), E::InconsistentClusterId);
    assert_eq!(code(nowhere), E::InvalidRequest);
    assert_eq!(code(registration(-1, 1)), E::InvalidRequest);
}

/// Three replicas, of which the first leads and only `isr` are in sync.
fn led(image: &mut MetadataImage, isr: &[i32]) {
    image.replay(&create("t", 1, &[&[1, 2, 3], &[1, 2, 3]]));
    let change = |partition| PartitionChange {
        partition,
        isr: Some(isr.iter().copied().map(BrokerId).collect()),
        ..PartitionChange::default()
    };
    image.replay(&MetadataCommand::ChangePartitions {
        topic: topic_id(1),
        changes: vec![change(0), change(1)],
    });
}

fn comes_back(image: &mut MetadataImage, past: Past, lost: &[i32]) {
    let registration = BrokerRegistration {
        past,
        lost: lost.iter().map(|number| partition(1, *number)).collect(),
        ..registration(1, 999)
    };
    let defaults = BrokerDefaults::new([("min.insync.replicas", "2".into())]).unwrap();
    let commands = register_broker(image, &registration, &defaults).unwrap();
    commands.iter().for_each(|command| image.replay(command));
}

#[test]
fn a_broker_is_no_eligible_leader_of_a_partition_whose_log_it_has_lost() {
    let mut image = cluster(3);
    led(&mut image, &[1, 2]);
    let epoch = image.broker(BrokerId(1)).unwrap().epoch;
    comes_back(&mut image, Past::Kept(epoch), &[1]);
    let of = |number| image.partition(partition(1, number)).unwrap();
    assert_eq!(of(0).isr, [BrokerId(2)]);
    assert_eq!(of(0).eligible_leaders, [BrokerId(1)]);
    assert_eq!(of(1).isr, [BrokerId(2)]);
    assert_eq!(of(1).eligible_leaders, []);
    assert_eq!(of(1).leader, BrokerId(2));
}

#[test]
fn who_was_alone_in_sync_stays_known_without_its_log_and_not_with_another_disk() {
    let image = || {
        let mut image = cluster(3);
        led(&mut image, &[1]);
        image
    };
    let epoch = image().broker(BrokerId(1)).unwrap().epoch;
    for (past, lost, last) in [
        (Past::Kept(epoch), vec![0], BrokerId(1)),
        (Past::Unclean(epoch), vec![], BrokerId(1)),
        (Past::Unknown, vec![], BrokerId::NONE),
    ] {
        let mut image = image();
        comes_back(&mut image, past, &lost);
        let partition = image.partition(partition(1, 0)).unwrap();
        assert_eq!(partition.leader, BrokerId::NONE);
        assert_eq!(partition.eligible_leaders, [], "{past:?}");
        assert_eq!(partition.last_known_leader, last, "{past:?}");
    }
}

#[test]
fn a_cluster_gets_its_identity_once() {
    let mut image = MetadataImage::default();
    for name in ["first", "second"] {
        let commands = bootstrap_cluster(&image, ClusterId(name.into()), METADATA_VERSION);
        commands.iter().for_each(|command| image.replay(command));
    }
    image.replay(&MetadataCommand::BootstrapCluster {
        cluster_id: ClusterId("third".into()),
        metadata_version: 9,
    });
    assert_eq!(image.cluster_id(), Some(&ClusterId("first".into())));
    assert_eq!(image.metadata_version(), METADATA_VERSION);
}

#[test]
fn only_an_in_sync_replica_is_made_leader_and_only_from_the_epoch_that_was_seen() {
    let mut image = cluster(3);
    image.replay(&create("t", 1, &[&[1, 2]]));
    let id = partition(1, 0);
    let change = |image: &MetadataImage, leader, seen| {
        change_leader(image, id, BrokerId(leader), LeaderEpoch(seen))
    };
    let command = |leader, epoch| MetadataCommand::ChangePartitionLeader {
        partition: id,
        leader: BrokerId(leader),
        leader_epoch: LeaderEpoch(epoch),
    };
    // Its own leader again, after it was rebuilt.
    assert_eq!(change(&image, 1, 0), Ok(vec![command(1, 1)]));
    assert_eq!(change(&image, 2, 0), Ok(vec![command(2, 1)]));
    assert_eq!(
        change(&image, 3, 0).unwrap_err().code,
        E::EligibleLeadersNotAvailable
    );
    image.replay(&command(2, 1));
    assert_eq!(change(&image, 1, 0).unwrap_err().code, E::FencedLeaderEpoch);
    let nowhere = change_leader(&image, partition(1, 5), BrokerId(1), LeaderEpoch(0));
    assert_eq!(nowhere.unwrap_err().code, E::UnknownTopicOrPartition);
    // A command that was decided on an older epoch changes nothing.
    let before = image.partition(id).cloned();
    image.replay(&command(1, 1));
    assert_eq!(image.partition(id).cloned(), before);
}

#[test]
fn producer_ids_are_given_once_and_to_a_registered_broker_only() {
    let mut image = cluster(1);
    let epoch = image.broker(BrokerId(1)).unwrap().epoch;
    let mut blocks = Vec::new();
    for _ in 0..3 {
        let commands = allocate_producer_ids(&image, BrokerId(1), epoch).unwrap();
        blocks.push(allocated(&commands).unwrap());
        commands.iter().for_each(|command| image.replay(command));
    }
    assert_eq!(blocks, [0..1_000, 1_000..2_000, 2_000..3_000]);
    assert_eq!(image.next_producer_id(), 3 * PRODUCER_ID_BLOCK_LEN);
    let code = |id, epoch| {
        allocate_producer_ids(&image, BrokerId(id), epoch)
            .unwrap_err()
            .code
    };
    assert_eq!(code(9, epoch), E::BrokerIdNotRegistered);
    assert_eq!(code(1, BrokerEpoch(epoch.0 - 1)), E::StaleBrokerEpoch);
}

#[test]
fn a_command_that_does_not_fit_changes_nothing_but_the_version() {
    let mut image = cluster(1);
    image.replay(&create("t", 1, &[&[1]]));
    let strays = [
        create("t", 2, &[&[1]]),
        create("other", 1, &[&[1]]),
        MetadataCommand::DeleteTopic { id: topic_id(9) },
        MetadataCommand::AddPartitions {
            id: topic_id(1),
            first: 2,
            partitions: vec![brokers(&[1])],
        },
        MetadataCommand::AddPartitions {
            id: topic_id(9),
            first: 0,
            partitions: vec![brokers(&[1])],
        },
        MetadataCommand::SetTopicConfigs {
            id: topic_id(9),
            set: BTreeMap::from([("a".into(), "b".into())]),
            removed: Default::default(),
        },
        MetadataCommand::ChangePartitionLeader {
            partition: partition(1, 0),
            leader: BrokerId(7),
            leader_epoch: LeaderEpoch(5),
        },
        MetadataCommand::ChangePartitionLeader {
            partition: partition(1, -1),
            leader: BrokerId(1),
            leader_epoch: LeaderEpoch(5),
        },
        MetadataCommand::AllocateProducerIds {
            broker: BrokerId(1),
            broker_epoch: BrokerEpoch(0),
            up_to: -5,
        },
    ];
    for stray in strays {
        let mut expected = image.clone();
        expected.version += 1;
        image.replay(&stray);
        assert_eq!(image, expected, "{stray:?}");
    }
}

#[test]
fn an_image_that_a_reader_keeps_does_not_change() {
    let mut image = cluster(1);
    image.replay(&create("t", 1, &[&[1]]));
    let kept = image.clone();
    image.replay(&create("u", 2, &[&[1], &[1]]));
    image.replay(&register(1, 999, None));
    assert_eq!(image.partition_count(), 3);
    assert_eq!((kept.topic_count(), kept.partition_count()), (1, 1));
    assert_eq!(epochs(&kept, 1), [0]);
    let names: Vec<_> = image.topics().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["t", "u"]);
    let on = image
        .partitions_on(BrokerId(1))
        .map(|(id, ..)| id.partition);
    assert_eq!(on.collect::<Vec<_>>(), [0, 0, 1]);
    image.replay(&MetadataCommand::DeleteTopic { id: topic_id(2) });
    assert_eq!((image.topic_count(), image.partition_count()), (1, 1));
    assert!(image.topic_by_name("u").is_none());
}

fn proposal(session: u128, sequence: u64, command: MetadataCommand) -> Proposal {
    let id = ProposalId {
        proposer: BrokerId(1),
        session: SessionId(Uuid::from_u128(session)),
        sequence,
    };
    Proposal {
        id,
        commands: vec![command],
    }
}

#[test]
fn a_proposal_takes_effect_once_and_what_is_remembered_stays_small() {
    let mut image = MetadataImage::default();
    let delete = MetadataCommand::DeleteTopic { id: topic_id(1) };
    let first = proposal(1, 1, create("t", 1, &[&[1]]));
    assert_eq!(image.replay_proposal(&first), Replayed::Applied);
    assert_eq!(
        image.replay_proposal(&proposal(1, 2, delete)),
        Replayed::Applied
    );
    assert_eq!(image.replay_proposal(&first), Replayed::Duplicate);
    assert_eq!(image.topic_count(), 0);
    // Another life of the proposer counts from the beginning.
    let next = proposal(2, 1, create("t", 1, &[&[1]]));
    assert_eq!(image.replay_proposal(&next), Replayed::Applied);
    assert_eq!(image.last_proposals.len(), 1);
}

#[test]
fn a_deleted_topic_is_remembered_also_by_a_snapshot_until_many_more_are_deleted() {
    let delete = |id| MetadataCommand::DeleteTopic { id: topic_id(id) };
    let mut image = image(&[create("a", 1, &[&[1]]), delete(1), delete(2)]);
    assert!(image.was_deleted(topic_id(1)));
    assert!(!image.was_deleted(topic_id(2)), "it was never there");
    let bytes = rmp_serde::to_vec_named(&image).unwrap();
    assert_eq!(
        rmp_serde::from_slice::<MetadataImage>(&bytes).unwrap(),
        image
    );
    for id in 0..DELETED_TOPICS_KEPT_MAX as u128 {
        assert!(image.was_deleted(topic_id(1)), "{id}");
        image.replay(&create("b", 10 + id, &[&[1]]));
        image.replay(&delete(10 + id));
    }
    assert!(!image.was_deleted(topic_id(1)));
    assert_eq!(image.deleted_topics.len(), DELETED_TOPICS_KEPT_MAX);
}

#[test]
fn a_snapshot_of_before_deletions_were_remembered_still_reads() {
    #[derive(serde::Serialize)]
    struct Older {
        cluster_id: Option<ClusterId>,
        metadata_version: u16,
        version: u64,
        brokers: Vec<()>,
        topics: Vec<()>,
        next_producer_id: i64,
        last_proposals: BTreeMap<BrokerId, ()>,
    }
    let older = Older {
        cluster_id: None,
        metadata_version: METADATA_VERSION,
        version: 0,
        brokers: Vec::new(),
        topics: Vec::new(),
        next_producer_id: 0,
        last_proposals: BTreeMap::new(),
    };
    let bytes = rmp_serde::to_vec_named(&older).unwrap();
    let read = rmp_serde::from_slice::<MetadataImage>(&bytes).unwrap();
    assert_eq!(read, MetadataImage::default());
}
