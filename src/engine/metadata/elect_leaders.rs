//! ElectLeaders: a partition is led by its preferred replica, the first of its replicas, where that one
//! is in sync.

use super::change::Decided;
use super::election::{settle, Election};
use super::sweep::{of_topic, Sweep};
use super::{BrokerDefaults, MetadataImage, Refusal};
use crate::model::{ErrorCode, PartitionId};

/// The partitions that aren't led by their preferred replica although it is there and in sync.
pub fn not_led_by_preferred(image: &MetadataImage) -> impl Iterator<Item = PartitionId> + '_ {
    image.topics().flat_map(move |topic| {
        let partitions = (0..).zip(&topic.partitions);
        let misled = partitions.filter(move |(_, partition)| {
            let preferred = partition.replicas.first();
            preferred.is_some_and(|id| {
                *id != partition.leader && partition.isr.contains(id) && image.is_active(*id)
            })
        });
        misled.map(|(number, _)| PartitionId {
            topic_id: topic.id,
            partition: number,
        })
    })
}

/// Refused with ELECTION_NOT_NEEDED where it leads already, and with PREFERRED_LEADER_NOT_AVAILABLE where
/// it can't lead.
pub fn elect_preferred_leader(
    image: &MetadataImage,
    partition: PartitionId,
    defaults: &BrokerDefaults,
) -> Decided {
    let (Some(topic), Some(now)) = (image.topic(partition.topic_id), image.partition(partition))
    else {
        let message = format!("There is no partition {partition}.");
        return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, message));
    };
    let preferred = now.replicas.first().copied();
    if preferred == Some(now.leader) {
        let message = "The preferred replica leads already.";
        return Err(Refusal::new(ErrorCode::ElectionNotNeeded, message));
    }
    let sweep = Sweep {
        image,
        defaults,
        may_lead: &|id| image.is_active(id),
        loss: None,
    };
    let terms = sweep.terms(topic, Some(Election::Preferred));
    let change = settle(partition.partition, now, now.clone(), &terms);
    match change.filter(|change| change.leader.is_some() && change.leader == preferred) {
        Some(change) => Ok(of_topic(topic, vec![change]).into_iter().collect()),
        None => {
            let message = "The preferred replica isn't in sync, or isn't there.";
            Err(Refusal::new(
                ErrorCode::PreferredLeaderNotAvailable,
                message,
            ))
        }
    }
}
