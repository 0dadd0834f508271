//! The leader of one partition: it owns the log, and everyone who waits for it.
//!
//! An append is written inline and never waits for the disk; a sync releases everyone whom it covered
//! ([`LogKeeper`]).
//!
//! Reads are planned here and carried out by whoever asked. When the actor panics, its log is not
//! touched again: the guardian opens it anew, from disk, and starts the next leader in the next
//! leader epoch.

mod beyond_end;
mod isr;
mod locate;
mod messages;
mod planned_read;
mod replicate;
#[cfg(test)]
pub(in crate::actors) mod tests;

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use crate::actors::guardian::{Alarm, LifeLine};
use crate::actors::log_keeper::{close, refusal, Cleaning, KeepsLog, LogKeeper, Synced};
use crate::actors::partition_handle::{Close, PartitionGauges, PartitionHandle, Update};
use crate::actors::replication::Replicator;
use crate::actors::vitals::Vitals;
use crate::engine::guardian::Assignment;
use crate::engine::replica::{
    nearest, Acks, BeyondEnd, Commit, LeaderReplica, LeaderStart, Membership, Released,
    ReplicaSelector,
};
use crate::model::{BrokerId, ErrorCode, Offset, Refusal, Timestamp};
use crate::storage::log::{Appended, LogError, Removed};

use replicate::Pushing;

pub use crate::storage::log::TimestampedOffset;
pub use isr::IsrKeeping;
pub use messages::{
    Append, AppendItem, AppendKey, AppendReceipt, AppendReplies, AppendResult, AppendTicket,
    DeleteRecords, EpochEnd, FindEpochEnd, FindOffset, Read, ReadFrom, ReadReply, Reader,
};
pub use planned_read::{FirstBatch, PlannedRead};
pub use replicate::FollowerSays;

/// How often producers who wait are looked through for those whose time is over.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(500);

/// A batch that is in the log, and whom to tell when it is committed.
struct Waiting {
    ticket: AppendTicket,
    receipt: AppendReceipt,
}

/// The actor.
pub struct PartitionLeader {
    node: BrokerId,
    pushing: Pushing,
    isr: IsrKeeping,
    selector: ReplicaSelector,
    keeper: LogKeeper,
    replica: LeaderReplica<Waiting, Reader>,
    beyond_end: BeyondEnd,
    expiry: Expiry,
    gauges: Arc<PartitionGauges>,
    vitals: Arc<Vitals>,
    life_line: LifeLine,
    alarm: Arc<Alarm>,
}

#[derive(PartialEq)]
enum Expiry {
    Off,
    Armed,
}

impl PartitionLeader {
    pub fn new(
        keeper: LogKeeper,
        assignment: &Assignment,
        replicator: Replicator,
        isr: IsrKeeping,
        selector: ReplicaSelector,
        handle: &PartitionHandle,
        life_line: LifeLine,
    ) -> Self {
        let node = assignment.partition.leader;
        let start = LeaderStart {
            node,
            epoch: assignment.epoch(),
            rule: keeper.settings.commit_rule,
            log_end: keeper.log.end_offset(),
            synced: keeper.log.synced_offset(),
            high_watermark: keeper.log.high_watermark(),
        };
        let replica = LeaderReplica::new(start, membership(assignment), Timestamp::now());
        let mut leader = PartitionLeader {
            node,
            pushing: Pushing::new(handle.id(), replicator, assignment),
            isr,
            selector,
            keeper,
            replica,
            beyond_end: BeyondEnd::default(),
            expiry: Expiry::Off,
            gauges: handle.gauges().clone(),
            vitals: handle.vitals().clone(),
            alarm: life_line.alarm(),
            life_line,
        };
        leader.note_high_watermark();
        leader
    }

    /// Writes the batches, and answers those that need not wait.
    fn append(&mut self, items: Vec<AppendItem>, context: &mut Context<Self>) {
        let mut answers = Vec::new();
        let mut batches = Vec::with_capacity(items.len());
        let mut tickets = Vec::with_capacity(items.len());
        for item in items {
            let epoch_fits = self.replica.check_epoch(item.leader_epoch);
            match epoch_fits.and_then(|()| self.replica.admit(item.acks)) {
                Ok(()) => {
                    batches.push(item.batch);
                    tickets.push((item.acks, item.deadline, item.ticket));
                }
                Err(code) => answers.push((item.ticket, Err(code.into()))),
            }
        }
        let now = Timestamp::now();
        let epoch = self.replica.epoch();
        let results = match self.keeper.log.append(&batches, epoch, now) {
            Ok(results) => results,
            Err(error) => {
                let refusal = self.append_failed(&error, context);
                let refused = tickets.into_iter().map(|(_, _, ticket)| ticket);
                answers.extend(refused.map(|ticket| (ticket, Err(refusal.clone()))));
                AppendTicket::answer_all(answers);
                return;
            }
        };
        let released = self.replica.appended(self.keeper.log.end_offset(), now);
        for ((acks, deadline, ticket), result) in tickets.into_iter().zip(results) {
            match result {
                Ok(appended) => answers.extend(self.settle(acks, deadline, ticket, appended)),
                Err(error) => {
                    answers.push((ticket, Err(Refusal::new(error.code(), error.to_string()))))
                }
            }
        }
        AppendTicket::answer_all(answers);
        self.release(released);
        self.keeper.appended(context);
        self.push_all(context);
        self.schedule_expiry(context);
    }

    /// The answer for a batch that is in the log, if it need not wait for the commit.
    fn settle(
        &mut self,
        acks: Acks,
        deadline: Timestamp,
        ticket: AppendTicket,
        appended: Appended,
    ) -> Option<(AppendTicket, AppendResult)> {
        let receipt = AppendReceipt {
            base_offset: appended.base_offset,
            log_append_time: appended.log_append_time,
            log_start_offset: self.keeper.log.start_offset(),
        };
        if acks != Acks::All {
            return Some((ticket, Ok(receipt)));
        }
        let waiting = Waiting { ticket, receipt };
        match self
            .replica
            .wait_for_commit(appended.next_offset, deadline, waiting)
        {
            Commit::Done(done) => Some((done.ticket, Ok(done.receipt))),
            Commit::Waits => None,
        }
    }

    /// A log that could not take back a failed write has to be opened again.
    fn append_failed(&self, error: &LogError, context: &mut Context<Self>) -> Refusal {
        if let LogError::Failed(_) = error {
            context.stop();
        }
        self.refusal("append", error)
    }

    fn release(&mut self, released: Released<Waiting, Reader>) {
        self.note_high_watermark();
        let committed = released.committed.into_iter();
        AppendTicket::answer_all(committed.map(|w| (w.ticket, Ok(w.receipt))));
        released.woken.into_iter().for_each(Reader::wake);
    }

    fn begin_epoch(&mut self, assignment: &Assignment) {
        let log = &self.keeper.log;
        let start = LeaderStart {
            node: self.node,
            epoch: assignment.epoch(),
            rule: self.keeper.settings.commit_rule,
            log_end: log.end_offset(),
            synced: log.synced_offset(),
            high_watermark: self.replica.high_watermark(),
        };
        // Dropped tickets answer that the leader is gone, and dropped readers look again.
        self.replica = LeaderReplica::new(start, membership(assignment), Timestamp::now());
        self.beyond_end = BeyondEnd::default();
        self.note_high_watermark();
    }

    fn note_high_watermark(&mut self) {
        let high_watermark = self.replica.high_watermark();
        self.keeper.log.set_high_watermark(high_watermark);
        self.publish();
    }

    fn schedule_expiry(&mut self, context: &mut Context<Self>) {
        if self.expiry == Expiry::Off && self.replica.waiting_producers() > 0 {
            self.expiry = Expiry::Armed;
            context.run_later(EXPIRY_INTERVAL, |leader, context| {
                leader.expiry = Expiry::Off;
                leader.expire();
                leader.schedule_expiry(context);
            });
        }
    }

    fn expire(&mut self) {
        let expired = self.replica.expire(Timestamp::now());
        let late = Refusal::new(
            ErrorCode::RequestTimedOut,
            "the records are in the leader's log, and were not committed in time",
        );
        AppendTicket::answer_all(expired.into_iter().map(|w| (w.ticket, Err(late.clone()))));
    }

    fn find_read(&mut self, read: &Read, context: &mut Context<Self>) -> Result<ReadFrom, Refusal> {
        self.replica.check_epoch(read.current_leader_epoch)?;
        self.check_end(read.offset, context)?;
        match self.nearer_replica(read) {
            Some(replica) => Ok(ReadFrom::Replica(replica)),
            None => self.plan_read(read).map(ReadFrom::Here),
        }
    }

    fn nearer_replica(&self, read: &Read) -> Option<BrokerId> {
        let rack = read.rack.as_deref()?;
        if self.selector == ReplicaSelector::Leader {
            return None;
        }
        let image = self.isr.image();
        let rack_of = |id| image.broker(id)?.rack.as_deref();
        nearest(
            rack,
            self.node,
            self.replica.readable_at(read.offset),
            rack_of,
        )
    }

    fn plan_read(&self, read: &Read) -> Result<PlannedRead, Refusal> {
        // A new leader may not know yet how far its predecessor has committed: whoever has read up to
        // there waits.
        let upper = self
            .replica
            .high_watermark()
            .max(self.keeper.log.start_offset());
        self.keeper
            .log
            .plan_read(read.offset, upper, read.bytes_max, read.first)
            .map(|plan| PlannedRead::new(plan, &self.alarm))
            .map_err(|error| self.refusal("read", &error))
    }

    /// Moves the log's start, and says what is to be removed and where the log starts then.
    fn delete_records(&mut self, before: Offset) -> Result<(Removed, Offset), Refusal> {
        let high_watermark = self.replica.high_watermark();
        let before = match before {
            Offset::NONE => high_watermark,
            offset => offset,
        };
        if before < Offset::ZERO || before > high_watermark {
            return Err(Refusal::new(
                ErrorCode::OffsetOutOfRange,
                format!("offset {before} isn't between 0 and the high watermark {high_watermark}"),
            ));
        }
        let removed = self
            .keeper
            .log
            .delete_records_before(before)
            .map_err(|error| self.refusal("delete records", &error))?;
        self.publish();
        Ok((removed, self.keeper.log.start_offset()))
    }

    fn refusal(&self, what: &str, error: &LogError) -> Refusal {
        self.alarm.look_at(error);
        refusal(self.vitals.name(), what, error)
    }

    fn publish(&self) {
        let (epoch, high_watermark) = (self.replica.epoch(), self.replica.high_watermark());
        (self.gauges).show(self.node, epoch, high_watermark, &self.keeper.log);
    }
}

fn membership(assignment: &Assignment) -> Membership {
    let partition = &assignment.partition;
    Membership {
        replicas: partition.replicas.clone(),
        in_sync: partition.isr.clone(),
        partition_epoch: partition.partition_epoch.0,
        min_in_sync: partition.min_in_sync(assignment.config.min_insync_replicas),
        has_eligible_leaders: !partition.eligible_leaders.is_empty(),
    }
}

impl Actor for PartitionLeader {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        #[cfg(feature = "chaos")]
        self.vitals
            .fault_line
            .connect(context.address().recipient());
        self.keeper.started(context);
        self.push_all(context);
    }
}

impl Handler<Append> for PartitionLeader {
    type Result = ();

    fn handle(&mut self, message: Append, context: &mut Self::Context) {
        self.vitals.message_handled();
        self.append(message.items, context);
    }
}

impl KeepsLog for PartitionLeader {
    fn keeper(&mut self) -> &mut LogKeeper {
        &mut self.keeper
    }

    fn log_was_cut(&mut self) {
        self.publish();
    }

    fn log_is_closed(&mut self) {
        let released = self.replica.synced(self.keeper.log.end_offset());
        self.release(released);
    }
}

impl Handler<Synced> for PartitionLeader {
    type Result = ();

    fn handle(&mut self, synced: Synced, context: &mut Self::Context) {
        self.vitals.message_handled();
        let synced = self.keeper.synced(synced, context);
        let released = self.replica.synced(synced);
        self.release(released);
        self.push_all(context);
    }
}

impl Handler<Read> for PartitionLeader {
    type Result = MessageResult<Read>;

    fn handle(&mut self, read: Read, context: &mut Self::Context) -> Self::Result {
        let reply = ReadReply {
            high_watermark: self.replica.high_watermark(),
            log_start_offset: self.keeper.log.start_offset(),
            found: self.find_read(&read, context),
        };
        if let Some(reader) = read.reader {
            self.replica.wait_for_advance(reader);
        }
        MessageResult(reply)
    }
}

impl Handler<DeleteRecords> for PartitionLeader {
    type Result = ResponseFuture<Result<Offset, Refusal>>;

    /// Answered when the new start is on disk: what was deleted doesn't come back.
    fn handle(&mut self, ask: DeleteRecords, _: &mut Self::Context) -> Self::Result {
        let deleted = self.delete_records(ask.before);
        let name = self.vitals.name().to_owned();
        Box::pin(async move {
            let (removed, log_start) = deleted?;
            match actix_rt::task::spawn_blocking(move || removed.remove()).await {
                Ok(Ok(())) => Ok(log_start),
                Ok(Err(error)) => Err(refusal(&name, "delete records", &error)),
                Err(panic) => {
                    log::error!("{name}: delete records: {panic}");
                    Err(ErrorCode::UnknownServerError.into())
                }
            }
        })
    }
}

impl Handler<Cleaning> for PartitionLeader {
    type Result = ();

    fn handle(&mut self, cleaning: Cleaning, _: &mut Self::Context) {
        self.vitals.message_handled();
        if let Cleaning::Ended(Err(error)) = &cleaning {
            self.alarm.look_at(error);
        }
        self.keeper.cleaning(cleaning);
    }
}

impl Handler<Update> for PartitionLeader {
    type Result = ();

    /// In another epoch it is another leader, with the same log: whoever waits asks that one.
    fn handle(&mut self, update: Update, context: &mut Self::Context) {
        let Update { assignment, log } = update;
        self.keeper.log.set_config(log);
        self.pushing.configure(&assignment.config);
        if assignment.epoch() > self.replica.epoch() {
            self.begin_epoch(&assignment);
        } else {
            let released = self
                .replica
                .assign(membership(&assignment), Timestamp::now());
            self.release(released);
        }
        self.push_all(context);
    }
}

impl Handler<Close> for PartitionLeader {
    type Result = AtomicResponse<Self, Result<(), Refusal>>;

    fn handle(&mut self, Close(closing): Close, _: &mut Self::Context) -> Self::Result {
        self.life_line.release();
        close(self, closing)
    }
}

#[cfg(feature = "chaos")]
impl Handler<crate::actors::chaos::Fault> for PartitionLeader {
    type Result = ();

    fn handle(&mut self, fault: crate::actors::chaos::Fault, context: &mut Self::Context) {
        crate::actors::chaos::suffer(fault, self, context);
    }
}
