//! What the guardian is told: by the metadata, by those who work for it, and by its wards' ends.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::{oneshot, watch};

use super::{age, Guardian, Ward};
use crate::engine::guardian::Unopened;
use crate::engine::metadata::MetadataImage;
use crate::model::{ErrorCode, PartitionId, Refusal};
use crate::storage::log::Log;

/// Tells the guardian of each new image; those that come while it is at work are one.
pub(super) async fn follow(
    mut images: watch::Receiver<Arc<MetadataImage>>,
    guardian: Addr<Guardian>,
) {
    loop {
        let image = images.borrow_and_update().clone();
        if guardian.send(Reconcile(image)).await.is_err() || images.changed().await.is_err() {
            return;
        }
    }
}

/// The metadata has changed.
#[derive(Message)]
#[rtype(result = "()")]
struct Reconcile(Arc<MetadataImage>);

impl Handler<Reconcile> for Guardian {
    type Result = ();

    fn handle(&mut self, Reconcile(image): Reconcile, context: &mut Self::Context) {
        self.vitals.message_sent();
        self.vitals.message_handled();
        self.reconcile(&image, context);
    }
}

/// A log has been opened, or not.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Opened {
    pub id: PartitionId,
    /// That of the replica which it was opened for.
    pub life: u64,
    pub log: Result<Log, Unopened>,
}

impl Handler<Opened> for Guardian {
    type Result = ();

    fn handle(&mut self, Opened { id, life, log }: Opened, context: &mut Self::Context) {
        self.vitals.message_sent();
        self.vitals.message_handled();
        let (log, opened) = match log {
            Ok(log) => (Some(log), Ok(())),
            Err(reason) => (None, Err(reason)),
        };
        let effects = self.core.opened(id, life, opened);
        self.carry_out(effects, log, context);
    }
}

/// A replica has ended in good order, or could not.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Released {
    pub id: PartitionId,
    pub life: u64,
    /// Why it could not, and how old it was, if it is lost.
    pub closed: Result<(), (Refusal, Duration)>,
}

impl Handler<Released> for Guardian {
    type Result = ();

    fn handle(&mut self, released: Released, context: &mut Self::Context) {
        self.vitals.message_sent();
        self.vitals.message_handled();
        let Released { id, life, closed } = released;
        let closed = closed.map_err(|(refusal, age)| {
            self.unclosed = Some(refusal);
            age
        });
        let effects = self.core.released(id, life, closed);
        self.carry_out(effects, None, context);
    }
}

/// The data of a partition that has no replica here any more is removed.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Settled {
    pub id: PartitionId,
}

impl Handler<Settled> for Guardian {
    type Result = ();

    fn handle(&mut self, Settled { id }: Settled, context: &mut Self::Context) {
        self.vitals.message_sent();
        self.vitals.message_handled();
        let effect = self.core.settled(id);
        if effect.is_none() {
            self.handles.remove(&id);
        }
        self.carry_out(effect, None, context);
    }
}

/// Somebody has read what isn't any more what it was.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Corrupt {
    pub id: PartitionId,
    /// That of the replica whose log it is.
    pub life: u64,
    pub reason: String,
}

impl Handler<Corrupt> for Guardian {
    type Result = ();

    fn handle(&mut self, corrupt: Corrupt, context: &mut Self::Context) {
        self.vitals.message_handled();
        let Corrupt { id, life, reason } = corrupt;
        let effect = self.core.corrupt(id, life);
        if effect.is_some() {
            log::error!("{reason}: whoever else has all of it is asked to fill it again");
        }
        self.carry_out(effect, None, context);
    }
}

/// A ward has ended otherwise than in good order.
///
/// The news may come late: the guardian that was to hear it had died too, and the next one has seen
/// for itself. Then the ward has been restarted since, and its present life is none of this
/// message's business.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Died {
    pub ward: Ward,
    /// How often the ward had been restarted before this life.
    pub life: u64,
}

impl Handler<Died> for Guardian {
    type Result = ();

    fn handle(&mut self, Died { ward, life }: Died, context: &mut Self::Context) {
        self.vitals.message_handled();
        match ward {
            Ward::Partition(id) => {
                let age = self.handles.get(&id).map(|handle| age(handle.vitals()));
                let effects = self.core.died(id, life, age.unwrap_or_default());
                self.carry_out(effects, None, context);
            }
            Ward::Controller if self.wards.controller.vitals().restarts() != life => {}
            Ward::Controller => {
                self.wards.controller.disconnect();
                self.wards.controller.vitals().restarting();
                log::error!("the controller has died, and is started again");
                self.start_controller();
            }
        }
    }
}

/// Ends all wards in good order; the result is whether all logs are closed well.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub(super) struct Close;

impl Handler<Close> for Guardian {
    type Result = ResponseFuture<Result<(), Refusal>>;

    fn handle(&mut self, _: Close, context: &mut Self::Context) -> Self::Result {
        let (closing, closed) = oneshot::channel();
        self.closing = Some(closing);
        self.unclosed = None;
        if !self.core.has_looked() {
            // It is asked before the first image has come to it.
            let image = self.wards.raft.image().borrow().clone();
            self.reconcile(&image, context);
        }
        let effects = self.core.close();
        self.carry_out(effects, None, context);
        let controller = self.wards.controller.clone();
        Box::pin(async move {
            controller.close().await;
            // The guardian has died if there is no answer.
            closed.await.unwrap_or_else(|_| {
                let message = "the guardian ended while it closed the logs";
                Err(Refusal::new(ErrorCode::KafkaStorageError, message))
            })
        })
    }
}
