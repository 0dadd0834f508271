//! Who is a member: joining, coming back, leaving, and being taken out.

use super::super::MemberId;
use super::draft::{Draft, Moment};
use super::heartbeat::{begin_epoch, HeartbeatResult};
use super::messages::{ConsumerHeartbeatAnswer, ConsumerHeartbeatRequest, JOIN_EPOCH};
use super::state::member_tombstones;
use super::stored::{ConsumerRecord, CurrentAssignment, LEFT_FOR_A_WHILE};
use super::subscription::resolve;
use super::{ConsumerMember, Partitions};
use crate::model::{ErrorCode, Refusal};

/// That whoever asks is a member, or may become one; it has taken its former life's place then.
pub(super) fn admit(
    draft: &mut Draft,
    moment: Moment<'_>,
    request: &ConsumerHeartbeatRequest,
) -> Result<(), Refusal> {
    let joins = request.epoch == JOIN_EPOCH;
    if draft.state().is_absent() && !joins {
        let message = format!("Consumer group {} not found.", request.group);
        return Err(Refusal::new(ErrorCode::GroupIdNotFound, message));
    }
    has_room(draft, moment, &request.member)?;
    let Some(instance) = &request.instance else {
        return match draft.state().member(request.member.as_str()) {
            Some(member) if !joins => check_epoch(member, request.epoch, request.owned.as_ref()),
            None if !joins => Err(unknown(draft, &request.member)),
            _ => Ok(()),
        };
    };
    let Some((holder, member)) = draft.state().of_instance(instance) else {
        return match joins {
            true => Ok(()),
            false => Err(unknown_instance(instance)),
        };
    };
    match (*holder == request.member, joins) {
        (true, true) => Ok(()),
        (true, false) => check_epoch(member, request.epoch, request.owned.as_ref()),
        (false, false) => Err(fenced_instance(&request.member, instance, holder)),
        (false, true) => {
            if member.current.epoch != LEFT_FOR_A_WHILE && !member.speaks_classic() {
                let message = format!(
                    "Static member {} with instance id {instance} cannot join the group because the instance id is owned by {holder} member.",
                    request.member
                );
                return Err(Refusal::new(ErrorCode::UnreleasedInstanceId, message));
            }
            let (holder, member) = (holder.clone(), ConsumerMember::clone(member));
            replace(draft, &holder, &request.member, member);
            Ok(())
        }
    }
}

pub(super) fn has_room(
    draft: &Draft,
    moment: Moment<'_>,
    member: &MemberId,
) -> Result<(), Refusal> {
    let members = draft.state().members();
    let max = moment.settings.max_size;
    if members.len() < max || members.contains_key(member) {
        return Ok(());
    }
    let message = format!("The consumer group has reached its maximum capacity of {max} members.");
    Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message))
}

/// A member that is one epoch behind hasn't got the last answer, if what it owns is what it was told.
fn check_epoch(
    member: &ConsumerMember,
    epoch: i32,
    owned: Option<&Partitions>,
) -> Result<(), Refusal> {
    let known = member.current.epoch;
    let lost_an_answer = epoch == member.current.previous_epoch
        && owned.is_some_and(|owned| owned.is_subset(&member.current.assigned));
    if epoch == known || (epoch < known && lost_an_answer) {
        return Ok(());
    }
    let compared = match epoch > known {
        true => "greater",
        false => "smaller",
    };
    let message = format!(
        "The consumer group member has a {compared} member epoch ({epoch}) than the one known by the group coordinator ({known}). The member must abandon all its partitions and rejoin."
    );
    Err(Refusal::new(ErrorCode::FencedMemberEpoch, message))
}

pub(super) fn unknown(draft: &Draft, member: &MemberId) -> Refusal {
    let message = format!(
        "Member {member} is not a member of group {}.",
        draft.group()
    );
    Refusal::new(ErrorCode::UnknownMemberId, message)
}

pub(super) fn unknown_instance(instance: &str) -> Refusal {
    let message = format!("Instance id {instance} is unknown.");
    Refusal::new(ErrorCode::UnknownMemberId, message)
}

pub(super) fn fenced_instance(member: &MemberId, instance: &str, holder: &MemberId) -> Refusal {
    let message = format!(
        "Static member {member} with instance id {instance} was fenced by member {holder}."
    );
    Refusal::new(ErrorCode::FencedInstanceId, message)
}

/// Gives a static member's place to its next life, which goes on with what the former one owned.
pub(super) fn replace(draft: &mut Draft, old: &MemberId, new: &MemberId, member: ConsumerMember) {
    let target = draft.state().targets().get(old).cloned();
    draft.record_all(member_tombstones(old));
    draft.record(ConsumerRecord::Member(new.clone(), Some(member.metadata)));
    if let Some(target) = target {
        let target = Partitions::clone(&target);
        draft.record(ConsumerRecord::Target(new.clone(), Some(target)));
    }
    let current = CurrentAssignment {
        epoch: 0,
        previous_epoch: 0,
        ..member.current
    };
    draft.record(ConsumerRecord::Current(new.clone(), Some(current)));
}

pub(super) fn leave(
    draft: &mut Draft,
    moment: Moment<'_>,
    request: &ConsumerHeartbeatRequest,
) -> HeartbeatResult {
    if draft.state().is_absent() {
        let message = format!("Group {} not found.", request.group);
        return Err(Refusal::new(ErrorCode::GroupIdNotFound, message));
    }
    let id = &request.member;
    let member = match &request.instance {
        None => draft
            .state()
            .member(id.as_str())
            .ok_or_else(|| unknown(draft, id))?,
        Some(instance) => {
            let holder = draft.state().of_instance(instance);
            let (holder, member) = holder.ok_or_else(|| unknown_instance(instance))?;
            if holder != id {
                return Err(fenced_instance(id, instance, holder));
            }
            member
        }
    };
    match request.epoch {
        LEFT_FOR_A_WHILE => {
            let current = CurrentAssignment {
                epoch: LEFT_FOR_A_WHILE,
                revoking: Partitions::default(),
                // Its next life counts its epochs anew.
                since: member.current.assigned.iter().map(|it| (it, 0)).collect(),
                ..member.current.clone()
            };
            draft.record(ConsumerRecord::Current(id.clone(), Some(current)));
        }
        _ => remove(draft, moment, std::slice::from_ref(id)),
    }
    Ok(ConsumerHeartbeatAnswer {
        member: id.clone(),
        epoch: request.epoch,
        ..ConsumerHeartbeatAnswer::default()
    })
}

/// Takes members out. Who is left is assigned anew at its next heartbeat.
pub(super) fn remove(draft: &mut Draft, moment: Moment<'_>, ids: &[MemberId]) {
    for id in ids {
        draft.record_all(member_tombstones(id));
    }
    resolve(draft, moment);
    begin_epoch(draft, moment);
}
