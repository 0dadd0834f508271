//! The target assignment: who shall own what, made anew for each group epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::assignor::{Assignor, GroupSpec, MemberSpec};
use super::super::MemberId;
use super::draft::{Draft, Moment};
use super::stored::{ConsumerRecord, TargetEpoch};
use super::subscription::racks_of;
use super::{ConsumerSettings, ConsumerState, Partitions};
use crate::engine::metadata::Topic;
use crate::model::TopicId;

/// What most members want of those who want anything; else the first that the config names.
pub(super) fn assignor_of(state: &ConsumerState, settings: &ConsumerSettings) -> Assignor {
    let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
    for member in state.members().values() {
        let wanted = member.metadata.assignor.as_deref();
        if let Some(wanted) = wanted.and_then(Assignor::from_name) {
            *votes.entry(wanted).or_default() += 1;
        }
    }
    let most = votes.into_iter().max_by_key(|(_, count)| *count);
    most.map_or(settings.default_assignor(), |(assignor, _)| assignor)
}

/// Makes the target of the present group epoch.
pub(super) fn retarget(draft: &mut Draft, moment: Moment<'_>) {
    let assignor = assignor_of(draft.state(), moment.settings);
    let targets = assignor.assign(&spec(draft.state(), moment));
    for (id, target) in targets {
        let before = draft.state().targets().get(&id);
        if before.is_none_or(|before| **before != target) {
            draft.record(ConsumerRecord::Target(id, Some(target)));
        }
    }
    let epoch = TargetEpoch {
        epoch: draft.state().epoch(),
        timestamp: moment.now,
    };
    draft.record(ConsumerRecord::TargetEpoch(Some(epoch)));
}

fn spec<'a>(state: &'a ConsumerState, moment: Moment<'a>) -> GroupSpec<'a> {
    let image = moment.image;
    let mut topics: BTreeMap<TopicId, &Arc<Topic>> = BTreeMap::new();
    let mut members: BTreeMap<&MemberId, MemberSpec<'a>> = BTreeMap::new();
    for (id, member) in state.members() {
        let names = state.topic_names_of(&member.metadata);
        let mine: Vec<&Arc<Topic>> = names.filter_map(|name| image.topic_by_name(name)).collect();
        topics.extend(mine.iter().map(|topic| (topic.id, *topic)));
        let spec = MemberSpec {
            instance: member.metadata.instance.as_deref(),
            rack: member.metadata.rack.as_deref(),
            topics: mine.iter().map(|topic| topic.id).collect(),
            before: Partitions::clone(&state.target(id.as_str())),
        };
        members.insert(id, spec);
    }
    let racks = topics.into_iter().map(|(id, topic)| {
        let racks: Vec<BTreeSet<&str>> = racks_of(topic, image).collect();
        (id, racks)
    });
    GroupSpec {
        members,
        topics: racks.collect(),
    }
}
