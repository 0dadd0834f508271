//! Accepts connections, within limits, and deals them out to the arbiters.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use actix::prelude::*;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Budget, Connection, ConnectionLimits};
use crate::api::ApiContext;

/// How long accepting rests after an error that will not go away at once: no free descriptors.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// How many connections there may be.
#[derive(Clone, Debug)]
pub struct ListenerLimits {
    pub connections_max: usize,
    pub connections_per_address_max: usize,
    pub connection: ConnectionLimits,
}

/// A bound socket, which does not accept yet.
pub struct Listener {
    socket: TcpListener,
    limits: ListenerLimits,
    budget: Arc<Budget>,
    places: Arc<Semaphore>,
    addresses: Addresses,
}

impl Listener {
    pub async fn bind(
        address: SocketAddr,
        limits: ListenerLimits,
        budget: Arc<Budget>,
    ) -> io::Result<Listener> {
        Ok(Listener {
            socket: TcpListener::bind(address).await?,
            places: Arc::new(Semaphore::new(limits.connections_max)),
            addresses: Addresses::default(),
            limits,
            budget,
        })
    }

    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until the future is dropped; each connection lives on the next arbiter in turn.
    pub async fn accept_all(&self, context: Arc<ApiContext>, arbiters: &[ArbiterHandle]) {
        for arbiter in arbiters.iter().cycle() {
            let (socket, peer) = self.accept().await;
            let Some(place) = self.place(peer) else {
                continue;
            };
            if let Err(error) = socket.set_nodelay(true) {
                log::debug!("{peer}: {error}");
                continue;
            }
            let socket = match socket.into_std() {
                Ok(socket) => socket,
                Err(error) => {
                    log::debug!("{peer}: {error}");
                    continue;
                }
            };
            let context = context.clone();
            let limits = self.limits.connection.clone();
            let budget = self.budget.clone();
            arbiter.spawn_fn(move || match TcpStream::from_std(socket) {
                Ok(socket) => Connection::start(socket, peer, limits, context, budget, place),
                Err(error) => log::error!("{peer}: {error}"),
            });
        }
    }

    /// Returns when no connection is left, and everything is written that they had to say.
    pub async fn all_closed(&self) {
        let all = u32::try_from(self.limits.connections_max).unwrap_or(u32::MAX);
        // Nobody closes this semaphore.
        let _ = self.places.acquire_many(all).await;
    }

    async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.socket.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    log::warn!("a connection could not be accepted: {error}");
                    tokio::time::sleep(ACCEPT_BACK_OFF).await;
                }
            }
        }
    }

    fn place(&self, peer: SocketAddr) -> Option<Place> {
        let here = self
            .addresses
            .semaphore(peer.ip(), self.limits.connections_per_address_max);
        let place = self.places.clone().try_acquire_owned().ok();
        let place = place.zip(here.try_acquire_owned().ok());
        if place.is_none() {
            log::warn!("{peer}: refused, there are too many connections");
        }
        place.map(|(all, address)| Place {
            _all: all,
            _address: address,
        })
    }
}

/// A place among all connections, and among those of one address.
pub struct Place {
    _all: OwnedSemaphorePermit,
    _address: OwnedSemaphorePermit,
}

/// The connections of each address. An address without any is forgotten.
#[derive(Default)]
struct Addresses(Mutex<HashMap<IpAddr, Weak<Semaphore>>>);

impl Addresses {
    fn semaphore(&self, address: IpAddr, connections_max: usize) -> Arc<Semaphore> {
        let mut addresses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = addresses.get(&address).and_then(Weak::upgrade) {
            return there;
        }
        addresses.retain(|_, semaphore| semaphore.strong_count() > 0);
        let semaphore = Arc::new(Semaphore::new(connections_max));
        addresses.insert(address, Arc::downgrade(&semaphore));
        semaphore
    }
}
