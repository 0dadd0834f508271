//! A static member that has been restarted takes the place of its former life (KIP-345): the group
//! doesn't rebalance if it can go on as it is.

use std::collections::BTreeMap;

use super::context::Context;
use super::messages::Leaders;
use super::rebalance::Group;
use super::shard::Purpose;
use super::{Answer, GroupState, JoinAnswer, JoinRequest, MemberId};
use crate::model::{ErrorCode, Timestamp};

impl<T> Group<T> {
    /// Gives the place of `old` to `new`.
    pub(super) fn replace(
        &mut self,
        context: &mut Context<T>,
        now: Timestamp,
        (old, new): (&MemberId, MemberId),
        request: &JoinRequest,
        to: T,
    ) {
        let leader_before = self.leader.clone();
        self.rename(context, old, &new);
        if let Some(member) = self.members.get_mut(&new) {
            context.metadata_bytes -= member.metadata_bytes();
            member.update(request);
            context.metadata_bytes += member.metadata_bytes();
            member.client_id = request.client_id.clone();
            member.client_host = request.client_host.clone();
        }
        self.hear(context, now, &new);
        let goes_on = self.state == GroupState::Stable && self.select_protocol() == self.protocol;
        if !goes_on {
            if let Some(member) = self.members.get_mut(&new) {
                member.joining = Some(to);
            }
            return self.prepare_or_complete(context, now);
        }
        let answer = self.goes_on(&new, leader_before.unwrap_or_default(), request.leaders);
        let assigned: BTreeMap<_, _> = (self.members.values())
            .map(|member| (member.id.clone(), member.assignment.clone()))
            .collect();
        let record = self.record(self.to_store(self.state_since, &assigned));
        let answer = Answer::Join(answer);
        context.write(vec![record], Purpose::Replaced { to, answer });
    }

    /// The former life is told that it is fenced, if it waits.
    fn rename(&mut self, context: &mut Context<T>, old: &MemberId, new: &MemberId) {
        let Some(mut member) = self.members.remove(old) else {
            return;
        };
        if let Some(to) = member.joining.take() {
            context.refuse_join(to, ErrorCode::FencedInstanceId, old.clone());
        }
        if let Some(to) = member.syncing.take() {
            context.refuse_sync(to, ErrorCode::FencedInstanceId);
        }
        if let Some(instance) = &member.instance {
            self.instances.insert(instance.clone(), new.clone());
        }
        if self.is_leader(old) {
            self.leader = Some(new.clone());
        }
        member.id = new.clone();
        member.session_timer = None;
        self.members.insert(new.clone(), member);
    }

    /// What it is told of a generation that goes on. A leader that always assigns is told that its
    /// former life leads, so that it doesn't.
    fn goes_on(&self, id: &MemberId, leader_before: MemberId, leaders: Leaders) -> JoinAnswer {
        let answer = self.joined(id);
        match leaders {
            Leaders::CanSkip => JoinAnswer {
                skip_assignment: self.is_leader(id),
                ..answer
            },
            Leaders::AssignAlways => JoinAnswer {
                leader: leader_before,
                members: Vec::new(),
                ..answer
            },
        }
    }
}
