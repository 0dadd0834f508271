//! The client: connections to all brokers, and the knowledge which of them to ask.

use std::time::Duration;

use super::{Admin, ClientError, Consumer, ConsumerConfig, Producer, ProducerConfig};

/// How a client reaches its cluster.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `host:port` of some brokers, separated by commas: one that answers is enough.
    pub bootstrap: String,
    /// The client's name for itself, in the broker's logs; at most 255 bytes.
    pub client_id: String,
    /// How long to wait for a response, beyond what the request itself may wait for.
    pub request_timeout: Duration,
    pub connect_timeout: Duration,
    /// The pause before the first retry; it doubles up to the largest.
    pub retry_backoff: Duration,
    pub retry_backoff_max: Duration,
    /// How many requests a connection has in flight at most.
    pub in_flight_max: usize,
}

/// A cluster, as seen by a client. Clones share everything.
#[derive(Clone)]
pub struct Client {}

impl Client {
    /// Finds the cluster: `bootstrap` alone is enough of a config.
    pub async fn connect(config: impl Into<ClientConfig>) -> Result<Client, ClientError> {
        unimplemented!()
    }
    pub fn producer(&self, config: ProducerConfig) -> Producer {
        unimplemented!()
    }
    pub fn consumer(&self, config: ConsumerConfig) -> Consumer {
        unimplemented!()
    }
    pub fn admin(&self) -> Admin {
        unimplemented!()
    }
    /// The cluster's id, as the first broker that was connected to said it.
    pub fn cluster_id(&self) -> String {
        unimplemented!()
    }
}
impl From<&str> for ClientConfig {
    fn from(bootstrap: &str) -> Self {
        unimplemented!()
    }
}
