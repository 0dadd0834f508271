//! SyncGroup: the leader assigns, and everyone learns what it has been assigned once that is committed.

use std::collections::BTreeMap;

use super::context::{write_error, Context};
use super::rebalance::Group;
use super::shard::{GroupShard, Purpose};
use super::{Answer, GroupState, MemberId, SyncAnswer, SyncRequest};
use crate::model::{ErrorCode, Timestamp};

impl<T> GroupShard<T> {
    pub(super) fn sync(&mut self, now: Timestamp, request: SyncRequest, to: T) {
        if request.group.is_empty() {
            return self.context.refuse_sync(to, ErrorCode::InvalidGroupId);
        }
        match self.groups.get_mut(&request.group) {
            Some(group) => group.sync(&mut self.context, now, request, to),
            None => self.context.refuse_sync(to, ErrorCode::UnknownMemberId),
        }
    }
}

impl<T> Group<T> {
    fn sync(&mut self, context: &mut Context<T>, now: Timestamp, request: SyncRequest, to: T) {
        if let Err(error) = self.check_sync(&request) {
            return context.refuse_sync(to, error);
        }
        let id = request.member.clone();
        let Some(member) = self.members.get_mut(&id) else {
            return context.refuse_sync(to, ErrorCode::UnknownMemberId);
        };
        member.has_synced = true;
        if self.state == GroupState::Stable {
            let answer = self.assignment(&id);
            context.answer(to, Answer::Sync(answer));
            return self.hear(context, now, &id);
        }
        if let Some(before) = member.syncing.replace(to) {
            // Its client has given up on that one.
            context.refuse_sync(before, ErrorCode::RebalanceInProgress);
        }
        if self.is_leader(&id) {
            let assignments: BTreeMap<_, _> = request.assignments.into_iter().collect();
            let record = self.record(self.to_store(now, &assignments));
            let purpose = Purpose::Assigned {
                group: self.id.clone(),
                generation: self.generation,
            };
            context.write(vec![record], purpose);
        }
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), ErrorCode> {
        if self.state == GroupState::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        self.check_member(&request.member, request.instance.as_ref())?;
        if request.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |said: &Option<_>, is: &Option<_>| said.is_some() && said != is;
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol, &self.protocol)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        match self.state {
            GroupState::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            GroupState::Empty => Err(ErrorCode::UnknownMemberId),
            _ => Ok(()),
        }
    }

    /// The leader's assignment is committed, or can't be.
    pub(super) fn assigned(
        &mut self,
        context: &mut Context<T>,
        now: Timestamp,
        generation: i32,
        written: Result<(), ErrorCode>,
    ) {
        if self.generation != generation || self.state != GroupState::CompletingRebalance {
            return;
        }
        if let Err(error) = written {
            self.fail_syncs(context, write_error(error));
            return self.prepare(context, now);
        }
        (self.state, self.state_since) = (GroupState::Stable, now);
        let stored = self.stored.iter().flat_map(|stored| &stored.members);
        for stored in stored {
            if let Some(member) = self.members.get_mut(&stored.member) {
                member.assignment = stored.assignment.clone();
            }
        }
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            let answer = self.assignment(&id);
            let waiting = self.members.get_mut(&id).and_then(|m| m.syncing.take());
            if let Some(to) = waiting {
                context.answer(to, Answer::Sync(answer));
                self.hear(context, now, &id);
            }
        }
    }

    fn assignment(&self, id: &MemberId) -> SyncAnswer {
        let member = self.members.get(id);
        SyncAnswer {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: member.map(|m| m.assignment.clone()).unwrap_or_default(),
        }
    }
}
