//! The consumer: reads the partitions that it is told to read, and fetches ahead of the
//! application.
//!
//! A driver task watches what each assigned partition needs, and asks for it: mostly records, of
//! all partitions that a broker leads in one fetch, a long poll, which the broker answers when
//! there is something. What comes waits as it is, compressed, until it is polled;
//! [`ConsumerConfig::buffer_bytes`] bounds it together with what is on its way. A poll reads one
//! batch after the other, of each partition in turn, up to [`ConsumerConfig::poll_bytes_max`]. A
//! seek changes the partition's generation, and what is still on its way for the old position is
//! dropped when it comes.
//!
//! Which partitions it reads the application says, or a [group](Consumer::subscribe) does.

mod batches;
mod failing;
mod fetched;
mod fetcher;
mod group;
mod room;
mod state;
mod subscribe;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{timeout_at, Instant};

pub use batches::{Batches, FetchedBatch, FetchedRecords};
pub use group::{Assignor, Commits, GroupConfig, RebalanceListener};

use super::cluster::FOREVER;
use super::{Client, ClientError};
use crate::model::{ErrorCode, Offset, Timestamp};
use crate::protocol::list_offsets::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};
use group::Group;
use room::Room;
use state::{Key, State, Turn, Wanted};

/// A partition, by its topic and number.
pub type TopicPartition = (Arc<str>, i32);

/// Where reading starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// The first record that is there.
    Beginning,
    /// After the last record that is there now.
    End,
    Offset(Offset),
    /// The first record at or after this time; the end if there is none.
    Time(Timestamp),
}

/// What happens where the wanted offset isn't there (any more).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetReset {
    /// [`Consumer::poll`] answers [`ClientError::OffsetOutOfRange`], or
    /// [`ClientError::NoCommittedOffset`] where a group has committed none, and the partition isn't
    /// read until a seek.
    #[default]
    Error,
    Earliest,
    Latest,
}

/// How a consumer behaves.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    pub offset_reset: OffsetReset,
    /// How long a broker waits for new records before it answers that there are none. So long it
    /// may also take until a partition that was assigned or moved by a seek, and of which nothing
    /// is there, is waited for together with the others.
    pub max_wait: Duration,
    /// How many bytes a fetch brings at most, of all partitions together. The first batch comes
    /// whole even if it is larger; the same holds for the next two limits.
    pub fetch_bytes_max: i32,
    /// How many bytes of one partition a fetch brings at most.
    pub partition_bytes_max: i32,
    /// How many bytes wait to be polled or are on their way at most, as they are sent: compressed.
    /// A fetch may bring half of it, divided by the number of brokers.
    pub buffer_bytes: usize,
    /// How many bytes of records a poll hands out at most, decompressed. A batch that alone has
    /// more comes alone.
    pub poll_bytes_max: usize,
    /// How large the records of a batch may become when they are decompressed.
    pub records_bytes_max: usize,
    /// How long a topic or partition that the brokers don't know is asked for again before `poll`
    /// answers that error: not every broker knows at once of one that was just made.
    pub unknown_topic_timeout: Duration,
    /// How long any other error is retried, if that can help it, before `poll` answers it. With a
    /// broker that accepts a request and never answers, the first error comes after `max_wait` and
    /// [`ClientConfig::request_timeout`](crate::client::ClientConfig::request_timeout).
    pub retry_timeout: Duration,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        ConsumerConfig {
            offset_reset: OffsetReset::Error,
            max_wait: Duration::from_millis(500),
            fetch_bytes_max: 8 * 1024 * 1024,
            partition_bytes_max: 1024 * 1024,
            buffer_bytes: 16 * 1024 * 1024,
            poll_bytes_max: 16 * 1024 * 1024,
            records_bytes_max: 128 * 1024 * 1024,
            unknown_topic_timeout: Duration::from_secs(5),
            retry_timeout: Duration::from_secs(30),
        }
    }
}

impl ConsumerConfig {
    /// With all times short enough to reckon with.
    fn bounded(self) -> ConsumerConfig {
        ConsumerConfig {
            max_wait: self.max_wait.min(FOREVER),
            unknown_topic_timeout: self.unknown_topic_timeout.min(FOREVER),
            retry_timeout: self.retry_timeout.min(FOREVER),
            ..self
        }
    }
}

/// Reads partitions.
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared>,
    driver: Option<JoinHandle<()>>,
    group: Option<Group>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    config: ConsumerConfig,
    state: Mutex<State>,
    room: Arc<Room>,
    /// Wakes the driver: something can be fetched.
    wanted: Notify,
    /// Wakes the poll: something has come.
    came: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was asked for could not be had.
    fn failed(&self, wanted: &Wanted, error: ClientError) {
        let (topic, partition) = &wanted.key;
        log::debug!("reading {topic}-{partition} failed: {error}");
        let mut state = self.state();
        state.failed(wanted, error, Instant::now(), self.client.config());
    }

    /// What waits, of each partition in turn. An error comes alone.
    fn poll(&self) -> Result<Vec<FetchedBatch>, ClientError> {
        let mut polled: Vec<FetchedBatch> = Vec::new();
        let mut left = self.config.poll_bytes_max;
        while left > 0 || polled.is_empty() {
            let Some(turn) = self.state().next_turn() else {
                break;
            };
            let raw = match turn {
                Turn::Batch(raw) => raw,
                Turn::Error(key) if polled.is_empty() => match self.state().take_error(&key) {
                    Some(error) => return Err(error),
                    None => continue,
                },
                Turn::Error(key) => {
                    self.state().keep_turn(key);
                    break;
                }
            };
            let bytes_max = match polled.is_empty() {
                true => self.config.records_bytes_max,
                false => self.config.records_bytes_max.min(left),
            };
            // Not under the lock: decompression takes its time.
            match raw.read(bytes_max) {
                Ok(batch) => {
                    self.state().polled(&raw);
                    if !batch.is_empty() {
                        left = left.saturating_sub(batch.size());
                        polled.push(batch);
                    }
                }
                Err(error) if polled.is_empty() => return Err(self.state().refuse(&raw, error)),
                // Or it is only too large for what is left.
                Err(_) => {
                    self.state().keep_turn(raw.key);
                    break;
                }
            }
        }
        Ok(polled)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if let Some(driver) = &self.driver {
            driver.abort();
        }
    }
}

impl Consumer {
    pub(super) fn new(client: Client, config: ConsumerConfig) -> Consumer {
        Consumer {
            shared: Arc::new(Shared {
                client,
                room: Room::new(config.buffer_bytes),
                config: config.bounded(),
                state: Mutex::default(),
                wanted: Notify::new(),
                came: Notify::new(),
            }),
            driver: None,
            group: None,
        }
    }

    /// The partitions that it reads, in order.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.shared.state().assigned().into_iter().collect()
    }

    /// Reads one partition, besides those that are read already.
    pub async fn assign(
        &mut self,
        topic: &str,
        partition: i32,
        from: StartAt,
    ) -> Result<(), ClientError> {
        self.assigns_itself()?;
        let from = self.resolve(topic, partition, from).await?;
        self.place(vec![((topic.into(), partition), from)]);
        Ok(())
    }

    fn assigns_itself(&self) -> Result<(), ClientError> {
        match self.group {
            Some(_) => Err(ClientError::Invalid("the consumer is in a group".into())),
            None => Ok(()),
        }
    }

    /// Reads all partitions that the topic has now, and says which.
    pub async fn assign_topic(
        &mut self,
        topic: &str,
        from: StartAt,
    ) -> Result<Vec<i32>, ClientError> {
        self.assigns_itself()?;
        let client = &self.shared.client;
        let metadata = client.topic_since(topic, Instant::now()).await?;
        let partitions: Vec<_> = metadata.partitions.iter().map(|p| p.index).collect();
        let mut placed = Vec::with_capacity(partitions.len());
        for partition in &partitions {
            let from = self.resolve(topic, *partition, from).await?;
            placed.push(((topic.into(), *partition), from));
        }
        self.place(placed);
        Ok(partitions)
    }

    /// Reads from these places on, and whatever else is read.
    fn place(&mut self, places: Vec<(Key, Offset)>) {
        let mut state = self.shared.state();
        for (key, from) in places {
            state.place(key, from);
        }
        drop(state);
        self.drive();
    }

    fn drive(&mut self) {
        let shared = &self.shared;
        self.driver
            .get_or_insert_with(|| tokio::spawn(fetcher::drive(shared.clone())));
        self.shared.wanted.notify_one();
    }

    /// Reads this partition no more.
    pub fn unassign(&mut self, topic: &str, partition: i32) {
        self.shared.state().remove(&(topic.into(), partition));
        self.shared.wanted.notify_one();
    }

    /// Goes on reading an assigned partition elsewhere.
    pub async fn seek(
        &mut self,
        topic: &str,
        partition: i32,
        to: StartAt,
    ) -> Result<(), ClientError> {
        let key: Key = (topic.into(), partition);
        if !self.shared.state().is_assigned(&key) {
            let message = format!("partition {topic}-{partition} isn't assigned");
            return Err(ClientError::Invalid(message));
        }
        let from = self.resolve(topic, partition, to).await?;
        // A group may have taken it away meanwhile, but only a poll takes notice of that.
        self.place(vec![(key, from)]);
        Ok(())
    }

    /// What has been fetched, waiting up to `timeout` for something; empty if nothing comes.
    ///
    /// An error concerns one partition, and comes when all of it that was fetched before is
    /// polled; the others go on with the next poll. After one that
    /// [can be helped by a retry](ClientError::is_retriable) so does that partition, and `poll`
    /// answers the error again as long as it lasts; see [`ConsumerConfig::retry_timeout`] and
    /// [`ConsumerConfig::unknown_topic_timeout`]. After any other its partition isn't read until
    /// a seek.
    ///
    /// In a group an error may also concern the membership. After one that a retry can't help, such as
    /// FENCED_INSTANCE_ID, every poll answers it.
    pub async fn poll(&mut self, timeout: Duration) -> Result<Batches, ClientError> {
        let deadline = Instant::now() + timeout.min(FOREVER);
        let _poll = self.group.as_ref().map(Group::poll);
        self.shared.state().settle();
        loop {
            let came = self.shared.came.notified();
            if let Some(group) = &mut self.group {
                group.serve(&self.shared)?;
            }
            let polled = self.shared.poll();
            // There is room for more.
            self.shared.wanted.notify_one();
            let batches = polled?;
            if !batches.is_empty() || timeout_at(deadline, came).await.is_err() {
                return Ok(Batches { batches });
            }
        }
    }

    /// The offset of the next record that `poll` hands out.
    pub fn position(&self, topic: &str, partition: i32) -> Option<Offset> {
        self.shared.state().position(&(topic.into(), partition))
    }

    /// The partition's high watermark, as of the last fetch: when the position has reached it,
    /// everything is read.
    pub fn high_watermark(&self, topic: &str, partition: i32) -> Option<Offset> {
        self.shared
            .state()
            .high_watermark(&(topic.into(), partition))
    }

    /// The offset that `from` means now.
    async fn resolve(
        &self,
        topic: &str,
        partition: i32,
        from: StartAt,
    ) -> Result<Offset, ClientError> {
        let timestamp = match from {
            StartAt::Offset(offset) if offset >= Offset::ZERO => return Ok(offset),
            StartAt::Offset(offset) => {
                let message = format!("partition {topic}-{partition} can't have offset {offset}");
                return Err(ClientError::Invalid(message));
            }
            StartAt::Beginning => EARLIEST_TIMESTAMP,
            StartAt::End => LATEST_TIMESTAMP,
            StartAt::Time(timestamp) => timestamp,
        };
        let offset = self.list_offset(topic, partition, timestamp).await?;
        match offset {
            Offset::NONE => self.list_offset(topic, partition, LATEST_TIMESTAMP).await,
            offset => Ok(offset),
        }
    }

    /// Asks the partition's leader; tries again while it has none.
    async fn list_offset(
        &self,
        topic: &str,
        partition: i32,
        timestamp: Timestamp,
    ) -> Result<Offset, ClientError> {
        let client = &self.shared.client;
        let patience = Instant::now() + client.config().request_timeout;
        let mut failures = 0;
        loop {
            let since = Instant::now();
            let admin = client.admin();
            match admin.list_offset(topic, partition, timestamp).await {
                Ok(offset) => return Ok(offset),
                Err(error)
                    if !error.is_retriable()
                        || error.code() == Some(ErrorCode::UnknownTopicOrPartition)
                        || Instant::now() > patience =>
                {
                    return Err(error);
                }
                Err(_) => {
                    failures += 1;
                    tokio::time::sleep(client.config().backoff(failures)).await;
                    // If this fails, so will the next attempt, which then says why.
                    let _ = client.topic_since(topic, since).await;
                }
            }
        }
    }
}
