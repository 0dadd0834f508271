//! What a consumer and its fetches share: the assigned partitions, how far each was fetched, and
//! what waits to be polled.
//!
//! Partitions take turns, as in Kafka's fetcher: one that a fetch brought something for stands
//! behind the others in the next fetch, and a poll takes a batch of each in turn. What was fetched
//! belongs to its partition, so that a seek, a reset or an error of one throws nothing of another
//! away.

mod progress;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use super::failing::Failing;
use super::fetched::{Fetched, Raw, Survey};
use super::room::Charge;
use super::{ConsumerConfig, TopicPartition};
use crate::client::cluster::is_stale_metadata;
use crate::client::{ClientConfig, ClientError};
use crate::model::Offset;
use crate::record::RecordError;

pub(super) use progress::Handed;
use progress::Progress;

pub(super) type Key = TopicPartition;

#[derive(Debug, Default)]
pub(super) struct State {
    partitions: BTreeMap<Key, Assigned>,
    /// Partitions of which something waits to be polled, in the order of their turns; each once.
    ready: VecDeque<Key>,
    /// Of which something was polled since [`State::settle`].
    handed_out: Vec<Key>,
    last_generation: u64,
    last_turn: u64,
}

/// A partition that is read.
#[derive(Debug)]
struct Assigned {
    /// Changes with each seek: what was fetched for an earlier position is thrown away.
    generation: u64,
    /// What is fetched next: beyond the position by what waits. [`Offset::NONE`] until that is known.
    fetch_from: Offset,
    progress: Progress,
    high_watermark: Option<Offset>,
    phase: Phase,
    needs: Needs,
    /// When a fetch last brought something for it: those that wait longest go first.
    turn: u64,
    failing: Option<Failing>,
    fetched: VecDeque<Fetched>,
    /// Is told when all before it is polled.
    error: Option<ClientError>,
    /// Whether it stands in the line of those that are ready.
    in_line: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    /// Nothing is there now: only a fetch that waits for more is worth while.
    Drained,
    /// Something that it needs is being asked for.
    Busy,
    /// After an error, until then.
    Pausing(Instant),
    /// After an error that no retry helps; a seek begins anew.
    Halted,
}

/// What a partition needs to be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    Records,
    /// Its leader, as what was known before isn't true any more.
    Leader(Instant),
    /// Another offset, as the next one isn't there.
    Offset,
}

/// A partition that something is to be asked for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub key: Key,
    pub generation: u64,
    pub from: Offset,
    pub needs: Needs,
    pub is_drained: bool,
}

/// Whose turn it is to be polled.
#[derive(Debug)]
pub(super) enum Turn {
    Batch(Raw),
    Error(Key),
}

impl State {
    /// Starts to read at `from`, wherever it was before.
    pub(super) fn place(&mut self, key: Key, from: Offset) {
        self.remove(&key);
        self.last_generation += 1;
        let assigned = Assigned {
            generation: self.last_generation,
            fetch_from: from,
            progress: Progress::at(from),
            high_watermark: None,
            phase: Phase::Idle,
            needs: Needs::Records,
            turn: 0,
            failing: None,
            fetched: VecDeque::new(),
            error: None,
            in_line: false,
        };
        self.partitions.insert(key, assigned);
    }

    pub(super) fn remove(&mut self, key: &Key) {
        if self.partitions.remove(key).is_some() {
            self.ready.retain(|ready| ready != key);
        }
    }

    pub(super) fn is_assigned(&self, key: &Key) -> bool {
        self.partitions.contains_key(key)
    }

    pub(super) fn position(&self, key: &Key) -> Option<Offset> {
        let position = self.partitions.get(key)?.position();
        Some(position).filter(|position| *position >= Offset::ZERO)
    }

    pub(super) fn high_watermark(&self, key: &Key) -> Option<Offset> {
        self.partitions.get(key)?.high_watermark
    }

    /// The partitions that need something now, in the order of their turns.
    pub(super) fn due(&self, now: Instant) -> Vec<Wanted> {
        let due = self.partitions.iter().filter(|(_, it)| it.is_due(now));
        let mut due: Vec<_> = due.collect();
        due.sort_by_key(|(_, assigned)| assigned.turn);
        due.into_iter()
            .map(|(key, assigned)| Wanted {
                key: key.clone(),
                generation: assigned.generation,
                from: assigned.fetch_from,
                needs: assigned.needs,
                is_drained: assigned.phase == Phase::Drained,
            })
            .collect()
    }

    /// When there is something to do although nothing happens: a pause ends, or patience does.
    pub(super) fn wake_at(&self, config: &ConsumerConfig) -> Option<Instant> {
        let pauses = self.partitions.values().filter_map(|it| match it.phase {
            Phase::Pausing(until) => Some(until),
            _ => None,
        });
        let ends = self.partitions.values().filter_map(|it| it.tell_at(config));
        pauses.chain(ends).min()
    }

    /// The partition, if it waits for what was asked for.
    fn waiting(&mut self, wanted: &Wanted) -> Option<&mut Assigned> {
        let assigned = self.partitions.get_mut(&wanted.key)?;
        let is_it = assigned.generation == wanted.generation && assigned.phase == Phase::Busy;
        is_it.then_some(assigned)
    }

    /// What the partition needs is being asked for.
    pub(super) fn begin(&mut self, wanted: &Wanted) {
        let assigned = self.partitions.get_mut(&wanted.key);
        if let Some(assigned) = assigned.filter(|it| it.generation == wanted.generation) {
            assigned.phase = Phase::Busy;
        }
    }

    /// Takes in what a fetch brought for one partition.
    pub(super) fn take_in(
        &mut self,
        wanted: &Wanted,
        high_watermark: Offset,
        survey: Survey,
        charge: &Arc<Charge>,
    ) {
        let turn = self.last_turn + 1;
        let Some(assigned) = self.waiting(wanted) else {
            return;
        };
        assigned.failing = None;
        assigned.high_watermark = Some(high_watermark);
        assigned.fetch_from = survey.next;
        // A retriable error that nobody has polled yet is over.
        assigned.error = survey
            .error
            .map(|error| corrupt(&wanted.key, survey.next, Offset::NONE, error));
        let is_empty = survey.batches.is_empty();
        assigned.phase = match (&assigned.error, is_empty) {
            (Some(_), _) => Phase::Halted,
            (None, true) => Phase::Drained,
            (None, false) => Phase::Idle,
        };
        if !is_empty {
            assigned.turn = turn;
            let fetched = Fetched::new(wanted.from, survey.batches, charge.clone());
            assigned.fetched.push_back(fetched);
            self.last_turn = turn;
        }
        self.make_ready(&wanted.key);
    }

    /// Gives the partition its turn in a poll, if it has something to tell and no turn yet.
    fn make_ready(&mut self, key: &Key) {
        let Some(assigned) = self.partitions.get_mut(key) else {
            return;
        };
        let has_something = !assigned.fetched.is_empty() || assigned.error.is_some();
        if has_something && !assigned.in_line {
            assigned.in_line = true;
            self.ready.push_back(key.clone());
        }
    }

    /// What was asked for could not be had. It is asked for again later if that can help; else
    /// the partition isn't read any more.
    pub(super) fn failed(
        &mut self,
        wanted: &Wanted,
        error: ClientError,
        now: Instant,
        config: &ClientConfig,
    ) {
        if !error.is_retriable() {
            return self.halt(wanted, error);
        }
        let Some(assigned) = self.waiting(wanted) else {
            return;
        };
        if error.code().is_none_or(is_stale_metadata) {
            assigned.needs = Needs::Leader(now);
        }
        let failures = match &mut assigned.failing {
            Some(failing) => failing.again(error, now),
            None => assigned.failing.insert(Failing::new(error, now)).failures(),
        };
        assigned.phase = Phase::Pausing(now + config.backoff(failures));
    }

    /// Tells the errors that have lasted too long. They are tried again all the same.
    pub(super) fn tell_overdue(&mut self, now: Instant, config: &ConsumerConfig) -> bool {
        let mut overdue = Vec::new();
        for (key, assigned) in &mut self.partitions {
            let is_over = assigned.tell_at(config).is_some_and(|at| at <= now);
            if let Some(failing) = assigned.failing.as_mut().filter(|_| is_over) {
                assigned.error = Some(failing.tell(now));
                overdue.push(key.clone());
            }
        }
        overdue.iter().for_each(|key| self.make_ready(key));
        !overdue.is_empty()
    }

    /// Stops reading this partition, and tells why when all that was fetched before is polled.
    pub(super) fn halt(&mut self, wanted: &Wanted, error: ClientError) {
        if let Some(assigned) = self.waiting(wanted) {
            assigned.halt();
            assigned.error = Some(error);
            self.make_ready(&wanted.key);
        }
    }

    /// The leader was asked for.
    pub(super) fn learnt(&mut self, wanted: &Wanted) {
        if let Some(assigned) = self.waiting(wanted) {
            assigned.phase = Phase::Idle;
            assigned.needs = match assigned.fetch_from {
                Offset::NONE => Needs::Offset,
                _ => Needs::Records,
            };
        }
    }

    /// The offset that was to be fetched isn't there. What was fetched before is as good as ever.
    pub(super) fn out_of_range(&mut self, wanted: &Wanted) {
        if let Some(assigned) = self.waiting(wanted) {
            assigned.phase = Phase::Idle;
            assigned.needs = Needs::Offset;
        }
    }

    /// Goes on at another offset than the one that isn't there, or later if it is the same.
    pub(super) fn reset(&mut self, wanted: &Wanted, to: Offset, again_at: Instant) {
        if let Some(assigned) = self.waiting(wanted) {
            assigned.phase = match to == wanted.from {
                true => Phase::Pausing(again_at),
                false => Phase::Idle,
            };
            assigned.needs = Needs::Records;
            assigned.fetch_from = to;
            assigned.progress.begin(to);
        }
    }

    /// Who is polled next; its turn is over with this.
    pub(super) fn next_turn(&mut self) -> Option<Turn> {
        loop {
            let key = self.ready.pop_front()?;
            let Some(assigned) = self.partitions.get_mut(&key) else {
                continue;
            };
            assigned.in_line = false;
            if let Some(fetched) = assigned.fetched.front() {
                return fetched.front(&key, assigned.generation).map(Turn::Batch);
            }
            if assigned.error.is_some() {
                return Some(Turn::Error(key));
            }
        }
    }

    /// It remains this partition's turn: what it has to tell comes alone, in the next poll.
    pub(super) fn keep_turn(&mut self, key: Key) {
        if let Some(assigned) = self.partitions.get_mut(&key) {
            assigned.in_line = true;
            self.ready.push_front(key);
        }
    }

    /// The batch was read, and the position is behind it.
    pub(super) fn polled(&mut self, raw: &Raw) {
        let assigned = self.partitions.get_mut(&raw.key);
        let Some(assigned) = assigned.filter(|it| it.generation == raw.generation) else {
            return;
        };
        if let Some(fetched) = assigned.fetched.front_mut() {
            fetched.take(raw);
            if fetched.is_empty() {
                assigned.fetched.pop_front();
            }
        }
        if self.handed_out.last() != Some(&raw.key) {
            self.handed_out.push(raw.key.clone());
        }
        self.make_ready(&raw.key);
    }

    /// The batch can't be read: the partition stands before it until a seek.
    pub(super) fn refuse(&mut self, raw: &Raw, error: RecordError) -> ClientError {
        let assigned = self.partitions.get_mut(&raw.key);
        if let Some(assigned) = assigned.filter(|it| it.generation == raw.generation) {
            assigned.halt();
            assigned.fetched.clear();
            assigned.error = None;
            assigned.fetch_from = raw.from;
        }
        corrupt(&raw.key, raw.from, raw.next, error)
    }

    /// The error of a partition, which is told once.
    pub(super) fn take_error(&mut self, key: &Key) -> Option<ClientError> {
        self.partitions.get_mut(key)?.error.take()
    }
}

impl Assigned {
    /// What `poll` hands out next.
    fn position(&self) -> Offset {
        let waiting = self.fetched.front();
        waiting.map_or(self.fetch_from, |fetched| fetched.from)
    }

    fn is_due(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Idle | Phase::Drained => true,
            Phase::Pausing(until) => until <= now,
            Phase::Busy | Phase::Halted => false,
        }
    }

    /// When its error has lasted too long. A fetch that is on its way may end it: one that hangs
    /// has an end of its own.
    fn tell_at(&self, config: &ConsumerConfig) -> Option<Instant> {
        let is_fetching = self.phase == Phase::Busy && self.needs == Needs::Records;
        let failing = self.failing.as_ref().filter(|_| !is_fetching);
        failing?.deadline(config)
    }

    fn halt(&mut self) {
        self.phase = Phase::Halted;
        self.failing = None;
    }
}

/// Nobody knows where a batch ends whose header can't be read: the next offset is worth a try.
fn corrupt(key: &Key, offset: Offset, next: Offset, error: RecordError) -> ClientError {
    ClientError::Corrupt {
        topic: key.0.to_string(),
        partition: key.1,
        offset,
        next_offset: next.max(Offset(offset.0.saturating_add(1))),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ErrorCode;
    use std::time::Duration;

    fn state() -> State {
        let mut state = State::default();
        state.place(("t".into(), 0), Offset(5));
        state
    }

    /// Begins what the one partition needs.
    fn begin(state: &mut State, now: Instant) -> Wanted {
        let mut due = state.due(now);
        let wanted = due.pop().expect("it needs something");
        state.begin(&wanted);
        wanted
    }

    fn fail(state: &mut State, code: ErrorCode, now: Instant) {
        let wanted = begin(state, now);
        let error = ClientError::Partition {
            topic: "t".into(),
            partition: 0,
            code,
            message: String::new(),
        };
        state.failed(&wanted, error, now, &ClientConfig::default());
    }

    #[test]
    fn an_error_is_told_when_it_has_lasted_and_not_while_a_fetch_may_end_it() {
        let config = ConsumerConfig::default();
        let (mut state, mut now) = (state(), Instant::now());
        fail(&mut state, ErrorCode::NotEnoughReplicas, now);
        now += config.retry_timeout - Duration::from_millis(1);
        assert!(!state.tell_overdue(now, &config));
        let wanted = begin(&mut state, now);
        now += config.retry_timeout;
        assert!(!state.tell_overdue(now, &config));
        assert_eq!(state.wake_at(&config), None);
        state.learnt(&wanted);
        fail(&mut state, ErrorCode::NotEnoughReplicas, now);
        assert!(state.tell_overdue(now, &config));
        assert!(!state.tell_overdue(now, &config), "once");
    }

    #[test]
    fn a_topic_that_is_not_known_is_told_sooner() {
        let config = ConsumerConfig::default();
        let (mut state, mut now) = (state(), Instant::now());
        fail(&mut state, ErrorCode::UnknownTopicOrPartition, now);
        now += config.unknown_topic_timeout;
        assert!(state.tell_overdue(now, &config));
    }

    #[test]
    fn a_reset_to_the_offset_that_is_not_there_waits() {
        let (mut state, now) = (state(), Instant::now());
        let wanted = begin(&mut state, now);
        state.out_of_range(&wanted);
        let wanted = begin(&mut state, now);
        let later = now + Duration::from_secs(1);
        state.reset(&wanted, Offset(5), later);
        assert!(state.due(now).is_empty());
        assert_eq!(state.due(later).len(), 1);
    }
}
