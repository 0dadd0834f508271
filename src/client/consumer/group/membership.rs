//! What a member does when: a state machine without I/O, which is told what happens and says what to ask whom.
//!
//! | phase | means | leaves it when |
//! |---|---|---|
//! | Resting | it is no member, or its coordinator isn't to be reached | its pause is over, then it joins |
//! | Joining | it has asked to be in the next generation | all members have |
//! | Syncing | it has asked what it is assigned | the leader has said it |
//! | Positioning | it asks where to start with what is new | it is told |
//! | Stable | it reads what it has | the group rebalances, or the application gives up partitions |
//! | Idle | the application doesn't poll | it does |
//! | Ended | it has left, or can't be a member | - |
//!
//! Partitions are the application's from [`Event::Assigned`] to [`Event::Revoked`] or [`Event::Lost`], which it
//! takes notice of in its own time. What it is to give up it has until [`Membership::given_up`]: only then does
//! the member join again, so that nobody else gets it before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::TopicPartition;
use crate::client::consumer::failing::Failing;
use crate::client::consumer::ConsumerConfig;
use crate::client::coordinator::refused;
use crate::client::{ClientConfig, ClientError};
use crate::model::{ErrorCode, Offset};
use crate::protocol::join_group;

/// Longer pauses would only make a fail-over longer: what is asked is small.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// Who the member is, and in which generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub member_id: String,
    pub generation: i32,
}

/// What the application takes notice of, in this order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    /// These are to be read, each from where the group has come to, if it has.
    Assigned(BTreeMap<TopicPartition, Option<Offset>>),
    /// These are to be given up; then [`Membership::given_up`] is told with this number.
    Revoked(u64, BTreeSet<TopicPartition>),
    /// These are no more.
    Lost(BTreeSet<TopicPartition>),
    /// It can't be helped by waiting, or has lasted too long.
    Failed(ClientError),
}

/// What is to be asked or told. The answers come with the numbers that stand here.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Effect {
    Join {
        turn: u64,
        member_id: String,
        generation: i32,
        owned: BTreeSet<TopicPartition>,
    },
    /// The leader assigns first.
    Sync {
        turn: u64,
        identity: Identity,
        protocol: String,
        leads: Option<Leads>,
    },
    Heartbeat(Identity),
    FetchOffsets {
        turn: u64,
        partitions: BTreeSet<TopicPartition>,
    },
    Leave {
        member_id: String,
    },
    Tell(Event),
}

/// What a leader is told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Leads {
    pub members: Vec<join_group::JoinGroupResponseMember>,
    /// Everyone keeps what it has (KIP-814).
    pub skips_assignment: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Resting(Instant),
    Joining,
    Syncing,
    Positioning(Asked),
    Stable,
    Idle,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Now,
    /// Again, after a failure.
    At(Instant),
}

/// What a member is by its config.
#[derive(Clone, Debug)]
pub(super) struct Habits {
    pub group_id: String,
    pub is_static: bool,
    pub is_cooperative: bool,
    pub heartbeat_interval: Duration,
    pub max_poll_interval: Duration,
    pub client: ClientConfig,
    pub consumer: ConsumerConfig,
}

/// `owned` is what the coordinator has given and the member hasn't given back; `new` of it, whose offsets are
/// being asked for, isn't the application's yet. While `giving_up` isn't empty the member doesn't join.
#[derive(Debug)]
pub(super) struct Membership {
    habits: Habits,
    phase: Phase,
    member_id: String,
    /// -1 outside of any.
    generation: i32,
    owned: BTreeSet<TopicPartition>,
    new: BTreeSet<TopicPartition>,
    giving_up: BTreeSet<TopicPartition>,
    /// The group rebalances, or is to.
    wants_to_join: bool,
    turn: u64,
    heartbeat_at: Instant,
    heartbeat_is_out: bool,
    /// When the application must have polled; `None` while it does.
    poll_until: Option<Instant>,
    failing: Option<Failing>,
    effects: Vec<Effect>,
}

impl Membership {
    /// The first thing that it does is to join.
    pub(super) fn new(habits: Habits, now: Instant) -> Membership {
        Membership {
            poll_until: Some(now + habits.max_poll_interval),
            habits,
            phase: Phase::Resting(now),
            member_id: String::new(),
            generation: -1,
            owned: BTreeSet::new(),
            new: BTreeSet::new(),
            giving_up: BTreeSet::new(),
            wants_to_join: false,
            turn: 0,
            heartbeat_at: now,
            heartbeat_is_out: false,
            failing: None,
            effects: Vec::new(),
        }
    }

    /// Who it is, if it is a member.
    pub(super) fn identity(&self) -> Option<Identity> {
        (self.generation >= 0).then(|| Identity {
            member_id: self.member_id.clone(),
            generation: self.generation,
        })
    }

    /// Whether its identity is about to change.
    pub(super) fn is_joining(&self) -> bool {
        matches!(self.phase, Phase::Joining | Phase::Syncing)
    }

    pub(super) fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// What is due now.
    pub(super) fn act(&mut self, now: Instant) -> Vec<Effect> {
        if self.poll_until.is_some_and(|until| until <= now) {
            self.idle();
        }
        match self.phase {
            Phase::Resting(until) if until <= now => self.prepare_to_join(),
            Phase::Stable if self.wants_to_join => self.prepare_to_join(),
            Phase::Positioning(Asked::At(at)) if at <= now => self.ask_for_offsets(),
            _ => {}
        }
        if self.next_heartbeat().is_some_and(|at| at <= now) {
            if let Some(identity) = self.identity() {
                self.heartbeat_is_out = true;
                self.effects.push(Effect::Heartbeat(identity));
            }
        }
        self.tell_overdue(now);
        std::mem::take(&mut self.effects)
    }

    /// When to look what is due, though nothing happens.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let pause = match self.phase {
            Phase::Resting(until) if self.giving_up.is_empty() => Some(until),
            Phase::Positioning(Asked::At(at)) => Some(at),
            _ => None,
        };
        let patience = self.failing.as_ref();
        let patience = patience.and_then(|it| it.deadline(&self.habits.consumer));
        let times = [pause, self.next_heartbeat(), self.poll_until, patience];
        times.into_iter().flatten().min()
    }

    /// Heartbeats go on while the application gives up partitions; not while the coordinator knows that it is
    /// waited for.
    fn next_heartbeat(&self) -> Option<Instant> {
        let beats = matches!(self.phase, Phase::Positioning(_) | Phase::Stable);
        (beats && !self.heartbeat_is_out).then_some(self.heartbeat_at)
    }

    /// Joins, once the application has nothing that it mustn't take along.
    fn prepare_to_join(&mut self) {
        if !self.giving_up.is_empty() {
            return;
        }
        if !self.habits.is_cooperative && !self.owned.is_empty() {
            return self.revoke(self.owned.clone());
        }
        self.phase = Phase::Joining;
        self.wants_to_join = false;
        self.turn += 1;
        self.effects.push(Effect::Join {
            turn: self.turn,
            member_id: self.member_id.clone(),
            generation: self.generation,
            owned: self.owned.clone(),
        });
    }

    fn revoke(&mut self, partitions: BTreeSet<TopicPartition>) {
        self.turn += 1;
        self.giving_up = partitions.clone();
        let revoked = Event::Revoked(self.turn, partitions);
        self.effects.push(Effect::Tell(revoked));
    }

    /// The application has given up what it was told to with this number, and what it had done of that is
    /// committed as far as it could be.
    pub(super) fn given_up(&mut self, turn: u64) {
        if turn == self.turn && !self.giving_up.is_empty() {
            let given_up = std::mem::take(&mut self.giving_up);
            self.owned.retain(|partition| !given_up.contains(partition));
            self.wants_to_join = true;
        }
    }

    pub(super) fn joined(
        &mut self,
        now: Instant,
        turn: u64,
        answer: Result<join_group::Response, ClientError>,
    ) {
        if turn != self.turn || self.phase != Phase::Joining {
            return;
        }
        let response = match answer {
            Ok(response) => response,
            Err(error) => return self.rest_after(now, error),
        };
        match response.error_code {
            ErrorCode::None => self.sync(response),
            ErrorCode::MemberIdRequired => {
                self.member_id = response.member_id;
                self.prepare_to_join();
            }
            code => self.refused_to_join(now, "JoinGroup", code),
        }
    }

    fn sync(&mut self, response: join_group::Response) {
        let leads = response.leader == response.member_id;
        self.member_id = response.member_id;
        self.generation = response.generation_id;
        self.phase = Phase::Syncing;
        self.turn += 1;
        self.effects.push(Effect::Sync {
            turn: self.turn,
            identity: Identity {
                member_id: self.member_id.clone(),
                generation: self.generation,
            },
            protocol: response.protocol_name.unwrap_or_default(),
            leads: leads.then_some(Leads {
                members: response.members,
                skips_assignment: response.skip_assignment,
            }),
        });
    }

    /// The code of an answer, or what is assigned.
    pub(super) fn synced(
        &mut self,
        now: Instant,
        turn: u64,
        answer: Result<Result<BTreeSet<TopicPartition>, ErrorCode>, ClientError>,
    ) {
        if turn != self.turn || self.phase != Phase::Syncing {
            return;
        }
        let assigned = match answer {
            Ok(Ok(assigned)) => assigned,
            Ok(Err(ErrorCode::RebalanceInProgress)) => return self.phase = Phase::Resting(now),
            Ok(Err(code)) => return self.refused_to_join(now, "SyncGroup", code),
            Err(error) => return self.rest_after(now, error),
        };
        self.failing = None;
        self.heartbeat_at = now + self.habits.heartbeat_interval;
        self.heartbeat_is_out = false;
        let is_new = |partition: &&TopicPartition| !self.owned.contains(*partition);
        self.new = assigned.iter().filter(is_new).cloned().collect();
        let owned = self.owned.iter();
        let revoked = owned.filter(|partition| !assigned.contains(*partition));
        let revoked: BTreeSet<TopicPartition> = revoked.cloned().collect();
        self.owned.extend(self.new.iter().cloned());
        if !revoked.is_empty() {
            self.revoke(revoked);
        }
        match self.new.is_empty() {
            true => self.phase = Phase::Stable,
            false => self.ask_for_offsets(),
        }
    }

    fn ask_for_offsets(&mut self) {
        self.phase = Phase::Positioning(Asked::Now);
        self.effects.push(Effect::FetchOffsets {
            turn: self.turn,
            partitions: self.new.clone(),
        });
    }

    /// The code of an answer, or where the group has come to in what is new.
    pub(super) fn positioned(
        &mut self,
        now: Instant,
        turn: u64,
        answer: Result<BTreeMap<TopicPartition, Offset>, ClientError>,
    ) {
        if turn != self.turn || self.phase != Phase::Positioning(Asked::Now) {
            return;
        }
        match answer {
            Ok(offsets) => {
                self.failing = None;
                let new = std::mem::take(&mut self.new).into_iter();
                let assigned = new.map(|partition| {
                    let offset = offsets.get(&partition).copied();
                    (partition, offset)
                });
                let assigned = Event::Assigned(assigned.collect());
                self.effects.push(Effect::Tell(assigned));
                self.phase = Phase::Stable;
            }
            Err(error) if error.is_retriable() => {
                let pause = self.failed(now, error);
                self.phase = Phase::Positioning(Asked::At(now + pause));
            }
            Err(error) => self.fail(error),
        }
    }

    /// A heartbeat of this identity was answered.
    pub(super) fn heard(
        &mut self,
        now: Instant,
        of: &Identity,
        answer: Result<ErrorCode, ClientError>,
    ) {
        if self.is_joining() || self.identity().as_ref() != Some(of) {
            return;
        }
        self.heartbeat_is_out = false;
        self.heartbeat_at = now + self.habits.heartbeat_interval;
        match answer {
            Ok(ErrorCode::None) => self.failing = None,
            Ok(ErrorCode::RebalanceInProgress) => {
                self.failing = None;
                self.wants_to_join = true;
            }
            Ok(code) if !code.is_retriable() => self.refused_to_join(now, "Heartbeat", code),
            Ok(code) => {
                let error = refused(&self.habits.group_id, "Heartbeat", code);
                self.heartbeat_at = now + self.failed(now, error);
            }
            Err(error) if error.is_retriable() => {
                self.heartbeat_at = now + self.failed(now, error);
            }
            Err(error) => self.fail(error),
        }
    }

    /// Somebody else was told that this member isn't one: the next heartbeat will say.
    pub(super) fn suspect(&mut self, now: Instant) {
        self.heartbeat_at = now;
    }

    /// What the group reads has changed since this member, its leader, has assigned it.
    pub(super) fn topics_changed(&mut self) {
        self.wants_to_join = true;
    }

    /// The application polls.
    pub(super) fn polls(&mut self, now: Instant) {
        self.poll_until = None;
        if self.phase == Phase::Idle {
            self.phase = Phase::Resting(now);
        }
    }

    /// Its last poll has ended at this time.
    pub(super) fn polled(&mut self, at: Instant) {
        if !matches!(self.phase, Phase::Idle | Phase::Ended) {
            self.poll_until = Some(at + self.habits.max_poll_interval);
        }
    }

    /// The application doesn't poll: others are to have its work. A static member keeps its place until its
    /// session ends.
    fn idle(&mut self) {
        log::warn!(
            "a member of group {} leaves it, as it wasn't polled for {:?}",
            self.habits.group_id,
            self.habits.max_poll_interval
        );
        self.leave();
        self.lose();
        self.poll_until = None;
        self.phase = Phase::Idle;
    }

    /// It is a member no more, and asks nobody anything.
    pub(super) fn end(&mut self) -> Vec<Effect> {
        self.leave();
        self.owned.clear();
        self.poll_until = None;
        self.failing = None;
        self.phase = Phase::Ended;
        std::mem::take(&mut self.effects)
    }

    fn leave(&mut self) {
        if !self.habits.is_static && !self.member_id.is_empty() {
            let member_id = std::mem::take(&mut self.member_id);
            self.effects.push(Effect::Leave { member_id });
        }
        self.generation = -1;
    }

    /// Other members may have what it had.
    fn lose(&mut self) {
        self.generation = -1;
        self.turn += 1;
        self.giving_up.clear();
        self.new.clear();
        self.wants_to_join = false;
        let lost = std::mem::take(&mut self.owned);
        if !lost.is_empty() {
            self.effects.push(Effect::Tell(Event::Lost(lost)));
        }
    }

    fn refused_to_join(&mut self, now: Instant, api: &'static str, code: ErrorCode) {
        let error = refused(&self.habits.group_id, api, code);
        match code {
            ErrorCode::UnknownMemberId => {
                self.member_id.clear();
                self.lose();
            }
            ErrorCode::IllegalGeneration => self.lose(),
            _ => {}
        }
        self.rest_after(now, error);
    }

    /// Joins later, if that can help.
    fn rest_after(&mut self, now: Instant, error: ClientError) {
        let joins_anew = matches!(
            error.code(),
            Some(
                ErrorCode::UnknownMemberId
                    | ErrorCode::IllegalGeneration
                    | ErrorCode::RebalanceInProgress
            )
        );
        if !joins_anew && !error.is_retriable() {
            return self.fail(error);
        }
        let pause = self.failed(now, error);
        self.phase = Phase::Resting(now + pause);
    }

    /// One failure more in a row; answers how long to pause.
    fn failed(&mut self, now: Instant, error: ClientError) -> Duration {
        log::debug!("a member of group {}: {error}", self.habits.group_id);
        let failures = match &mut self.failing {
            Some(failing) => failing.again(error, now),
            None => (self.failing.insert(Failing::new(error, now))).failures(),
        };
        self.habits.client.backoff(failures).min(PAUSE_MAX)
    }

    fn fail(&mut self, error: ClientError) {
        self.leave();
        self.lose();
        self.poll_until = None;
        self.failing = None;
        self.phase = Phase::Ended;
        self.effects.push(Effect::Tell(Event::Failed(error)));
    }

    fn tell_overdue(&mut self, now: Instant) {
        let config = &self.habits.consumer;
        let is_over = |it: &&mut Failing| it.deadline(config).is_some_and(|at| at <= now);
        if let Some(failing) = self.failing.as_mut().filter(is_over) {
            let error = failing.tell(now);
            self.effects.push(Effect::Tell(Event::Failed(error)));
        }
    }
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;
