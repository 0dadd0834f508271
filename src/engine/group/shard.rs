//! The groups of one partition of `__consumer_offsets`.

use std::collections::BTreeMap;

use super::committed::Place;
use super::consumer::{ConsumerGroup, ConsumerRecord, ConsumerState};
use super::context::{write_error, Context, Timer};
use super::rebalance::Group;
use super::{Answer, GroupId, GroupRecord, GroupSettings, JoinAnswer, MemberId, Request};
use crate::engine::coordinator::{Core, Effect};
use crate::model::{ErrorCode, Timestamp};

/// `T` is whom to answer.
pub struct GroupShard<T> {
    /// The offsets of all groups, and the classic ones.
    pub(super) groups: BTreeMap<GroupId, Group<T>>,
    /// Those of the consumer protocol, and those that are about to be.
    pub(super) consumers: BTreeMap<GroupId, ConsumerGroup<T>>,
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
    /// What members of a consumer group are told.
    Consumer {
        group: GroupId,
        answers: Vec<(T, Answer)>,
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
            consumers: BTreeMap::new(),
            context: Context {
                settings,
                timers: Default::default(),
                effects: Vec::new(),
                metadata_bytes: 0,
                offsets: 0,
                image: Default::default(),
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
            Timer::Consumer(id, member, wait) => {
                if let Some(consumers) = self.consumers.get_mut(id) {
                    let what = (member.clone(), *wait);
                    consumers.timer(&mut self.context, now, at, what);
                }
                return;
            }
        };
        // A classic group that is about to have consumers decides nothing any more.
        if self.consumers.contains_key(&id) {
            return;
        }
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let context = &mut self.context;
        match timer {
            Timer::Join(_) => group.join_timer(context, now, at),
            Timer::Sync(_) => group.sync_timer(context, now, at),
            Timer::Session(_, member) => group.session_timer(context, now, at, &member),
            Timer::Pending(_, member) => group.pending_timer(context, now, &member),
            Timer::Consumer(..) | Timer::Retention => {}
        }
        self.forget_if_vacant(&id);
    }

    fn replay_consumers(&mut self, id: GroupId, record: &ConsumerRecord) {
        let new = || ConsumerGroup::new(id.clone(), Vec::new());
        let state = &mut self.consumers.entry(id.clone()).or_insert_with(new).state;
        let size = |state: &ConsumerState| match record {
            ConsumerRecord::Member(member, _) => {
                let member = state.member(member.as_str());
                member.map_or(0, |member| member.metadata.size())
            }
            _ => 0,
        };
        let before = size(state);
        state.replay(record);
        self.context.metadata_bytes = self.context.metadata_bytes + size(state) - before;
    }

    /// Decides a request, and answers it now or when what it rests on is committed.
    pub(super) fn decide(&mut self, now: Timestamp, request: Request, to: T) {
        if let Some(image) = request.image() {
            self.context.see(image);
        }
        let Some((request, to)) = self.for_consumers(now, request, to) else {
            return;
        };
        let answer = match request {
            Request::Join(request) => return self.join(now, request, to),
            Request::Sync(request) => return self.sync(now, request, to),
            Request::Commit(request) => return self.commit(now, request, to),
            Request::DeleteOffsets(request) => return self.delete_offsets(request, to),
            Request::Delete(group) => return self.delete(&group, to),
            Request::Heartbeat(request) => Answer::Code(self.heartbeat(now, &request)),
            Request::Leave(request) => Answer::Leave(self.leave(now, &request)),
            // Consumers have decided it.
            Request::ConsumerHeartbeat(_) => Answer::Code(ErrorCode::UnknownServerError),
            Request::Fetch(request) => self.fetch(&request),
            Request::Describe(group) => Answer::Described(self.describe_group(&group)),
            Request::DescribeConsumers(group) => {
                Answer::ConsumersDescribed(self.describe_consumers(&group))
            }
            Request::List => Answer::Listed(self.list()),
            Request::Topics => Answer::Topics(self.topics()),
            Request::ForgetTopics(topics) => {
                self.forget_topics(&topics);
                Answer::Code(ErrorCode::None)
            }
        };
        self.context.answer(to, answer);
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
            GroupRecord::Consumer { group, record } => self.replay_consumers(group, &record),
        }
    }

    fn loaded(&mut self, now: Timestamp) -> Vec<GroupEffect<T>> {
        for group in self.groups.values_mut() {
            group.restore(&mut self.context, now);
        }
        self.consumers.retain(|_, consumers| !consumers.is_vacant());
        for consumers in self.consumers.values_mut() {
            consumers.restore(&mut self.context, now);
        }
        self.context.set_timer(now, Timer::Retention);
        self.take_effects()
    }

    fn handle(&mut self, now: Timestamp, request: Request, to: T) -> Vec<GroupEffect<T>> {
        self.decide(now, request, to);
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
                // One that is about to have consumers has begun without it: it is told when that is written, or not.
                let classic = match self.consumers.contains_key(&group) {
                    true => None,
                    false => self.groups.get_mut(&group),
                };
                if let Some(group) = classic {
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
            Purpose::Consumer { group, answers } => {
                self.consumers_written(now, &group, answers, written);
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
        let classic: usize = groups.clone().map(|group| group.members.len()).sum();
        let offsets: usize = groups.map(|group| group.offsets.len()).sum();
        let consumers = self.consumers.values();
        let consumers: usize = consumers.map(|group| group.state.members().len()).sum();
        let listed = self.list().len();
        let members = classic + consumers;
        format!("groups {listed} members {members} offsets {offsets}")
    }
}
