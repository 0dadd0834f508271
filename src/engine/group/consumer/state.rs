//! A consumer group as its records tell it. A clone is a handful of reference counts: a decision is tried out
//! on one (see [`super::draft`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::{ConsumerGroupState, MemberId};
use super::stored::{
    ConsumerRecord, CurrentAssignment, GroupEpoch, MemberMetadata, MemberState, ResolvedRegex,
};
use super::Partitions;
use crate::model::TopicId;

/// A member, as two kinds of records tell of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in super::super) struct ConsumerMember {
    pub metadata: MemberMetadata,
    pub current: CurrentAssignment,
}

impl ConsumerMember {
    /// What it can't be told twice: nobody else may have these.
    pub fn owns(&self, topic: TopicId, partition: i32) -> bool {
        let CurrentAssignment {
            assigned, revoking, ..
        } = &self.current;
        assigned.contains(topic, partition) || revoking.contains(topic, partition)
    }

    pub fn speaks_classic(&self) -> bool {
        self.metadata.classic.is_some()
    }
}

/// Changed only by [`ConsumerState::replay`].
#[derive(Clone, Debug, Default, PartialEq)]
pub(in super::super) struct ConsumerState {
    group: GroupEpoch,
    target_epoch: i32,
    members: Arc<BTreeMap<MemberId, Arc<ConsumerMember>>>,
    targets: Arc<BTreeMap<MemberId, Arc<Partitions>>>,
    regexes: Arc<BTreeMap<Arc<str>, Arc<ResolvedRegex>>>,
}

impl ConsumerState {
    /// The same record again changes nothing.
    pub fn replay(&mut self, record: &ConsumerRecord) {
        match record.clone() {
            ConsumerRecord::Group(group) => self.group = group.unwrap_or_default(),
            ConsumerRecord::Member(id, Some(metadata)) => self.member_mut(id).metadata = metadata,
            ConsumerRecord::Member(id, None) => {
                Arc::make_mut(&mut self.members).remove(&id);
            }
            ConsumerRecord::Current(id, Some(current)) => self.member_mut(id).current = current,
            ConsumerRecord::Current(id, None) => {
                if self.members.contains_key(&id) {
                    self.member_mut(id).current = CurrentAssignment::default();
                }
            }
            ConsumerRecord::TargetEpoch(target) => {
                self.target_epoch = target.map_or(0, |target| target.epoch);
            }
            ConsumerRecord::Target(id, Some(target)) => {
                Arc::make_mut(&mut self.targets).insert(id, Arc::new(target));
            }
            ConsumerRecord::Target(id, None) => {
                Arc::make_mut(&mut self.targets).remove(&id);
            }
            ConsumerRecord::Regex(regex, Some(resolved)) => {
                Arc::make_mut(&mut self.regexes).insert(regex, Arc::new(resolved));
            }
            ConsumerRecord::Regex(regex, None) => {
                Arc::make_mut(&mut self.regexes).remove(&regex);
            }
        }
    }

    fn member_mut(&mut self, id: MemberId) -> &mut ConsumerMember {
        let members = Arc::make_mut(&mut self.members);
        Arc::make_mut(members.entry(id).or_default())
    }

    /// Whether there is no such group.
    pub fn is_absent(&self) -> bool {
        self.group.epoch == 0 && self.members.is_empty()
    }

    pub fn epoch(&self) -> i32 {
        self.group.epoch
    }

    pub fn metadata_hash(&self) -> i64 {
        self.group.metadata_hash
    }

    /// The group epoch that the targets were made in.
    pub fn target_epoch(&self) -> i32 {
        self.target_epoch
    }

    pub fn members(&self) -> &BTreeMap<MemberId, Arc<ConsumerMember>> {
        &self.members
    }

    pub fn member(&self, id: &str) -> Option<&Arc<ConsumerMember>> {
        self.members.get(id)
    }

    /// Who has the place of a static member.
    pub fn of_instance(&self, instance: &str) -> Option<(&MemberId, &Arc<ConsumerMember>)> {
        let is_it = |member: &ConsumerMember| member.metadata.instance.as_deref() == Some(instance);
        self.members.iter().find(|(_, member)| is_it(member))
    }

    pub fn targets(&self) -> &BTreeMap<MemberId, Arc<Partitions>> {
        &self.targets
    }

    pub fn target(&self, id: &str) -> Arc<Partitions> {
        self.targets.get(id).cloned().unwrap_or_default()
    }

    pub fn regexes(&self) -> &BTreeMap<Arc<str>, Arc<ResolvedRegex>> {
        &self.regexes
    }

    /// Whether no member but `but_for` owns the partition, or has still to give it up.
    pub fn is_free(&self, topic: TopicId, partition: i32, but_for: &MemberId) -> bool {
        let mut others = self.members.iter().filter(|(id, _)| *id != but_for);
        others.all(|(_, member)| !member.owns(topic, partition))
    }

    /// The names of all topics that a member subscribes to, whether they are there or not.
    pub fn topic_names_of<'a>(
        &'a self,
        member: &'a MemberMetadata,
    ) -> impl Iterator<Item = &'a Arc<str>> {
        let regex = member.topic_regex.as_ref();
        let resolved = regex.and_then(|regex| self.regexes.get(regex));
        let resolved = resolved.into_iter().flat_map(|resolved| &resolved.topics);
        member.topic_names.iter().chain(resolved)
    }

    /// The names of all topics that anybody subscribes to.
    pub fn topic_names(&self) -> BTreeSet<&Arc<str>> {
        let members = self.members.values();
        members
            .flat_map(|member| self.topic_names_of(&member.metadata))
            .collect()
    }

    pub fn state(&self) -> ConsumerGroupState {
        let has_arrived = |member: &ConsumerMember| {
            member.current.state == MemberState::Stable && member.current.epoch == self.target_epoch
        };
        if self.members.is_empty() {
            ConsumerGroupState::Empty
        } else if self.group.epoch > self.target_epoch {
            ConsumerGroupState::Assigning
        } else if self.members.values().all(|member| has_arrived(member)) {
            ConsumerGroupState::Stable
        } else {
            ConsumerGroupState::Reconciling
        }
    }

    /// Whether a member has to wait because others haven't given up what it is to have.
    pub fn waits_for_others(&self, id: &MemberId) -> bool {
        let target = self.target(id.as_str());
        let Some(member) = self.members.get(id) else {
            return false;
        };
        let missing = target.difference(&member.current.assigned);
        let waits = missing.iter().any(|(t, p)| !self.is_free(t, p, id));
        waits
    }

    /// What takes the whole group away.
    pub fn tombstones(&self) -> Vec<ConsumerRecord> {
        let mut records = Vec::new();
        for id in self.members.keys() {
            records.extend(member_tombstones(id));
        }
        let targets = self.targets.keys();
        let strays = targets.filter(|id| !self.members.contains_key(*id));
        records.extend(strays.map(|id| ConsumerRecord::Target(id.clone(), None)));
        let regexes = self.regexes.keys();
        records.extend(regexes.map(|regex| ConsumerRecord::Regex(regex.clone(), None)));
        records.push(ConsumerRecord::TargetEpoch(None));
        records.push(ConsumerRecord::Group(None));
        records
    }
}

/// What takes a member away.
pub(super) fn member_tombstones(id: &MemberId) -> [ConsumerRecord; 3] {
    [
        ConsumerRecord::Current(id.clone(), None),
        ConsumerRecord::Target(id.clone(), None),
        ConsumerRecord::Member(id.clone(), None),
    ]
}
