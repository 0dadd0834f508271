//! A group, and how it gets from one generation to the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::committed::Offsets;
use super::context::{after, Context, Timer};
use super::member::Member;
use super::shard::Purpose;
use super::stored::StoredGroup;
use super::{GroupId, GroupRecord, GroupState, JoinAnswer, JoinedMember, MemberId};
use crate::model::{ErrorCode, Timestamp};

/// How long an empty group still waits for members beside the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InitialDelay {
    /// How much longer it may be prolonged, in milliseconds.
    pub remaining_ms: i64,
    pub has_grown: bool,
}

/// Each member's id is its key; `instances` are those of exactly the static members. `leader` is a
/// member, if there is any. `initial` is there only while it prepares its first rebalance.
pub(super) struct Group<T> {
    pub id: GroupId,
    pub state: GroupState,
    /// Since when it is Empty or Stable; -1 if it never was a group with members.
    pub state_since: Timestamp,
    pub generation: i32,
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    pub leader: Option<MemberId>,
    pub members: BTreeMap<MemberId, Member<T>>,
    pub instances: BTreeMap<Arc<str>, MemberId>,
    /// Those who were told their ids, and until when they may join with them.
    pub pending: BTreeMap<MemberId, Timestamp>,
    pub initial: Option<InitialDelay>,
    pub join_until: Option<Timestamp>,
    pub sync_until: Option<Timestamp>,
    /// As it was committed last.
    pub stored: Option<StoredGroup>,
    pub offsets: Offsets,
}

impl<T> Group<T> {
    pub fn new(id: GroupId) -> Group<T> {
        Group {
            id,
            state: GroupState::Empty,
            state_since: Timestamp::NONE,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            pending: BTreeMap::new(),
            initial: None,
            join_until: None,
            sync_until: None,
            stored: None,
            offsets: Offsets::default(),
        }
    }

    /// Goes on from what a former coordinator has committed.
    pub fn restore(&mut self, context: &mut Context<T>, now: Timestamp) {
        let Some(stored) = &self.stored else {
            return;
        };
        self.generation = stored.generation;
        self.protocol_type = Some(stored.protocol_type.clone());
        self.protocol = stored.protocol.clone();
        self.leader = stored.leader.clone();
        self.state_since = stored.state_timestamp;
        for member in &stored.members {
            if let Some(instance) = &member.instance {
                self.instances
                    .insert(instance.clone(), member.member.clone());
            }
            let restored = Member::restored(member, stored.protocol.as_ref());
            context.metadata_bytes += restored.metadata_bytes();
            self.members.insert(member.member.clone(), restored);
        }
        self.state = match self.members.is_empty() {
            true => GroupState::Empty,
            false => GroupState::Stable,
        };
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            self.hear(context, now, &id);
        }
        if self.members.len() > context.settings.max_size {
            self.prepare(context, now);
        }
    }

    /// Nothing is known of it that couldn't be forgotten.
    pub fn is_vacant(&self) -> bool {
        self.state == GroupState::Empty
            && self.generation == 0
            && self.members.is_empty()
            && self.pending.is_empty()
            && self.stored.is_none()
            && self.offsets.is_empty()
    }

    pub fn is_leader(&self, member: &MemberId) -> bool {
        self.leader.as_ref() == Some(member)
    }

    /// That the member is one, and the only one of its instance.
    pub fn check_member(
        &self,
        member: &MemberId,
        instance: Option<&Arc<str>>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.instances.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(known) if known != member => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        match self.members.contains_key(member) {
            true => Ok(()),
            false => Err(ErrorCode::UnknownMemberId),
        }
    }

    /// The member's session begins anew.
    pub fn hear(&mut self, context: &mut Context<T>, now: Timestamp, id: &MemberId) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        member.is_heard(now);
        let until = member.session_until;
        if member.session_timer.is_none_or(|timer| timer > until) {
            member.session_timer = Some(until);
            context.set_timer(until, Timer::Session(self.id.clone(), id.clone()));
        }
    }

    /// A timer that was set for `at` has come.
    pub fn session_timer(
        &mut self,
        context: &mut Context<T>,
        now: Timestamp,
        at: Timestamp,
        id: &MemberId,
    ) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        if member.session_timer != Some(at) {
            return;
        }
        member.session_timer = None;
        if member.session_until > now {
            let until = member.session_until;
            member.session_timer = Some(until);
            context.set_timer(until, Timer::Session(self.id.clone(), id.clone()));
        } else if !member.is_held_by_us() {
            self.remove(context, id, ErrorCode::UnknownMemberId);
            self.rebalance_without(context, now);
        }
    }

    pub fn pending_timer(&mut self, context: &mut Context<T>, now: Timestamp, id: &MemberId) {
        if self.pending.get(id).is_some_and(|until| *until <= now) {
            self.pending.remove(id);
            self.complete_join_if_all_have(context, now);
        }
    }

    /// Takes the member out, and tells it why if it waits.
    pub fn remove(&mut self, context: &mut Context<T>, id: &MemberId, why: ErrorCode) {
        let Some(member) = self.members.remove(id) else {
            return;
        };
        context.metadata_bytes -= member.metadata_bytes();
        if let Some(instance) = &member.instance {
            if self.instances.get(instance) == Some(id) {
                self.instances.remove(instance);
            }
        }
        if let Some(to) = member.joining {
            context.refuse_join(to, why, id.clone());
        }
        if let Some(to) = member.syncing {
            context.refuse_sync(to, why);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// After a member has gone.
    pub fn rebalance_without(&mut self, context: &mut Context<T>, now: Timestamp) {
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare(context, now),
            GroupState::PreparingRebalance => self.complete_join_if_all_have(context, now),
            GroupState::Empty | GroupState::Dead => {}
        }
    }

    /// After a member has joined.
    pub fn prepare_or_complete(&mut self, context: &mut Context<T>, now: Timestamp) {
        match self.state {
            GroupState::PreparingRebalance => self.complete_join_if_all_have(context, now),
            _ => self.prepare(context, now),
        }
    }

    /// All members are to join anew.
    pub fn prepare(&mut self, context: &mut Context<T>, now: Timestamp) {
        if self.state == GroupState::CompletingRebalance {
            self.fail_syncs(context, ErrorCode::RebalanceInProgress);
        }
        self.sync_until = None;
        let wait_ms = match self.state {
            GroupState::Empty => {
                let delay_ms = context.settings.initial_rebalance_delay_ms;
                self.initial = Some(InitialDelay {
                    remaining_ms: (self.rebalance_timeout_ms() - delay_ms).max(0),
                    has_grown: false,
                });
                delay_ms
            }
            _ => self.rebalance_timeout_ms(),
        };
        self.state = GroupState::PreparingRebalance;
        self.wait_for_joins(context, now, wait_ms);
        self.complete_join_if_all_have(context, now);
    }

    /// At least a moment, so that time goes on whatever members ask for.
    fn wait_for_joins(&mut self, context: &mut Context<T>, now: Timestamp, wait_ms: i64) {
        let until = after(now, wait_ms.max(1));
        self.join_until = Some(until);
        context.set_timer(until, Timer::Join(self.id.clone()));
    }

    /// What was assigned doesn't count any more.
    pub fn fail_syncs(&mut self, context: &mut Context<T>, error: ErrorCode) {
        for member in self.members.values_mut() {
            member.assignment = bytes::Bytes::new();
            if let Some(to) = member.syncing.take() {
                context.refuse_sync(to, error);
            }
        }
    }

    /// How long the slowest member may take.
    fn rebalance_timeout_ms(&self) -> i64 {
        let timeouts = self.members.values().map(|m| m.rebalance_timeout_ms);
        timeouts.max().unwrap_or(0).into()
    }

    pub fn complete_join_if_all_have(&mut self, context: &mut Context<T>, now: Timestamp) {
        let all_have = self.members.values().all(|m| m.joining.is_some());
        let waits = !all_have || !self.pending.is_empty() || self.initial.is_some();
        if self.state == GroupState::PreparingRebalance && !waits {
            self.complete_join(context, now);
        }
    }

    /// A timer that was set for `at` has come.
    pub fn join_timer(&mut self, context: &mut Context<T>, now: Timestamp, at: Timestamp) {
        if self.state != GroupState::PreparingRebalance || self.join_until != Some(at) {
            return;
        }
        match self.initial {
            Some(InitialDelay {
                remaining_ms: remaining_ms @ 1..,
                has_grown: true,
            }) => {
                let delay_ms = remaining_ms.min(context.settings.initial_rebalance_delay_ms);
                self.initial = Some(InitialDelay {
                    remaining_ms: remaining_ms - delay_ms,
                    has_grown: false,
                });
                self.wait_for_joins(context, now, delay_ms);
            }
            _ => self.complete_join(context, now),
        }
    }

    /// The next generation is made of those who have joined, and of static members, who have time until
    /// their sessions end.
    fn complete_join(&mut self, context: &mut Context<T>, now: Timestamp) {
        (self.join_until, self.initial) = (None, None);
        let absent = self.members.values().filter(|m| m.joining.is_none());
        let gone = absent.filter(|m| m.instance.is_none());
        let gone: Vec<MemberId> = gone.map(|member| member.id.clone()).collect();
        for id in gone {
            self.remove(context, &id, ErrorCode::UnknownMemberId);
        }
        if self.members.is_empty() {
            return self.become_empty(context, now);
        }
        let Some(leader) = self.joined_leader() else {
            let wait_ms = self.rebalance_timeout_ms();
            return self.wait_for_joins(context, now, wait_ms);
        };
        self.leader = Some(leader);
        self.generation = self.generation.saturating_add(1);
        self.protocol = self.select_protocol();
        self.state = GroupState::CompletingRebalance;
        let until = after(now, self.rebalance_timeout_ms());
        self.sync_until = Some(until);
        context.set_timer(until, Timer::Sync(self.id.clone()));
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            let answer = self.joined(&id);
            if let Some(member) = self.members.get_mut(&id) {
                (member.is_new, member.has_synced) = (false, false);
                if let Some(to) = member.joining.take() {
                    context.answer_join(to, answer);
                }
            }
            self.hear(context, now, &id);
        }
    }

    fn become_empty(&mut self, context: &mut Context<T>, now: Timestamp) {
        self.generation = self.generation.saturating_add(1);
        (self.protocol, self.leader) = (None, None);
        (self.state, self.state_since) = (GroupState::Empty, now);
        let stored = self.to_store(now, &BTreeMap::new());
        context.write(vec![self.record(stored)], Purpose::Emptied);
    }

    /// The leader, if it has joined, or else somebody who has.
    fn joined_leader(&self) -> Option<MemberId> {
        let has_joined =
            |id: &&MemberId| self.members.get(*id).is_some_and(|m| m.joining.is_some());
        let leader = self.leader.as_ref().filter(has_joined);
        leader
            .or_else(|| self.members.keys().find(has_joined))
            .cloned()
    }

    /// What a member is told of the present generation.
    pub fn joined(&self, id: &MemberId) -> JoinAnswer {
        JoinAnswer {
            error: ErrorCode::None,
            member: id.clone(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            members: match self.is_leader(id) {
                true => self.joined_members(),
                false => Vec::new(),
            },
        }
    }

    pub fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let joined = self.members.values().map(|member| JoinedMember {
            member: member.id.clone(),
            instance: member.instance.clone(),
            metadata: member.metadata(protocol),
        });
        joined.collect()
    }

    /// Each member votes for the one it likes best of those that all speak.
    pub fn select_protocol(&self) -> Option<Arc<str>> {
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            let mut names = member.protocols.iter().map(|(name, _)| name);
            if let Some(best) = names.find(|name| self.all_speak(name)) {
                *votes.entry(best).or_default() += 1;
            }
        }
        let chosen = votes.into_iter().max_by_key(|(_, count)| *count);
        chosen.map(|(name, _)| name.clone())
    }

    pub fn all_speak(&self, protocol: &str) -> bool {
        self.members.values().all(|member| member.speaks(protocol))
    }

    /// A timer that was set for `at` has come: who has not asked for its assignment is gone.
    pub fn sync_timer(&mut self, context: &mut Context<T>, now: Timestamp, at: Timestamp) {
        let completes = matches!(
            self.state,
            GroupState::CompletingRebalance | GroupState::Stable
        );
        if !completes || self.sync_until != Some(at) {
            return;
        }
        self.sync_until = None;
        let late = self.members.values().filter(|m| !m.has_synced);
        let late: Vec<MemberId> = late.map(|member| member.id.clone()).collect();
        for id in &late {
            self.remove(context, id, ErrorCode::UnknownMemberId);
        }
        if !late.is_empty() {
            self.prepare(context, now);
        }
    }

    /// The group as a record says it, with these assignments.
    pub fn to_store(
        &self,
        now: Timestamp,
        assignments: &BTreeMap<MemberId, bytes::Bytes>,
    ) -> StoredGroup {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.values().map(|member| {
            let assignment = assignments.get(&member.id).cloned();
            member.stored(protocol, assignment.unwrap_or_default())
        });
        StoredGroup {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp: now,
            members: members.collect(),
        }
    }

    pub fn record(&self, stored: StoredGroup) -> GroupRecord {
        GroupRecord::Group {
            group: self.id.clone(),
            stored: Some(stored),
        }
    }
}
