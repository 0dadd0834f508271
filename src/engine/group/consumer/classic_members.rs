//! Members of the classic protocol in a consumer group (KIP-848, "online migration"): the coordinator takes
//! their leader's place. JoinGroup tells what they subscribe to and own, as a heartbeat of the other protocol
//! does, and its answer is their epoch, as a generation; SyncGroup tells what they are assigned; Heartbeat
//! tells them to join again when there is something new for them.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::super::consumer_protocol::{assignment, subscription, Subscription, CONSUMER};
use super::super::join::new_id;
use super::super::messages::NewMembers;
use super::super::{
    Answer, HeartbeatRequest, JoinAnswer, JoinRequest, LeaveAnswer, LeaveRequest, LeavingMember,
    MemberId, SyncAnswer, SyncRequest,
};
use super::draft::{Draft, Moment};
use super::group::{Outcome, Pace, Wait};
use super::heartbeat::{advance, update};
use super::membership::{has_room, remove, replace};
use super::reconcile::Owned;
use super::stored::{ClassicMember, MemberMetadata, MemberState};
use super::{ConsumerMember, ConsumerSettings, ConsumerState, Partitions};
use crate::engine::metadata::MetadataImage;
use crate::model::{ErrorCode, Refusal};

/// How long a member may be silent, in milliseconds.
pub(super) fn session_ms(member: &ConsumerMember, settings: &ConsumerSettings) -> i64 {
    let classic = member.metadata.classic.as_ref();
    let ms = classic.map_or(settings.session_timeout_ms, |c| c.session_timeout_ms);
    ms.into()
}

pub(super) fn join(draft: &mut Draft, moment: Moment<'_>, request: &JoinRequest) -> Outcome {
    let refused = |refusal: Refusal| {
        let answer = JoinAnswer::refused(refusal.code, request.member.clone());
        Outcome::Refused(Answer::Join(answer))
    };
    let is_new = request.member.is_empty();
    let id = match is_new {
        true => new_id(request),
        false => request.member.clone(),
    };
    if let Err(refusal) = has_room(draft, moment, &id) {
        return refused(refusal);
    }
    let first = request.protocols.first();
    let said = first.and_then(|(_, metadata)| subscription(metadata));
    let Some(said) = said.filter(|_| speaks_with_all(draft.state(), &id, request)) else {
        return refused(ErrorCode::InconsistentGroupProtocol.into());
    };
    let is_told = request.new_members == NewMembers::AreToldTheirId;
    if is_new && request.instance.is_none() && is_told {
        let answer = JoinAnswer::refused(ErrorCode::MemberIdRequired, id);
        return Outcome::Refused(Answer::Join(answer));
    }
    if let Err(code) = take_place(draft, &id, is_new, request.instance.as_deref()) {
        return refused(code.into());
    }
    let owned = ids_of(&said, moment.image);
    if let Err(refusal) = update(draft, moment, &id, metadata(request, &said)) {
        return refused(refusal);
    }
    advance(draft, moment, &id, Owned::Begins(&owned));
    let epoch = draft.state().member(id.as_str()).map(|m| m.current.epoch);
    let answer = JoinAnswer {
        member: id.clone(),
        generation: epoch.unwrap_or(-1),
        protocol_type: Some(CONSUMER.into()),
        protocol: first.map(|(name, _)| name.clone()),
        ..JoinAnswer::default()
    };
    let session_ms = request.session_timeout_ms.into();
    let paces = vec![
        Pace::Done(id.clone(), Wait::Join),
        Pace::Within(id.clone(), Wait::Session, session_ms),
        Pace::Within(id.clone(), Wait::Sync, rebalance_ms(request).into()),
    ];
    Outcome::Decided(Answer::Join(answer), paces)
}

/// Whether there is a protocol that this member and all other classic ones speak.
fn speaks_with_all(state: &ConsumerState, id: &MemberId, request: &JoinRequest) -> bool {
    let others = state.members().iter().filter(|(other, _)| *other != id);
    let others = others.filter_map(|(_, member)| member.metadata.classic.as_ref());
    let others: Vec<&ClassicMember> = others.collect();
    let all_speak = |name: &Arc<str>| {
        let speaks = |classic: &&ClassicMember| classic.protocols.iter().any(|(n, _)| n == name);
        others.iter().all(speaks)
    };
    let mut names = request.protocols.iter().map(|(name, _)| name);
    &*request.protocol_type == CONSUMER && names.any(all_speak)
}

/// A static member that comes without its id takes its former life's place, whatever that speaks.
fn take_place(
    draft: &mut Draft,
    id: &MemberId,
    is_new: bool,
    instance: Option<&str>,
) -> Result<(), ErrorCode> {
    let holder = instance.and_then(|instance| draft.state().of_instance(instance));
    match (instance, holder) {
        (None, _) => Ok(()),
        (Some(_), None) if is_new => Ok(()),
        (Some(_), None) => Err(ErrorCode::UnknownMemberId),
        (Some(_), Some((holder, member))) if is_new => {
            let (holder, member) = (holder.clone(), ConsumerMember::clone(member));
            replace(draft, &holder, id, member);
            Ok(())
        }
        (Some(_), Some((holder, _))) if holder != id => Err(ErrorCode::FencedInstanceId),
        (Some(_), Some(_)) => Ok(()),
    }
}

fn metadata(request: &JoinRequest, said: &Subscription<'_>) -> MemberMetadata {
    MemberMetadata {
        instance: request.instance.clone(),
        rack: said.rack.map(Into::into),
        client_id: request.client_id.clone(),
        client_host: request.client_host.clone(),
        topic_names: said.topics.iter().map(|name| (*name).into()).collect(),
        topic_regex: None,
        rebalance_timeout_ms: rebalance_ms(request),
        assignor: None,
        classic: Some(ClassicMember {
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols.clone(),
        }),
    }
}

fn rebalance_ms(request: &JoinRequest) -> i32 {
    match request.rebalance_timeout_ms {
        ..0 => request.session_timeout_ms,
        given => given,
    }
}

fn ids_of(said: &Subscription<'_>, image: &MetadataImage) -> Partitions {
    let owned = said.owned.iter().filter_map(|(name, partitions)| {
        let topic = image.topic_by_name(name)?;
        Some(partitions.iter().map(|partition| (topic.id, *partition)))
    });
    owned.flatten().collect()
}

pub(super) fn sync(draft: &Draft, moment: Moment<'_>, request: &SyncRequest) -> Outcome {
    let state = draft.state();
    let refused = |code| Outcome::Refused(Answer::Sync(SyncAnswer::refused(code)));
    let found = member(state, &request.member, request.instance.as_deref());
    let (member, classic) = match found {
        Ok(found) => found,
        Err(code) => return refused(code),
    };
    if request.generation != member.current.epoch {
        return refused(ErrorCode::IllegalGeneration);
    }
    let protocol = classic.protocols.first().map(|(name, _)| name);
    let is_other =
        |said: &Option<Arc<str>>, is: Option<&str>| said.is_some() && said.as_deref() != is;
    if is_other(&request.protocol_type, Some(CONSUMER))
        || is_other(&request.protocol, protocol.map(|name| &**name))
    {
        return refused(ErrorCode::InconsistentGroupProtocol);
    }
    let is_behind = state.epoch() > member.current.epoch;
    if is_behind && member.current.state != MemberState::UnrevokedPartitions {
        return refused(ErrorCode::RebalanceInProgress);
    }
    let answer = SyncAnswer {
        error: ErrorCode::None,
        protocol_type: Some(CONSUMER.into()),
        protocol: protocol.cloned(),
        assignment: assignment_of(member, classic, moment.image),
    };
    let id = &request.member;
    let session_ms = session_ms(member, moment.settings);
    let paces = vec![
        Pace::Done(id.clone(), Wait::Sync),
        Pace::Within(id.clone(), Wait::Session, session_ms),
    ];
    Outcome::Decided(Answer::Sync(answer), paces)
}

/// In the words of the member's own version. Topics that are gone are left out.
pub(super) fn assignment_of(
    member: &ConsumerMember,
    classic: &ClassicMember,
    image: &MetadataImage,
) -> Bytes {
    let said = classic.protocols.first();
    let said = said.and_then(|(_, metadata)| subscription(metadata));
    let topics = member.current.assigned.by_topic();
    let named = topics.filter_map(|(id, numbers)| {
        let topic = image.topic(id)?;
        Some((topic.name.as_str(), numbers.iter().copied().collect()))
    });
    assignment(said.map_or(0, |said| said.version), &named.collect())
}

/// A classic member, and what it says as one.
fn member<'a>(
    state: &'a ConsumerState,
    id: &MemberId,
    instance: Option<&str>,
) -> Result<(&'a Arc<ConsumerMember>, &'a ClassicMember), ErrorCode> {
    let member = match instance {
        None => state.member(id.as_str()),
        Some(instance) => match state.of_instance(instance) {
            Some((holder, _)) if holder != id => return Err(ErrorCode::FencedInstanceId),
            found => found.map(|(_, member)| member),
        },
    };
    let member = member.ok_or(ErrorCode::UnknownMemberId)?;
    let classic = member.metadata.classic.as_ref();
    Ok((member, classic.ok_or(ErrorCode::UnknownMemberId)?))
}

pub(super) fn heartbeat(draft: &Draft, moment: Moment<'_>, request: &HeartbeatRequest) -> Outcome {
    let state = draft.state();
    let found = member(state, &request.member, request.instance.as_deref());
    let (member, _) = match found {
        Ok(found) => found,
        Err(code) => return Outcome::Refused(Answer::Code(code)),
    };
    if request.generation != member.current.epoch {
        return Outcome::Refused(Answer::Code(ErrorCode::IllegalGeneration));
    }
    let id = &request.member;
    let session_ms = session_ms(member, moment.settings);
    let mut paces = vec![Pace::Within(id.clone(), Wait::Session, session_ms)];
    // There is a new epoch; or it is to say that it has given up partitions; or it can have more.
    let is_to_join = state.epoch() > member.current.epoch
        || match member.current.state {
            MemberState::UnrevokedPartitions => true,
            MemberState::UnreleasedPartitions => !state.waits_for_others(id),
            MemberState::Stable => false,
        };
    if !is_to_join {
        return Outcome::Decided(Answer::Code(ErrorCode::None), paces);
    }
    let wait_ms = member.metadata.rebalance_timeout_ms.into();
    paces.push(Pace::WithinUnlessSet(id.clone(), Wait::Join, wait_ms));
    Outcome::Decided(Answer::Code(ErrorCode::RebalanceInProgress), paces)
}

pub(super) fn leave(draft: &mut Draft, moment: Moment<'_>, request: &LeaveRequest) -> Outcome {
    let mut codes = Vec::with_capacity(request.members.len());
    let mut gone = BTreeSet::new();
    for leaving in &request.members {
        let found = leaving_id(draft.state(), leaving);
        codes.push(match found {
            Ok(id) if gone.insert(id.clone()) => ErrorCode::None,
            Ok(_) => ErrorCode::UnknownMemberId,
            Err(code) => code,
        });
    }
    if !gone.is_empty() {
        let gone: Vec<MemberId> = gone.into_iter().collect();
        remove(draft, moment, &gone);
    }
    let answer = LeaveAnswer {
        error: ErrorCode::None,
        members: codes,
    };
    Outcome::Decided(Answer::Leave(answer), Vec::new())
}

/// An administrator names only the instance, and means whoever has its place.
fn leaving_id(state: &ConsumerState, leaving: &LeavingMember) -> Result<MemberId, ErrorCode> {
    let instance = leaving.instance.as_deref();
    if let (true, Some(instance)) = (leaving.member.is_empty(), instance) {
        let holder = state.of_instance(instance);
        let (holder, member) = holder.ok_or(ErrorCode::UnknownMemberId)?;
        return match member.speaks_classic() {
            true => Ok(holder.clone()),
            false => Err(ErrorCode::UnknownMemberId),
        };
    }
    member(state, &leaving.member, instance)?;
    Ok(leaving.member.clone())
}
