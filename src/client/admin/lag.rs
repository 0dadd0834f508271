//! How far a group is behind, in records and in time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{only, partition_result, Admin, GroupMembers};
use crate::client::connection::Purpose;
use crate::client::{ClientError, TopicPartition};
use crate::model::{LeaderEpoch, Offset, Timestamp};
use crate::protocol::fetch;
use crate::protocol::list_offsets::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};
use crate::record::{Batch, BatchHeader, RecordError};

/// How many partitions are asked for a record at the same time: each answers a whole batch.
const RECORDS_AT_ONCE_MAX: usize = 16;
/// How many batches are looked through for a record, where a compaction has left none.
const BATCHES_MAX: usize = 16;
/// How large a batch may become that is looked into.
const RECORDS_BYTES_MAX: usize = 128 * 1024 * 1024;

/// How far a group has come in one partition, of which it has committed an offset or a member is assigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionLag {
    pub topic: Arc<str>,
    pub partition: i32,
    /// The id of the member that has it, as far as that is known: a group that rebalances doesn't tell.
    pub member_id: Option<String>,
    /// What is to be read next; `None` if the group has committed none.
    pub committed: Option<Offset>,
    /// The partition's high watermark, or why it isn't known.
    pub end: Result<Offset, ClientError>,
    /// How long ago the first record was written that isn't done, by its timestamp and this machine's clock.
    /// Zero if all is done; `None` where it isn't known.
    pub behind: Option<Duration>,
}

impl PartitionLag {
    /// How many offsets the group hasn't passed yet.
    pub fn records(&self) -> Option<i64> {
        let end = self.end.as_ref().ok()?;
        Some(end.0.saturating_sub(self.committed?.0).max(0))
    }
}

impl Admin {
    /// How far a group is behind in each partition, in their order. It asks each leader for the ends of its
    /// partitions at once, and for one batch of each partition in which the group is behind.
    pub async fn group_lag(&self, group: &GroupMembers) -> Result<Vec<PartitionLag>, ClientError> {
        let owners = owners(group);
        let committed = self.group_offsets(&group.group_id).await?.into_iter();
        let committed: BTreeMap<TopicPartition, Offset> = committed
            .map(|((topic, partition), offset)| ((topic.into(), partition), offset))
            .collect();
        let all: BTreeSet<&TopicPartition> = owners.keys().chain(committed.keys()).collect();
        let ask = |timestamp: Timestamp| all.iter().map(move |key| ((*key).clone(), timestamp));
        let ends = self.find_offsets(ask(LATEST_TIMESTAMP).collect()).await;
        let behind = ends.iter().filter_map(|(key, end)| {
            let (end, committed) = (end.as_ref().ok()?, committed.get(key)?);
            (committed < end).then_some((key, *committed))
        });
        let times = self.times_of(behind.collect()).await;
        let now = Timestamp::now();
        let lags = ends.iter().map(|(key, end)| {
            let committed = committed.get(key).copied();
            let is_done = matches!((end, committed), (Ok(end), Some(it)) if it >= *end);
            let since = |time: &Timestamp| Duration::from_millis((now.0 - time.0).max(0) as u64);
            PartitionLag {
                topic: key.0.clone(),
                partition: key.1,
                member_id: owners.get(key).cloned(),
                committed,
                end: end.clone(),
                behind: match is_done {
                    true => Some(Duration::ZERO),
                    false => times.get(key).map(since),
                },
            }
        });
        Ok(lags.collect())
    }

    /// When the first record at or after each offset was written, where that can be told.
    async fn times_of(
        &self,
        wanted: BTreeMap<&TopicPartition, Offset>,
    ) -> BTreeMap<TopicPartition, Timestamp> {
        let starts = wanted
            .keys()
            .map(|key| ((*key).clone(), EARLIEST_TIMESTAMP));
        let starts = self.find_offsets(starts.collect()).await;
        let turns = Arc::new(Semaphore::new(RECORDS_AT_ONCE_MAX));
        let mut asking = JoinSet::new();
        for (key, start) in starts {
            let (Some(committed), Ok(start)) = (wanted.get(&key), start) else {
                continue;
            };
            // What was deleted meanwhile isn't waited for any more.
            let (from, admin, turns) = (start.max(*committed), self.clone(), turns.clone());
            asking.spawn(async move {
                let _turn = turns.acquire().await;
                let time = admin.time_of(&key, from).await;
                if let Err(error) = &time {
                    log::debug!("the record at {from} of {}-{}: {error}", key.0, key.1);
                }
                Some((key, time.ok()??))
            });
        }
        asking.join_all().await.into_iter().flatten().collect()
    }

    async fn time_of(
        &self,
        key: &TopicPartition,
        mut from: Offset,
    ) -> Result<Option<Timestamp>, ClientError> {
        for _ in 0..BATCHES_MAX {
            let Some(batch) = self.batch_at(key, from).await? else {
                return Ok(None);
            };
            let corrupt = |error: RecordError| ClientError::Corrupt {
                topic: key.0.to_string(),
                partition: key.1,
                offset: from,
                next_offset: Offset(from.0.saturating_add(1)),
                error,
            };
            if !batch.header().attributes.is_control() {
                for record in &batch.records(RECORDS_BYTES_MAX).map_err(corrupt)? {
                    let record = record.map_err(corrupt)?;
                    if record.offset >= from {
                        return Ok(Some(record.timestamp));
                    }
                }
            }
            from = batch
                .header()
                .next_offset()
                .max(Offset(from.0.saturating_add(1)));
        }
        Ok(None)
    }

    /// The batch that holds this offset, or the next one; `None` at the end.
    async fn batch_at(
        &self,
        (topic, partition): &TopicPartition,
        from: Offset,
    ) -> Result<Option<Batch>, ClientError> {
        let request = fetch::Request {
            // The first batch comes whole.
            max_bytes: 1,
            topics: vec![fetch::FetchTopic {
                topic: topic.to_string(),
                partitions: vec![fetch::FetchPartition {
                    partition: *partition,
                    current_leader_epoch: LeaderEpoch::NONE,
                    fetch_offset: from,
                    partition_max_bytes: 1,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let leader = self.client.leader(topic, *partition).await?;
        let connection = self.client.broker(leader, Purpose::Fetch).await?;
        let asking = connection.call::<fetch::Api>(&request, Duration::ZERO);
        let answered = only(asking.await?.responses, "Fetch")?;
        let answered = only(answered.partitions, "Fetch")?;
        partition_result(topic, *partition, answered.error_code)?;
        let bytes = answered.records.0;
        if bytes.is_empty() {
            return Ok(None);
        }
        let batch = BatchHeader::decode(&bytes).and_then(|header| {
            let end = header.size().min(bytes.len());
            Batch::parse(bytes.slice(..end))
        });
        let batch = batch.map_err(|error| ClientError::Corrupt {
            topic: topic.to_string(),
            partition: *partition,
            offset: from,
            next_offset: Offset(from.0.saturating_add(1)),
            error,
        });
        batch.map(Some)
    }
}

/// Who has which partition.
fn owners(group: &GroupMembers) -> BTreeMap<TopicPartition, String> {
    let members = group.members.iter();
    let owned = members.flat_map(|member| {
        let owned = member.owns.iter().cloned();
        owned.map(|partition| (partition, member.member_id.clone()))
    });
    owned.collect()
}
