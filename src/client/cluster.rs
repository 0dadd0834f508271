//! The client: connections to all brokers, and the knowledge which of them to ask.

use std::collections::hash_map::RandomState;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{sleep, sleep_until, timeout, Instant};

use super::connection::{Connection, Purpose};
use super::metadata::{BrokerAddress, Cache, TopicMetadata};
use super::{Admin, ClientError, Consumer, ConsumerConfig, Producer, ProducerConfig};
use crate::model::{BrokerId, ErrorCode};
use crate::protocol::{metadata, Api};

/// A topic that was just made may not be known to every broker yet: so long is it asked for again.
const TOPIC_PROPAGATION: Duration = Duration::from_millis(500);
/// How long one of several brokers gets for an answer before the next one is asked too, at first.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);
/// How much more it gets each time that nobody has answered.
const PATIENCE_GROWTH: u32 = 4;

/// After which an answer is late enough to look whether somebody else leads: a leader that hangs doesn't answer,
/// and keeps its connections.
pub(super) const LATE: Duration = Duration::from_millis(500);
/// And then again, while it is later and later.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Longer than anybody waits, and yet no overflow when it is added to a point in time: so long at
/// most does any time of a config last.
pub(super) const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// How a client reaches its cluster. A bootstrap string alone makes one, with the defaults.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `host:port` of some brokers, separated by commas: one that answers is enough.
    pub bootstrap: String,
    /// The client's name for itself, in the broker's logs; at most 255 bytes.
    pub client_id: String,
    /// How long to wait for a response, beyond what the request itself lets the broker wait.
    pub request_timeout: Duration,
    pub connect_timeout: Duration,
    /// The pause before the first retry; it doubles up to the largest.
    pub retry_backoff: Duration,
    pub retry_backoff_max: Duration,
    /// How many requests a connection has in flight at most.
    pub in_flight_max: usize,
    /// How old a producer's knowledge of a topic may become, so that it learns of new partitions.
    pub metadata_age_max: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig {
            bootstrap: "127.0.0.1:7070".into(),
            client_id: "klamm-rust".into(),
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            retry_backoff: Duration::from_millis(50),
            retry_backoff_max: Duration::from_secs(1),
            in_flight_max: 1024,
            metadata_age_max: Duration::from_secs(60),
        }
    }
}

impl From<&str> for ClientConfig {
    fn from(bootstrap: &str) -> Self {
        ClientConfig {
            bootstrap: bootstrap.into(),
            ..ClientConfig::default()
        }
    }
}

/// A cluster, as seen by a client. Clones share everything.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ClientConfig,
    bootstrap: Vec<String>,
    cluster_id: Mutex<Option<String>>,
    cache: Mutex<Cache>,
    /// By address and purpose.
    slots: Mutex<HashMap<(String, Purpose), Arc<Slot>>>,
    /// Where the answer came from when any broker would do: asked first the next time, so that a broker that
    /// hangs is waited for once.
    responsive: Mutex<Option<String>>,
    /// Held while metadata is asked for, so that many who need the same ask once.
    refreshing: tokio::sync::Mutex<()>,
}

/// Where a connection is kept, and opened again when it is lost.
#[derive(Debug, Default)]
struct Slot {
    state: tokio::sync::Mutex<SlotState>,
}

#[derive(Debug, Default)]
struct SlotState {
    connection: Option<Arc<Connection>>,
    /// Attempts that failed since the last that did not.
    failures: u32,
    not_before: Option<Instant>,
    /// How the last attempt failed, and when. Who waited meanwhile makes no other one.
    failed: Option<(Instant, ClientError)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ClientConfig {
    /// With all times short enough to reckon with.
    fn bounded(self) -> ClientConfig {
        ClientConfig {
            request_timeout: self.request_timeout.min(FOREVER),
            connect_timeout: self.connect_timeout.min(FOREVER),
            retry_backoff: self.retry_backoff.min(FOREVER),
            ..self
        }
    }

    /// The pause after so many failures in a row: doubling, and up to a fifth off by chance, so
    /// that many clients don't come back in step.
    pub(super) fn backoff(&self, failures: u32) -> Duration {
        let doubled = self.retry_backoff * 2u32.saturating_pow(failures.saturating_sub(1).min(16));
        let chance = RandomState::new().hash_one(failures) % 200;
        doubled.min(self.retry_backoff_max) * (1000 - chance as u32) / 1000
    }
}

fn all_topics_request() -> metadata::Request {
    metadata::Request {
        topics: None,
        allow_auto_topic_creation: false,
        ..Default::default()
    }
}

impl Client {
    /// Finds the cluster: tries each bootstrap address once. A bootstrap string alone is enough
    /// of a config.
    pub async fn connect(config: impl Into<ClientConfig>) -> Result<Client, ClientError> {
        let config = config.into().bounded();
        let addresses = config.bootstrap.split(',').map(str::trim);
        let bootstrap: Vec<String> = addresses
            .filter(|address| !address.is_empty())
            .map(str::to_string)
            .collect();
        if bootstrap.is_empty() {
            return Err(ClientError::Invalid("no bootstrap address is given".into()));
        }
        let client = Client {
            inner: Arc::new(Inner {
                config,
                bootstrap,
                cluster_id: Mutex::default(),
                cache: Mutex::default(),
                slots: Mutex::default(),
                responsive: Mutex::default(),
                refreshing: tokio::sync::Mutex::default(),
            }),
        };
        let request = metadata::Request {
            topics: Some(Vec::new()),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let response = client.call_any::<metadata::Api>(&request).await?;
        lock(&client.inner.cache).update(&response);
        Ok(client)
    }

    pub fn producer(&self, config: ProducerConfig) -> Producer {
        Producer::new(self.clone(), config)
    }

    pub fn consumer(&self, config: ConsumerConfig) -> Consumer {
        Consumer::new(self.clone(), config)
    }

    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// The cluster's id, as the first broker that was connected to said it.
    pub fn cluster_id(&self) -> String {
        lock(&self.inner.cluster_id).clone().unwrap_or_default()
    }

    pub(super) fn config(&self) -> &ClientConfig {
        &self.inner.config
    }

    /// A connection to a broker by its id.
    pub(super) async fn broker(
        &self,
        id: BrokerId,
        purpose: Purpose,
    ) -> Result<Arc<Connection>, ClientError> {
        let address = lock(&self.inner.cache)
            .brokers
            .get(&id)
            .map(BrokerAddress::to_string);
        match address {
            Some(address) => self.connection(&address, purpose).await,
            None => Err(ClientError::NoBroker {
                addresses: format!("id {id}"),
                reason: "the cluster knows no such broker".into(),
            }),
        }
    }

    /// The connection that is open, or a new one. After failures it waits before the next attempt,
    /// whose outcome is that of all who wait for it.
    async fn connection(
        &self,
        address: &str,
        purpose: Purpose,
    ) -> Result<Arc<Connection>, ClientError> {
        let slot = {
            let mut slots = lock(&self.inner.slots);
            slots
                .entry((address.to_string(), purpose))
                .or_default()
                .clone()
        };
        let since = Instant::now();
        let mut slot = slot.state.lock().await;
        if let Some(connection) = &slot.connection {
            if !connection.is_lost() {
                return Ok(connection.clone());
            }
        }
        slot.connection = None;
        match &slot.failed {
            Some((at, error)) if *at > since => return Err(error.clone()),
            _ => {}
        }
        if let Some(not_before) = slot.not_before {
            sleep_until(not_before).await;
        }
        let opened = Connection::open(address, &self.inner.config).await;
        match opened.and_then(|connection| self.check_cluster(address, connection)) {
            Ok(connection) => {
                slot.failures = 0;
                slot.not_before = None;
                slot.failed = None;
                slot.connection = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                let now = Instant::now();
                slot.failures = slot.failures.saturating_add(1);
                slot.not_before = Some(now + self.inner.config.backoff(slot.failures));
                slot.failed = Some((now, error.clone()));
                Err(error)
            }
        }
    }

    /// Refuses a broker of another cluster, which a reused address may lead to.
    fn check_cluster(
        &self,
        address: &str,
        connection: Arc<Connection>,
    ) -> Result<Arc<Connection>, ClientError> {
        let is = connection.cluster_id();
        let mut expected = lock(&self.inner.cluster_id);
        match &*expected {
            Some(expected) if expected != is => Err(ClientError::ForeignCluster {
                address: address.to_string(),
                is: is.to_string(),
                expected: expected.clone(),
            }),
            Some(_) => Ok(connection),
            None => {
                *expected = Some(is.to_string());
                Ok(connection)
            }
        }
    }

    /// Asks any broker that can be reached: the one that has answered last, the known ones, then the bootstrap
    /// addresses. One that doesn't answer soon is passed over, and asked again with more patience if nobody
    /// answers.
    pub(super) async fn call_any<A: Api>(
        &self,
        request: &A::Request,
    ) -> Result<A::Response, ClientError> {
        let addresses = {
            let responsive = lock(&self.inner.responsive).clone();
            let cache = lock(&self.inner.cache);
            let known = cache.brokers.values().map(BrokerAddress::to_string);
            in_order(responsive, known, &self.inner.bootstrap)
        };
        let mut failure = None;
        let mut patience = match addresses.len() {
            1 => FOREVER,
            _ => FIRST_PATIENCE,
        };
        loop {
            let mut are_late = false;
            for address in &addresses {
                let asked = self.ask::<A>(address, request);
                match timeout(patience, asked).await {
                    Ok(Err(error)) if error.is_retriable() => failure = Some(error),
                    Ok(answer) => {
                        *lock(&self.inner.responsive) = Some(address.clone());
                        return answer;
                    }
                    Err(_) => are_late = true,
                }
            }
            if !are_late {
                break;
            }
            // No longer than one of them alone is waited for: that ends with an error of its own.
            patience = (patience * PATIENCE_GROWTH).min(FOREVER);
        }
        match (addresses.len(), failure) {
            (1, Some(failure)) => Err(failure),
            (_, failure) => Err(ClientError::NoBroker {
                addresses: addresses.join(", "),
                reason: failure.map_or_else(|| "none is known".into(), |error| error.to_string()),
            }),
        }
    }

    async fn ask<A: Api>(
        &self,
        address: &str,
        request: &A::Request,
    ) -> Result<A::Response, ClientError> {
        let connection = self.connection(address, Purpose::Control).await?;
        connection.call::<A>(request, Duration::ZERO).await
    }

    /// Asks the controller, or any broker, which passes it on, while none is known or it can't be reached.
    pub(super) async fn call_controller<A: Api>(
        &self,
        request: &A::Request,
        extra: Duration,
    ) -> Result<A::Response, ClientError> {
        let controller = lock(&self.inner.cache).controller;
        if let Some(id) = controller {
            if let Ok(connection) = self.broker(id, Purpose::Control).await {
                return connection.call::<A>(request, extra).await;
            }
        }
        self.call_any::<A>(request).await
    }

    /// All topics, as the cluster has them now.
    pub(super) async fn all_topics(&self) -> Result<Vec<TopicMetadata>, ClientError> {
        let request = all_topics_request();
        let response = self.call_any::<metadata::Api>(&request).await?;
        Ok(self.topics_told(&response))
    }

    /// The same as the controller has them, who knows of each change first.
    pub(super) async fn newest_topics(&self) -> Result<Vec<TopicMetadata>, ClientError> {
        let request = all_topics_request();
        let asked = self.call_controller::<metadata::Api>(&request, Duration::ZERO);
        Ok(self.topics_told(&asked.await?))
    }

    fn topics_told(&self, response: &metadata::Response) -> Vec<TopicMetadata> {
        lock(&self.inner.cache).update(response);
        let named = response.topics.iter().filter_map(|topic| {
            let name = topic.name.as_ref()?;
            topic
                .error_code
                .is_ok()
                .then(|| TopicMetadata::from_wire(name, topic))
        });
        let mut topics: Vec<_> = named.collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics
    }

    /// What is known of a topic; asks if nothing is.
    pub async fn topic(&self, name: &str) -> Result<Arc<TopicMetadata>, ClientError> {
        let known = lock(&self.inner.cache).topics.get(name).cloned();
        match known {
            Some(topic) => Ok(topic.metadata),
            None => self.topic_since(name, Instant::now()).await,
        }
    }

    /// What was learnt of a topic after `since`; asks if that is nothing, and once for all who
    /// want to know at the same time.
    pub(super) async fn topic_since(
        &self,
        name: &str,
        since: Instant,
    ) -> Result<Arc<TopicMetadata>, ClientError> {
        let patience = Instant::now() + TOPIC_PROPAGATION;
        let mut attempts = 0;
        loop {
            match self.ask_for_topic(name, since).await {
                Err(error)
                    if error.code() == Some(ErrorCode::UnknownTopicOrPartition)
                        && Instant::now() < patience =>
                {
                    attempts += 1;
                    sleep(self.inner.config.backoff(attempts)).await;
                }
                answer => return answer,
            }
        }
    }

    async fn ask_for_topic(
        &self,
        name: &str,
        since: Instant,
    ) -> Result<Arc<TopicMetadata>, ClientError> {
        let _turn = self.inner.refreshing.lock().await;
        let known = lock(&self.inner.cache).topics.get(name).cloned();
        if let Some(topic) = known.filter(|topic| topic.learnt_at > since) {
            return Ok(topic.metadata);
        }
        let request = metadata::Request {
            topics: Some(vec![metadata::MetadataRequestTopic {
                topic_id: Default::default(),
                name: Some(name.to_string()),
            }]),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let response = self.call_any::<metadata::Api>(&request).await?;
        let mut cache = lock(&self.inner.cache);
        cache.update(&response);
        if let Some(topic) = cache.topics.get(name) {
            return Ok(topic.metadata.clone());
        }
        let answered = response
            .topics
            .iter()
            .find(|topic| topic.name.as_deref() == Some(name));
        Err(ClientError::Topic {
            topic: name.to_string(),
            code: answered.map_or(ErrorCode::UnknownTopicOrPartition, |topic| topic.error_code),
            message: String::new(),
        })
    }

    /// The broker that leads a partition, as far as is known; asks if the topic isn't.
    pub(super) async fn leader(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<BrokerId, ClientError> {
        leader_in(&*self.topic(topic).await?, partition)
    }

    /// The broker that leads a partition, without asking anybody; `None` if the topic isn't known.
    pub(super) fn known_leader(
        &self,
        topic: &str,
        partition: i32,
    ) -> Option<Result<BrokerId, ClientError>> {
        let known = lock(&self.inner.cache).topics.get(topic).cloned()?;
        Some(leader_in(&known.metadata, partition))
    }
}

/// Whom to ask when any broker will do, each once.
fn in_order(
    responsive: Option<String>,
    known: impl Iterator<Item = String>,
    bootstrap: &[String],
) -> Vec<String> {
    let mut addresses: Vec<String> = Vec::new();
    for address in responsive
        .into_iter()
        .chain(known)
        .chain(bootstrap.iter().cloned())
    {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// The broker that leads a partition; errs if there is none.
pub(super) fn leader_in(topic: &TopicMetadata, partition: i32) -> Result<BrokerId, ClientError> {
    let failed = |code| ClientError::Partition {
        topic: topic.name.to_string(),
        partition,
        code,
        message: String::new(),
    };
    let found = topic.partition(partition);
    let found = found.ok_or_else(|| failed(ErrorCode::UnknownTopicOrPartition))?;
    found
        .leader
        .ok_or_else(|| failed(ErrorCode::LeaderNotAvailable))
}

/// Whether an error says that a partition isn't led by whom we believed: ask before the next try.
pub(super) fn is_stale_metadata(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotLeaderOrFollower
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownTopicId
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::UnknownLeaderEpoch
            | ErrorCode::NotController
            | ErrorCode::KafkaStorageError
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answered_last_is_asked_first_and_everybody_once() {
        let bootstrap = ["a:1".to_owned(), "d:4".to_owned()];
        let known = || ["a:1", "b:2", "c:3"].map(str::to_owned).into_iter();
        let nobody_yet = in_order(None, known(), &bootstrap);
        assert_eq!(nobody_yet, ["a:1", "b:2", "c:3", "d:4"]);
        let responsive = in_order(Some("c:3".into()), known(), &bootstrap);
        assert_eq!(responsive, ["c:3", "a:1", "b:2", "d:4"]);
    }
}
