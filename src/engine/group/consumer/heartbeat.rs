//! ConsumerGroupHeartbeat: a member joins, tells what it subscribes to and what it owns, and learns what it
//! is assigned. The steps are Kafka's: the member's place, what it says, the group's epoch, the target, and
//! the member's way to it.

use std::sync::Arc;

use super::super::assignor::Assignor;
use super::super::settings::{METADATA_BYTES_MAX, NAME_BYTES_MAX};
use super::super::{Answer, MemberId};
use super::draft::{Draft, Moment};
use super::group::{Outcome, Pace, Wait};
use super::membership::{admit, leave};
use super::messages::{ConsumerHeartbeatAnswer, ConsumerHeartbeatRequest, JOIN_EPOCH, LEAVE_EPOCH};
use super::reconcile::{reconcile, Owned, Target};
use super::stored::{ConsumerRecord, GroupEpoch, MemberMetadata, MemberState, LEFT_FOR_A_WHILE};
use super::subscription::{compile, is_resolved, metadata_hash, resolve};
use super::target::retarget;
use super::{ConsumerMember, ConsumerSettings};
use crate::model::{ErrorCode, Refusal};

pub(super) type HeartbeatResult = Result<ConsumerHeartbeatAnswer, Refusal>;

pub(super) fn heartbeat(
    draft: &mut Draft,
    moment: Moment<'_>,
    request: &ConsumerHeartbeatRequest,
) -> Outcome {
    let leaves = matches!(request.epoch, LEAVE_EPOCH | LEFT_FOR_A_WHILE);
    let before = draft.state().member(request.member.as_str()).cloned();
    let result = match leaves {
        true => leave(draft, moment, request),
        false => stay(draft, moment, request),
    };
    match result {
        Err(refusal) => Outcome::Refused(Answer::ConsumerHeartbeat(Err(refusal))),
        Ok(answer) => {
            let paces = match leaves {
                true => Vec::new(),
                false => paces(draft, moment, &request.member, before),
            };
            Outcome::Decided(Answer::ConsumerHeartbeat(Ok(answer)), paces)
        }
    }
}

fn stay(
    draft: &mut Draft,
    moment: Moment<'_>,
    request: &ConsumerHeartbeatRequest,
) -> HeartbeatResult {
    admit(draft, moment, request)?;
    let id = &request.member;
    let before = draft.state().member(id.as_str()).cloned();
    let before = before.unwrap_or_default();
    update(draft, moment, id, said(&before.metadata, request))?;
    let owned = match (&request.owned, request.epoch) {
        (None, _) => Owned::Unsaid,
        (Some(owned), JOIN_EPOCH) => Owned::Begins(owned),
        (Some(owned), _) => Owned::Says(owned),
    };
    advance(draft, moment, id, owned);
    let after = draft.state().member(id.as_str()).cloned();
    let after = after.unwrap_or_default();
    let has_changed = before.current.assigned != after.current.assigned;
    let is_told = request.epoch == JOIN_EPOCH || is_full(request) || has_changed;
    Ok(ConsumerHeartbeatAnswer {
        member: id.clone(),
        epoch: after.current.epoch,
        heartbeat_interval_ms: moment.settings.heartbeat_interval_ms,
        assignment: is_told.then(|| after.current.assigned.clone()),
    })
}

/// It is to be heard from, and to give up what it was told to; that time begins when it is told.
fn paces(
    draft: &Draft,
    moment: Moment<'_>,
    id: &MemberId,
    before: Option<Arc<ConsumerMember>>,
) -> Vec<Pace> {
    let Some(member) = draft.state().member(id.as_str()) else {
        return Vec::new();
    };
    let session_ms = moment.settings.session_timeout_ms.into();
    let ms = member.metadata.rebalance_timeout_ms.into();
    let was_told = before.is_some_and(|before| before.current == member.current);
    let revocation = match member.current.state {
        MemberState::UnrevokedPartitions if was_told => {
            Pace::WithinUnlessSet(id.clone(), Wait::Revocation, ms)
        }
        MemberState::UnrevokedPartitions => Pace::Within(id.clone(), Wait::Revocation, ms),
        _ => Pace::Done(id.clone(), Wait::Revocation),
    };
    vec![
        Pace::Within(id.clone(), Wait::Session, session_ms),
        revocation,
    ]
}

/// What doesn't depend on the group.
pub(in super::super) fn check(
    request: &ConsumerHeartbeatRequest,
    settings: &ConsumerSettings,
) -> Result<(), Refusal> {
    let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    let is_blank = |text: &str| text.trim().is_empty();
    let is_blank_if_given = |text: &Option<Arc<str>>| text.as_deref().is_some_and(is_blank);
    if is_blank(request.group.as_str()) {
        return invalid("GroupId can't be empty.");
    }
    if is_blank_if_given(&request.instance) {
        return invalid("InstanceId can't be empty.");
    }
    if is_blank_if_given(&request.rack) {
        return invalid("RackId can't be empty.");
    }
    if is_blank(request.member.as_str()) {
        return invalid("MemberId can't be empty.");
    }
    match request.epoch {
        JOIN_EPOCH => check_join(request)?,
        LEFT_FOR_A_WHILE if request.instance.is_none() => {
            return invalid("InstanceId can't be null.");
        }
        LEFT_FOR_A_WHILE.. => {}
        _ => return invalid("MemberEpoch is invalid."),
    }
    check_sizes(request)?;
    if let Some(name) = &request.assignor {
        let known = Assignor::from_name(name);
        if known.is_none_or(|assignor| !settings.assignors.contains(&assignor)) {
            let names = settings.assignors.iter().map(|assignor| assignor.name());
            let names = names.collect::<Vec<_>>().join(", ");
            let message =
                format!("ServerAssignor {name} is not supported. Supported assignors: {names}.");
            return Err(Refusal::new(ErrorCode::UnsupportedAssignor, message));
        }
    }
    match request.topic_regex.as_deref() {
        Some(regex) if !regex.is_empty() => compile(regex).map(|_| ()),
        _ => Ok(()),
    }
}

fn check_join(request: &ConsumerHeartbeatRequest) -> Result<(), Refusal> {
    let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    if request.rebalance_timeout_ms == -1 {
        return invalid("RebalanceTimeoutMs must be provided in first request.");
    }
    if request.owned.as_ref().is_none_or(|owned| !owned.is_empty()) {
        return invalid("TopicPartitions must be empty when (re-)joining.");
    }
    if request.topic_names.is_none() && request.topic_regex.is_none() {
        return invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.");
    }
    Ok(())
}

fn check_sizes(request: &ConsumerHeartbeatRequest) -> Result<(), Refusal> {
    let is_long = |name: &str| name.len() > NAME_BYTES_MAX;
    let is_long_if_given = |name: &Option<Arc<str>>| name.as_deref().is_some_and(is_long);
    let names = request.topic_names.iter().flatten();
    let is_large = is_long(request.group.as_str())
        || is_long(request.member.as_str())
        || is_long_if_given(&request.instance)
        || is_long_if_given(&request.rack)
        || is_long_if_given(&request.assignor)
        || is_long_if_given(&request.topic_regex)
        || names.map(|name| name.len()).sum::<usize>() > METADATA_BYTES_MAX;
    match is_large {
        true => Err(Refusal::new(
            ErrorCode::InvalidRequest,
            "a name or the subscription is too long",
        )),
        false => Ok(()),
    }
}

/// Whether it says all that there is to say, as after an error.
fn is_full(request: &ConsumerHeartbeatRequest) -> bool {
    let subscribes = request.topic_names.is_some() || request.topic_regex.is_some();
    request.rebalance_timeout_ms != -1 && subscribes && request.owned.is_some()
}

/// What the member has said by now.
fn said(before: &MemberMetadata, request: &ConsumerHeartbeatRequest) -> MemberMetadata {
    let or_before = |new: &Option<Arc<str>>, old: &Option<Arc<str>>| new.clone().or(old.clone());
    let names = request.topic_names.as_ref();
    MemberMetadata {
        instance: or_before(&request.instance, &before.instance),
        rack: or_before(&request.rack, &before.rack),
        client_id: request.client_id.clone(),
        client_host: request.client_host.clone(),
        topic_names: match names {
            Some(names) => names.iter().cloned().collect(),
            None => before.topic_names.clone(),
        },
        topic_regex: match request.topic_regex.as_deref() {
            Some("") => None,
            _ => or_before(&request.topic_regex, &before.topic_regex),
        },
        rebalance_timeout_ms: match request.rebalance_timeout_ms {
            -1 => before.rebalance_timeout_ms,
            given => given,
        },
        assignor: or_before(&request.assignor, &before.assignor),
        classic: None,
    }
}

/// Records what a member says now, and begins an epoch if that, or the topics, ask for another assignment.
pub(super) fn update(
    draft: &mut Draft,
    moment: Moment<'_>,
    id: &MemberId,
    metadata: MemberMetadata,
) -> Result<(), Refusal> {
    let before = draft.state().member(id.as_str()).cloned();
    let is_new = before.is_none();
    let before = before.unwrap_or_default();
    if metadata.size() > before.metadata.size() + moment.room_bytes {
        let message = "the coordinator keeps as much of its members as it can";
        return Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message));
    }
    let subscribes_anew = metadata.topic_names != before.metadata.topic_names
        || metadata.topic_regex != before.metadata.topic_regex;
    if is_new || metadata != before.metadata {
        draft.record(ConsumerRecord::Member(id.clone(), Some(metadata)));
    }
    if subscribes_anew || draft.state().epoch() == 0 {
        resolve_if_needed(draft, moment);
        begin_epoch(draft, moment);
    } else if moment.sees_other_metadata() {
        resolve_if_needed(draft, moment);
        let hash = metadata_hash(draft.state(), moment.image);
        if hash != draft.state().metadata_hash() {
            begin_epoch(draft, moment);
        }
    }
    Ok(())
}

fn resolve_if_needed(draft: &mut Draft, moment: Moment<'_>) {
    let is_up_to_date = is_resolved(draft.state())
        && (draft.state().regexes().is_empty() || !moment.sees_other_topics());
    if !is_up_to_date {
        resolve(draft, moment);
    }
}

pub(super) fn begin_epoch(draft: &mut Draft, moment: Moment<'_>) {
    let group = GroupEpoch {
        epoch: draft.state().epoch().saturating_add(1),
        metadata_hash: metadata_hash(draft.state(), moment.image),
    };
    draft.record(ConsumerRecord::Group(Some(group)));
}

/// Makes the target of a new epoch, and takes the member as far towards it as it can go.
pub(super) fn advance(draft: &mut Draft, moment: Moment<'_>, id: &MemberId, owned: Owned<'_>) {
    if draft.state().epoch() > draft.state().target_epoch() {
        retarget(draft, moment);
    }
    let state = draft.state();
    let Some(ConsumerMember { current, .. }) = state.member(id.as_str()).map(Arc::as_ref) else {
        return;
    };
    let partitions = state.target(id.as_str());
    let target = Target {
        epoch: state.target_epoch(),
        partitions: &partitions,
    };
    let next = reconcile(current, target, owned, |t, p| state.is_free(t, p, id));
    if next != *current {
        draft.record(ConsumerRecord::Current(id.clone(), Some(next)));
    }
}
