//! The consumer: reads the partitions that it is told to read, and fetches ahead of the
//! application.
//!
//! A driver task watches which assigned partitions are not being fetched, groups them by leader
//! and starts a fetch for each group: a long poll, which the broker answers when there is
//! something. What comes waits, checked, until it is polled; when more than
//! [`ConsumerConfig::buffer_bytes`] wait, nothing is fetched. So at most that and what is in flight
//! is in memory. A seek changes the partition's generation, and what is still on its way for the
//! old position is dropped when it comes.

mod batches;
mod fetcher;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{timeout_at, Instant};

pub use batches::{Batches, FetchedBatch, FetchedRecords};

use super::{Client, ClientError};
use crate::model::{ErrorCode, Offset, Timestamp};
use crate::protocol::list_offsets::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};
use state::{Key, State};

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
    /// [`Consumer::poll`] answers [`ClientError::OffsetOutOfRange`], and the partition isn't read
    /// until a seek.
    #[default]
    Error,
    Earliest,
    Latest,
}

/// How a consumer behaves.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    pub offset_reset: OffsetReset,
    /// How long a broker waits for new records before it answers that there are none.
    pub max_wait: Duration,
    /// How many bytes a fetch brings at most, of all partitions together.
    pub fetch_bytes_max: i32,
    /// How many bytes of one partition a fetch brings at most.
    pub partition_bytes_max: i32,
    /// When so many bytes wait to be polled, no more is fetched.
    pub buffer_bytes: usize,
    /// How large the records of a batch may become when they are decompressed.
    pub records_bytes_max: usize,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        ConsumerConfig {
            offset_reset: OffsetReset::Error,
            max_wait: Duration::from_secs(5),
            fetch_bytes_max: 8 * 1024 * 1024,
            partition_bytes_max: 1024 * 1024,
            buffer_bytes: 16 * 1024 * 1024,
            records_bytes_max: 128 * 1024 * 1024,
        }
    }
}

/// Reads partitions.
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared>,
    driver: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    config: ConsumerConfig,
    state: Mutex<State>,
    /// Wakes the driver: something can be fetched.
    wanted: Notify,
    /// Wakes the poll: something has come.
    came: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
                config,
                state: Mutex::default(),
                wanted: Notify::new(),
                came: Notify::new(),
            }),
            driver: None,
        }
    }

    /// Reads one partition, besides those that are read already.
    pub async fn assign(
        &mut self,
        topic: &str,
        partition: i32,
        from: StartAt,
    ) -> Result<(), ClientError> {
        let from = self.resolve(topic, partition, from).await?;
        self.shared.state().place((topic.into(), partition), from);
        let shared = &self.shared;
        self.driver
            .get_or_insert_with(|| tokio::spawn(fetcher::drive(shared.clone())));
        self.shared.wanted.notify_one();
        Ok(())
    }

    /// Reads all partitions that the topic has now, and says which.
    pub async fn assign_topic(
        &mut self,
        topic: &str,
        from: StartAt,
    ) -> Result<Vec<i32>, ClientError> {
        let metadata = self
            .shared
            .client
            .topic_since(topic, Instant::now())
            .await?;
        let partitions: Vec<_> = metadata.partitions.iter().map(|p| p.index).collect();
        for partition in &partitions {
            self.assign(topic, *partition, from).await?;
        }
        Ok(partitions)
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
        if !self.shared.state().partitions.contains_key(&key) {
            let message = format!("partition {topic}-{partition} isn't assigned");
            return Err(ClientError::Invalid(message));
        }
        self.assign(topic, partition, to).await
    }

    /// What has been fetched, waiting up to `timeout` for something; empty if nothing comes.
    ///
    /// An error concerns one partition; the others go on with the next poll. After one that
    /// [can't be helped by a retry](ClientError::is_retriable) its partition isn't read until a
    /// seek.
    pub async fn poll(&mut self, timeout: Duration) -> Result<Batches, ClientError> {
        let deadline = Instant::now() + timeout;
        loop {
            let came = self.shared.came.notified();
            let batches = self.shared.state().poll()?;
            if !batches.is_empty() {
                self.shared.wanted.notify_one();
                return Ok(Batches { batches });
            }
            if timeout_at(deadline, came).await.is_err() {
                let batches = self.shared.state().poll()?;
                return Ok(Batches { batches });
            }
        }
    }

    /// The offset of the next record that `poll` hands out.
    pub fn position(&self, topic: &str, partition: i32) -> Option<Offset> {
        let state = self.shared.state();
        Some(state.partitions.get(&(topic.into(), partition))?.position)
    }

    /// The partition's high watermark, as of the last fetch: when the position has reached it,
    /// everything is read.
    pub fn high_watermark(&self, topic: &str, partition: i32) -> Option<Offset> {
        let state = self.shared.state();
        state
            .partitions
            .get(&(topic.into(), partition))?
            .high_watermark
    }

    /// The offset that `from` means now; tries again while the partition has no leader.
    async fn resolve(
        &self,
        topic: &str,
        partition: i32,
        from: StartAt,
    ) -> Result<Offset, ClientError> {
        let client = &self.shared.client;
        let timestamp = match from {
            StartAt::Offset(offset) => return Ok(offset),
            StartAt::Beginning => EARLIEST_TIMESTAMP,
            StartAt::End => LATEST_TIMESTAMP,
            StartAt::Time(timestamp) => timestamp,
        };
        let patience = Instant::now() + client.config().request_timeout;
        let mut failures = 0;
        loop {
            let since = Instant::now();
            match client
                .admin()
                .list_offset(topic, partition, timestamp)
                .await
            {
                Ok(Offset::NONE) if timestamp != LATEST_TIMESTAMP => {
                    let admin = client.admin();
                    return admin.list_offset(topic, partition, LATEST_TIMESTAMP).await;
                }
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
                    client.topic_since(topic, since).await?;
                }
            }
        }
    }
}
