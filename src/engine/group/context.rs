//! What all groups of a shard share: settings, timers, and what is to be done.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::consumer::Wait;
use super::settings::ALL_METADATA_BYTES_MAX;
use super::shard::{GroupEffect, Purpose};
use super::{Answer, GroupId, GroupRecord, GroupSettings, JoinAnswer, MemberId, SyncAnswer};
use crate::engine::coordinator::Effect;
use crate::engine::metadata::MetadataImage;
use crate::model::{ErrorCode, Timestamp};

/// What is due at a time. Whether it still is, the group knows when the time has come: a timer is never
/// taken back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Members have had their time to join.
    Join(GroupId),
    /// Members have had their time to ask for their assignments.
    Sync(GroupId),
    /// The member wasn't heard from, perhaps.
    Session(GroupId, MemberId),
    /// Who was told its id has had its time to join with it.
    Pending(GroupId, MemberId),
    /// A member of a consumer group has had its time for this.
    Consumer(GroupId, MemberId, Wait),
    /// Offsets may have expired.
    Retention,
}

pub(super) struct Context<T> {
    pub settings: GroupSettings,
    pub timers: BTreeSet<(Timestamp, Timer)>,
    pub effects: Vec<GroupEffect<T>>,
    /// What all members tell of themselves.
    pub metadata_bytes: usize,
    /// How many offsets are committed in all groups.
    pub offsets: usize,
    /// The latest metadata that a request came with.
    pub image: Arc<MetadataImage>,
}

impl<T> Context<T> {
    pub fn answer(&mut self, to: T, answer: Answer) {
        self.effects.push(Effect::Answer { to, answer });
    }

    pub fn answer_join(&mut self, to: T, answer: JoinAnswer) {
        self.answer(to, Answer::Join(answer));
    }

    pub fn refuse_join(&mut self, to: T, error: ErrorCode, member: MemberId) {
        self.answer_join(to, JoinAnswer::refused(error, member));
    }

    pub fn refuse_sync(&mut self, to: T, error: ErrorCode) {
        self.answer(to, Answer::Sync(SyncAnswer::refused(error)));
    }

    pub fn write(&mut self, records: Vec<GroupRecord>, purpose: Purpose<T>) {
        self.effects.push(Effect::Write { records, purpose });
    }

    /// How much more members may tell of themselves.
    pub fn room_bytes(&self) -> usize {
        ALL_METADATA_BYTES_MAX.saturating_sub(self.metadata_bytes)
    }

    /// Requests may come in another order than they were made in.
    pub fn see(&mut self, image: &Arc<MetadataImage>) {
        if image.version() > self.image.version() {
            self.image = image.clone();
        }
    }

    pub fn set_timer(&mut self, at: Timestamp, timer: Timer) {
        self.timers.insert((at, timer));
    }
}

/// So many milliseconds after `now`.
pub(super) fn after(now: Timestamp, ms: i64) -> Timestamp {
    Timestamp(now.0.saturating_add(ms.max(0)))
}

/// What a client is told whose record can't be written, as Kafka translates it.
pub(super) fn write_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut
        | ErrorCode::ThrottlingQuotaExceeded => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge => ErrorCode::UnknownServerError,
        other => other,
    }
}
