//! One coordinator, in one leader epoch of its partition.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;

use super::handle::Coordinators;
use super::keeper::LifeLine;
use super::load::load;
use super::{Clock, Hosted, Ticket};
use crate::actors::partition_handle::PartitionHandle;
use crate::actors::partition_leader::{
    AppendItem, AppendKey, AppendReplies, AppendResult, AppendTicket,
};
use crate::actors::vitals::{Gauges, Vitals};
use crate::engine::coordinator::{Effect, EffectOf, Record};
use crate::engine::replica::Acks;
use crate::model::{ErrorCode, LeaderEpoch, Refusal, Timestamp};
use crate::record::{Batch, BatchBuilder, Codec, ProducerStamp, RecordError};

/// How often what it shows of itself is brought up to date.
const GAUGES_INTERVAL: Duration = Duration::from_secs(1);

/// Which partition it coordinates for, and until when.
pub(super) struct Post {
    pub partition: PartitionHandle,
    pub epoch: LeaderEpoch,
    /// The topic's `max.message.bytes`.
    pub batch_bytes_max: usize,
}

enum Phase<C> {
    Loading,
    Active(C),
    /// It can't go on, and is about to end.
    Resigned,
}

/// What is being written, and why.
struct Write<C: Hosted> {
    records: Vec<C::Record>,
    purpose: C::Purpose,
}

/// The actor.
pub struct Coordinator<C: Hosted> {
    post: Post,
    phase: Phase<C>,
    /// What the core starts from, until it is loaded.
    blank: Option<C>,
    writes: HashMap<u64, Write<C>>,
    next_write: u64,
    clock: Clock,
    alarm: Option<(Timestamp, SpawnHandle)>,
    coordinators: Coordinators<C>,
    vitals: Arc<Vitals>,
    gauges: Arc<CoordinatorGauges>,
    _life_line: LifeLine,
}

impl<C: Hosted> Coordinator<C> {
    pub(super) fn new(
        post: Post,
        blank: C,
        coordinators: Coordinators<C>,
        vitals: Arc<Vitals>,
        gauges: Arc<CoordinatorGauges>,
        life_line: LifeLine,
    ) -> Self {
        gauges.show("loading".to_owned());
        Coordinator {
            post,
            phase: Phase::Loading,
            blank: Some(blank),
            writes: HashMap::new(),
            next_write: 0,
            clock: Clock::start(),
            alarm: None,
            coordinators,
            vitals,
            gauges,
            _life_line: life_line,
        }
    }

    /// Has the core decide, and carries that out.
    fn decide(
        &mut self,
        context: &mut Context<Self>,
        decide: impl FnOnce(&mut C, Timestamp) -> Vec<EffectOf<C>>,
    ) {
        let now = self.clock.now();
        if let Phase::Active(core) = &mut self.phase {
            let effects = decide(core, now);
            self.carry_out(effects, context);
        }
    }

    fn carry_out(&mut self, effects: Vec<EffectOf<C>>, context: &mut Context<Self>) {
        let mut effects = VecDeque::from(effects);
        let mut items = Vec::new();
        while let Some(effect) = effects.pop_front() {
            match effect {
                // Who has gone needs no answer.
                Effect::Answer { to, answer } => drop(to.send(Ok(answer))),
                Effect::Write { records, purpose } => match self.batch(&records) {
                    Ok(batch) => items.push(self.item(batch, Write { records, purpose }, context)),
                    Err(error) => {
                        log::error!("{}: a record: {error}", self.vitals.name());
                        let now = self.clock.now();
                        if let Phase::Active(core) = &mut self.phase {
                            effects.extend(core.written(now, purpose, Err(error.code())));
                        }
                    }
                },
            }
        }
        if !items.is_empty() {
            self.post.partition.append(items);
        }
        self.set_alarm(context);
    }

    fn batch(&self, records: &[C::Record]) -> Result<Batch, RecordError> {
        let now = Timestamp::now();
        let mut builder = BatchBuilder::default();
        for record in records {
            builder.append(now, Some(&record.key()), record.value().as_deref(), &[]);
        }
        let (size, size_max) = (builder.size(), self.post.batch_bytes_max);
        if size > size_max {
            return Err(RecordError::TooLarge { size, size_max });
        }
        Batch::parse(builder.build(Codec::None, ProducerStamp::NONE)?)
    }

    /// Without a deadline: as long as nobody knows what became of the records, nobody is told.
    fn item(&mut self, batch: Batch, write: Write<C>, context: &mut Context<Self>) -> AppendItem {
        let number = self.next_write;
        self.next_write += 1;
        self.writes.insert(number, write);
        let replies = Replies {
            coordinator: context.address(),
            vitals: self.vitals.clone(),
        };
        let key = AppendKey {
            request: number,
            batch: 0,
        };
        AppendItem {
            batch,
            acks: Acks::All,
            leader_epoch: self.post.epoch,
            deadline: Timestamp(i64::MAX),
            ticket: AppendTicket::new(Arc::new(replies), key),
        }
    }

    fn written(&mut self, number: u64, result: AppendResult, context: &mut Context<Self>) {
        let Some(Write { records, purpose }) = self.writes.remove(&number) else {
            return;
        };
        let written = match result {
            Ok(_) => Ok(()),
            Err(refusal) if is_not_appended(refusal.code) => Err(refusal.code),
            Err(refusal) => return self.resign(&refusal, context),
        };
        self.decide(context, |core, now| {
            if written.is_ok() {
                records.iter().for_each(|record| core.replay(record));
            }
            core.written(now, purpose, written)
        });
    }

    /// What it knows may not be what holds: it knows nothing any more.
    fn resign(&mut self, why: &Refusal, context: &mut Context<Self>) {
        log::debug!("{} in epoch {}: {why}", self.vitals.name(), self.post.epoch);
        self.phase = Phase::Resigned;
        self.writes.clear();
        context.stop();
    }

    /// Has [`crate::engine::coordinator::Core::tick`] called when it is due.
    fn set_alarm(&mut self, context: &mut Context<Self>) {
        let Phase::Active(core) = &self.phase else {
            return;
        };
        let next = core.next_tick();
        match (&self.alarm, next) {
            (Some((set, _)), Some(at)) if *set <= at => return,
            (None, None) => return,
            _ => {}
        }
        if let Some((_, alarm)) = self.alarm.take() {
            context.cancel_future(alarm);
        }
        if let Some(at) = next {
            let wait_ms = u64::try_from(at - self.clock.now()).unwrap_or(0);
            // A moment later than due rather than sooner: then it is due.
            let wait = Duration::from_millis(wait_ms.saturating_add(1));
            let alarm = context.run_later(wait, |coordinator, context| {
                coordinator.alarm = None;
                coordinator.decide(context, |core, now| core.tick(now));
            });
            self.alarm = Some((at, alarm));
        }
    }

    fn show(&self) {
        if let Phase::Active(core) = &self.phase {
            let epoch = self.post.epoch;
            self.gauges
                .show(format!("epoch {epoch} {}", core.describe()));
        }
    }
}

/// Whether this refusal says that the records are not in the log. After any other one they may be.
fn is_not_appended(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotEnoughReplicas
            | ErrorCode::ThrottlingQuotaExceeded
            | ErrorCode::MessageTooLarge
    )
}

impl<C: Hosted> Actor for Coordinator<C> {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        #[cfg(feature = "chaos")]
        self.vitals
            .fault_line
            .connect(context.address().recipient());
        let Some(blank) = self.blank.take() else {
            return;
        };
        let loaded = load(self.post.partition.clone(), self.post.epoch, blank);
        let loaded = loaded.into_actor(self);
        context.spawn(loaded.map(|loaded, coordinator, context| match loaded {
            Ok(core) => {
                coordinator.phase = Phase::Active(core);
                coordinator.decide(context, C::loaded);
                coordinator.show();
                coordinator.coordinators.tell_loaded();
            }
            Err(refusal) => coordinator.resign(&refusal, context),
        }));
        context.run_interval(GAUGES_INTERVAL, |coordinator, _| coordinator.show());
    }
}

/// A request, and whom to answer.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Ask<C: Hosted> {
    pub request: C::Request,
    pub to: Ticket<C::Answer>,
}

impl<C: Hosted> Handler<Ask<C>> for Coordinator<C> {
    type Result = ();

    fn handle(&mut self, Ask { request, to }: Ask<C>, context: &mut Self::Context) {
        self.vitals.message_handled();
        match &self.phase {
            Phase::Active(_) => self.decide(context, |core, now| core.handle(now, request, to)),
            // Who has gone needs no answer.
            Phase::Loading => drop(to.send(Err(ErrorCode::CoordinatorLoadInProgress))),
            Phase::Resigned => drop(to),
        }
    }
}

/// The partition tells what became of writes.
#[derive(Message)]
#[rtype(result = "()")]
struct Appended(Vec<(AppendKey, AppendResult)>);

impl<C: Hosted> Handler<Appended> for Coordinator<C> {
    type Result = ();

    fn handle(&mut self, Appended(results): Appended, context: &mut Self::Context) {
        self.vitals.message_handled();
        for (key, result) in results {
            self.written(key.request, result, context);
        }
    }
}

/// How the partition reaches the coordinator, which can't be flooded: each delivery answers a write.
struct Replies<C: Hosted> {
    coordinator: Addr<Coordinator<C>>,
    vitals: Arc<Vitals>,
}

impl<C: Hosted> AppendReplies for Replies<C> {
    fn deliver(&self, results: Vec<(AppendKey, AppendResult)>) {
        self.vitals.message_sent();
        self.coordinator.do_send(Appended(results));
    }
}

/// Its time is over.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Close;

impl<C: Hosted> Handler<Close> for Coordinator<C> {
    type Result = ();

    fn handle(&mut self, _: Close, context: &mut Self::Context) {
        self.vitals.message_handled();
        let over = Refusal::new(ErrorCode::NotCoordinator, "its time is over");
        self.resign(&over, context);
    }
}

#[cfg(feature = "chaos")]
impl<C: Hosted> Handler<crate::actors::chaos::Fault> for Coordinator<C> {
    type Result = ();

    fn handle(&mut self, fault: crate::actors::chaos::Fault, context: &mut Self::Context) {
        crate::actors::chaos::suffer(fault, self, context);
    }
}

/// What a coordinator shows of itself.
#[derive(Default)]
pub(super) struct CoordinatorGauges(Mutex<String>);

impl CoordinatorGauges {
    fn show(&self, detail: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = detail;
    }
}

impl Gauges for CoordinatorGauges {
    fn detail(&self) -> String {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
