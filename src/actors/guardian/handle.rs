//! The way to the guardian: from the node, and from its wards when they die.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::{oneshot, Semaphore};

use super::{Close, Corrupt, Died, Guardian, Wards, MAILBOX_CAPACITY, OPENS_MAX};
use crate::actors::handle::Handle;
use crate::actors::partitions::Partitions;
use crate::actors::vitals::{Gauges, Kind, Registration, Registry, State, Vitals};
use crate::engine::guardian::Guardianship;
use crate::model::{ErrorCode, PartitionId, Refusal};
use crate::storage::log::LogError;

/// Who has died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ward {
    Controller,
    Partition(PartitionId),
}

/// Held by a ward; dropped without [`LifeLine::release`], it calls the guardian.
pub struct LifeLine {
    guardian: Option<GuardianHandle>,
    ward: Ward,
    life: u64,
}

/// How whoever works with a ward's log tells that it is corrupt.
pub struct Alarm {
    guardian: Option<GuardianHandle>,
    ward: Ward,
    life: u64,
}

impl Alarm {
    /// Rings it if that is what the error means.
    pub fn look_at(&self, error: &LogError) {
        let (Some(guardian), Ward::Partition(id)) = (&self.guardian, self.ward) else {
            return;
        };
        if let LogError::Corrupt { .. } = error {
            let (life, reason) = (self.life, error.to_string());
            guardian.guardian.notify(Corrupt { id, life, reason });
        }
    }
}

impl LifeLine {
    pub fn alarm(&self) -> Arc<Alarm> {
        Arc::new(Alarm {
            guardian: self.guardian.clone(),
            ward: self.ward,
            life: self.life,
        })
    }

    /// The ward ends in good order.
    pub fn release(&mut self) {
        self.guardian = None;
    }
}

impl Drop for LifeLine {
    fn drop(&mut self) {
        if let Some(guardian) = self.guardian.take() {
            let (ward, life) = (self.ward, self.life);
            guardian.guardian.notify(Died { ward, life });
        }
    }
}

/// The way to the guardian.
#[derive(Clone)]
pub struct GuardianHandle {
    guardian: Handle<Guardian>,
    _registration: Arc<Registration>,
}

impl GuardianHandle {
    pub fn new(registry: &Registry, partitions: &Partitions) -> Self {
        let gauges = Arc::new(GuardianGauges(partitions.clone()));
        let vitals = Vitals::new(Kind::Guardian, "guardian".into(), gauges);
        GuardianHandle {
            _registration: Arc::new(registry.register(vitals.clone())),
            guardian: Handle::new(vitals, MAILBOX_CAPACITY),
        }
    }

    /// Starts a guardian on the present arbiter. The receiver ends when the guardian does.
    pub fn start(&self, wards: Arc<Wards>) -> oneshot::Receiver<()> {
        let (alive, ended) = oneshot::channel();
        let guardian = Guardian {
            core: Guardianship::new(wards.node, wards.incarnation, wards.defaults.clone()),
            wards,
            me: self.clone(),
            handles: BTreeMap::new(),
            opens: Arc::new(Semaphore::new(OPENS_MAX)),
            next_arbiter: 0,
            closing: None,
            unclosed: None,
            vitals: self.guardian.vitals().clone(),
            _alive: alive,
        };
        self.guardian.connect(guardian.start());
        ended
    }

    pub fn vitals(&self) -> &Arc<Vitals> {
        self.guardian.vitals()
    }

    /// The guardian is gone.
    pub fn disconnect(&self) {
        self.guardian.disconnect();
    }

    /// `life` is how often the ward has been restarted so far.
    pub fn life_line(&self, ward: Ward, life: u64) -> LifeLine {
        LifeLine {
            guardian: Some(self.clone()),
            ward,
            life,
        }
    }

    /// Ends all actors in good order; the result is whether all logs are closed well.
    pub async fn close(&self) -> Result<(), Refusal> {
        let closed = self.guardian.command(Close).await;
        closed.unwrap_or_else(|_| {
            let message = "the guardian ended before it could close the logs";
            Err(Refusal::new(ErrorCode::KafkaStorageError, message))
        })
    }
}

struct GuardianGauges(Partitions);

impl Gauges for GuardianGauges {
    fn detail(&self) -> String {
        let directory = self.0.current();
        let handles = directory
            .topics()
            .flat_map(|(_, local)| local.partitions.values());
        let (mut all, mut running) = (0, 0);
        for handle in handles {
            all += 1;
            running += usize::from(handle.vitals().state() == State::Running);
        }
        format!("partitions {all} running {running}")
    }
}
