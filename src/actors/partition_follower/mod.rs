//! The follower of one partition: it owns the log, and takes what the leader pushes.

use std::sync::Arc;

use actix::prelude::*;

use super::guardian::LifeLine;
use super::log_keeper::{close, KeepsLog, LogKeeper, Synced};
use super::partition_handle::{Close, PartitionGauges, PartitionHandle, Update};
use super::vitals::Vitals;
use crate::engine::guardian::Assignment;
use crate::model::Refusal;

/// The actor.
pub struct PartitionFollower {
    keeper: LogKeeper,
    assignment: Assignment,
    gauges: Arc<PartitionGauges>,
    vitals: Arc<Vitals>,
    life_line: LifeLine,
}

impl PartitionFollower {
    pub fn new(
        keeper: LogKeeper,
        assignment: &Assignment,
        handle: &PartitionHandle,
        life_line: LifeLine,
    ) -> Self {
        let follower = PartitionFollower {
            keeper,
            assignment: assignment.clone(),
            gauges: handle.gauges().clone(),
            vitals: handle.vitals().clone(),
            life_line,
        };
        follower.publish();
        follower
    }

    fn publish(&self) {
        let (partition, log) = (&self.assignment.partition, &self.keeper.log);
        let epoch = self.assignment.epoch();
        (self.gauges).show(partition.leader, epoch, log.high_watermark(), log);
    }
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

impl Handler<Synced> for PartitionFollower {
    type Result = ();

    fn handle(&mut self, synced: Synced, context: &mut Self::Context) {
        self.vitals.message_handled();
        self.keeper.synced(synced, context);
        self.publish();
    }
}

impl Handler<Update> for PartitionFollower {
    type Result = ();

    fn handle(&mut self, Update { assignment, log }: Update, _: &mut Self::Context) {
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
