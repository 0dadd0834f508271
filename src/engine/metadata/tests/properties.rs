//! What holds for any commands in any order.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::model::{LeaderEpoch, PartitionId};

fn replicas() -> impl Strategy<Value = Vec<BrokerId>> {
    prop::sample::subsequence(vec![1, 2, 3], 1..=3).prop_map(|ids| brokers(&ids))
}

fn any_command() -> impl Strategy<Value = MetadataCommand> {
    use MetadataCommand as C;
    let config = prop::sample::select(vec!["retention.ms", "segment.ms", "max.message.bytes"]);
    let id = (0..5u128).prop_map(topic_id);
    prop_oneof![
        (1..4i32, 1..4u128).prop_map(|(id, life)| register(id, life, None)),
        ((0..5u128), (0..5u128), vec(replicas(), 1..4)).prop_map(|(name, id, partitions)| {
            C::CreateTopic {
                name: format!("topic-{name}").parse().unwrap(),
                id: topic_id(id),
                partitions,
                configs: BTreeMap::new(),
            }
        }),
        id.clone().prop_map(|id| C::DeleteTopic { id }),
        (id.clone(), 0..5i32, vec(replicas(), 1..3)).prop_map(|(id, first, partitions)| {
            C::AddPartitions {
                id,
                first,
                partitions,
            }
        }),
        (id.clone(), config.clone(), 0..9u8, config).prop_map(|(id, name, value, removed)| {
            C::SetTopicConfigs {
                id,
                set: BTreeMap::from([(name.into(), value.to_string())]),
                removed: [removed.into()].into(),
            }
        }),
        (id, 0..4i32, -1..4i32, 0..9i32).prop_map(|(topic_id, partition, leader, epoch)| {
            C::ChangePartitionLeader {
                partition: PartitionId {
                    topic_id,
                    partition,
                },
                leader: BrokerId(leader),
                leader_epoch: LeaderEpoch(epoch),
            }
        }),
        (1..4i32, 0..9_000i64).prop_map(|(broker, up_to)| C::AllocateProducerIds {
            broker: BrokerId(broker),
            broker_epoch: BrokerEpoch(1),
            up_to,
        }),
    ]
}

/// What the image's own docs promise.
fn check(image: &MetadataImage) {
    assert_eq!(image.topics().count(), image.topic_count());
    let mut partitions = 0;
    for topic in image.topics() {
        assert_eq!(image.topic_by_name(topic.name.as_str()), Some(topic));
        partitions += topic.partitions.len();
        for partition in &topic.partitions {
            let known = |id: &BrokerId| partition.replicas.contains(id);
            assert!(partition.leader == BrokerId::NONE || known(&partition.leader));
            assert!(partition.isr.iter().all(known));
        }
    }
    assert_eq!(partitions, image.partition_count());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_commands_give_equal_images_also_through_disk_in_the_middle(
        commands in vec(any_command(), 0..60),
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = image(&commands);
        check(&whole);
        let (before, after) = commands.split_at(cut.index(commands.len() + 1));
        let written = rmp_serde::to_vec_named(&image(before)).unwrap();
        let mut read: MetadataImage = rmp_serde::from_slice(&written).unwrap();
        prop_assert_eq!(&read, &image(before));
        after.iter().for_each(|command| read.replay(command));
        prop_assert_eq!(read, whole);
    }

    #[test]
    fn leader_epochs_versions_and_producer_ids_never_fall(
        commands in vec(any_command(), 0..60),
    ) {
        let mut image = MetadataImage::default();
        for command in &commands {
            let before = image.clone();
            image.replay(command);
            prop_assert_eq!(image.version(), before.version() + 1);
            prop_assert!(image.next_producer_id() >= before.next_producer_id());
            for topic in before.topics() {
                let Some(now) = image.topic(topic.id) else { continue };
                for (was, is) in topic.partitions.iter().zip(&now.partitions) {
                    prop_assert!(is.leader_epoch >= was.leader_epoch);
                    prop_assert!(is.leader == was.leader || is.leader_epoch > was.leader_epoch);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_new_topics_leaders_and_replicas_are_even(
        size in 1..8i32,
        partitions in 1..40usize,
        factor in 1..5usize,
    ) {
        let factor = factor.min(size as usize);
        let image = cluster(size);
        let mut placement = placement::Placement::new(&image, None);
        let (mut leaders, mut replicas) = (BTreeMap::new(), BTreeMap::new());
        for _ in 0..partitions {
            let placed = placement.place(factor);
            let distinct: std::collections::BTreeSet<_> = placed.iter().collect();
            prop_assert_eq!(distinct.len(), factor);
            *leaders.entry(placed[0]).or_insert(0usize) += 1;
            placed.iter().for_each(|id| *replicas.entry(*id).or_insert(0usize) += 1);
        }
        let spread = |counts: &BTreeMap<BrokerId, usize>| {
            let count = |id| counts.get(&BrokerId(id)).copied().unwrap_or(0);
            let counts = || (1..=size).map(count);
            counts().max().unwrap_or(0) - counts().min().unwrap_or(0)
        };
        prop_assert!(spread(&leaders) <= 1, "{leaders:?}");
        prop_assert!(spread(&replicas) <= 2, "{replicas:?}");
    }
}
