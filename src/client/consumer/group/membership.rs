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

mod answers;
mod messages;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::TopicPartition;
use crate::client::consumer::failing::Failing;
use crate::client::consumer::ConsumerConfig;
use crate::client::{ClientConfig, ClientError};
pub(super) use messages::{Effect, Event, Identity, Leads};

/// Longer pauses would only make a fail-over longer: what is asked is small.
const PAUSE_MAX: Duration = Duration::from_millis(250);

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
