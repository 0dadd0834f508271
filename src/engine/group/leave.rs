//! LeaveGroup: by a member that ends, or by an administrator who takes static members out.

use super::context::Context;
use super::rebalance::Group;
use super::shard::GroupShard;
use super::{GroupState, LeaveAnswer, LeaveRequest, LeavingMember, MemberId};
use crate::model::{ErrorCode, Timestamp};

impl<T> GroupShard<T> {
    pub(super) fn leave(&mut self, now: Timestamp, request: &LeaveRequest) -> LeaveAnswer {
        if request.group.is_empty() {
            return LeaveAnswer {
                error: ErrorCode::InvalidGroupId,
                members: Vec::new(),
            };
        }
        let Some(group) = self.groups.get_mut(&request.group) else {
            return LeaveAnswer {
                error: ErrorCode::None,
                members: vec![ErrorCode::UnknownMemberId; request.members.len()],
            };
        };
        if group.state == GroupState::Dead {
            return LeaveAnswer {
                error: ErrorCode::CoordinatorNotAvailable,
                members: Vec::new(),
            };
        }
        let mut members = Vec::with_capacity(request.members.len());
        for leaving in &request.members {
            members.push(match group.leave(&mut self.context, leaving) {
                Ok(()) => ErrorCode::None,
                Err(error) => error,
            });
        }
        if members.contains(&ErrorCode::None) {
            group.rebalance_without(&mut self.context, now);
        }
        self.forget_if_vacant(&request.group);
        LeaveAnswer {
            error: ErrorCode::None,
            members,
        }
    }
}

impl<T> Group<T> {
    fn leave(
        &mut self,
        context: &mut Context<T>,
        leaving: &LeavingMember,
    ) -> Result<(), ErrorCode> {
        if leaving.instance.is_none() && self.pending.remove(&leaving.member).is_some() {
            return Ok(());
        }
        let id = self.leaving_id(leaving)?;
        self.remove(context, &id, ErrorCode::UnknownMemberId);
        Ok(())
    }

    /// Who names only the instance means whoever has its place.
    fn leaving_id(&self, leaving: &LeavingMember) -> Result<MemberId, ErrorCode> {
        if let (true, Some(instance)) = (leaving.member.is_empty(), &leaving.instance) {
            let known = self.instances.get(instance).cloned();
            return known.ok_or(ErrorCode::UnknownMemberId);
        }
        self.check_member(&leaving.member, leaving.instance.as_ref())?;
        Ok(leaving.member.clone())
    }
}
