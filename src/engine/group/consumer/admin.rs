//! What others ask of a consumer group: what it is like, and whether somebody may commit and fetch its
//! offsets.

use super::super::{CommitRequest, FetchRequest};
use super::group::ConsumerGroup;
use super::messages::{DescribedConsumer, DescribedConsumerGroup};
use super::target::assignor_of;
use super::{ConsumerSettings, ConsumerState, Partitions};
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
    /// Who is no member commits only to a group that has none.
    pub fn check_commit(&self, request: &CommitRequest) -> Result<(), ErrorCode> {
        if request.generation < 0 && self.members().is_empty() {
            return Ok(());
        }
        self.check_epoch(request.member.as_str(), request.generation)
    }

    /// Who doesn't say that it is a member may look at anything.
    pub fn check_fetch(&self, request: &FetchRequest) -> Result<(), ErrorCode> {
        match &request.member {
            None if request.epoch < 0 => Ok(()),
            member => {
                let member = member.as_ref().map_or("", |member| member.as_str());
                self.check_epoch(member, request.epoch)
            }
        }
    }

    fn check_epoch(&self, member: &str, epoch: i32) -> Result<(), ErrorCode> {
        let member = self.member(member).ok_or(ErrorCode::UnknownMemberId)?;
        match epoch == member.current.epoch {
            true => Ok(()),
            false if member.speaks_classic() => Err(ErrorCode::IllegalGeneration),
            false => Err(ErrorCode::StaleMemberEpoch),
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
