//! Leadership of a partition: who leads from now on, and in which epoch.

use super::{MetadataCommand, MetadataImage, Refusal};
use crate::model::{BrokerId, ErrorCode, LeaderEpoch, PartitionId};

/// Gives the partition a leader under a new epoch. The leader that it has may be given again: a
/// leader that was rebuilt from disk must not continue the epoch that it had.
///
/// Only an in-sync replica or an eligible leader can lead (KIP-966): any other may lack
/// acknowledged records. `seen` is the epoch on which the caller decided; if the partition has
/// moved on, the caller is told so.
pub fn change_leader(
    image: &MetadataImage,
    partition: PartitionId,
    leader: BrokerId,
    seen: LeaderEpoch,
) -> Result<Vec<MetadataCommand>, Refusal> {
    let Some(known) = image.partition(partition) else {
        let message = format!("There is no partition {partition}.");
        return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, message));
    };
    if known.leader_epoch != seen {
        let (now, code) = (known.leader_epoch, ErrorCode::FencedLeaderEpoch);
        let message = format!("Partition {partition} is in leader epoch {now}, not in {seen}.");
        return Err(Refusal::new(code, message));
    }
    if !known.isr.contains(&leader) && !known.eligible_leaders.contains(&leader) {
        let message = format!("Broker {leader} is not eligible to lead partition {partition}.");
        return Err(Refusal::new(
            ErrorCode::EligibleLeadersNotAvailable,
            message,
        ));
    }
    Ok(vec![MetadataCommand::ChangePartitionLeader {
        partition,
        leader,
        leader_epoch: known.leader_epoch.next(),
    }])
}
