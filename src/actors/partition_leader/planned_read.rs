//! A read that the leader has planned, and that whoever asked carries out.

use std::sync::Arc;

use bytes::Bytes;

use crate::actors::guardian::Alarm;
use crate::model::{ErrorCode, Refusal};
use crate::storage::log::{LogError, ReadPlan};

pub use crate::storage::log::FirstBatch;

/// Holds what it reads: the log may roll, or lose its oldest segments, meanwhile.
pub struct PlannedRead {
    plan: ReadPlan,
    alarm: Arc<Alarm>,
}

impl PlannedRead {
    /// `alarm` is rung if it finds the log corrupt.
    pub fn new(plan: ReadPlan, alarm: &Arc<Alarm>) -> Self {
        PlannedRead {
            plan,
            alarm: alarm.clone(),
        }
    }

    /// It will not read more than this, unless a first batch is larger.
    pub fn bytes_max(&self) -> usize {
        self.plan.bytes_max()
    }

    /// Whether the log has nothing beyond this read's segment.
    pub fn reaches_end(&self) -> bool {
        self.plan.reaches_end()
    }

    /// Reads whole batches, of at most so many bytes: at once what is in memory, and from the disk
    /// off the arbiter.
    pub async fn carry_out(self, bytes_max: usize, first: FirstBatch) -> Result<Bytes, Refusal> {
        let plan = self.plan.limited(bytes_max, first);
        let read = match plan.read_cached() {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => match actix_rt::task::spawn_blocking(move || plan.read()).await {
                Ok(read) => read,
                Err(panic) => {
                    log::error!("a read: {panic}");
                    return Err(ErrorCode::UnknownServerError.into());
                }
            },
            Err(error) => Err(error),
        };
        read.map_err(|error| {
            self.alarm.look_at(&error);
            refusal(&error)
        })
    }
}

fn refusal(error: &LogError) -> Refusal {
    log::error!("a read: {error}");
    Refusal::new(error.code(), error.to_string())
}
