//! What a group has committed, and what it is about to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::settings::{OFFSETS_MAX, OFFSETS_OF_A_GROUP_MAX};
use super::stored::CommittedOffset;
use super::FetchedOffset;
use crate::engine::metadata::MetadataImage;
use crate::model::{LeaderEpoch, Offset, Timestamp, TopicId};

/// A partition that an offset is for.
pub(super) type Place = (Arc<str>, i32);

/// What one group has committed, and where it is about to.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Offsets {
    committed: BTreeMap<Place, CommittedOffset>,
    in_flight: BTreeMap<Place, InFlight>,
}

/// Commits of one place that are being written.
#[derive(Debug, PartialEq)]
struct InFlight {
    count: usize,
    /// Of the last one, which will be the one that counts.
    topic_id: TopicId,
}

impl Offsets {
    pub fn is_empty(&self) -> bool {
        self.committed.is_empty() && self.in_flight.is_empty()
    }

    pub fn len(&self) -> usize {
        self.committed.len()
    }

    pub fn get(&self, place: &Place) -> Option<&CommittedOffset> {
        self.committed.get(place)
    }

    pub fn replay(&mut self, place: Place, offset: Option<CommittedOffset>) {
        match offset {
            Some(offset) => self.committed.insert(place, offset),
            None => self.committed.remove(&place),
        };
    }

    pub fn begin(&mut self, place: &Place, topic_id: TopicId) {
        let new = InFlight { count: 0, topic_id };
        let in_flight = self.in_flight.entry(place.clone()).or_insert(new);
        in_flight.count += 1;
        in_flight.topic_id = topic_id;
    }

    pub fn end(&mut self, place: &Place) {
        if let Some(in_flight) = self.in_flight.get_mut(place) {
            in_flight.count -= 1;
            if in_flight.count == 0 {
                self.in_flight.remove(place);
            }
        }
    }

    pub fn has_room_for(&self, place: &Place, in_all_groups: usize) -> bool {
        self.committed.contains_key(place)
            || (self.committed.len() + self.in_flight.len() < OFFSETS_OF_A_GROUP_MAX
                && in_all_groups < OFFSETS_MAX)
    }

    /// Those that nobody has committed for so long, counted from `since` at the earliest.
    pub fn expired(&self, now: Timestamp, since: Timestamp, retention_ms: i64) -> Vec<Place> {
        let is_old = |(place, offset): &(&Place, &CommittedOffset)| {
            let since = offset.commit_timestamp.max(since);
            now - since >= retention_ms && !self.in_flight.contains_key(*place)
        };
        let old = self.committed.iter().filter(is_old);
        old.map(|(place, _)| place.clone()).collect()
    }

    /// Whether nothing is left without so many of them.
    pub fn are_all(&self, places: &[Place]) -> bool {
        places.len() == self.committed.len() && self.in_flight.is_empty()
    }

    /// All that are committed or about to be: what is written now comes after them.
    pub fn places(&self) -> BTreeSet<Place> {
        let all = self.committed.keys().chain(self.in_flight.keys());
        all.cloned().collect()
    }

    /// Of what counts when all that is being written is committed.
    pub fn topic_id(&self, place: &Place) -> TopicId {
        let in_flight = self.in_flight.get(place).map(|it| it.topic_id);
        let committed = || self.committed.get(place).map(|it| it.topic_id);
        in_flight.or_else(committed).unwrap_or(TopicId::NONE)
    }

    /// Those of topics that are there, or may be.
    pub fn all(&self, image: &MetadataImage) -> Vec<(Arc<str>, Vec<FetchedOffset>)> {
        let mut all: Vec<(Arc<str>, Vec<FetchedOffset>)> = Vec::new();
        let mut id = None;
        for ((topic, partition), offset) in &self.committed {
            if all.last().is_none_or(|(last, _)| last != topic) {
                id = image.topic_by_name(topic).map(|topic| topic.id);
                all.push((topic.clone(), Vec::new()));
            }
            if let Some((_, offsets)) = all.last_mut().filter(|_| offset.may_be_of(id)) {
                offsets.push(told(*partition, Some(offset)));
            }
        }
        all.retain(|(_, offsets)| !offsets.is_empty());
        all
    }

    /// Whose they are; a topic may come often.
    pub fn topics(&self) -> impl Iterator<Item = (&Arc<str>, TopicId)> {
        let committed = self.committed.iter();
        committed.map(|((topic, _), offset)| (topic, offset.topic_id))
    }
}

/// What is told of a partition.
pub(super) fn told(partition: i32, committed: Option<&CommittedOffset>) -> FetchedOffset {
    FetchedOffset {
        partition,
        offset: committed.map_or(Offset::NONE, |committed| committed.offset),
        leader_epoch: committed.map_or(LeaderEpoch::NONE, |committed| committed.leader_epoch),
        metadata: committed.map_or("".into(), |committed| committed.metadata.clone()),
    }
}
