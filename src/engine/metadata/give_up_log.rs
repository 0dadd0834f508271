//! A broker gives up its log of one partition, which is corrupt: others who have all of it fill it again.
//!
//! The broker leaves the ISR and the eligible leaders, and if it leads, somebody else does from now on. In any
//! case the leader epoch rises: what the broker has acknowledged in an earlier one counts for nobody any more, and
//! in this one it has acknowledged nothing. So once it sees this in the metadata nobody counts on its log
//! (ADR 0006).

use super::change::Decided;
use super::election::{settle, Terms};
use super::fence_broker::{check_broker, HasKept};
use super::sweep::{of_topic, Sweep};
use super::{BrokerDefaults, BrokerEpoch, MetadataImage, PartitionChange, Refusal};
use crate::model::{BrokerId, ErrorCode, PartitionId};

/// Decides it.
///
/// | refused with | because |
/// |---|---|
/// | BROKER_ID_NOT_REGISTERED, STALE_BROKER_EPOCH | it isn't, or is no longer, this broker |
/// | UNKNOWN_TOPIC_OR_PARTITION | it has no replica of it |
/// | ELIGIBLE_LEADERS_NOT_AVAILABLE | nobody else who is there is known to have all of it |
pub fn give_up_log(
    image: &MetadataImage,
    broker: BrokerId,
    epoch: BrokerEpoch,
    id: PartitionId,
    defaults: &BrokerDefaults,
) -> Decided {
    check_broker(image, broker, epoch)?;
    let topic = image.topic(id.topic_id);
    let known = topic.and_then(|topic| Some((topic, topic.partition(id.partition)?)));
    let Some((topic, now)) = known.filter(|(_, now)| now.replicas.contains(&broker)) else {
        let message = format!("Broker {broker} has no replica of {id}.");
        return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, message));
    };
    let may_lead = |id: BrokerId| id != broker && image.is_active(id);
    if !now.isr.iter().any(|id| may_lead(*id)) {
        let message = format!("Nobody but broker {broker} is known to have all of {id}.");
        return Err(Refusal::new(
            ErrorCode::EligibleLeadersNotAvailable,
            message,
        ));
    }
    let sweep = Sweep {
        image,
        defaults,
        may_lead: &may_lead,
        loss: None,
    };
    let terms = Terms {
        has_lost: Some((broker, HasKept::Something)),
        ..sweep.terms(topic, None)
    };
    let mut wanted = now.clone();
    wanted.isr.retain(|id| *id != broker);
    let mut change = settle(id.partition, now, wanted, &terms).unwrap_or(PartitionChange {
        partition: id.partition,
        seen: now.partition_epoch,
        ..PartitionChange::default()
    });
    change.leader = change.leader.or(Some(now.leader));
    Ok(of_topic(topic, vec![change]).into_iter().collect())
}
