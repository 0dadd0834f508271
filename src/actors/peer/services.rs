//! Who serves what peers ask for, and who takes what they push.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use super::session::{Received, Session};
use super::PeerIdentity;
use crate::protocol::peer::{CallError, Kind};
use crate::protocol::Segments;

/// Answers requests of one kind. Several may be at work at the same time.
#[async_trait]
pub trait PeerService: Send + Sync + 'static {
    /// `from` has proved who it is. Runs on the control links' thread, so it may wait and not compute.
    async fn call(&self, from: PeerIdentity, body: Bytes) -> Result<Segments, CallError>;
}

/// Takes one-way messages.
pub trait PeerReceiver: Send + Sync + 'static {
    /// All messages of one read, in the order in which they were sent. What is said back through
    /// `from` goes to this connection and to no later one. Bytes count as in flight until their
    /// [`Received`] is dropped. Must not block.
    fn receive(&self, from: &Arc<Session>, messages: Vec<Received>);
}

/// The services of a node. They may come after its links: until then a request is answered so, and
/// one-way messages wait in the sender's hands.
#[derive(Clone, Default)]
pub struct Services(Arc<Served>);

struct Served {
    calls: RwLock<HashMap<Kind, Arc<dyn PeerService>>>,
    receiver: watch::Sender<Option<Arc<dyn PeerReceiver>>>,
}

impl Default for Served {
    fn default() -> Served {
        Served {
            calls: RwLock::default(),
            receiver: watch::Sender::new(None),
        }
    }
}

impl Services {
    /// From now on `service` answers requests of this kind.
    pub fn serve(&self, kind: Kind, service: Arc<dyn PeerService>) {
        let calls = self.0.calls.write();
        let mut calls = calls.unwrap_or_else(PoisonError::into_inner);
        calls.insert(kind, service);
    }

    /// From now on `receiver` takes all one-way messages.
    pub fn receive(&self, receiver: Arc<dyn PeerReceiver>) {
        self.0.receiver.send_replace(Some(receiver));
    }

    pub(super) fn service(&self, kind: Kind) -> Option<Arc<dyn PeerService>> {
        let calls = self.0.calls.read();
        let calls = calls.unwrap_or_else(PoisonError::into_inner);
        calls.get(&kind).cloned()
    }

    /// Waits until there is one.
    pub(super) async fn receiver(&self) -> Arc<dyn PeerReceiver> {
        let mut receivers = self.0.receiver.subscribe();
        let found = receivers.wait_for(Option::is_some).await;
        match found.map(|receiver| receiver.clone()) {
            Ok(Some(receiver)) => receiver,
            // The sender lives as long as `self`.
            _ => std::future::pending().await,
        }
    }
}
