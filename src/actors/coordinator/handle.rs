//! The way to the coordinators of this node: the keeper publishes them, requests look them up without a
//! lock.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{oneshot, watch};

use super::actor::{Ask, Coordinator};
use super::Hosted;
use crate::actors::handle::{Handle, Unavailable};
use crate::model::ErrorCode;

/// By the number of the partition that each coordinates for.
pub(super) type Table<C> = BTreeMap<i32, Handle<Coordinator<C>>>;

/// The coordinators of one kind.
pub struct Coordinators<C: Hosted> {
    shared: Arc<Shared<C>>,
}

struct Shared<C: Hosted> {
    table: ArcSwap<Table<C>>,
    loaded: watch::Sender<()>,
}

impl<C: Hosted> Clone for Coordinators<C> {
    fn clone(&self) -> Self {
        Coordinators {
            shared: self.shared.clone(),
        }
    }
}

impl<C: Hosted> Default for Coordinators<C> {
    fn default() -> Self {
        Coordinators {
            shared: Arc::new(Shared {
                table: ArcSwap::default(),
                loaded: watch::Sender::new(()),
            }),
        }
    }
}

impl<C: Hosted> Coordinators<C> {
    /// The partitions that have a coordinator here.
    pub fn partitions(&self) -> Vec<i32> {
        self.shared.table.load().keys().copied().collect()
    }

    /// Asks the coordinator for this partition. NOT_COORDINATOR and COORDINATOR_LOAD_IN_PROGRESS also mean that
    /// it has ended before it could answer, and what was asked for may have happened.
    pub async fn ask(&self, partition: i32, request: C::Request) -> Result<C::Answer, ErrorCode> {
        let coordinator = self.shared.table.load().get(&partition).cloned();
        let coordinator = coordinator.ok_or(ErrorCode::NotCoordinator)?;
        let (to, answer) = oneshot::channel();
        if let Err((_, why)) = coordinator.post(Ask { request, to }) {
            return Err(match why {
                Unavailable::Overloaded => ErrorCode::CoordinatorNotAvailable,
                Unavailable::Absent | Unavailable::Lost => self.ended(partition),
            });
        }
        answer.await.unwrap_or_else(|_| Err(self.ended(partition)))
    }

    /// What is said for a coordinator that has ended. The next one is on its way: here, as far as is known,
    /// and then it is worth asking again. librdkafka gives up an OffsetFetch that is told NOT_COORDINATOR, and doesn't
    /// read the partition until the group rebalances.
    fn ended(&self, partition: i32) -> ErrorCode {
        match self.shared.table.load().contains_key(&partition) {
            true => ErrorCode::CoordinatorLoadInProgress,
            false => ErrorCode::NotCoordinator,
        }
    }

    /// Changes whenever a coordinator has loaded.
    pub fn loads(&self) -> watch::Receiver<()> {
        self.shared.loaded.subscribe()
    }

    pub(super) fn tell_loaded(&self) {
        self.shared.loaded.send_replace(());
    }

    pub(super) fn publish(&self, table: Table<C>) {
        self.shared.table.store(Arc::new(table));
    }
}
