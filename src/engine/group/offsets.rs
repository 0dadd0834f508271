//! How far groups have come: committed, told, deleted and expired.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::committed::{told, Place};
use super::consumer_protocol::{subscribed_topics, CONSUMER};
use super::context::{write_error, Context};
use super::rebalance::Group;
use super::settings::{GROUPS_MAX, NAME_BYTES_MAX, TOMBSTONES_IN_A_BATCH_MAX};
use super::shard::{GroupShard, Purpose};
use super::stored::CommittedOffset;
use super::{
    Answer, CommitAnswer, CommitRequest, FetchAnswer, FetchRequest, GroupId, GroupRecord,
    GroupState, NamedTopic, NewOffset, OffsetDeletion,
};
use crate::model::{ErrorCode, Timestamp, TopicId};

impl<T> GroupShard<T> {
    pub(super) fn commit(&mut self, now: Timestamp, request: CommitRequest, to: T) {
        let count = request.offsets.len();
        let refused = |error| Answer::Commit(CommitAnswer(vec![error; count]));
        let id = request.group.clone();
        if let Some(consumers) = self.consumers_of(&id) {
            if let Err(error) = consumers.state.check_commit(&request) {
                return self.context.answer(to, refused(error));
            }
            let group = (self.groups.entry(id.clone())).or_insert_with(|| Group::new(id));
            return match group.state {
                GroupState::Dead => {
                    let error = ErrorCode::CoordinatorNotAvailable;
                    self.context.answer(to, refused(error));
                }
                _ => group.commit(&mut self.context, now, request, to),
            };
        }
        if !self.groups.contains_key(&id) {
            let error = match request.generation {
                0.. if request.predates_member_epochs => ErrorCode::IllegalGeneration,
                0.. => ErrorCode::GroupIdNotFound,
                _ if id.as_str().len() > NAME_BYTES_MAX => ErrorCode::InvalidGroupId,
                _ if self.groups.len() >= GROUPS_MAX => ErrorCode::PolicyViolation,
                _ => ErrorCode::None,
            };
            if !error.is_ok() {
                return self.context.answer(to, refused(error));
            }
            self.groups.insert(id.clone(), Group::new(id.clone()));
        }
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        match group.check_commit(&request) {
            Ok(()) => group.commit(&mut self.context, now, request, to),
            Err(error) => self.context.answer(to, refused(error)),
        }
        self.forget_if_vacant(&id);
    }

    pub(super) fn committed(
        &mut self,
        group: &GroupId,
        places: &[Option<Place>],
        to: T,
        codes: Vec<ErrorCode>,
        written: Result<(), ErrorCode>,
    ) {
        if let Some(group) = self.groups.get_mut(group) {
            let written = places.iter().flatten();
            written.for_each(|place| group.offsets.end(place));
        }
        let error = match written {
            Ok(()) => ErrorCode::None,
            Err(ErrorCode::MessageTooLarge) => ErrorCode::InvalidCommitOffsetSize,
            Err(error) => write_error(error),
        };
        let codes = codes.into_iter().map(|code| match code {
            ErrorCode::None => error,
            refused => refused,
        });
        let answer = Answer::Commit(CommitAnswer(codes.collect()));
        self.context.answer(to, answer);
        self.forget_if_vacant(group);
    }

    pub(super) fn fetch(&self, request: &FetchRequest) -> Answer {
        let consumers = self.consumers_of(&request.group);
        let refusal = consumers.and_then(|c| c.state.check_fetch(request).err());
        match refusal {
            Some(error) => Answer::Code(error),
            None => Answer::Fetch(self.committed_offsets(request)),
        }
    }

    fn committed_offsets(&self, request: &FetchRequest) -> FetchAnswer {
        let offsets = self.groups.get(&request.group).map(|group| &group.offsets);
        let image = &request.image;
        let Some(asked) = &request.partitions else {
            let all = offsets.map(|offsets| offsets.all(image));
            return FetchAnswer(all.unwrap_or_default());
        };
        let told = asked.iter().map(|(topic, partitions)| {
            let id = image.topic_by_name(topic).map(|topic| topic.id);
            let told = partitions.iter().map(|partition| {
                let place = (topic.clone(), *partition);
                let committed = offsets.and_then(|offsets| offsets.get(&place));
                told(*partition, committed.filter(|it| it.may_be_of(id)))
            });
            (topic.clone(), told.collect())
        });
        FetchAnswer(told.collect())
    }

    pub(super) fn delete_offsets(&mut self, request: OffsetDeletion, to: T) {
        let (codes, records) = match self.deletions(&request) {
            Ok(deletions) => deletions,
            Err(error) => return self.context.answer(to, Answer::Code(error)),
        };
        let answer = Answer::Commit(CommitAnswer(codes));
        match records.is_empty() {
            true => self.context.answer(to, answer),
            false => {
                let group = request.group;
                let purpose = Purpose::OffsetsDeleted { group, to, answer };
                self.context.write(records, purpose);
            }
        }
    }

    /// A code for each offset, and what deletes those that may be deleted.
    fn deletions(
        &self,
        request: &OffsetDeletion,
    ) -> Result<(Vec<ErrorCode>, Vec<GroupRecord>), ErrorCode> {
        self.check_deletion(&request.group)?;
        let group = self.groups.get(&request.group);
        let known = group.map(|group| group.offsets.places());
        let known = known.unwrap_or_default();
        let mut codes = Vec::with_capacity(request.partitions.len());
        let mut records = Vec::new();
        for place in &request.partitions {
            let is_subscribed = self.is_subscribed_to(&request.group, &place.0);
            codes.push(match is_subscribed {
                true => ErrorCode::GroupSubscribedToTopic,
                false => ErrorCode::None,
            });
            if !is_subscribed && known.contains(place) {
                records.push(tombstone(&request.group, place.clone()));
            }
        }
        Ok((codes, records))
    }

    /// Whether offsets of the group can be deleted at all.
    fn check_deletion(&self, id: &GroupId) -> Result<(), ErrorCode> {
        let group = self.groups.get(id);
        match (group, self.consumers_of(id)) {
            (Some(group), _) if group.state == GroupState::Dead => Err(ErrorCode::GroupIdNotFound),
            (_, Some(_)) => Ok(()),
            (None, None) => Err(ErrorCode::GroupIdNotFound),
            (Some(group), None) => {
                let uses_consumers = group.protocol_type.as_deref() == Some(CONSUMER);
                match group.state == GroupState::Empty || uses_consumers {
                    true => Ok(()),
                    false => Err(ErrorCode::NonEmptyGroup),
                }
            }
        }
    }

    fn is_subscribed_to(&self, id: &GroupId, topic: &str) -> bool {
        match self.consumers_of(id) {
            Some(consumers) => consumers.state.is_subscribed_to(topic),
            None => (self.groups.get(id)).is_some_and(|group| group.is_subscribed_to(topic)),
        }
    }

    /// What was committed for these topics isn't theirs any more if they are created again.
    pub(super) fn forget_topics(&mut self, topics: &[NamedTopic]) {
        let names: BTreeSet<&Arc<str>> = topics.iter().map(|(name, _)| name).collect();
        let ids: BTreeSet<TopicId> = topics.iter().map(|(_, id)| *id).collect();
        for group in self.groups.values() {
            let is_gone = |place: &Place| {
                let id = group.offsets.topic_id(place);
                names.contains(&place.0) && (id == TopicId::NONE || ids.contains(&id))
            };
            let places = group.offsets.places().into_iter();
            let places = places.filter(is_gone).collect();
            forget(&mut self.context, &group.id, places);
        }
    }

    /// The topics of all offsets.
    pub(super) fn topics(&self) -> Vec<NamedTopic> {
        let topics = self
            .groups
            .values()
            .flat_map(|group| group.offsets.topics());
        let topics: BTreeSet<(&Arc<str>, TopicId)> = topics.collect();
        let topics = topics.into_iter().map(|(topic, id)| (topic.clone(), id));
        topics.collect()
    }
}

fn tombstone(group: &GroupId, (topic, partition): Place) -> GroupRecord {
    GroupRecord::Offset {
        group: group.clone(),
        topic,
        partition,
        offset: None,
    }
}

/// Writes tombstones for all of them.
pub(super) fn forget<T>(context: &mut Context<T>, group: &GroupId, places: Vec<Place>) {
    for places in places.chunks(TOMBSTONES_IN_A_BATCH_MAX) {
        let records = places.iter().map(|place| tombstone(group, place.clone()));
        let purpose = Purpose::OffsetsForgotten {
            group: group.clone(),
        };
        context.write(records.collect(), purpose);
    }
}

impl<T> Group<T> {
    /// Who is no member commits only to a group that has none.
    fn check_commit(&self, request: &CommitRequest) -> Result<(), ErrorCode> {
        if self.state == GroupState::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if request.generation < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        let is_anonymous =
            request.generation < 0 && request.member.is_empty() && request.instance.is_none();
        if is_anonymous {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.check_member(&request.member, request.instance.as_ref())?;
        if request.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        match self.state {
            GroupState::CompletingRebalance => Err(ErrorCode::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    fn commit(&mut self, context: &mut Context<T>, now: Timestamp, request: CommitRequest, to: T) {
        self.hear(context, now, &request.member);
        let metadata_max = context.settings.offset_metadata_max_bytes;
        let mut codes = Vec::with_capacity(request.offsets.len());
        let mut places = Vec::with_capacity(request.offsets.len());
        let mut records = Vec::with_capacity(request.offsets.len());
        for new in request.offsets {
            let place = (new.topic.clone(), new.partition);
            let code = if new.metadata.len() > metadata_max {
                ErrorCode::OffsetMetadataTooLarge
            } else if !self.offsets.has_room_for(&place, context.offsets) {
                ErrorCode::InvalidCommitOffsetSize
            } else {
                self.offsets.begin(&place, new.topic_id);
                records.push(self.offset_record(now, new));
                ErrorCode::None
            };
            codes.push(code);
            places.push(code.is_ok().then_some(place));
        }
        if records.is_empty() {
            return context.answer(to, Answer::Commit(CommitAnswer(codes)));
        }
        let purpose = Purpose::Commit {
            group: self.id.clone(),
            places,
            to,
            codes,
        };
        context.write(records, purpose);
    }

    fn offset_record(&self, now: Timestamp, new: NewOffset) -> GroupRecord {
        GroupRecord::Offset {
            group: self.id.clone(),
            topic: new.topic,
            partition: new.partition,
            offset: Some(CommittedOffset {
                topic_id: new.topic_id,
                offset: new.offset,
                leader_epoch: new.leader_epoch,
                metadata: new.metadata,
                commit_timestamp: now,
            }),
        }
    }

    /// Whether a member reads the topic. A member that doesn't say what it reads may read any.
    fn is_subscribed_to(&self, topic: &str) -> bool {
        let protocol = self.protocol.as_deref();
        self.members.values().any(|member| {
            let metadata = match protocol {
                Some(protocol) => member.metadata(protocol),
                None => member
                    .protocols
                    .first()
                    .map(|p| p.1.clone())
                    .unwrap_or_default(),
            };
            subscribed_topics(&metadata).is_none_or(|topics| topics.contains(&topic))
        })
    }
}
