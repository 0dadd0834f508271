//! From one protocol to the other while members are at work (`group.consumer.migration.policy`).
//!
//! A classic group becomes a consumer group when a member of the consumer protocol joins: its members keep
//! what they have, and are classic members of it ([`super::classic_members`]). A consumer group becomes a
//! classic group when the last member of the consumer protocol is gone and classic ones are left: they join
//! anew. Both are one write, which takes away the records of the one and puts those of the other.
//!
//! Groups without members have whatever protocol the next member speaks. Their generations and epochs go on, where
//! Kafka's begin at 1 again: so each of them names one moment of the group.

use std::sync::Arc;

use super::super::consumer_protocol::{assigned, subscription, CONSUMER};
use super::super::member::Member;
use super::super::rebalance::Group;
use super::super::{GroupRecord, GroupSettings, MemberId, StoredGroup, StoredMember};
use super::classic_members::assignment_of;
use super::draft::{Draft, Moment};
use super::stored::{
    ClassicMember, ConsumerRecord, CurrentAssignment, GroupEpoch, MemberMetadata, MemberState,
    TargetEpoch,
};
use super::{ConsumerState, Partitions};
use crate::engine::metadata::MetadataImage;
use crate::model::{ErrorCode, Refusal, Timestamp};

/// What is written before a consumer group of this name can begin.
pub(in super::super) fn upgrade<T>(
    group: &Group<T>,
    settings: &GroupSettings,
    image: &MetadataImage,
    now: Timestamp,
) -> Result<Vec<GroupRecord>, Refusal> {
    let tombstone = GroupRecord::Group {
        group: group.id.clone(),
        stored: None,
    };
    let epochs = [
        ConsumerRecord::Group(Some(GroupEpoch {
            epoch: group.generation,
            metadata_hash: 0,
        })),
        ConsumerRecord::TargetEpoch(Some(TargetEpoch {
            epoch: group.generation,
            timestamp: now,
        })),
    ];
    let consumer = |record| GroupRecord::Consumer {
        group: group.id.clone(),
        record,
    };
    if group.members.is_empty() {
        // Of a group that was never written nothing has to be taken away.
        let written = group.stored.is_some() || group.generation > 0;
        let tombstone = written.then_some(tombstone).into_iter();
        let epochs = epochs.into_iter().filter(|_| group.generation > 0);
        return Ok(tombstone.chain(epochs.map(consumer)).collect());
    }
    let not_consumer = |why: &str| {
        let message = format!("Group {} is not a consumer group{why}.", group.id);
        Refusal::new(ErrorCode::GroupIdNotFound, message)
    };
    if !settings.consumer.migration.upgrades() || group.protocol_type.as_deref() != Some(CONSUMER) {
        return Err(not_consumer(""));
    }
    if group.members.len() > settings.consumer.max_size {
        return Err(not_consumer(", and has too many members to become one"));
    }
    let mut taken = Partitions::default();
    let mut records = Vec::from(epochs);
    for member in group.members.values() {
        let converted = convert(group, member, image, &mut taken);
        let (metadata, current) =
            converted.ok_or_else(|| not_consumer(", and what its members say can't be read"))?;
        let id = &member.id;
        let target = current.assigned.clone();
        records.push(ConsumerRecord::Member(id.clone(), Some(metadata)));
        records.push(ConsumerRecord::Target(id.clone(), Some(target)));
        records.push(ConsumerRecord::Current(id.clone(), Some(current)));
    }
    let records = records.into_iter().map(consumer);
    Ok(std::iter::once(tombstone).chain(records).collect())
}

/// A member goes on with what it was assigned last, or with what it has said that it owns while nobody is assigned
/// anything: nobody else may have that before it is given up. What two were assigned only one of them has.
fn convert<T>(
    group: &Group<T>,
    member: &Member<T>,
    image: &MetadataImage,
    taken: &mut Partitions,
) -> Option<(MemberMetadata, CurrentAssignment)> {
    let protocol = group.protocol.as_deref();
    let said = match protocol {
        Some(protocol) => member.metadata(protocol),
        None => member.protocols.first()?.1.clone(),
    };
    let said = subscription(&said)?;
    let had = match member.assignment.is_empty() {
        true => said.owned,
        false => assigned(&member.assignment)?,
    };
    let mut owned = Partitions::default();
    for (name, partitions) in had {
        let Some(topic) = image.topic_by_name(name) else {
            continue;
        };
        for partition in partitions {
            if !taken.contains(topic.id, partition) {
                taken.insert(topic.id, partition);
                owned.insert(topic.id, partition);
            }
        }
    }
    let metadata = MemberMetadata {
        instance: member.instance.clone(),
        rack: said.rack.map(Into::into),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        topic_names: said.topics.iter().map(|name| (*name).into()).collect(),
        topic_regex: None,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        assignor: None,
        classic: Some(ClassicMember {
            session_timeout_ms: member.session_timeout_ms,
            protocols: member.protocols.clone(),
        }),
    };
    let current = CurrentAssignment {
        epoch: group.generation,
        previous_epoch: group.generation,
        state: MemberState::Stable,
        since: owned.iter().map(|it| (it, group.generation)).collect(),
        assigned: owned,
        revoking: Partitions::default(),
    };
    Some((metadata, current))
}

/// Makes it a classic group if only classic members are left of `before`, which had others.
pub(super) fn downgrade_if_due(
    draft: &mut Draft,
    moment: Moment<'_>,
    before: &ConsumerState,
    classic_size_max: usize,
) {
    let members = draft.state().members();
    let is_due = !members.is_empty()
        && members.len() <= classic_size_max
        && members.values().all(|member| member.speaks_classic())
        && !before
            .members()
            .values()
            .all(|member| member.speaks_classic())
        && moment.settings.migration.downgrades();
    if !is_due {
        return;
    }
    // Who is up to date hears of a rebalance, and not that its generation is over.
    let epochs = draft.state().members().values();
    let epochs = epochs.map(|member| member.current.epoch);
    let generation = epochs.fold(before.epoch(), i32::max);
    downgrade(draft, moment, generation);
}

/// Makes it a classic group of this generation; of none if it is 0, and nothing has begun.
pub(super) fn downgrade(draft: &mut Draft, moment: Moment<'_>, generation: i32) {
    let stored = (generation > 0).then(|| classic(draft.state(), generation, moment));
    draft.record_all(draft.state().tombstones());
    if stored.is_some() {
        let group = draft.group().clone();
        draft.record_classic(GroupRecord::Group { group, stored });
    }
}

fn classic(state: &ConsumerState, generation: i32, moment: Moment<'_>) -> StoredGroup {
    let classic = |id: &MemberId| state.member(id.as_str())?.metadata.classic.as_ref();
    let all_speak = |name: &Arc<str>| {
        let mut members = state.members().keys().filter_map(classic);
        members.all(|member| member.protocols.iter().any(|(other, _)| other == name))
    };
    let leader = state.members().keys().next();
    let offered = leader.and_then(classic).map(|leader| &leader.protocols);
    let mut offered = offered.into_iter().flatten().map(|(name, _)| name);
    let protocol = offered.find(|name| all_speak(name));
    let members = state.members().iter().filter_map(|(id, member)| {
        let classic = member.metadata.classic.as_ref()?;
        let mut protocols = classic.protocols.iter();
        let said = protocols.find(|(name, _)| Some(name) == protocol);
        Some(StoredMember {
            member: id.clone(),
            instance: member.metadata.instance.clone(),
            client_id: member.metadata.client_id.clone(),
            client_host: member.metadata.client_host.clone(),
            rebalance_timeout_ms: member.metadata.rebalance_timeout_ms,
            session_timeout_ms: classic.session_timeout_ms,
            subscription: said.map(|(_, said)| said.clone()).unwrap_or_default(),
            assignment: assignment_of(member, classic, moment.image),
        })
    });
    StoredGroup {
        protocol_type: CONSUMER.into(),
        generation,
        protocol: protocol.cloned(),
        leader: leader.cloned(),
        state_timestamp: moment.now,
        members: members.collect(),
    }
}
