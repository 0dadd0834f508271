//! What a consumer and its fetches share: the assigned partitions, how far each was fetched, and
//! the batches that wait to be polled.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use super::batches::FetchedBatch;
use super::ConsumerConfig;
use crate::client::ClientError;
use crate::model::{BrokerId, Offset};
use crate::protocol::{fetch, Records};
use crate::record::{Batch, BatchHeader, RecordError};

pub(super) type Key = (Arc<str>, i32);

#[derive(Debug, Default)]
pub(super) struct State {
    pub partitions: BTreeMap<Key, Assigned>,
    ready: VecDeque<Ready>,
    /// The bytes of all that is in `ready`.
    ready_bytes: usize,
    last_generation: u64,
}

/// A partition that is read.
#[derive(Debug)]
pub(super) struct Assigned {
    /// Changes with each seek: what was fetched for an earlier position is thrown away.
    generation: u64,
    /// What `poll` hands out next.
    pub position: Offset,
    /// What is fetched next: beyond the position by what waits.
    fetch_from: Offset,
    pub high_watermark: Option<Offset>,
    phase: Phase,
    /// Errors in a row.
    failures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Fetching,
    /// After an error, until then.
    Pausing(Instant),
    /// After an error that no retry helps; a seek begins anew.
    Halted,
}

/// What waits to be polled.
#[derive(Debug)]
struct Ready {
    key: Key,
    generation: u64,
    bytes: usize,
    content: Result<Vec<FetchedBatch>, ClientError>,
}

/// One partition of a fetch.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub key: Key,
    pub generation: u64,
    pub from: Offset,
}

impl State {
    /// Starts to read at `from`, wherever it was before.
    pub(super) fn place(&mut self, key: Key, from: Offset) {
        self.last_generation += 1;
        let assigned = Assigned {
            generation: self.last_generation,
            position: from,
            fetch_from: from,
            high_watermark: None,
            phase: Phase::Idle,
            failures: 0,
        };
        self.partitions.insert(key, assigned);
        self.forget_stale();
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.partitions.remove(key);
        self.forget_stale();
    }

    fn forget_stale(&mut self) {
        let partitions = &self.partitions;
        self.ready.retain(|ready| {
            let assigned = partitions.get(&ready.key);
            assigned.is_some_and(|assigned| assigned.generation == ready.generation)
        });
        self.ready_bytes = self.ready.iter().map(|ready| ready.bytes).sum();
    }

    /// The partitions that can be fetched now, and when the next one can.
    pub(super) fn fetchable(&self, buffer_bytes: usize) -> (Vec<Wanted>, Option<Instant>) {
        if self.ready_bytes >= buffer_bytes {
            return (Vec::new(), None);
        }
        let now = Instant::now();
        let mut wanted = Vec::new();
        let mut later: Option<Instant> = None;
        for (key, assigned) in &self.partitions {
            match assigned.phase {
                Phase::Pausing(until) if until > now => {
                    later = Some(later.map_or(until, |other| other.min(until)));
                }
                Phase::Idle | Phase::Pausing(_) => wanted.push(Wanted {
                    key: key.clone(),
                    generation: assigned.generation,
                    from: assigned.fetch_from,
                }),
                Phase::Fetching | Phase::Halted => {}
            }
        }
        (wanted, later)
    }

    fn current(&mut self, wanted: &Wanted) -> Option<&mut Assigned> {
        let assigned = self.partitions.get_mut(&wanted.key)?;
        (assigned.generation == wanted.generation).then_some(assigned)
    }

    pub(super) fn begin_fetch(&mut self, wanted: &Wanted) {
        if let Some(assigned) = self.current(wanted) {
            assigned.phase = Phase::Fetching;
        }
    }

    /// Takes in what a fetch brought for one partition.
    pub(super) fn take_in(
        &mut self,
        wanted: &Wanted,
        high_watermark: Offset,
        content: Result<Vec<FetchedBatch>, ClientError>,
        bytes: usize,
    ) {
        let Some(assigned) = self.current(wanted) else {
            return;
        };
        assigned.phase = Phase::Idle;
        assigned.failures = 0;
        match &content {
            Ok(batches) => {
                assigned.high_watermark = Some(high_watermark);
                let Some(last) = batches.last() else { return };
                assigned.fetch_from = last.header().next_offset();
            }
            Err(_) => assigned.phase = Phase::Halted,
        }
        self.push(wanted, content, bytes);
    }

    fn push(
        &mut self,
        wanted: &Wanted,
        content: Result<Vec<FetchedBatch>, ClientError>,
        bytes: usize,
    ) {
        self.ready_bytes += bytes;
        self.ready.push_back(Ready {
            key: wanted.key.clone(),
            generation: wanted.generation,
            bytes,
            content,
        });
    }

    /// A fetch failed for this partition, and will be tried again; answers how often that was.
    pub(super) fn failed(&mut self, wanted: &Wanted) -> u32 {
        match self.current(wanted) {
            Some(assigned) => {
                assigned.failures += 1;
                assigned.failures
            }
            None => 0,
        }
    }

    pub(super) fn pause(&mut self, wanted: &Wanted, until: Instant) {
        if let Some(assigned) = self.current(wanted) {
            assigned.phase = Phase::Pausing(until);
        }
    }

    /// Stops reading this partition, and tells why.
    pub(super) fn halt(&mut self, wanted: &Wanted, error: ClientError) {
        if let Some(assigned) = self.current(wanted) {
            assigned.phase = Phase::Halted;
            self.push(wanted, Err(error), 0);
        }
    }

    /// Goes on at another offset than the one that isn't there.
    pub(super) fn reset(&mut self, wanted: &Wanted, to: Offset) {
        if self.current(wanted).is_some() {
            self.place(wanted.key.clone(), to);
        }
    }

    /// All that waits, and moves the positions behind it. An error comes alone.
    pub(super) fn poll(&mut self) -> Result<Vec<FetchedBatch>, ClientError> {
        let mut polled = Vec::new();
        while let Some(ready) = self.ready.pop_front() {
            match ready.content {
                Ok(batches) => {
                    self.ready_bytes -= ready.bytes;
                    if let (Some(assigned), Some(last)) =
                        (self.partitions.get_mut(&ready.key), batches.last())
                    {
                        assigned.position = last.header().next_offset();
                    }
                    polled.extend(batches);
                }
                Err(error) if polled.is_empty() => return Err(error),
                Err(error) => {
                    self.ready.push_front(Ready {
                        content: Err(error),
                        ..ready
                    });
                    break;
                }
            }
        }
        Ok(polled)
    }
}

/// Cuts the bytes of a fetch into batches, and checks each whole.
///
/// A last batch that is cut off is left out, as long as there is one before it: a broker may fill
/// its answer up to the byte.
pub(super) fn cut_batches(
    wanted: &Wanted,
    records: &Records,
    config: &ConsumerConfig,
) -> Result<Vec<FetchedBatch>, RecordError> {
    let mut rest = records.0.clone();
    let mut batches = Vec::new();
    while !rest.is_empty() {
        let size = match BatchHeader::decode(&rest) {
            Ok(header) => header.size(),
            Err(RecordError::TooShort { .. }) if !batches.is_empty() => break,
            Err(error) => return Err(error),
        };
        if size > rest.len() {
            if batches.is_empty() {
                return Err(RecordError::Length {
                    says: size as i64,
                    have: rest.len(),
                });
            }
            break;
        }
        let batch = Batch::parse(rest.split_to(size))?;
        if batch.header().next_offset() <= wanted.from {
            continue;
        }
        let records = batch.records(config.records_bytes_max)?;
        let mut len = 0;
        for record in &records {
            len += usize::from(record?.offset >= wanted.from);
        }
        batches.push(FetchedBatch {
            topic: wanted.key.0.clone(),
            partition: wanted.key.1,
            records,
            from: wanted.from,
            len,
        });
    }
    Ok(batches)
}

/// The request for these partitions, which one broker leads.
pub(super) fn request(wanted: &[Wanted], config: &ConsumerConfig) -> fetch::Request {
    let mut topics: HashMap<&Arc<str>, Vec<fetch::FetchPartition>> = HashMap::new();
    for wanted in wanted {
        let (topic, partition) = &wanted.key;
        topics
            .entry(topic)
            .or_default()
            .push(fetch::FetchPartition {
                partition: *partition,
                current_leader_epoch: crate::model::LeaderEpoch::NONE,
                fetch_offset: wanted.from,
                partition_max_bytes: config.partition_bytes_max,
                ..Default::default()
            });
    }
    let topics = topics
        .into_iter()
        .map(|(topic, partitions)| fetch::FetchTopic {
            topic: topic.to_string(),
            topic_id: crate::model::TopicId::NONE,
            partitions,
        });
    fetch::Request {
        max_wait_ms: i32::try_from(config.max_wait.as_millis()).unwrap_or(i32::MAX),
        min_bytes: 1,
        max_bytes: config.fetch_bytes_max,
        topics: topics.collect(),
        ..Default::default()
    }
}

/// Partitions by their leader.
pub(super) type ByLeader = HashMap<BrokerId, Vec<Wanted>>;
