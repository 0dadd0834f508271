//! AlterPartition: a leader proposes the ISR of partitions that it leads (KIP-497).
//!
//! A proposal is good only for the state on which it was made, so it carries the leader epoch, the
//! partition epoch, and the broker epoch of each member (KIP-903): a member that has restarted since
//! it was found in sync may have another disk. Nobody joins who is fenced or shuts down (KIP-841),
//! since then the broker that was just removed would be let in again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::change::Decided;
use super::election::settle;
use super::fence_broker::check_broker;
use super::sweep::{of_topic, Sweep};
use super::{
    BrokerDefaults, BrokerEpoch, BrokerState, MetadataCommand, MetadataImage, Partition,
    PartitionChange, Refusal,
};
use crate::model::{BrokerId, ErrorCode, LeaderEpoch, PartitionEpoch, PartitionId, TopicId};

/// Someone who is in sync, in the broker's epoch in which the leader found it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InSync {
    pub broker: BrokerId,
    pub epoch: BrokerEpoch,
}

/// The ISR that a leader wants for one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IsrProposal {
    pub partition: PartitionId,
    pub leader_epoch: LeaderEpoch,
    /// The one that the leader has seen last.
    pub partition_epoch: PartitionEpoch,
    /// The leader included.
    pub isr: Vec<InSync>,
}

/// What a partition is once the proposal is committed. With a leader that isn't the one who asked,
/// a reassignment was completed by it (Kafka answers NEW_LEADER_ELECTED then).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlteredPartition {
    pub leader: BrokerId,
    pub leader_epoch: LeaderEpoch,
    pub isr: Vec<BrokerId>,
    pub partition_epoch: PartitionEpoch,
}

/// Decides each proposal of one leader by itself; the answers are in the request's order.
///
/// | refused with | because |
/// |---|---|
/// | BROKER_ID_NOT_REGISTERED, STALE_BROKER_EPOCH (all of it) | the leader isn't, or is no longer, this broker |
/// | UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION | there is no such partition |
/// | NOT_CONTROLLER | an epoch is ahead of ours: we are not the active controller any more |
/// | FENCED_LEADER_EPOCH, INVALID_UPDATE_VERSION | the leader epoch, the partition epoch has moved on |
/// | INVALID_REQUEST | another broker leads, or the ISR lacks the leader or isn't one of replicas |
/// | INELIGIBLE_REPLICA | a member is fenced, shuts down, isn't registered or has restarted |
#[allow(clippy::type_complexity)]
pub fn alter_partitions(
    image: &MetadataImage,
    leader: BrokerId,
    broker_epoch: BrokerEpoch,
    request: &[IsrProposal],
    defaults: &BrokerDefaults,
) -> Result<(Vec<MetadataCommand>, Vec<Result<AlteredPartition, Refusal>>), Refusal> {
    check_broker(image, leader, broker_epoch)?;
    let sweep = Sweep {
        image,
        defaults,
        may_lead: &|id| image.is_active(id),
        loss: None,
    };
    let mut changes: BTreeMap<TopicId, Vec<PartitionChange>> = BTreeMap::new();
    let mut decided: BTreeMap<PartitionId, PartitionEpoch> = BTreeMap::new();
    let mut decide = |proposal: &IsrProposal| {
        let id = proposal.partition;
        let Some(topic) = image.topic(id.topic_id) else {
            return Err(ErrorCode::UnknownTopicId.into());
        };
        let Some(now) = topic.partition(id.partition) else {
            return Err(ErrorCode::UnknownTopicOrPartition.into());
        };
        let epoch = decided.get(&id).copied().unwrap_or(now.partition_epoch);
        check(image, leader, proposal, now, epoch)?;
        let mut wanted = now.clone();
        wanted.isr = proposal.isr.iter().map(|member| member.broker).collect();
        let change = settle(id.partition, now, wanted, &sweep.terms(topic, None));
        let altered = altered(now, change.as_ref());
        if let Some(change) = change {
            decided.insert(id, altered.partition_epoch);
            changes.entry(topic.id).or_default().push(change);
        }
        Ok(altered)
    };
    let answers = request.iter().map(&mut decide).collect();
    let command = |(id, changes)| of_topic(image.topic(id)?, changes);
    Ok((changes.into_iter().filter_map(command).collect(), answers))
}

/// Decides one proposal.
pub fn alter_partition(
    image: &MetadataImage,
    leader: BrokerId,
    broker_epoch: BrokerEpoch,
    proposal: &IsrProposal,
    defaults: &BrokerDefaults,
) -> Decided {
    let request = std::slice::from_ref(proposal);
    let (commands, answers) = alter_partitions(image, leader, broker_epoch, request, defaults)?;
    answers.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(commands)
}

/// Whether the proposal is good for what the partition is now; the order of the checks is Kafka's.
fn check(
    image: &MetadataImage,
    leader: BrokerId,
    proposal: &IsrProposal,
    now: &Partition,
    epoch: PartitionEpoch,
) -> Result<(), Refusal> {
    let refuse = |code, message: String| Err(Refusal::new(code, message));
    let (theirs, ours) = (proposal.leader_epoch, now.leader_epoch);
    if theirs > ours || proposal.partition_epoch > epoch {
        let message = "The partition has an epoch that isn't known here yet.";
        return refuse(ErrorCode::NotController, message.into());
    }
    if theirs < ours {
        let message = format!("The leader epoch is {ours}, not {theirs}.");
        return refuse(ErrorCode::FencedLeaderEpoch, message);
    }
    if leader != now.leader {
        let message = format!("The leader is broker {}, not {leader}.", now.leader);
        return refuse(ErrorCode::InvalidRequest, message);
    }
    if proposal.partition_epoch < epoch {
        let message = format!(
            "The partition epoch is {epoch}, not {}.",
            proposal.partition_epoch
        );
        return refuse(ErrorCode::InvalidUpdateVersion, message);
    }
    let members: Vec<BrokerId> = proposal.isr.iter().map(|member| member.broker).collect();
    let is_once = |(at, id): (usize, &BrokerId)| !members[..at].contains(id);
    let are_replicas = members.iter().all(|id| now.replicas.contains(id));
    if !are_replicas || !members.iter().enumerate().all(is_once) {
        let message = format!("The ISR {members:?} is none of {:?}.", now.replicas);
        return refuse(ErrorCode::InvalidRequest, message);
    }
    if !members.contains(&leader) {
        let message = "The ISR doesn't include the leader.";
        return refuse(ErrorCode::InvalidRequest, message.into());
    }
    for member in &proposal.isr {
        if let Some(why) = ineligible(image, *member) {
            let message = format!("Broker {} {why}.", member.broker);
            return refuse(ErrorCode::IneligibleReplica, message);
        }
    }
    Ok(())
}

/// Why the broker can't be in sync.
fn ineligible(image: &MetadataImage, member: InSync) -> Option<String> {
    let Some(known) = image.broker(member.broker) else {
        return Some("is not registered".into());
    };
    match known.state {
        BrokerState::Fenced => Some("is fenced".into()),
        BrokerState::ShuttingDown => Some("shuts down".into()),
        BrokerState::Unfenced if known.epoch != member.epoch => Some(format!(
            "is registered in epoch {}, not in {}",
            known.epoch, member.epoch
        )),
        BrokerState::Unfenced => None,
    }
}

fn altered(now: &Partition, change: Option<&PartitionChange>) -> AlteredPartition {
    let Some(change) = change else {
        return AlteredPartition {
            leader: now.leader,
            leader_epoch: now.leader_epoch,
            isr: now.isr.clone(),
            partition_epoch: now.partition_epoch,
        };
    };
    AlteredPartition {
        leader: change.leader.unwrap_or(now.leader),
        leader_epoch: match change.leader {
            Some(_) => now.leader_epoch.next(),
            None => now.leader_epoch,
        },
        isr: change.isr.clone().unwrap_or_else(|| now.isr.clone()),
        partition_epoch: now.partition_epoch.next(),
    }
}
