//! The groups of one partition of `__consumer_offsets`.

use std::collections::BTreeMap;

use super::context::{write_error, Context, Timer};
use super::offsets::Place;
use super::rebalance::Group;
use super::{Answer, GroupId, GroupRecord, GroupSettings, JoinAnswer, MemberId, Request};
use crate::engine::coordinator::{Core, Effect};
use crate::model::{ErrorCode, Timestamp};

/// `T` is whom to answer.
pub struct GroupShard<T> {
    pub(super) groups: BTreeMap<GroupId, Group<T>>,
    pub(super) context: Context<T>,
}

pub(super) type GroupEffect<T> = Effect<T, Answer, GroupRecord, Purpose<T>>;

/// What a write is for.
#[derive(Debug)]
pub enum Purpose<T> {
    /// Offsets; `None` and a code for each one that is refused.
    Commit {
        group: GroupId,
        places: Vec<Option<Place>>,
        to: T,
        codes: Vec<ErrorCode>,
    },
    /// The leader's assignment of a generation.
    Assigned {
        group: GroupId,
        generation: i32,
    },
    /// A static member has taken its former life's place.
    Replaced {
        to: T,
        answer: Answer,
    },
    /// The last member has gone.
    Emptied,
    OffsetsDeleted {
        group: GroupId,
        to: T,
        answer: Answer,
    },
    OffsetsForgotten {
        group: GroupId,
    },
    /// Asked for, or because nothing is left of it.
    Deleted {
        group: GroupId,
        to: Option<T>,
    },
}

impl<T> GroupShard<T> {
    pub fn new(settings: GroupSettings) -> GroupShard<T> {
        GroupShard {
            groups: BTreeMap::new(),
            context: Context {
                settings,
                timers: Default::default(),
                effects: Vec::new(),
                metadata_bytes: 0,
                offsets: 0,
            },
        }
    }

    pub(super) fn forget_if_vacant(&mut self, id: &GroupId) {
        if self.groups.get(id).is_some_and(Group::is_vacant) {
            self.groups.remove(id);
        }
    }

    fn group(&mut self, id: &GroupId) -> &mut Group<T> {
        let new = || Group::new(id.clone());
        self.groups.entry(id.clone()).or_insert_with(new)
    }

    fn take_effects(&mut self) -> Vec<GroupEffect<T>> {
        std::mem::take(&mut self.context.effects)
    }

    fn timer(&mut self, now: Timestamp, at: Timestamp, timer: Timer) {
        let id = match &timer {
            Timer::Retention => return self.expire(now),
            Timer::Join(id) | Timer::Sync(id) => id.clone(),
            Timer::Session(id, _) | Timer::Pending(id, _) => id.clone(),
        };
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let context = &mut self.context;
        match timer {
            Timer::Join(_) => group.join_timer(context, now, at),
            Timer::Sync(_) => group.sync_timer(context, now, at),
            Timer::Session(_, member) => group.session_timer(context, now, at, &member),
            Timer::Pending(_, member) => group.pending_timer(context, now, &member),
            Timer::Retention => {}
        }
        self.forget_if_vacant(&id);
    }
}

impl<T: Send + Unpin + 'static> Core for GroupShard<T> {
    type Request = Request;
    type Answer = Answer;
    type Ticket = T;
    type Record = GroupRecord;
    type Purpose = Purpose<T>;

    fn replay(&mut self, record: &GroupRecord) {
        match record.clone() {
            GroupRecord::Offset {
                group,
                topic,
                partition,
                offset,
            } => {
                let offsets = &mut self.group(&group).offsets;
                let before = offsets.len();
                offsets.replay((topic, partition), offset);
                let after = offsets.len();
                self.context.offsets = self.context.offsets + after - before;
                self.forget_if_vacant(&group);
            }
            GroupRecord::Group { group, stored } => {
                self.group(&group).stored = stored;
                self.forget_if_vacant(&group);
            }
        }
    }

    fn loaded(&mut self, now: Timestamp) -> Vec<GroupEffect<T>> {
        for group in self.groups.values_mut() {
            group.restore(&mut self.context, now);
        }
        self.context.set_timer(now, Timer::Retention);
        self.take_effects()
    }

    fn handle(&mut self, now: Timestamp, request: Request, to: T) -> Vec<GroupEffect<T>> {
        let answer = match request {
            Request::Join(request) => {
                self.join(now, request, to);
                return self.take_effects();
            }
            Request::Sync(request) => {
                self.sync(now, request, to);
                return self.take_effects();
            }
            Request::Commit(request) => {
                self.commit(now, request, to);
                return self.take_effects();
            }
            Request::DeleteOffsets(request) => {
                self.delete_offsets(request, to);
                return self.take_effects();
            }
            Request::Delete(group) => {
                self.delete(&group, to);
                return self.take_effects();
            }
            Request::Heartbeat(request) => Answer::Code(self.heartbeat(now, &request)),
            Request::Leave(request) => Answer::Leave(self.leave(now, &request)),
            Request::Fetch(request) => Answer::Fetch(self.fetch(&request)),
            Request::Describe(group) => Answer::Described(self.describe_group(&group)),
            Request::List => Answer::Listed(self.list()),
            Request::Topics => Answer::Topics(self.topics()),
            Request::ForgetTopics(topics) => {
                self.forget_topics(&topics);
                Answer::Code(ErrorCode::None)
            }
        };
        self.context.answer(to, answer);
        self.take_effects()
    }

    fn written(
        &mut self,
        now: Timestamp,
        purpose: Purpose<T>,
        written: Result<(), ErrorCode>,
    ) -> Vec<GroupEffect<T>> {
        match purpose {
            Purpose::Commit {
                group,
                places,
                to,
                codes,
            } => self.committed(&group, &places, to, codes, written),
            Purpose::Assigned { group, generation } => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.assigned(&mut self.context, now, generation, written);
                }
            }
            Purpose::Replaced { to, answer } => {
                let answer = match written {
                    Ok(()) => answer,
                    Err(error) => {
                        let error = write_error(error);
                        Answer::Join(JoinAnswer::refused(error, MemberId::default()))
                    }
                };
                self.context.answer(to, answer);
            }
            Purpose::Emptied => {}
            Purpose::OffsetsDeleted { group, to, answer } => {
                let answer = match written {
                    Ok(()) => answer,
                    Err(error) => Answer::Code(write_error(error)),
                };
                self.context.answer(to, answer);
                self.forget_if_vacant(&group);
            }
            Purpose::OffsetsForgotten { group } => self.forget_if_vacant(&group),
            Purpose::Deleted { group, to } => self.deleted(&group, to, written),
        }
        self.take_effects()
    }

    fn next_tick(&self) -> Option<Timestamp> {
        self.context.timers.first().map(|(at, _)| *at)
    }

    fn tick(&mut self, now: Timestamp) -> Vec<GroupEffect<T>> {
        while self.next_tick().is_some_and(|at| at <= now) {
            if let Some((at, timer)) = self.context.timers.pop_first() {
                self.timer(now, at, timer);
            }
        }
        self.take_effects()
    }

    fn describe(&self) -> String {
        let groups = self.groups.values();
        let members: usize = groups.clone().map(|group| group.members.len()).sum();
        let offsets: usize = groups.map(|group| group.offsets.len()).sum();
        format!(
            "groups {} members {members} offsets {offsets}",
            self.groups.len()
        )
    }
}
