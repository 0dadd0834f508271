//! What others ask of a consumer group: what it is like, and whether somebody may commit and fetch its
//! offsets.

use super::super::{CommitRequest, FetchRequest, NewOffset};
use super::group::ConsumerGroup;
use super::messages::{DescribedConsumer, DescribedConsumerGroup};
use super::target::assignor_of;
use super::{ConsumerMember, ConsumerSettings, ConsumerState, Partitions};
use crate::model::ErrorCode;

impl<T> ConsumerGroup<T> {
    pub fn describe(&self, settings: &ConsumerSettings) -> DescribedConsumerGroup {
        let state = &self.state;
        let members = state
            .members()
            .iter()
            .map(|(id, member)| DescribedConsumer {
                member: id.clone(),
                metadata: member.metadata.clone(),
                current: member.current.clone(),
                target: Partitions::clone(&state.target(id.as_str())),
            });
        DescribedConsumerGroup {
            state: state.state(),
            epoch: state.epoch(),
            target_epoch: state.target_epoch(),
            assignor: assignor_of(state, settings).name(),
            members: members.collect(),
        }
    }
}

impl ConsumerState {
    /// Who is no member commits only to a group that has none. A member also commits what it began to commit in a
    /// former epoch, if it has had these partitions since.
    pub fn check_commit(&self, request: &CommitRequest) -> Result<(), ErrorCode> {
        if request.generation < 0 && self.members().is_empty() {
            return Ok(());
        }
        let member = self.member(request.member.as_str());
        let member = member.ok_or(ErrorCode::UnknownMemberId)?;
        if request.predates_member_epochs && !member.speaks_classic() {
            return Err(ErrorCode::UnsupportedVersion);
        }
        let since = &member.current.since;
        let is_still_its_own = |offset: &NewOffset| {
            let since = since.get(&(offset.topic_id, offset.partition));
            since.is_some_and(|since| request.generation >= *since)
        };
        let is_late = request.generation < member.current.epoch;
        match is_late && request.offsets.iter().all(is_still_its_own) {
            true => Ok(()),
            false => check_epoch(member, request.generation),
        }
    }

    /// Who doesn't say that it is a member may look at anything.
    pub fn check_fetch(&self, request: &FetchRequest) -> Result<(), ErrorCode> {
        match &request.member {
            None if request.epoch < 0 => Ok(()),
            member => {
                let member = member.as_ref().map_or("", |member| member.as_str());
                let member = self.member(member).ok_or(ErrorCode::UnknownMemberId)?;
                check_epoch(member, request.epoch)
            }
        }
    }

    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        let mut members = self.members().values();
        members.any(|member| {
            let mut names = self.topic_names_of(&member.metadata);
            names.any(|name| **name == *topic)
        })
    }
}

fn check_epoch(member: &ConsumerMember, epoch: i32) -> Result<(), ErrorCode> {
    match epoch == member.current.epoch {
        true => Ok(()),
        false if member.speaks_classic() => Err(ErrorCode::IllegalGeneration),
        false => Err(ErrorCode::StaleMemberEpoch),
    }
}
