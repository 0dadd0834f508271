//! What a broker says of itself to the active controller.
//!
//! Once at its start, and then to each new one. A controller of an earlier build keeps only what it knows of, and in
//! a rolling upgrade the first nodes register with such a one: what they have said in vain the next one is told.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use tokio::time::{sleep, Instant};

use super::listeners::Bound;
use super::membership::JOIN_TIMEOUT;
use super::versions::Versions;
use super::NodeError;
use crate::actors::controller::ControllerHandle;
use crate::config::Config;
use crate::engine::metadata::change::{Change, Decided};
use crate::engine::metadata::register_broker::{BrokerRegistration, Past};
use crate::model::{ClusterId, Incarnation, PartitionId};
use crate::raft::{Leadership, Raft};

/// Between two attempts of a broker to register.
const REGISTER_RETRY_DELAY: Duration = Duration::from_millis(100);

/// What this node says of itself.
pub fn registration(
    config: &Config,
    bound: &[Bound],
    cluster_id: &ClusterId,
    incarnation: Incarnation,
    (past, lost): (Past, BTreeSet<PartitionId>),
    versions: &Versions,
) -> io::Result<BrokerRegistration> {
    Ok(BrokerRegistration {
        cluster_id: Some(cluster_id.clone()),
        id: config.node.id,
        incarnation,
        endpoints: bound
            .iter()
            .map(Bound::endpoint)
            .collect::<io::Result<_>>()?,
        rack: config.node.rack.clone(),
        past,
        lost,
        metadata_version_max: Some(versions.metadata_max),
    })
}

/// Registers this life of the node.
pub struct Registrar {
    pub controller: ControllerHandle,
    pub raft: Raft,
    pub registration: BrokerRegistration,
}

impl Registrar {
    /// Tells the cluster of this life of the node, and returns when this node knows that it is known.
    pub async fn register(&self) -> Result<(), NodeError> {
        let deadline = Instant::now() + JOIN_TIMEOUT;
        loop {
            match self.tell().await {
                Ok(_) => return Ok(()),
                // The controller may have moved, or what became of it may be unknown: one life may register twice.
                Err(refusal) if refusal.code.is_retriable() && Instant::now() < deadline => {
                    log::info!("registering again: {refusal}");
                    sleep(REGISTER_RETRY_DELAY).await;
                }
                Err(refusal) => return Err(NodeError::Registration(refusal)),
            }
        }
    }

    /// Says it again to each new active controller, which changes nothing where it is known. Ends with Raft.
    pub async fn repeat(self) {
        let nobody = Leadership::Follower { leader: None };
        let mut leadership = self.raft.leadership();
        while leadership.changed().await.is_ok() {
            let is_led = *leadership.borrow_and_update() != nobody;
            // As soon as somebody else leads, that one is told instead.
            while is_led && self.is_known() && matches!(leadership.has_changed(), Ok(false)) {
                match self.tell().await {
                    Ok(_) => break,
                    Err(refusal) if refusal.code.is_retriable() => {
                        sleep(REGISTER_RETRY_DELAY).await;
                    }
                    Err(refusal) => {
                        log::warn!("the active controller won't have this broker: {refusal}");
                        break;
                    }
                }
            }
        }
    }

    async fn tell(&self) -> Decided {
        let change = Change::RegisterBroker(self.registration.clone());
        self.controller.change_one(change).await
    }

    /// Whether this life is registered. One that was forgotten comes back with its next life.
    fn is_known(&self) -> bool {
        let image = self.raft.image().borrow().clone();
        let known = image.broker(self.registration.id);
        known.is_some_and(|broker| broker.incarnation == self.registration.incarnation)
    }
}
