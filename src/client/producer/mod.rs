//! The producer: collects records into batches, sends several batches of a partition without
//! waiting, and delivers each record once and in order.
//!
//! Each partition has a buffer, into which [`Producer::send`] encodes records as they come, and a
//! sender, a task that takes batches out of it, sends them and settles their outcomes in order.
//! What all share is small: the buffer's bound (a semaphore of bytes), the counters, and the
//! producer's identity, by which the broker recognises batches that are sent again (KIP-98).

mod attempt;
mod buffer;
mod config;
mod record;
mod sender;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{OnceCell, Semaphore};
use tokio::time::Instant;

pub use config::{Acks, Idempotence, ProducerConfig};
pub use record::{BatchOutcome, Delivery, DeliveryFuture, DeliveryListener, ProducerRecord};

use super::connection::Purpose;
use super::partitioner::partition_of_key;
use super::{Client, ClientError, ProduceError, TopicMetadata};
use crate::model::ErrorCode;
use crate::protocol::{init_producer_id, metadata};
use crate::record::BatchBuilder;
use buffer::{BatchIs, Partition};
use sender::Sender;

/// Sums over a producer's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProducerStats {
    /// Records that are delivered.
    pub acknowledged: u64,
    /// Records whose outcome is an error.
    pub failed: u64,
    /// Batches that are delivered, and their bytes, as sent.
    pub batches: u64,
    pub bytes: u64,
    /// Batches that were sent again.
    pub retries: u64,
}

/// Sends records in batches. Clones share everything; when the last one is dropped, what waits is
/// still sent, but nobody learns how that ended: [`Producer::close`] is the better end.
#[derive(Clone, Debug)]
pub struct Producer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    topics: RwLock<HashMap<Arc<str>, Arc<Topic>>>,
}

/// What the senders of all partitions share.
#[derive(Debug)]
struct Shared {
    client: Client,
    config: ProducerConfig,
    /// The bytes that records may still take.
    room: Semaphore,
    identity: OnceCell<Identity>,
    counters: Counters,
    first_error: Mutex<Option<ProduceError>>,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Counters {
    acknowledged: AtomicU64,
    failed: AtomicU64,
    batches: AtomicU64,
    bytes: AtomicU64,
    retries: AtomicU64,
}

/// Who the broker knows this producer as.
#[derive(Clone, Copy, Debug)]
struct Identity {
    producer_id: i64,
    producer_epoch: i16,
}

#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    partitions: RwLock<Vec<Arc<Partition>>>,
    /// Where records without key and partition go now, and how many bytes went there.
    sticky: AtomicUsize,
    sticky_bytes: AtomicUsize,
    asked_at: Mutex<Instant>,
}

impl Producer {
    pub(super) fn new(client: Client, config: ProducerConfig) -> Producer {
        let room = config.buffer_bytes.min(Semaphore::MAX_PERMITS);
        Producer {
            inner: Arc::new(Inner {
                shared: Arc::new(Shared {
                    client,
                    config: config.bounded(),
                    room: Semaphore::new(room),
                    identity: OnceCell::new(),
                    counters: Counters::default(),
                    first_error: Mutex::default(),
                    closed: AtomicBool::new(false),
                }),
                topics: RwLock::default(),
            }),
        }
    }

    /// Adds a record to its batch, and answers with a future for its outcome. Waits only for the
    /// topic's metadata, and for room in the buffer.
    ///
    /// An error means that the record was not taken.
    pub async fn send(&self, record: ProducerRecord<'_>) -> Result<DeliveryFuture, ProduceError> {
        let shared = &self.inner.shared;
        let known = self.known_topic(record.topic);
        let topic = match known {
            Some(topic) => topic,
            None => self.learn_topic(record.topic).await?,
        };
        let partition = match topic.choose(&record) {
            Some(partition) => partition,
            None => self.learn_partition(&topic, &record).await?,
        };

        let reserved = BatchBuilder::record_size_max(record.key, record.value, record.headers);
        let size_max = shared
            .config
            .record_bytes_max
            .min(shared.config.buffer_bytes);
        let permits = match u32::try_from(reserved) {
            Ok(permits) if reserved <= size_max => permits,
            _ => {
                return Err(ProduceError::RecordTooLarge {
                    size: reserved,
                    size_max,
                })
            }
        };
        let room = match shared.room.try_acquire_many(permits) {
            Ok(room) => room,
            Err(_) => {
                let room = shared.room.acquire_many(permits).await;
                room.map_err(|_| ProduceError::Closed)?
            }
        };
        let appended = partition.append(&record, reserved, shared.config.batch_bytes)?;
        // Given back when the batch's outcome is known.
        room.forget();
        if record.partition.is_none() && record.key.is_none() {
            topic.unstick(appended.bytes, appended.batch, shared.config.batch_bytes);
        }
        if appended.is_first() && topic.is_older_than(shared.client.config().metadata_age_max) {
            self.learn_in_background(&topic);
        }
        if appended.batch == BatchIs::Full {
            // Lets the partition's sender have its turn on a runtime of one thread.
            tokio::task::yield_now().await;
        }
        Ok(appended.delivery)
    }

    /// Sends what waits, and returns when the outcome of every record that was sent before is
    /// known. With [`Acks::None`], when the brokers have received all that was written to them.
    pub async fn flush(&self) {
        let partitions = self.partitions();
        let flushed = partitions.iter().filter_map(|partition| {
            let newest = partition.flush()?;
            Some((partition, newest))
        });
        let flushed: Vec<_> = flushed.collect();
        for (_, newest) in &flushed {
            newest.known().await;
        }
        if self.inner.shared.config.acks == Acks::None {
            let written = flushed.iter().map(|(partition, _)| *partition);
            self.inner.shared.await_arrival(written).await;
        }
    }

    /// Refuses all later records, and flushes.
    pub async fn close(&self) {
        self.inner.shared.closed.store(true, Ordering::SeqCst);
        self.inner.end();
        self.flush().await;
    }

    pub fn stats(&self) -> ProducerStats {
        let counters = &self.inner.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ProducerStats {
            acknowledged: read(&counters.acknowledged),
            failed: read(&counters.failed),
            batches: read(&counters.batches),
            bytes: read(&counters.bytes),
            retries: read(&counters.retries),
        }
    }

    /// The first error that any batch ended with, for those who don't await each record.
    pub fn first_error(&self) -> Option<ProduceError> {
        let first = &self.inner.shared.first_error;
        first.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn partitions(&self) -> Vec<Arc<Partition>> {
        self.inner.partitions()
    }

    fn known_topic(&self, name: &str) -> Option<Arc<Topic>> {
        let topics = self
            .inner
            .topics
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        topics.get(name).cloned()
    }

    async fn learn_topic(&self, name: &str) -> Result<Arc<Topic>, ProduceError> {
        let metadata = self.inner.shared.client.topic(name).await?;
        self.add_partitions(&metadata)
    }

    /// Looks for partitions that are new, while nobody waits for it.
    fn learn_in_background(&self, topic: &Topic) {
        let (producer, name) = (self.clone(), topic.name.clone());
        tokio::spawn(async move {
            let now = Instant::now();
            // If this fails, the next batch asks again.
            if let Ok(metadata) = producer.inner.shared.client.topic_since(&name, now).await {
                let _ = producer.add_partitions(&metadata);
            }
        });
    }

    /// Asks again for a topic that doesn't seem to have the record's partition.
    async fn learn_partition(
        &self,
        topic: &Topic,
        record: &ProducerRecord<'_>,
    ) -> Result<Arc<Partition>, ProduceError> {
        let client = &self.inner.shared.client;
        let now = Instant::now();
        let metadata = client.topic_since(&topic.name, now).await?;
        let topic = self.add_partitions(&metadata)?;
        topic.choose(record).ok_or_else(|| {
            ProduceError::Client(ClientError::Partition {
                topic: topic.name.to_string(),
                partition: record.partition.unwrap_or(-1),
                code: ErrorCode::UnknownTopicOrPartition,
                message: format!(
                    "it has partitions 0 to {}",
                    metadata.partitions.len() as i64 - 1
                ),
            })
        })
    }

    /// Starts the senders of partitions that are new.
    fn add_partitions(&self, metadata: &TopicMetadata) -> Result<Arc<Topic>, ProduceError> {
        let shared = &self.inner.shared;
        let mut topics = self
            .inner
            .topics
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that closing sees every partition.
        if shared.closed.load(Ordering::SeqCst) {
            return Err(ProduceError::Closed);
        }
        let topic = topics.entry(metadata.name.clone()).or_insert_with(|| {
            Arc::new(Topic {
                name: metadata.name.clone(),
                partitions: RwLock::default(),
                sticky: AtomicUsize::new(uuid::Uuid::new_v4().as_u128() as u16 as usize),
                sticky_bytes: AtomicUsize::new(0),
                asked_at: Mutex::new(Instant::now()),
            })
        });
        let mut partitions = topic
            .partitions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        for index in partitions.len()..metadata.partitions.len() {
            let partition = Partition::new(topic.name.clone(), index as i32);
            tokio::spawn(Sender::new(shared.clone(), partition.clone()).run());
            partitions.push(partition);
        }
        drop(partitions);
        Ok(topic.clone())
    }
}

impl Inner {
    fn partitions(&self) -> Vec<Arc<Partition>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::new();
        for topic in topics.values() {
            let partitions = topic
                .partitions
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            all.extend(partitions.iter().cloned());
        }
        all
    }

    fn end(&self) {
        for partition in self.partitions() {
            partition.end(ProduceError::Closed);
        }
    }
}

impl Drop for Inner {
    /// The senders go on until all is sent, and end then.
    fn drop(&mut self) {
        self.end();
    }
}

impl Topic {
    /// `None` if the record's partition isn't known.
    fn choose(&self, record: &ProducerRecord<'_>) -> Option<Arc<Partition>> {
        let partitions = self
            .partitions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if partitions.is_empty() {
            return None;
        }
        let index = match (record.partition, record.key) {
            (Some(partition), _) => usize::try_from(partition).ok()?,
            (None, Some(key)) => partition_of_key(key, partitions.len() as i32) as usize,
            (None, None) => self.sticky.load(Ordering::Relaxed) % partitions.len(),
        };
        partitions.get(index).cloned()
    }

    /// Says yes once, so that one caller asks again.
    fn is_older_than(&self, age_max: Duration) -> bool {
        let mut asked_at = self.asked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_older = asked_at.elapsed() >= age_max;
        if is_older {
            *asked_at = Instant::now();
        }
        is_older
    }

    /// Goes to the next partition when this one has got its batch (KIP-794: by bytes, so that
    /// small batches of a slow producer don't move it).
    fn unstick(&self, bytes: usize, batch: BatchIs, batch_bytes: usize) {
        let there = self.sticky_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if batch == BatchIs::Full || there >= batch_bytes {
            self.sticky_bytes.store(0, Ordering::Relaxed);
            self.sticky.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Shared {
    /// Waits until the leaders of these partitions have read all that was sent to them without
    /// acks. A connection is read in order, so an answer on it says that.
    async fn await_arrival(&self, partitions: impl Iterator<Item = &Arc<Partition>>) {
        let mut leaders = HashSet::new();
        for partition in partitions {
            // Without acks nobody learns of what is lost: neither here.
            let leader = self.client.leader(&partition.topic, partition.index).await;
            leaders.extend(leader);
        }
        for leader in leaders {
            if let Ok(connection) = self.client.broker(leader, Purpose::Produce).await {
                let nothing = metadata::Request {
                    topics: Some(Vec::new()),
                    allow_auto_topic_creation: false,
                    ..Default::default()
                };
                let _ = connection
                    .call::<metadata::Api>(&nothing, Duration::ZERO)
                    .await;
            }
        }
    }

    /// The identity that all partitions start with.
    async fn identity(&self) -> Result<Identity, ClientError> {
        self.identity
            .get_or_try_init(|| self.new_identity())
            .await
            .copied()
    }

    async fn new_identity(&self) -> Result<Identity, ClientError> {
        let request = init_producer_id::Request {
            transactional_id: None,
            transaction_timeout_ms: 0,
            ..Default::default()
        };
        let response = self
            .client
            .call_any::<init_producer_id::Api>(&request)
            .await?;
        match response.error_code {
            ErrorCode::None => Ok(Identity {
                producer_id: response.producer_id,
                producer_epoch: response.producer_epoch,
            }),
            code => Err(ClientError::Refused {
                address: "the cluster".into(),
                api: "InitProducerId",
                code,
                message: String::new(),
            }),
        }
    }
}
