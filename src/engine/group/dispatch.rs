//! Which of the two protocols a request is for: as long as there are consumers of a name, all that their group
//! is asked goes to them, whichever protocol it is asked in. The classic group of the same name keeps only the
//! offsets then.

use super::consumer::{
    check_heartbeat, upgrade, ConsumerGroup, ConsumerHeartbeatRequest, JOIN_EPOCH,
};
use super::context::Context;
use super::join::check as check_join;
use super::rebalance::Group;
use super::settings::GROUPS_MAX;
use super::shard::GroupShard;
use super::{Answer, DescribedConsumerGroup, GroupId, GroupRecord, GroupState, MemberId, Request};
use crate::model::{ErrorCode, Refusal, Timestamp};

impl<T> GroupShard<T> {
    /// The consumers of this group, if it is one of theirs by what is committed.
    pub(super) fn consumers_of(&self, id: &GroupId) -> Option<&ConsumerGroup<T>> {
        let consumers = self.consumers.get(id);
        consumers.filter(|consumers| !consumers.state.is_absent())
    }

    pub(super) fn has_consumers(&self, id: &GroupId) -> bool {
        self.consumers_of(id).is_some()
    }

    /// Decides what is for consumers; gives back what isn't.
    pub(super) fn for_consumers(
        &mut self,
        now: Timestamp,
        request: Request,
        to: T,
    ) -> Option<(Request, T)> {
        let id = match &request {
            Request::ConsumerHeartbeat(heartbeat) => &heartbeat.group,
            Request::Join(join) => &join.group,
            Request::Sync(sync) => &sync.group,
            Request::Heartbeat(heartbeat) => &heartbeat.group,
            Request::Leave(leave) => &leave.group,
            _ => return Some((request, to)),
        };
        let id = id.clone();
        let begun = match &request {
            Request::ConsumerHeartbeat(heartbeat) => self.begin_consumers(now, heartbeat),
            _ if !self.consumers.contains_key(&id) => return Some((request, to)),
            Request::Join(join) => check_join(join, &self.context.settings).map_err(Refusal::from),
            _ => Ok(()),
        };
        let is_dead = (self.groups.get(&id)).is_some_and(|group| group.state == GroupState::Dead);
        let begun = match is_dead {
            true => Err(ErrorCode::CoordinatorNotAvailable.into()),
            false => begun,
        };
        match (begun, self.consumers.get_mut(&id)) {
            (Err(refusal), _) => self.context.answer(to, request.refused(refusal)),
            (Ok(()), Some(consumers)) => consumers.request(&mut self.context, now, request, to),
            (Ok(()), None) => {}
        }
        self.forget_consumers_if_vacant(&id);
        None
    }

    /// Has the group there, though it may not be written yet, if the request may begin one.
    fn begin_consumers(
        &mut self,
        now: Timestamp,
        request: &ConsumerHeartbeatRequest,
    ) -> Result<(), Refusal> {
        let settings = &self.context.settings;
        check_heartbeat(request, &settings.consumer)?;
        let id = &request.group;
        if self.consumers.contains_key(id) {
            return Ok(());
        }
        let classic = self.groups.get(id);
        if request.epoch != JOIN_EPOCH {
            let message = match classic {
                Some(_) => format!("Group {id} is not a consumer group."),
                None => format!("Consumer group {id} not found."),
            };
            return Err(Refusal::new(ErrorCode::GroupIdNotFound, message));
        }
        if classic.is_none() && self.groups.len() + self.consumers.len() >= GROUPS_MAX {
            let message = "the coordinator has as many groups as it can keep";
            return Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message));
        }
        let prelude = match classic {
            Some(classic) => upgrade(classic, settings, &self.context.image, now)?,
            None => Vec::new(),
        };
        let consumers = ConsumerGroup::new(id.clone(), prelude);
        self.consumers.insert(id.clone(), consumers);
        Ok(())
    }

    /// A write of consumers is committed, or nothing of it was appended.
    pub(super) fn consumers_written(
        &mut self,
        now: Timestamp,
        id: &GroupId,
        answers: Vec<(T, Answer)>,
        written: Result<(), ErrorCode>,
    ) {
        let Some(consumers) = self.consumers.get_mut(id) else {
            return;
        };
        consumers.written(&mut self.context, now, answers, written);
        let classic = self.groups.get_mut(id);
        match (consumers.state.is_absent(), written, classic) {
            (false, Ok(()), Some(classic)) => classic.dissolve(&mut self.context),
            (true, Ok(()), Some(classic)) => classic.take_over(&mut self.context, now),
            (true, Err(_), Some(classic)) => classic.resume(&mut self.context, now),
            _ => {}
        }
        if !consumers.state.is_absent() {
            consumers.work(&mut self.context, now);
        }
        self.forget_if_vacant(id);
        let Some(consumers) = self.consumers.get_mut(id) else {
            return;
        };
        if consumers.is_vacant() {
            let waiting = consumers.take_waiting();
            self.consumers.remove(id);
            for (request, to) in waiting {
                self.decide(now, request, to);
            }
        }
    }

    pub(super) fn forget_consumers_if_vacant(&mut self, id: &GroupId) {
        if self.consumers.get(id).is_some_and(ConsumerGroup::is_vacant) {
            self.consumers.remove(id);
        }
    }

    pub(super) fn describe_consumers(
        &self,
        id: &GroupId,
    ) -> Result<DescribedConsumerGroup, ErrorCode> {
        let consumers = self.consumers_of(id).ok_or(ErrorCode::GroupIdNotFound)?;
        Ok(consumers.describe(&self.context.settings.consumer))
    }

    /// Asked for, or because nothing is left of it.
    pub(super) fn delete_consumers(&mut self, id: &GroupId, to: Option<T>) {
        let Some(consumers) = self.consumers.get(id) else {
            return;
        };
        let tombstones = consumers.state.tombstones().into_iter();
        let tombstones = tombstones.map(|record| GroupRecord::Consumer {
            group: id.clone(),
            record,
        });
        let is_empty = consumers.state.members().is_empty();
        let is_at_rest = consumers.at_rest_since().is_some();
        let group = (self.groups.entry(id.clone())).or_insert_with(|| Group::new(id.clone()));
        let error = match (group.state, is_empty, is_at_rest) {
            (GroupState::Dead, ..) => ErrorCode::GroupIdNotFound,
            (_, true, true) => {
                return group.delete(&mut self.context, to, tombstones.collect());
            }
            (_, true, false) => ErrorCode::CoordinatorNotAvailable,
            _ => ErrorCode::NonEmptyGroup,
        };
        if let Some(to) = to {
            self.context.answer(to, Answer::Code(error));
        }
        self.forget_if_vacant(id);
    }
}

impl<T> Group<T> {
    /// It is a consumer group from now on: whoever waits asks again, and is answered as a member of that.
    fn dissolve(&mut self, context: &mut Context<T>) {
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in ids {
            self.remove(context, &id, ErrorCode::RebalanceInProgress);
        }
        let offsets = std::mem::take(&mut self.offsets);
        let stored = self.stored.take();
        *self = Group {
            offsets,
            stored,
            ..Group::new(self.id.clone())
        };
    }

    /// The consumer group of this name has become a classic one: its members join anew.
    fn take_over(&mut self, context: &mut Context<T>, now: Timestamp) {
        self.restore(context, now);
        if !self.members.is_empty() {
            self.prepare(context, now);
        }
    }

    /// It hasn't become a consumer group after all, and its timers may have come to nothing meanwhile.
    fn resume(&mut self, context: &mut Context<T>, now: Timestamp) {
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in ids {
            if let Some(member) = self.members.get_mut(&id) {
                member.session_timer = None;
            }
            self.hear(context, now, &id);
        }
        self.pending.clear();
        if !self.members.is_empty() {
            self.prepare(context, now);
        }
    }
}
