//! JoinGroup: by new members, by those that come back, and by those that want something else.

use super::context::{after, Context, Timer};
use super::member::Member;
use super::messages::NewMembers;
use super::rebalance::Group;
use super::settings::{
    ALL_METADATA_BYTES_MAX, GROUPS_MAX, METADATA_BYTES_MAX, NAME_BYTES_MAX, PROTOCOLS_MAX,
};
use super::shard::GroupShard;
use super::{GroupSettings, GroupState, JoinRequest, MemberId};
use crate::model::{ErrorCode, Timestamp};

impl<T> GroupShard<T> {
    pub(super) fn join(&mut self, now: Timestamp, request: JoinRequest, to: T) {
        let member = request.member.clone();
        if let Err(error) = check(&request, &self.context.settings) {
            return self.context.refuse_join(to, error, member);
        }
        let is_there = self.groups.contains_key(&request.group);
        if !is_there && !member.is_empty() {
            let error = ErrorCode::UnknownMemberId;
            return self.context.refuse_join(to, error, member);
        }
        if !is_there && self.groups.len() >= GROUPS_MAX {
            let error = ErrorCode::GroupMaxSizeReached;
            return self.context.refuse_join(to, error, MemberId::default());
        }
        let id = request.group.clone();
        let group = (self.groups.entry(id.clone())).or_insert_with(|| Group::new(id.clone()));
        group.join(&mut self.context, now, &request, to);
        self.forget_if_vacant(&id);
    }
}

/// What doesn't depend on the group.
pub(super) fn check(request: &JoinRequest, settings: &GroupSettings) -> Result<(), ErrorCode> {
    let is_long = |name: &str| name.len() > NAME_BYTES_MAX;
    if request.group.is_empty() || is_long(request.group.as_str()) {
        return Err(ErrorCode::InvalidGroupId);
    }
    let sessions = settings.min_session_timeout_ms..=settings.max_session_timeout_ms;
    if !sessions.contains(&request.session_timeout_ms) {
        return Err(ErrorCode::InvalidSessionTimeout);
    }
    let metadata = request.protocols.iter().map(|(_, metadata)| metadata.len());
    let is_large = request.protocols.len() > PROTOCOLS_MAX
        || request.protocols.iter().any(|(name, _)| is_long(name))
        || metadata.sum::<usize>() > METADATA_BYTES_MAX
        || is_long(&request.protocol_type)
        || request.instance.as_deref().is_some_and(is_long);
    match is_large {
        true => Err(ErrorCode::InvalidRequest),
        false => Ok(()),
    }
}

impl<T> Group<T> {
    fn join(&mut self, context: &mut Context<T>, now: Timestamp, request: &JoinRequest, to: T) {
        let metadata = request.protocols.iter();
        let bytes: usize = metadata.map(|(name, data)| name.len() + data.len()).sum();
        if context.metadata_bytes + bytes > ALL_METADATA_BYTES_MAX {
            let error = ErrorCode::GroupMaxSizeReached;
            return context.refuse_join(to, error, request.member.clone());
        }
        if !self.has_room_for(&request.member, context.settings.max_size) {
            let error = ErrorCode::GroupMaxSizeReached;
            self.remove(context, &request.member, error);
            context.refuse_join(to, error, MemberId::default());
            return self.complete_join_if_all_have(context, now);
        }
        if self.state == GroupState::Dead {
            let error = ErrorCode::CoordinatorNotAvailable;
            return context.refuse_join(to, error, request.member.clone());
        }
        if !self.supports(request) {
            let error = ErrorCode::InconsistentGroupProtocol;
            return context.refuse_join(to, error, request.member.clone());
        }
        match request.member.is_empty() {
            true => self.join_new(context, now, request, to),
            false => self.join_known(context, now, request, to),
        }
    }

    fn has_room_for(&self, member: &MemberId, max_size: usize) -> bool {
        match self.state {
            GroupState::Empty | GroupState::Dead => self.pending.len() < max_size,
            GroupState::PreparingRebalance => {
                let joining = self.members.values().filter(|m| m.joining.is_some());
                let waits = |m: &Member<T>| m.joining.is_some();
                self.members.get(member).is_some_and(waits)
                    || self.pending.contains_key(member)
                    || joining.count() + self.pending.len() < max_size
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                self.members.contains_key(member)
                    || self.pending.contains_key(member)
                    || self.members.len() + self.pending.len() < max_size
            }
        }
    }

    /// Whether the member speaks what all others do.
    fn supports(&self, request: &JoinRequest) -> bool {
        if self.members.is_empty() {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        let mut names = request.protocols.iter().map(|(name, _)| name);
        self.protocol_type.as_ref() == Some(&request.protocol_type)
            && names.any(|name| self.all_speak(name))
    }

    fn join_new(&mut self, context: &mut Context<T>, now: Timestamp, request: &JoinRequest, to: T) {
        let id = new_id(request);
        if let Some(instance) = &request.instance {
            return match self.instances.get(instance).cloned() {
                Some(old) => self.replace(context, now, (&old, id), request, to),
                None => self.add(context, now, id, request, to),
            };
        }
        if request.new_members == NewMembers::JoinAtOnce {
            return self.add(context, now, id, request, to);
        }
        let until = after(now, request.session_timeout_ms.into());
        self.pending.insert(id.clone(), until);
        context.set_timer(until, Timer::Pending(self.id.clone(), id.clone()));
        context.refuse_join(to, ErrorCode::MemberIdRequired, id);
    }

    fn join_known(
        &mut self,
        context: &mut Context<T>,
        now: Timestamp,
        request: &JoinRequest,
        to: T,
    ) {
        let id = &request.member;
        if self.pending.contains_key(id) && request.instance.is_none() {
            return self.add(context, now, id.clone(), request, to);
        }
        if let Err(error) = self.check_member(id, request.instance.as_ref()) {
            return context.refuse_join(to, error, id.clone());
        }
        let wants_the_same =
            (self.members.get(id)).is_some_and(|m| m.protocols == request.protocols);
        match self.state {
            GroupState::Empty | GroupState::Dead => {
                context.refuse_join(to, ErrorCode::UnknownMemberId, id.clone());
            }
            // Perhaps it hasn't got the answer.
            GroupState::CompletingRebalance if wants_the_same => {
                context.answer_join(to, self.joined(id));
            }
            GroupState::Stable if wants_the_same && !self.is_leader(id) => {
                context.answer_join(to, self.joined(id));
            }
            _ => self.rejoin(context, now, request, to),
        }
    }

    fn add(
        &mut self,
        context: &mut Context<T>,
        now: Timestamp,
        id: MemberId,
        request: &JoinRequest,
        to: T,
    ) {
        let mut member = Member::new(id.clone(), request);
        member.joining = Some(to);
        context.metadata_bytes += member.metadata_bytes();
        self.pending.remove(&id);
        if let Some(initial) = &mut self.initial {
            initial.has_grown = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(id.clone());
        }
        if let Some(instance) = &request.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.members.insert(id.clone(), member);
        self.hear(context, now, &id);
        self.prepare_or_complete(context, now);
    }

    fn rejoin(&mut self, context: &mut Context<T>, now: Timestamp, request: &JoinRequest, to: T) {
        if let Some(member) = self.members.get_mut(&request.member) {
            context.metadata_bytes -= member.metadata_bytes();
            member.update(request);
            context.metadata_bytes += member.metadata_bytes();
            if let Some(before) = member.joining.replace(to) {
                // Its client has given up on that one.
                let error = ErrorCode::RebalanceInProgress;
                context.refuse_join(before, error, request.member.clone());
            }
        }
        self.prepare_or_complete(context, now);
    }
}

/// What it begins with is for those who read it.
pub(super) fn new_id(request: &JoinRequest) -> MemberId {
    let prefix = request.instance.as_ref().unwrap_or(&request.client_id);
    let mut end = prefix.len().min(NAME_BYTES_MAX);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}-{}", &prefix[..end], request.nonce).into()
}
