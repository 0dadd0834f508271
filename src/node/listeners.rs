//! The ways into a broker: one listener for each encoding that the config enables.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix::ArbiterHandle;

use super::NodeError;
use crate::actors::connection::{Budget, ConnectionLimits, Listener, ListenerLimits};
use crate::api::{ApiContext, ListenerSettings, Shared};
use crate::config;
use crate::engine::metadata::Endpoint;
use crate::protocol::Encoding;

/// A listener that has its address, and does not accept yet.
pub struct Bound {
    /// Its section in the config, and the name under which brokers register it.
    name: &'static str,
    encoding: Encoding,
    config: config::Listener,
    listener: Listener,
}

/// A listener, and what its requests work with.
pub struct WayIn {
    listener: Listener,
    context: Arc<ApiContext>,
}

impl Bound {
    /// All listeners share the budget.
    pub async fn all(
        listeners: &config::Listeners,
        budget: &Arc<Budget>,
    ) -> Result<Vec<Bound>, NodeError> {
        let ways = [
            ("native", Encoding::MessagePack, &listeners.native),
            ("kafka", Encoding::Kafka, &listeners.kafka),
        ];
        let mut all = Vec::new();
        for (name, encoding, config) in ways {
            if config.enabled {
                all.push(Bound::one(name, encoding, config, budget.clone()).await?);
            }
        }
        Ok(all)
    }

    async fn one(
        name: &'static str,
        encoding: Encoding,
        config: &config::Listener,
        budget: Arc<Budget>,
    ) -> Result<Bound, NodeError> {
        let bound = Listener::bind(config.bind, limits(config), budget).await;
        let listener = bound.map_err(|source| NodeError::Bind {
            listener: name,
            address: config.bind,
            source,
        })?;
        Ok(Bound {
            name,
            encoding,
            config: config.clone(),
            listener,
        })
    }

    /// What clients of this listener are told.
    pub fn endpoint(&self) -> io::Result<Endpoint> {
        let (host, port) = self.config.advertised(self.listener.local_address()?);
        Ok(Endpoint {
            listener: self.name.to_owned(),
            host,
            port,
        })
    }

    pub fn open(self, shared: &Arc<Shared>) -> WayIn {
        let context = ApiContext {
            listener: ListenerSettings {
                name: self.name,
                encoding: self.encoding,
                fetch_bytes_max: self.config.frame_bytes_max,
            },
            shared: shared.clone(),
        };
        WayIn {
            listener: self.listener,
            context: Arc::new(context),
        }
    }
}

fn limits(config: &config::Listener) -> ListenerLimits {
    ListenerLimits {
        connections_max: config.connections_max,
        connections_per_address_max: config.connections_per_address_max,
        connection: ConnectionLimits {
            frame_bytes_max: config.frame_bytes_max,
            in_flight_bytes_max: config.in_flight_bytes_max,
            greeting_timeout: Duration::from_millis(config.greeting_timeout_ms),
            frame_timeout: Duration::from_millis(config.frame_timeout_ms),
            idle_timeout: Duration::from_millis(config.idle_timeout_ms),
        },
    }
}

impl WayIn {
    /// For people: the address, and for whom.
    pub fn description(&self) -> io::Result<String> {
        let address = self.listener.local_address()?;
        let clients = match self.context.listener.encoding {
            Encoding::MessagePack => "Klamm's own clients",
            Encoding::Kafka => "Kafka's clients",
        };
        Ok(format!("on {address} for {clients}"))
    }

    /// Accepts until the future is dropped.
    pub async fn accept_all(&self, arbiters: &[ArbiterHandle]) {
        self.listener
            .accept_all(self.context.clone(), arbiters)
            .await;
    }

    /// Returns when no connection is left.
    pub async fn all_closed(&self) {
        self.listener.all_closed().await;
    }
}
