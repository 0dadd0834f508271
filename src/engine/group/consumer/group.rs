//! A consumer group at work: its requests are decided one after the other. While a write of it is on its way
//! the next ones wait, and are decided together when it is committed: each on what those before it decided.
//! So a hundred members that join at once cost a few writes, and no decision rests on what isn't committed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::super::context::{after, write_error, Context, Timer};
use super::super::shard::Purpose;
use super::super::{
    Answer, GroupId, GroupRecord, JoinAnswer, LeaveAnswer, MemberId, Request, SyncAnswer,
};
use super::draft::{Draft, Moment};
use super::messages::JOIN_EPOCH;
use super::migration::{downgrade, downgrade_if_due};
use super::settings::{TIME_OUT_RETRY_MS, WAITING_MAX};
use super::stored::MemberState;
use super::{classic_members, heartbeat, membership, ConsumerState};
use crate::engine::metadata::MetadataImage;
use crate::model::{ErrorCode, Timestamp};

/// What a member has only so long for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Wait {
    /// To be heard from.
    Session,
    /// To give up partitions.
    Revocation,
    /// To join again, if it speaks the classic protocol: its heartbeat told it to.
    Join,
    /// To ask for its assignment, likewise: it has joined.
    Sync,
}

/// A deadline moves often, and its timer only when it has come: see [`ConsumerGroup::timer`].
#[derive(Clone, Copy, Debug)]
struct Deadline {
    until: Timestamp,
    timer: Option<Timestamp>,
}

/// What is to be decided.
enum Work<T> {
    Request(Request, T),
    TimedOut(MemberId, Wait),
}

/// `T` is whom to answer.
pub(in super::super) struct ConsumerGroup<T> {
    id: GroupId,
    /// As it is committed.
    pub state: ConsumerState,
    is_writing: bool,
    /// What turns a classic group of this name into this one; nothing once that is committed.
    prelude: Vec<GroupRecord>,
    waiting: VecDeque<Work<T>>,
    deadlines: BTreeMap<(MemberId, Wait), Deadline>,
    empty_since: Option<Timestamp>,
    /// The metadata that the group was last compared with.
    seen: Option<Arc<MetadataImage>>,
}

/// What a decision asks for beside records: deadlines, which are the coordinator's own.
#[derive(Debug, PartialEq)]
pub(super) enum Pace {
    /// In so many milliseconds.
    Within(MemberId, Wait, i64),
    /// Only if it isn't set.
    WithinUnlessSet(MemberId, Wait, i64),
    Done(MemberId, Wait),
}

/// What comes of a request.
pub(super) enum Outcome {
    /// Nothing is changed.
    Refused(Answer),
    /// Told when the draft is committed.
    Decided(Answer, Vec<Pace>),
    /// The group goes over to the other protocol when the draft is committed; it is for that one to say.
    Elsewhere,
}

impl<T> ConsumerGroup<T> {
    pub fn new(id: GroupId, prelude: Vec<GroupRecord>) -> ConsumerGroup<T> {
        ConsumerGroup {
            id,
            state: ConsumerState::default(),
            is_writing: false,
            prelude,
            waiting: VecDeque::new(),
            deadlines: BTreeMap::new(),
            empty_since: None,
            seen: None,
        }
    }

    /// There is no such group, and nobody is about to make it one.
    pub fn is_vacant(&self) -> bool {
        self.state.is_absent() && !self.is_writing
    }

    /// Since when it has had no members, as far as this coordinator knows; `None` if it has any, or is
    /// about to.
    pub fn at_rest_since(&self) -> Option<Timestamp> {
        self.empty_since.filter(|_| !self.is_writing)
    }

    fn note_rest(&mut self, now: Timestamp) {
        self.empty_since = match self.state.members().is_empty() {
            true => self.empty_since.or(Some(now)),
            false => None,
        };
    }

    /// Goes on from what a former coordinator has committed: everyone has its full time again.
    pub fn restore(&mut self, context: &mut Context<T>, now: Timestamp) {
        self.note_rest(now);
        let members = self.state.members().clone();
        for (id, member) in &members {
            let session_ms = classic_members::session_ms(member, &context.settings.consumer);
            self.pace(
                context,
                now,
                Pace::Within(id.clone(), Wait::Session, session_ms),
            );
            if member.current.state == MemberState::UnrevokedPartitions && !member.speaks_classic()
            {
                let ms = member.metadata.rebalance_timeout_ms.into();
                self.pace(context, now, Pace::Within(id.clone(), Wait::Revocation, ms));
            }
        }
    }

    /// Decides now, or as soon as what is being written is committed.
    pub fn request(&mut self, context: &mut Context<T>, now: Timestamp, request: Request, to: T) {
        if self.waiting.len() >= WAITING_MAX {
            let answer = request.refused(ErrorCode::CoordinatorNotAvailable.into());
            return context.answer(to, answer);
        }
        self.waiting.push_back(Work::Request(request, to));
        self.work(context, now);
    }

    /// A timer that was set for `at` has come. The deadline may have moved meanwhile.
    pub fn timer(
        &mut self,
        context: &mut Context<T>,
        now: Timestamp,
        at: Timestamp,
        (member, wait): (MemberId, Wait),
    ) {
        let key = (member, wait);
        let Some(deadline) = self.deadlines.get_mut(&key) else {
            return;
        };
        if deadline.timer != Some(at) {
            return;
        }
        deadline.timer = None;
        if deadline.until > now {
            let until = deadline.until;
            return self.arm(context, key, until);
        }
        self.waiting.push_back(Work::TimedOut(key.0, key.1));
        self.work(context, now);
    }

    /// The records are committed and replayed, or can't be written.
    pub fn written(
        &mut self,
        context: &mut Context<T>,
        now: Timestamp,
        answers: Vec<(T, Answer)>,
        written: Result<(), ErrorCode>,
    ) {
        self.is_writing = false;
        match written {
            Ok(()) => self.prelude.clear(),
            Err(_) => self.seen = None,
        }
        for (to, answer) in answers {
            let answer = match written {
                Ok(()) => answer,
                Err(error) => unwritten(answer, write_error(error)),
            };
            context.answer(to, answer);
        }
        let state = &self.state;
        self.deadlines
            .retain(|(member, _), _| state.members().contains_key(member));
        self.note_rest(now);
    }

    /// What waits, if the group has another protocol now.
    pub fn take_waiting(&mut self) -> Vec<(Request, T)> {
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let requests = waiting.filter_map(|work| match work {
            Work::Request(request, to) => Some((request, to)),
            Work::TimedOut(..) => None,
        });
        requests.collect()
    }

    /// Decides what waits, up to what one write should hold.
    pub fn work(&mut self, context: &mut Context<T>, now: Timestamp) {
        if self.is_writing {
            return;
        }
        let mut draft = Draft::new(self.id.clone(), self.state.clone());
        let mut answers = Vec::new();
        while !draft.is_full() {
            let Some(work) = self.waiting.pop_front() else {
                break;
            };
            match work {
                Work::TimedOut(member, wait) => {
                    self.time_out(context, now, &mut draft, member, wait);
                }
                Work::Request(request, to) => {
                    match self.decide(context, now, &mut draft, &request) {
                        Some(answer) if draft.records().is_empty() => context.answer(to, answer),
                        Some(answer) => answers.push((to, answer)),
                        None => self.waiting.push_front(Work::Request(request, to)),
                    }
                }
            }
            // What comes next is for the other protocol.
            if !draft.records().is_empty() && draft.state().is_absent() {
                break;
            }
        }
        if draft.records().is_empty() {
            return;
        }
        self.is_writing = true;
        let group = self.id.clone();
        context.write(draft.into_records(), Purpose::Consumer { group, answers });
    }

    /// `None`: it has to wait until the group has gone over to the other protocol.
    fn decide(
        &mut self,
        context: &mut Context<T>,
        now: Timestamp,
        draft: &mut Draft,
        request: &Request,
    ) -> Option<Answer> {
        let before = draft.save();
        if draft.records().is_empty() {
            draft.begin_with(&self.prelude);
        }
        let image = context.image.clone();
        let moment = self.moment(context, now, draft, &image);
        let is_empty = draft.state().members().is_empty();
        let outcome = match request {
            Request::ConsumerHeartbeat(request) => heartbeat::heartbeat(draft, moment, request),
            Request::Join(_) if is_empty => {
                downgrade(draft, moment, draft.state().epoch());
                Outcome::Elsewhere
            }
            Request::Join(request) => classic_members::join(draft, moment, request),
            Request::Sync(request) => classic_members::sync(draft, moment, request),
            Request::Heartbeat(request) => classic_members::heartbeat(draft, moment, request),
            Request::Leave(request) => classic_members::leave(draft, moment, request),
            other => {
                let error = ErrorCode::UnknownServerError;
                Outcome::Refused(other.refused(error.into()))
            }
        };
        let classic_size_max = context.settings.max_size;
        match outcome {
            Outcome::Refused(answer) => {
                draft.take_back(before);
                Some(answer)
            }
            Outcome::Elsewhere => None,
            Outcome::Decided(answer, paces) => {
                downgrade_if_due(draft, moment, before.state(), classic_size_max);
                if compares_metadata(request) {
                    self.seen = Some(image);
                }
                for pace in paces {
                    self.pace(context, now, pace);
                }
                Some(answer)
            }
        }
    }

    fn moment<'a>(
        &'a self,
        context: &'a Context<T>,
        now: Timestamp,
        draft: &Draft,
        image: &'a Arc<MetadataImage>,
    ) -> Moment<'a> {
        Moment {
            now,
            settings: &context.settings.consumer,
            image,
            seen: self.seen.as_ref(),
            room_bytes: context.room_bytes().saturating_sub(draft.weight()),
        }
    }

    /// The member has had its time, unless it has been heard from while this waited for its turn.
    fn time_out(
        &mut self,
        context: &mut Context<T>,
        now: Timestamp,
        draft: &mut Draft,
        member: MemberId,
        wait: Wait,
    ) {
        let key = (member, wait);
        let is_over = self.deadlines.get(&key).is_some_and(|d| d.until <= now);
        if !is_over || draft.state().member(key.0.as_str()).is_none() {
            return;
        }
        // If that can't be written it is tried again.
        self.arm(context, key.clone(), after(now, TIME_OUT_RETRY_MS));
        let before = draft.save();
        let image = context.image.clone();
        let moment = self.moment(context, now, draft, &image);
        membership::remove(draft, moment, std::slice::from_ref(&key.0));
        downgrade_if_due(draft, moment, before.state(), context.settings.max_size);
    }

    fn pace(&mut self, context: &mut Context<T>, now: Timestamp, pace: Pace) {
        let (key, ms) = match pace {
            Pace::Done(member, wait) => {
                self.deadlines.remove(&(member, wait));
                return;
            }
            Pace::WithinUnlessSet(member, wait, ms) => match (member, wait) {
                key if self.deadlines.contains_key(&key) => return,
                key => (key, ms),
            },
            Pace::Within(member, wait, ms) => ((member, wait), ms),
        };
        let until = after(now, ms);
        let deadline = self
            .deadlines
            .entry(key.clone())
            .or_insert(Deadline { until, timer: None });
        deadline.until = until;
        if deadline.timer.is_none_or(|timer| timer > until) {
            self.arm(context, key, until);
        }
    }

    fn arm(&mut self, context: &mut Context<T>, key: (MemberId, Wait), at: Timestamp) {
        if let Some(deadline) = self.deadlines.get_mut(&key) {
            deadline.timer = Some(at);
        }
        context.set_timer(at, Timer::Consumer(self.id.clone(), key.0, key.1));
    }
}

/// What is told instead of an answer whose records can't be written.
fn unwritten(answer: Answer, error: ErrorCode) -> Answer {
    match answer {
        Answer::ConsumerHeartbeat(_) => Answer::ConsumerHeartbeat(Err(error.into())),
        Answer::Join(join) => Answer::Join(JoinAnswer::refused(error, join.member)),
        Answer::Sync(_) => Answer::Sync(SyncAnswer::refused(error)),
        Answer::Leave(_) => Answer::Leave(LeaveAnswer {
            error,
            members: Vec::new(),
        }),
        _ => Answer::Code(error),
    }
}

/// Whether the group is compared with the metadata when this is decided: not when somebody goes, for example.
fn compares_metadata(request: &Request) -> bool {
    match request {
        Request::ConsumerHeartbeat(heartbeat) => heartbeat.epoch >= JOIN_EPOCH,
        Request::Join(_) => true,
        _ => false,
    }
}
