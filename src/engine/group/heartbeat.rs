//! Heartbeat: a member is still there, and learns whether its group rebalances.

use super::rebalance::Group;
use super::shard::GroupShard;
use super::{GroupState, HeartbeatRequest};
use crate::model::{ErrorCode, Timestamp};

impl<T> GroupShard<T> {
    pub(super) fn heartbeat(&mut self, now: Timestamp, request: &HeartbeatRequest) -> ErrorCode {
        if request.group.is_empty() {
            return ErrorCode::InvalidGroupId;
        }
        let Some(group) = self.groups.get_mut(&request.group) else {
            return ErrorCode::UnknownMemberId;
        };
        if let Err(error) = group.check_heartbeat(request) {
            return error;
        }
        group.hear(&mut self.context, now, &request.member);
        match group.state {
            GroupState::PreparingRebalance => ErrorCode::RebalanceInProgress,
            _ => ErrorCode::None,
        }
    }
}

impl<T> Group<T> {
    fn check_heartbeat(&self, request: &HeartbeatRequest) -> Result<(), ErrorCode> {
        if self.state == GroupState::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        self.check_member(&request.member, request.instance.as_ref())?;
        if request.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        match self.state {
            GroupState::Empty => Err(ErrorCode::UnknownMemberId),
            _ => Ok(()),
        }
    }
}
