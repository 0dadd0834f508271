//! What all links of a node share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::ArbiterHandle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::handshake::Introduction;
use super::link::Link;
use super::roster::{Roster, Side};
use super::services::Services;
use super::session::Session;
use super::{PeerIdentity, PeerSettings};
use crate::actors::vitals::Registry;
use crate::model::{BrokerId, ClusterId};
use crate::protocol::peer::{Lane, Refusal, RefusalCode};

/// The links to one node.
#[derive(Clone)]
pub struct Links {
    pub control: Arc<Link>,
    pub data: Arc<Link>,
}

/// What all links share.
pub struct Hub {
    pub settings: PeerSettings,
    pub services: Services,
    pub registry: Registry,
    pub control_arbiter: ArbiterHandle,
    pub data_arbiters: Vec<ArbiterHandle>,
    cluster_id: Mutex<Option<ClusterId>>,
    roster: Mutex<Roster>,
    links: Mutex<BTreeMap<BrokerId, Links>>,
    closing: CancellationToken,
    /// A session has ended.
    left: Notify,
}

impl Hub {
    pub fn new(
        settings: PeerSettings,
        services: Services,
        registry: Registry,
        control_arbiter: ArbiterHandle,
        data_arbiters: Vec<ArbiterHandle>,
    ) -> Arc<Hub> {
        Arc::new(Hub {
            cluster_id: Mutex::new(settings.cluster_id.clone()),
            settings,
            services,
            registry,
            control_arbiter,
            data_arbiters,
            roster: Mutex::default(),
            links: Mutex::default(),
            closing: CancellationToken::new(),
            left: Notify::new(),
        })
    }

    pub fn introduction(&self) -> Introduction {
        let settings = &self.settings;
        Introduction {
            node: settings.node,
            incarnation: settings.incarnation,
            cluster_id: locked(&self.cluster_id).clone(),
            secret: settings.secret.clone(),
            versions: settings.versions.clone(),
            frame_bytes_max: settings.frame_bytes_max,
        }
    }

    /// From now on peers of another cluster are refused.
    pub fn join(&self, cluster_id: ClusterId) {
        *locked(&self.cluster_id) = Some(cluster_id);
    }

    /// The node belongs to the cluster. Starts its links if it is news.
    pub fn introduce(self: &Arc<Hub>, node: BrokerId, address: String) {
        if node == self.settings.node || self.is_closing() {
            return;
        }
        locked(&self.roster).introduce(node, address);
        let mut links = locked(&self.links);
        if links.contains_key(&node) {
            return;
        }
        let [control, data] = Lane::ALL.map(|lane| {
            let link = Link::new(node, lane, self);
            let keep = link.clone().keep(self.clone(), self.arbiter(node, lane));
            self.control_arbiter.spawn(keep);
            link
        });
        links.insert(node, Links { control, data });
    }

    pub fn links(&self, node: BrokerId) -> Option<Links> {
        locked(&self.links).get(&node).cloned()
    }

    pub fn nodes(&self) -> Vec<BrokerId> {
        locked(&self.links).keys().copied().collect()
    }

    pub fn encourage(&self, node: BrokerId) {
        if let Some(links) = self.links(node) {
            links.control.encourage();
            links.data.encourage();
        }
    }

    pub fn address(&self, node: BrokerId) -> Option<Arc<str>> {
        locked(&self.roster).address(node).map(Arc::from)
    }

    /// Where the links of this lane with this node live.
    pub fn arbiter(&self, node: BrokerId, lane: Lane) -> ArbiterHandle {
        let place = usize::try_from(node.0).unwrap_or(0);
        match lane {
            Lane::Data if !self.data_arbiters.is_empty() => {
                self.data_arbiters[place % self.data_arbiters.len()].clone()
            }
            _ => self.control_arbiter.clone(),
        }
    }

    pub fn check(&self, peer: &PeerIdentity) -> Result<(), Refusal> {
        locked(&self.roster).check(peer.node, peer.incarnation)
    }

    /// Lets the session in, and closes those whose place it takes.
    pub fn enter(&self, side: Side, session: &Arc<Session>) -> Result<(), Refusal> {
        let replaced = locked(&self.roster).enter(side, session)?;
        for session in replaced {
            let message = "a later connection of this node has taken its place";
            session.close(Some(Refusal::new(RefusalCode::Superseded, message)));
        }
        // One whose handshake was under way when all others were told.
        if self.is_closing() {
            session.close(Some(stopping()));
        }
        Ok(())
    }

    pub fn leave(&self, session: &Arc<Session>) {
        locked(&self.roster).leave(session);
        self.left.notify_waiters();
    }

    /// Says goodbye to everybody, and returns when all have gone.
    pub async fn close(&self) {
        self.closing.cancel();
        for session in locked(&self.roster).sessions() {
            session.close(Some(stopping()));
        }
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if locked(&self.roster).sessions().is_empty() {
                return;
            }
            left.await;
        }
    }

    pub fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    pub async fn closing(&self) {
        self.closing.cancelled().await;
    }
}

/// What is said to those who come when this node goes.
pub fn stopping() -> Refusal {
    Refusal::new(RefusalCode::Stopping, "this node stops")
}

/// A panic of a holder leaves nothing half-done in what these locks guard.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
