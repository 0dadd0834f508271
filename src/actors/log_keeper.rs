//! What everyone who owns a partition's log does with it: syncs, checkpoints, retention, compaction.
//!
//! An append is written inline and never waits for the disk. One sync at a time runs off the
//! arbiter ([`Syncer`]), and covers all that was appended before it began; the next one starts if
//! there is more by then. So the slower the disk, the larger the groups. Where nobody waits for the
//! disk ([`CommitRule::Written`]) a sync only goes before each checkpoint.
//!
//! A log that is dirty enough goes to the [`Cleaner`], whose thread works on copies of its segments. Each
//! time one is ready the owner is asked to put it in its place ([`Cleaning`]).

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use super::partition_handle::Closing;
use super::vitals::Vitals;
use crate::engine::replica::CommitRule;
use crate::model::{ErrorCode, Offset, Refusal, Timestamp};
use crate::storage::cleaner::{Cleaner, LogOwner, ReplaceReply};
use crate::storage::log::{Compacted, Covered, Log, LogError, Removed, Replacement};
use crate::storage::syncer::{abort_if_fatal, Syncer};

/// How a log is kept.
#[derive(Clone, Copy, Debug)]
pub struct KeepSettings {
    pub commit_rule: CommitRule,
    pub checkpoint_interval: Duration,
    pub retention_interval: Duration,
    /// How often it is looked whether there is enough to compact.
    pub compaction_interval: Duration,
}

/// Who works for all logs of this node.
#[derive(Clone)]
pub struct LogWorkers {
    pub syncer: Arc<dyn Syncer>,
    pub cleaner: Arc<Cleaner>,
}

/// A log, and what is under way for it.
pub struct LogKeeper {
    pub log: Log,
    pub settings: KeepSettings,
    workers: LogWorkers,
    sync: Sync,
    checkpoint: Checkpoint,
    compaction: CompactionState,
    vitals: Arc<Vitals>,
}

#[derive(PartialEq)]
enum Sync {
    Idle,
    InFlight,
}

#[derive(PartialEq)]
enum Checkpoint {
    UpToDate,
    Due,
}

#[derive(PartialEq)]
enum CompactionState {
    Idle,
    UnderWay,
}

/// What a cleaner has to say.
#[derive(Message)]
#[rtype(result = "()")]
pub enum Cleaning {
    /// It has cleaned a segment, and waits for the answer.
    Replace(Replacement, ReplaceReply),
    Ended(Result<Compacted, LogError>),
}

/// The owner of a log, as a cleaner knows it. Where the actor is gone, what it is sent is dropped.
struct Owner<A: Actor> {
    actor: Addr<A>,
    vitals: Arc<Vitals>,
}

impl<A: KeepsLog> LogOwner for Owner<A> {
    fn replace(&self, replacement: Replacement, reply: ReplaceReply) {
        self.vitals.message_sent();
        self.actor.do_send(Cleaning::Replace(replacement, reply));
    }

    fn done(&self, result: Result<Compacted, LogError>) {
        self.vitals.message_sent();
        self.actor.do_send(Cleaning::Ended(result));
    }
}

/// A sync has ended well; one that fails ends the process.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Synced {
    covered: Covered,
}

/// An actor that owns a log.
pub trait KeepsLog: Actor<Context = Context<Self>> + Handler<Synced> + Handler<Cleaning> {
    fn keeper(&mut self) -> &mut LogKeeper;

    /// The log's start has moved.
    fn log_was_cut(&mut self);

    /// The log is closed, and all of it on disk.
    fn log_is_closed(&mut self);
}

/// Closes the log, and ends the actor. Nothing else is handled until the log is closed, off the
/// arbiter: its neighbours are closed at the same time.
pub fn close<A: KeepsLog>(
    actor: &mut A,
    closing: Closing,
) -> AtomicResponse<A, Result<(), Refusal>> {
    let job = match closing {
        Closing::Keep => Some(actor.keeper().log.begin_close()),
        Closing::Discard => None,
    };
    let closed = async move {
        let Some(job) = job else {
            return Ok(());
        };
        let job = job?;
        let closed = actix_rt::task::spawn_blocking(move || job.run()).await;
        closed.unwrap_or_else(|panic| Err(LogError::Failed(panic.to_string())))
    };
    let closed = closed.into_actor(actor).map(move |closed, actor, context| {
        // Not before the answer: a context that has stopped gives none.
        context.stop();
        closed.map_err(|error| refusal(actor.keeper().vitals.name(), "close", &error))?;
        if closing == Closing::Keep {
            actor.log_is_closed();
        }
        Ok(())
    });
    AtomicResponse::new(Box::pin(closed))
}

/// What a client is told of an error of the log, which is logged if it is the broker's own.
pub fn refusal(name: &str, what: &str, error: &LogError) -> Refusal {
    abort_if_fatal(error);
    let code = error.code();
    if code == ErrorCode::KafkaStorageError {
        log::error!("{name}: {what}: {error}");
    }
    Refusal::new(code, error.to_string())
}

impl LogKeeper {
    pub fn new(log: Log, settings: KeepSettings, workers: LogWorkers, vitals: Arc<Vitals>) -> Self {
        LogKeeper {
            log,
            settings,
            workers,
            sync: Sync::Idle,
            checkpoint: Checkpoint::UpToDate,
            compaction: CompactionState::Idle,
            vitals,
        }
    }

    /// The actor has started: what isn't on disk yet is synced, and the log is looked through from time
    /// to time for what may go.
    pub fn started<A: KeepsLog>(&mut self, context: &mut Context<A>) {
        self.go_on_syncing(context);
        context.run_interval(self.settings.retention_interval, |actor, _| {
            if actor.keeper().retain() {
                actor.log_was_cut();
            }
        });
        context.run_interval(self.settings.compaction_interval, |actor, context| {
            actor.keeper().compact(context);
        });
    }

    /// Has the log compacted if enough of it is dirty.
    fn compact<A: KeepsLog>(&mut self, context: &mut Context<A>) {
        if self.compaction == CompactionState::UnderWay {
            return;
        }
        let map_bytes = self.workers.cleaner.map_bytes();
        match self.log.plan_compaction(Timestamp::now(), map_bytes) {
            Ok(None) => {}
            Ok(Some(compaction)) => {
                self.compaction = CompactionState::UnderWay;
                let owner = Owner {
                    actor: context.address(),
                    vitals: self.vitals.clone(),
                };
                self.workers.cleaner.submit(compaction, Box::new(owner));
            }
            Err(error) => log::error!("{}: compaction: {error}", self.vitals.name()),
        }
    }

    /// Puts a cleaned segment in its place, or notes that the compaction is over.
    pub fn cleaning(&mut self, cleaning: Cleaning) {
        let name = self.vitals.name();
        match cleaning {
            Cleaning::Replace(replacement, reply) => {
                // Where it isn't taken the cleaner is gone, and what is left over goes with the next start.
                let _ = reply.send(self.log.replace(replacement));
            }
            Cleaning::Ended(result) => {
                self.compaction = CompactionState::Idle;
                match result {
                    Ok(compacted) => {
                        self.log.complete_compaction(&compacted);
                        let (before, after) = (compacted.bytes_before, compacted.bytes_after);
                        log::info!("{name}: compacted {before} bytes to {after}");
                        self.write_checkpoint();
                    }
                    Err(LogError::Superseded) => log::debug!("{name}: a compaction was given up"),
                    Err(error) => log::error!("{name}: compaction: {error}"),
                }
            }
        }
    }

    /// Something was appended.
    pub fn appended<A: KeepsLog>(&mut self, context: &mut Context<A>) {
        self.go_on_syncing(context);
        self.schedule_checkpoint(context);
    }

    /// Returns up to where the log is on disk now, and syncs on.
    pub fn synced<A: KeepsLog>(
        &mut self,
        Synced { covered }: Synced,
        context: &mut Context<A>,
    ) -> Offset {
        self.sync = Sync::Idle;
        self.log.complete_sync(covered);
        self.go_on_syncing(context);
        match self.settings.commit_rule {
            CommitRule::Synced => self.schedule_checkpoint(context),
            CommitRule::Written => {
                self.write_checkpoint();
                if self.log.synced_offset() < self.log.end_offset() {
                    self.schedule_checkpoint(context);
                }
            }
        }
        self.log.synced_offset()
    }

    /// Whoever waits for the disk waits for the sync that begins now, or after the present one.
    fn go_on_syncing<A: KeepsLog>(&mut self, context: &mut Context<A>) {
        if self.settings.commit_rule == CommitRule::Synced {
            self.start_sync(context);
        }
    }

    fn start_sync<A: KeepsLog>(&mut self, context: &mut Context<A>) {
        if self.sync == Sync::InFlight {
            return;
        }
        let Some(job) = self.log.begin_sync() else {
            return;
        };
        self.sync = Sync::InFlight;
        let vitals = self.vitals.clone();
        let actor = context.address();
        let done = move |covered| {
            vitals.message_sent();
            actor.do_send(Synced { covered });
        };
        self.workers.syncer.submit(job, Box::new(done));
    }

    fn schedule_checkpoint<A: KeepsLog>(&mut self, context: &mut Context<A>) {
        if self.checkpoint == Checkpoint::Due {
            return;
        }
        self.checkpoint = Checkpoint::Due;
        context.run_later(self.settings.checkpoint_interval, |actor, context| {
            actor.keeper().checkpoint_is_due(context);
        });
    }

    /// A checkpoint is worth what is synced: where nothing else is for the disk, it follows a sync.
    fn checkpoint_is_due<A: KeepsLog>(&mut self, context: &mut Context<A>) {
        if self.settings.commit_rule == CommitRule::Written {
            self.start_sync(context);
            if self.sync == Sync::InFlight {
                return;
            }
        }
        self.write_checkpoint();
    }

    fn write_checkpoint(&mut self) {
        self.checkpoint = Checkpoint::UpToDate;
        let job = self.log.checkpoint();
        let name = self.vitals.name().to_owned();
        actix_rt::task::spawn_blocking(move || {
            if let Err(error) = job.run() {
                log::error!("{name}: checkpoint: {error}");
            }
        });
    }

    /// Gives up what lies below `offset`, as the log's leader has. Not above the high watermark.
    pub fn start_at(&mut self, offset: Offset) {
        if offset > self.log.start_offset() {
            let removed = self.log.delete_records_before(offset);
            self.remove(removed);
        }
    }

    /// Gives up old segments. Whether there were any.
    fn retain(&mut self) -> bool {
        let removed = self.log.apply_retention(Timestamp::now());
        self.remove(removed)
    }

    /// Unlinks what was given up, off the arbiter. Whether there was anything.
    fn remove(&mut self, removed: Result<Removed, LogError>) -> bool {
        let name = self.vitals.name().to_owned();
        let removed = match removed {
            Ok(removed) => removed,
            Err(error) => {
                log::error!("{name}: retention: {error}");
                return false;
            }
        };
        if removed.is_empty() {
            return false;
        }
        actix_rt::task::spawn_blocking(move || {
            if let Err(error) = removed.remove() {
                log::error!("{name}: removing old segments: {error}");
            }
        });
        true
    }
}
