//! A decision as it is being made. What is decided is replayed on a copy of the group at once, so that the
//! next part of the decision, or the next request, can build on it; the group itself changes when the
//! records are committed. If they can't be written, the draft was all there was of it.

use std::sync::Arc;

use super::super::{GroupId, GroupRecord};
use super::settings::{RECORDS_OF_A_WRITE_MAX, WEIGHT_OF_A_WRITE_MAX};
use super::stored::ConsumerRecord;
use super::{ConsumerSettings, ConsumerState};
use crate::engine::metadata::MetadataImage;
use crate::model::Timestamp;

/// What a decision looks at beside the group.
#[derive(Clone, Copy)]
pub(in super::super) struct Moment<'a> {
    pub now: Timestamp,
    pub settings: &'a ConsumerSettings,
    pub image: &'a Arc<MetadataImage>,
    /// What the group was last compared with; `None`: never by this coordinator.
    pub seen: Option<&'a Arc<MetadataImage>>,
    /// How many bytes members may still tell of themselves.
    pub room_bytes: usize,
}

impl Moment<'_> {
    /// Whether anything may have changed in the cluster since.
    pub fn sees_other_metadata(&self) -> bool {
        let version = self.image.version();
        self.seen.is_none_or(|seen| seen.version() != version)
    }

    /// Whether topics may have been created or deleted since.
    pub fn sees_other_topics(&self) -> bool {
        self.seen
            .is_none_or(|seen| !seen.has_same_topics(self.image))
    }
}

pub(in super::super) struct Draft {
    group: GroupId,
    state: ConsumerState,
    records: Vec<GroupRecord>,
    weight: usize,
}

/// What a draft was before a part of it that may still be refused.
pub(in super::super) struct Savepoint {
    state: ConsumerState,
    records: usize,
    weight: usize,
}

impl Savepoint {
    pub fn state(&self) -> &ConsumerState {
        &self.state
    }
}

impl Draft {
    pub fn new(group: GroupId, state: ConsumerState) -> Draft {
        Draft {
            group,
            state,
            records: Vec::new(),
            weight: 0,
        }
    }

    pub fn group(&self) -> &GroupId {
        &self.group
    }

    /// The group as it will be.
    pub fn state(&self) -> &ConsumerState {
        &self.state
    }

    pub fn record(&mut self, record: ConsumerRecord) {
        self.state.replay(&record);
        self.weight += record.weight();
        self.records.push(GroupRecord::Consumer {
            group: self.group.clone(),
            record,
        });
    }

    pub fn record_all(&mut self, records: impl IntoIterator<Item = ConsumerRecord>) {
        records.into_iter().for_each(|record| self.record(record));
    }

    /// Turns a classic group into this one.
    pub fn begin_with(&mut self, prelude: &[GroupRecord]) {
        for record in prelude {
            if let GroupRecord::Consumer { record, .. } = record {
                self.state.replay(record);
                self.weight += record.weight();
            }
            self.records.push(record.clone());
        }
    }

    /// How many bytes the records take, roughly.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Whether what comes next should be in another write.
    pub fn is_full(&self) -> bool {
        self.records.len() >= RECORDS_OF_A_WRITE_MAX || self.weight >= WEIGHT_OF_A_WRITE_MAX
    }

    /// A record of the classic group of this name.
    pub fn record_classic(&mut self, record: GroupRecord) {
        self.records.push(record);
    }

    pub fn save(&self) -> Savepoint {
        Savepoint {
            state: self.state.clone(),
            records: self.records.len(),
            weight: self.weight,
        }
    }

    /// Nothing that came since has been decided.
    pub fn take_back(&mut self, to: Savepoint) {
        self.state = to.state;
        self.records.truncate(to.records);
        self.weight = to.weight;
    }

    /// What is to be written.
    pub fn records(&self) -> &[GroupRecord] {
        &self.records
    }

    pub fn into_records(self) -> Vec<GroupRecord> {
        self.records
    }
}
