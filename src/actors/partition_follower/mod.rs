//! The follower of one partition: it owns the log, and takes what the leader pushes.
//!
//! A push is written inline, and acknowledged when it is on disk, or at once where the page cache will
//! do ([`CommitRule::Written`]). Acknowledgements go back on the connection on which the push came.

use std::sync::Arc;

use actix::prelude::*;
use bytes::Bytes;

use super::epochs::LogEpochs;
use super::guardian::{Alarm, LifeLine};
use super::log_keeper::{close, refusal, Cleaning, KeepsLog, LogKeeper, Synced};
use super::partition_handle::{Close, PartitionGauges, PartitionHandle, Update};
use super::partition_leader::{PlannedRead, Read, ReadFrom, ReadReply, Reader};
use super::peer::{Received, Session};
use super::replication::{AckMessage, PushMessage, Said};
use super::vitals::Vitals;
use crate::engine::guardian::Assignment;
use crate::engine::replica::{self, CommitRule, FollowerReplica, LogEnds, Readers, Taken};
use crate::model::{Offset, PartitionId, Refusal, Timestamp};
use crate::protocol::peer::{encode_body, Kind};
use crate::record::{Batch, BatchHeader, RecordError};
use crate::storage::log::LogError;
use crate::storage::syncer::abort_if_fatal;

/// The actor.
pub struct PartitionFollower {
    id: PartitionId,
    keeper: LogKeeper,
    replica: FollowerReplica,
    assignment: Assignment,
    /// Where the last push came from.
    leader: Option<Arc<Session>>,
    readers: Readers<Reader>,
    gauges: Arc<PartitionGauges>,
    vitals: Arc<Vitals>,
    life_line: LifeLine,
    alarm: Arc<Alarm>,
}

/// A push, and the connection on which it came. It counts as in flight there until it is dealt with.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Pushed {
    pub message: PushMessage,
    pub from: Arc<Session>,
    pub _charge: Received,
}

/// What is left to do of a push.
struct Appending {
    cut: Option<Offset>,
    batches: Vec<Batch>,
    start: Offset,
}

impl PartitionFollower {
    pub fn new(
        keeper: LogKeeper,
        assignment: &Assignment,
        handle: &PartitionHandle,
        life_line: LifeLine,
    ) -> Self {
        let high_watermark = keeper.log.high_watermark();
        let follower = PartitionFollower {
            id: handle.id(),
            keeper,
            replica: FollowerReplica::new(assignment.epoch(), high_watermark),
            assignment: assignment.clone(),
            leader: None,
            readers: Readers::default(),
            gauges: handle.gauges().clone(),
            vitals: handle.vitals().clone(),
            alarm: life_line.alarm(),
            life_line,
        };
        follower.publish();
        follower
    }

    fn publish(&self) {
        let (partition, log) = (&self.assignment.partition, &self.keeper.log);
        let (epoch, high_watermark) = (self.replica.epoch(), self.replica.high_watermark());
        (self.gauges).show(partition.leader, epoch, high_watermark, log);
    }

    fn take(&mut self, message: PushMessage, context: &mut Context<Self>) {
        let name = self.vitals.name();
        let batches = match split(&message.records.0) {
            Ok(batches) => batches,
            Err(error) => return log::error!("{name}: the leader has sent a bad batch: {error}"),
        };
        let headers: Vec<_> = batches.iter().map(header).collect();
        let epochs = LogEpochs(&self.keeper.log);
        match self.replica.take(&message.push, &headers, &epochs) {
            Taken::Append {
                anew,
                cut,
                from,
                start,
            } => {
                let appending = Appending {
                    cut,
                    batches: batches[from..].to_vec(),
                    start,
                };
                match anew {
                    Some(offset) => self.begin_anew(offset, appending, context),
                    None => self.carry_out(appending, context),
                }
            }
            Taken::Mismatched(found) => self.say(Said::Mismatch(found)),
            Taken::Stale => log::debug!("{name}: a push of an earlier epoch"),
            Taken::TooEarly => log::debug!("{name}: a push of an epoch that isn't known here yet"),
            Taken::Broken => log::error!("{name}: the leader's batches don't continue each other"),
        }
    }

    /// Begins the log anew, off the arbiter, and goes on then. Nothing else is handled until that is done.
    fn begin_anew(&mut self, offset: Offset, then: Appending, context: &mut Context<Self>) {
        log::warn!(
            "{}: has nothing that the leader's log could continue, and begins anew at offset {offset}",
            self.vitals.name()
        );
        let job = match self.keeper.log.begin_anew(offset, Timestamp::now()) {
            Ok(job) => job,
            Err(error) => return self.failed(&error, context),
        };
        let begun = async move {
            let begun = actix_rt::task::spawn_blocking(move || job.run()).await;
            begun.unwrap_or_else(|panic| Err(LogError::Failed(panic.to_string())))
        };
        context.wait(begun.into_actor(self).map(move |begun, follower, context| {
            match follower.keeper.log.complete_anew(begun) {
                Ok(()) => follower.carry_out(then, context),
                Err(error) => follower.failed(&error, context),
            }
        }));
    }

    fn carry_out(&mut self, appending: Appending, context: &mut Context<Self>) {
        let Appending {
            cut,
            batches,
            start,
        } = appending;
        if let Err(error) = self.append(cut, &batches, context) {
            return self.failed(&error, context);
        }
        self.note_high_watermark();
        self.keeper.start_at(start);
        let waits = !batches.is_empty() && self.keeper.settings.commit_rule == CommitRule::Synced;
        if !waits {
            self.acknowledge();
        }
        self.publish();
    }

    fn append(
        &mut self,
        cut: Option<Offset>,
        batches: &[Batch],
        context: &mut Context<Self>,
    ) -> Result<(), LogError> {
        if let Some(offset) = cut {
            log::info!(
                "{}: cut at offset {offset}, as the leader's log says",
                self.vitals.name()
            );
            self.keeper.log.truncate_to(offset)?;
        }
        if !batches.is_empty() {
            (self.keeper.log).append_replicated(batches, Timestamp::now())?;
            self.keeper.appended(context);
        }
        Ok(())
    }

    /// A push could not be carried out. A log that can't go on has to be opened again.
    fn failed(&mut self, error: &LogError, context: &mut Context<Self>) {
        abort_if_fatal(error);
        log::error!("{}: {error}", self.vitals.name());
        self.replica.failed();
        if self.keeper.log.has_failed() {
            context.stop();
        }
    }

    fn acknowledge(&mut self) {
        if let Some(ack) = self.replica.ack(self.log_ends()) {
            self.say(Said::Ack(ack));
        }
    }

    fn log_ends(&self) -> LogEnds {
        let log = &self.keeper.log;
        LogEnds {
            start: log.start_offset(),
            end: log.end_offset(),
            synced: log.synced_offset(),
        }
    }

    fn note_high_watermark(&mut self) {
        let log = &mut self.keeper.log;
        let before = log.high_watermark();
        log.set_high_watermark(self.replica.high_watermark());
        if log.high_watermark() != before {
            self.readers.take_all().into_iter().for_each(Reader::wake);
        }
    }

    /// Of what is committed, as far as this replica knows.
    fn plan_read(&self, read: &Read) -> Result<PlannedRead, Refusal> {
        let (epoch, offset) = (read.current_leader_epoch, read.offset);
        self.replica.check_read(epoch, offset, self.log_ends())?;
        let log = &self.keeper.log;
        let plan = log.plan_read(offset, log.high_watermark(), read.bytes_max, read.first);
        plan.map(|plan| PlannedRead::new(plan, &self.alarm))
            .map_err(|error| {
                self.alarm.look_at(&error);
                refusal(self.vitals.name(), "read", &error)
            })
    }

    /// To the leader, if the connection is still there; else it asks when there is another one.
    fn say(&self, said: Said) {
        let Some(leader) = &self.leader else {
            return;
        };
        let pushed = encode_body(&AckMessage::new(self.id, said))
            .map_err(|error| error.to_string())
            .and_then(|body| {
                let pushed = leader.push(Kind::ACK, body);
                pushed.map_err(|error| error.to_string())
            });
        if let Err(error) = pushed {
            log::debug!("{}: the leader isn't told: {error}", self.vitals.name());
        }
    }
}

fn header(batch: &Batch) -> replica::Pushed {
    replica::Pushed {
        base_offset: batch.header().base_offset,
        next_offset: batch.header().next_offset(),
        leader_epoch: batch.header().leader_epoch,
    }
}

/// The batches of a push, whose checksums are right.
fn split(records: &Bytes) -> Result<Vec<Batch>, RecordError> {
    let mut batches = Vec::new();
    let mut at = 0;
    while at < records.len() {
        let size = BatchHeader::decode(&records[at..])?.size();
        let have = records.len() - at;
        if size > have {
            let says = size as i64;
            return Err(RecordError::Length { says, have });
        }
        batches.push(Batch::parse(records.slice(at..at + size))?);
        at += size;
    }
    Ok(batches)
}

impl Actor for PartitionFollower {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        #[cfg(feature = "chaos")]
        self.vitals
            .fault_line
            .connect(context.address().recipient());
        self.keeper.started(context);
    }
}

impl KeepsLog for PartitionFollower {
    fn keeper(&mut self) -> &mut LogKeeper {
        &mut self.keeper
    }

    fn log_was_cut(&mut self) {
        self.publish();
    }

    fn log_is_closed(&mut self) {
        self.publish();
    }
}

impl Handler<Pushed> for PartitionFollower {
    type Result = ();

    fn handle(&mut self, pushed: Pushed, context: &mut Self::Context) {
        self.vitals.message_handled();
        // Whoever pushes in this epoch is its leader: each epoch has one.
        if pushed.message.push.leader_epoch >= self.replica.epoch() {
            self.leader = Some(pushed.from);
        }
        self.take(pushed.message, context);
    }
}

impl Handler<Synced> for PartitionFollower {
    type Result = ();

    fn handle(&mut self, synced: Synced, context: &mut Self::Context) {
        self.vitals.message_handled();
        self.keeper.synced(synced, context);
        if let Some(ack) = self.replica.synced(self.log_ends()) {
            self.say(Said::Ack(ack));
        }
        self.publish();
    }
}

impl Handler<Cleaning> for PartitionFollower {
    type Result = ();

    fn handle(&mut self, cleaning: Cleaning, _: &mut Self::Context) {
        self.vitals.message_handled();
        if let Cleaning::Ended(Err(error)) = &cleaning {
            self.alarm.look_at(error);
        }
        self.keeper.cleaning(cleaning);
    }
}

impl Handler<Read> for PartitionFollower {
    type Result = MessageResult<Read>;

    fn handle(&mut self, read: Read, _: &mut Self::Context) -> Self::Result {
        let reply = ReadReply {
            high_watermark: self.keeper.log.high_watermark(),
            log_start_offset: self.keeper.log.start_offset(),
            found: self.plan_read(&read).map(ReadFrom::Here),
        };
        if let Some(reader) = read.reader {
            self.readers.wait(reader);
        }
        MessageResult(reply)
    }
}

impl Handler<Update> for PartitionFollower {
    type Result = ();

    fn handle(&mut self, Update { assignment, log }: Update, _: &mut Self::Context) {
        if assignment.epoch() > self.replica.epoch() {
            // Whoever waits has to hear of the new leader.
            self.readers.take_all().into_iter().for_each(Reader::wake);
        }
        self.replica.assign(assignment.epoch());
        self.assignment = assignment;
        self.keeper.log.set_config(log);
        self.publish();
    }
}

impl Handler<Close> for PartitionFollower {
    type Result = AtomicResponse<Self, Result<(), Refusal>>;

    fn handle(&mut self, Close(closing): Close, _: &mut Self::Context) -> Self::Result {
        self.life_line.release();
        close(self, closing)
    }
}

#[cfg(feature = "chaos")]
impl Handler<crate::actors::chaos::Fault> for PartitionFollower {
    type Result = ();

    fn handle(&mut self, fault: crate::actors::chaos::Fault, context: &mut Self::Context) {
        crate::actors::chaos::suffer(fault, self, context);
    }
}
