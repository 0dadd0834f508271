//! What administrators ask for: which groups there are, what they are like, and that they go.

use super::consumer_protocol::CONSUMER;
use super::context::{write_error, Context};
use super::offsets::forget;
use super::rebalance::Group;
use super::shard::{GroupShard, Purpose};
use super::{
    Answer, DescribedGroup, DescribedMember, GroupId, GroupProtocol, GroupRecord, GroupState,
    ListedGroup,
};
use crate::model::ErrorCode;

impl<T> GroupShard<T> {
    pub(super) fn list(&self) -> Vec<ListedGroup> {
        let classic = self
            .groups
            .values()
            .filter(|group| !self.has_consumers(&group.id));
        let classic = classic.map(|group| ListedGroup {
            group: group.id.clone(),
            protocol: GroupProtocol::Classic,
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            state: group.state.name(),
        });
        let consumer = self
            .consumers
            .iter()
            .filter(|(id, _)| self.has_consumers(id));
        let consumer = consumer.map(|(id, group)| ListedGroup {
            group: id.clone(),
            protocol: GroupProtocol::Consumer,
            protocol_type: CONSUMER.into(),
            state: group.state.state().name(),
        });
        classic.chain(consumer).collect()
    }

    pub(super) fn describe_group(&self, id: &GroupId) -> Result<DescribedGroup, ErrorCode> {
        let group = self.groups.get(id).filter(|_| !self.has_consumers(id));
        Ok(group.ok_or(ErrorCode::GroupIdNotFound)?.describe())
    }

    pub(super) fn delete(&mut self, id: &GroupId, to: T) {
        if self.has_consumers(id) {
            return self.delete_consumers(id, Some(to));
        }
        let error = match self.groups.get_mut(id) {
            None => ErrorCode::GroupIdNotFound,
            Some(group) => match group.state {
                GroupState::Dead => ErrorCode::GroupIdNotFound,
                GroupState::Empty => {
                    return group.delete(&mut self.context, Some(to), Vec::new());
                }
                _ => ErrorCode::NonEmptyGroup,
            },
        };
        self.context.answer(to, Answer::Code(error));
    }

    /// The group's deletion is committed, or can't be.
    pub(super) fn deleted(&mut self, id: &GroupId, to: Option<T>, written: Result<(), ErrorCode>) {
        let error = match written {
            Ok(()) => {
                let gone = self.groups.remove(id);
                self.context.offsets -= gone.map_or(0, |group| group.offsets.len());
                self.forget_consumers_if_vacant(id);
                ErrorCode::None
            }
            Err(error) => {
                if let Some(group) = self.groups.get_mut(id) {
                    group.state = GroupState::Empty;
                }
                write_error(error)
            }
        };
        if let Some(to) = to {
            self.context.answer(to, Answer::Code(error));
        }
    }
}

impl<T> Group<T> {
    fn describe(&self) -> DescribedGroup {
        // What they say is known in the protocol that was chosen.
        let stable = (self.state == GroupState::Stable).then_some(self.protocol.as_deref());
        let stable = stable.flatten();
        let members = self.members.values().map(|member| DescribedMember {
            member: member.id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: stable.map(|p| member.metadata(p)).unwrap_or_default(),
            assignment: stable
                .map(|_| member.assignment.clone())
                .unwrap_or_default(),
        });
        DescribedGroup {
            state: self.state,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: stable.unwrap_or_default().into(),
            members: members.collect(),
        }
    }

    /// Nobody joins or commits from here on. `also` takes away what there is of it in the other protocol.
    pub(super) fn delete(
        &mut self,
        context: &mut Context<T>,
        to: Option<T>,
        also: Vec<GroupRecord>,
    ) {
        self.state = GroupState::Dead;
        let places = self.offsets.places().into_iter().collect();
        forget(context, &self.id, places);
        let record = GroupRecord::Group {
            group: self.id.clone(),
            stored: None,
        };
        let records = also.into_iter().chain([record]).collect();
        let group = self.id.clone();
        context.write(records, Purpose::Deleted { group, to });
    }
}
