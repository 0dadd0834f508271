//! What the log remembers of its idempotent producers (KIP-98), so that a batch that is sent twice
//! is stored once.
//!
//! A producer numbers its records. Of each producer the last five batches are kept, since a
//! client has at most five requests in flight: a batch that is among them is a duplicate and is
//! answered with its first offset; one that doesn't continue the last is refused. A producer that
//! isn't known starts at 0: any other number would continue batches that were never appended here,
//! or that are forgotten. What is known of a producer doesn't go with its batches: it survives
//! retention, so Kafka's leniency (KIP-360) isn't needed for that.
//!
//! Unlike Kafka, a producer's age counts from when it last wrote, not from its records'
//! timestamps: loading records that are years old must not lose their protection at once.

use std::collections::{HashMap, VecDeque};

use bytes::{Buf, BufMut};

use super::AppendError;
use crate::model::{Offset, Timestamp};
use crate::record::{BatchHeader, TimestampType};

/// How many batches of a producer are remembered: a client's `max.in.flight` at most (KIP-98).
const BATCHES_KEPT_MAX: usize = 5;

/// How many producers a log remembers; above it the tenth that wrote longest ago is forgotten.
pub(super) const PRODUCERS_MAX: usize = 5_000;

/// One remembered batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KeptBatch {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: Offset,
    next_offset: Offset,
    timestamp: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    last_seen: Timestamp,
    /// The newest is last.
    batches: VecDeque<KeptBatch>,
}

impl Producer {
    fn last_offset(&self) -> Offset {
        self.batches.back().map_or(Offset::NONE, |b| b.next_offset)
    }
}

/// A batch that is in the log already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Duplicate {
    pub base_offset: Offset,
    pub next_offset: Offset,
    pub timestamp: Timestamp,
}

/// What a producer's entry was before a batch, to take the batch back.
#[derive(Debug)]
pub(super) struct Undo {
    producer_id: i64,
    before: Option<Producer>,
    /// Who was forgotten to make room for it.
    forgotten: Vec<(i64, Producer)>,
}

/// The idempotent producers of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ProducerState {
    producers: HashMap<i64, Producer>,
}

/// When a batch was written that is found in a file: what the leader stamped on it, or else when
/// the file was written last. The producer's own timestamp says nothing about that.
pub(super) fn written_at(header: &BatchHeader, file_written: Timestamp) -> Timestamp {
    match header.attributes.timestamp_type() {
        TimestampType::LogAppendTime if header.max_timestamp.0 >= 0 => header.max_timestamp,
        _ => file_written,
    }
}

/// Whether the batch carries a producer's sequence.
fn is_idempotent(header: &BatchHeader) -> bool {
    header.producer_id >= 0 && header.base_sequence >= 0
}

/// Sequences wrap to 0 after `i32::MAX`.
fn sequence_after(first: i32, records: i32) -> i32 {
    ((i64::from(first) + i64::from(records)) % (1 << 31)) as i32
}

impl ProducerState {
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// The base offset of the last batch of each producer.
    pub fn last_batches(&self) -> HashMap<i64, Offset> {
        let last = |(id, producer): (&i64, &Producer)| {
            let batch = producer.batches.back()?;
            Some((*id, batch.base_offset))
        };
        self.producers.iter().filter_map(last).collect()
    }

    /// Whether a batch may be appended; `Some` when it is in the log already.
    pub fn check(&self, header: &BatchHeader) -> Result<Option<Duplicate>, AppendError> {
        if !is_idempotent(header) {
            return Ok(None);
        }
        let Some(producer) = self.producers.get(&header.producer_id) else {
            return match header.base_sequence {
                0 => Ok(None),
                got => Err(AppendError::UnknownProducer {
                    producer_id: header.producer_id,
                    got,
                }),
            };
        };
        if header.producer_epoch < producer.epoch {
            return Err(AppendError::InvalidProducerEpoch {
                producer_id: header.producer_id,
                current: producer.epoch,
                got: header.producer_epoch,
            });
        }
        let first = header.base_sequence;
        let last = sequence_after(first, header.last_offset_delta);
        let expected = if header.producer_epoch > producer.epoch {
            0
        } else {
            let same = |b: &&KeptBatch| b.first_sequence == first && b.last_sequence == last;
            if let Some(kept) = producer.batches.iter().find(same) {
                return Ok(Some(Duplicate {
                    base_offset: kept.base_offset,
                    next_offset: kept.next_offset,
                    timestamp: kept.timestamp,
                }));
            }
            match producer.batches.back() {
                Some(newest) => sequence_after(newest.last_sequence, 1),
                None => first,
            }
        };
        if first == expected {
            Ok(None)
        } else {
            Err(AppendError::OutOfOrderSequence {
                producer_id: header.producer_id,
                expected,
                got: first,
            })
        }
    }

    /// Remembers a batch that goes to `base_offset`.
    pub fn record(
        &mut self,
        header: &BatchHeader,
        base_offset: Offset,
        now: Timestamp,
    ) -> Option<Undo> {
        if !is_idempotent(header) {
            return None;
        }
        let is_new = !self.producers.contains_key(&header.producer_id);
        let forgotten = match is_new && self.producers.len() >= PRODUCERS_MAX {
            true => self.forget_oldest(),
            false => Vec::new(),
        };
        let before = self.producers.get(&header.producer_id).cloned();
        let producer = self.producers.entry(header.producer_id);
        let producer = producer.or_insert_with(|| Producer {
            epoch: header.producer_epoch,
            last_seen: now,
            batches: VecDeque::new(),
        });
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == BATCHES_KEPT_MAX {
            producer.batches.pop_front();
        }
        producer.batches.push_back(KeptBatch {
            first_sequence: header.base_sequence,
            last_sequence: sequence_after(header.base_sequence, header.last_offset_delta),
            base_offset,
            next_offset: base_offset + i64::from(header.last_offset_delta) + 1,
            timestamp: header.max_timestamp,
        });
        producer.last_seen = producer.last_seen.max(now);
        Some(Undo {
            producer_id: header.producer_id,
            before,
            forgotten,
        })
    }

    /// Takes back what `record` did; the last first.
    pub fn undo(&mut self, undo: Undo) {
        match undo.before {
            Some(before) => self.producers.insert(undo.producer_id, before),
            None => self.producers.remove(&undo.producer_id),
        };
        self.producers.extend(undo.forgotten);
    }

    /// Forgets producers that have not written for `expiration_ms`.
    pub fn expire(&mut self, now: Timestamp, expiration_ms: i64) {
        self.producers
            .retain(|_, p| now - p.last_seen < expiration_ms);
    }

    /// Forgets the tenth that wrote longest ago; of those that wrote at the same time, whose last
    /// batch lies lowest in the log: a replay sees many at the same time.
    fn forget_oldest(&mut self) -> Vec<(i64, Producer)> {
        let mut by_age: Vec<(Timestamp, Offset, i64)> = self
            .producers
            .iter()
            .map(|(id, p)| (p.last_seen, p.last_offset(), *id))
            .collect();
        by_age.sort_unstable();
        by_age.truncate(by_age.len().div_ceil(10));
        if let Some((last_seen, ..)) = by_age.last() {
            log::warn!(
                "a log forgot {} producers, which wrote last at {last_seen} or before: it keeps \
                 {PRODUCERS_MAX}",
                by_age.len()
            );
        }
        let forget = |(_, _, id): (_, _, i64)| Some((id, self.producers.remove(&id)?));
        by_age.into_iter().filter_map(forget).collect()
    }

    /// Takes over when each producer wrote last from `before`, who saw them write; a replay knows
    /// it less well.
    pub fn keep_times_of(&mut self, before: &ProducerState) {
        for (id, producer) in &mut self.producers {
            if let Some(seen) = before.producers.get(id) {
                producer.last_seen = seen.last_seen;
            }
        }
    }

    /// The snapshot's bytes: version, count, producers, CRC-32C of all before it.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + self.producers.len() * 160);
        bytes.put_u16(SNAPSHOT_VERSION);
        bytes.put_u32(self.producers.len() as u32);
        for (id, producer) in &self.producers {
            bytes.put_i64(*id);
            bytes.put_i16(producer.epoch);
            bytes.put_i64(producer.last_seen.0);
            bytes.put_u8(producer.batches.len() as u8);
            for batch in &producer.batches {
                bytes.put_i32(batch.first_sequence);
                bytes.put_i32(batch.last_sequence);
                bytes.put_i64(batch.base_offset.0);
                bytes.put_i64(batch.next_offset.0);
                bytes.put_i64(batch.timestamp.0);
            }
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.put_u32(crc);
        bytes
    }

    /// Reads a snapshot; `None` when it isn't what `encode` wrote.
    pub fn decode(bytes: &[u8]) -> Option<ProducerState> {
        let (body, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        if crc32c::crc32c(body) != u32::from_be_bytes(crc.try_into().ok()?) {
            return None;
        }
        let mut at = body;
        if at.remaining() < 6 || at.get_u16() != SNAPSHOT_VERSION {
            return None;
        }
        let count = at.get_u32();
        let mut producers = HashMap::new();
        for _ in 0..count {
            if at.remaining() < PRODUCER_BYTES {
                return None;
            }
            let id = at.get_i64();
            let epoch = at.get_i16();
            let last_seen = Timestamp(at.get_i64());
            let kept = usize::from(at.get_u8());
            if kept > BATCHES_KEPT_MAX || at.remaining() < kept * KEPT_BATCH_BYTES {
                return None;
            }
            let batches = (0..kept)
                .map(|_| KeptBatch {
                    first_sequence: at.get_i32(),
                    last_sequence: at.get_i32(),
                    base_offset: Offset(at.get_i64()),
                    next_offset: Offset(at.get_i64()),
                    timestamp: Timestamp(at.get_i64()),
                })
                .collect();
            producers.insert(
                id,
                Producer {
                    epoch,
                    last_seen,
                    batches,
                },
            );
        }
        at.is_empty().then_some(ProducerState { producers })
    }
}

const SNAPSHOT_VERSION: u16 = 1;
const PRODUCER_BYTES: usize = 8 + 2 + 8 + 1;
const KEPT_BATCH_BYTES: usize = 4 + 4 + 8 + 8 + 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LeaderEpoch;
    use crate::record::Attributes;

    fn batch(producer_id: i64, epoch: i16, sequence: i32, records: i32) -> BatchHeader {
        BatchHeader {
            base_offset: Offset(0),
            batch_length: 49,
            leader_epoch: LeaderEpoch(0),
            magic: 2,
            crc: 0,
            attributes: Attributes(0),
            last_offset_delta: records - 1,
            base_timestamp: Timestamp(1),
            max_timestamp: Timestamp(1),
            producer_id,
            producer_epoch: epoch,
            base_sequence: sequence,
            record_count: records,
        }
    }

    fn append(state: &mut ProducerState, header: &BatchHeader, offset: i64) {
        assert_eq!(state.check(header), Ok(None));
        state.record(header, Offset(offset), Timestamp(100));
    }

    #[test]
    fn a_batch_that_was_sent_twice_is_answered_with_its_first_offset() {
        let mut state = ProducerState::default();
        for n in 0..6 {
            append(&mut state, &batch(7, 0, n * 10, 10), i64::from(n) * 10);
        }
        let again = state.check(&batch(7, 0, 20, 10)).unwrap().unwrap();
        assert_eq!(again.base_offset, Offset(20));
        assert_eq!(again.next_offset, Offset(30));
        // The first of six isn't remembered any more: it is out of order, but never stored again.
        assert!(matches!(
            state.check(&batch(7, 0, 0, 10)),
            Err(AppendError::OutOfOrderSequence {
                expected: 60,
                got: 0,
                ..
            })
        ));
    }

    #[test]
    fn a_gap_is_refused_and_a_stale_epoch_is_fenced() {
        let mut state = ProducerState::default();
        append(&mut state, &batch(7, 3, 0, 5), 0);
        assert!(state.check(&batch(7, 3, 6, 1)).is_err());
        assert!(matches!(
            state.check(&batch(7, 2, 5, 1)),
            Err(AppendError::InvalidProducerEpoch {
                current: 3,
                got: 2,
                ..
            })
        ));
        // A new epoch starts at sequence 0 again.
        assert!(state.check(&batch(7, 4, 5, 1)).is_err());
        append(&mut state, &batch(7, 4, 0, 1), 5);
    }

    #[test]
    fn an_unknown_producer_starts_at_sequence_0() {
        let state = ProducerState::default();
        assert_eq!(
            state.check(&batch(9, 1, 777, 3)),
            Err(AppendError::UnknownProducer {
                producer_id: 9,
                got: 777
            })
        );
        assert_eq!(state.check(&batch(9, 1, 0, 3)), Ok(None));
    }

    #[test]
    fn sequences_wrap_after_the_largest() {
        let mut state = ProducerState::default();
        append(&mut state, &batch(7, 0, 0, i32::MAX - 1), 0);
        let base = i64::from(i32::MAX - 1);
        append(&mut state, &batch(7, 0, i32::MAX - 1, 3), base);
        append(&mut state, &batch(7, 0, 1, 1), base + 3);
        let again = state.check(&batch(7, 0, i32::MAX - 1, 3)).unwrap();
        assert_eq!(again.unwrap().base_offset, Offset(base));
    }

    #[test]
    fn a_batch_that_was_taken_back_can_be_sent_again() {
        let mut state = ProducerState::default();
        append(&mut state, &batch(7, 0, 0, 1), 0);
        let before = state.clone();
        let undo = state.record(&batch(7, 0, 1, 1), Offset(1), Timestamp(5));
        state.undo(undo.unwrap());
        assert_eq!(state, before);
    }

    #[test]
    fn producers_are_bounded_by_age_and_by_number() {
        let mut state = ProducerState::default();
        for id in 0..PRODUCERS_MAX as i64 + 10 {
            state.record(&batch(id, 0, 0, 1), Offset(id), Timestamp(id));
        }
        assert!(state.producers.len() <= PRODUCERS_MAX);
        assert!(state.producers.contains_key(&(PRODUCERS_MAX as i64 + 9)));
        state.expire(Timestamp(1_000_000), 1_000);
        assert!(state.is_empty());
    }

    #[test]
    fn the_tenth_that_wrote_longest_ago_is_forgotten_also_where_all_are_as_old() {
        let all = PRODUCERS_MAX as i64;
        let forgotten = all / 10;
        for ascending in [true, false] {
            let mut state = ProducerState::default();
            for offset in 0..all {
                let id = if ascending { offset } else { all - offset };
                state.record(&batch(id, 0, 0, 1), Offset(offset), Timestamp(5));
            }
            // One that is known needs no room.
            let newest = if ascending { all - 1 } else { 1 };
            state.record(&batch(newest, 0, 1, 1), Offset(all), Timestamp(5));
            assert_eq!(state.producers.len() as i64, all);
            let full = state.clone();
            let undo = state.record(&batch(all + 1, 0, 0, 1), Offset(all + 1), Timestamp(5));
            assert_eq!(state.producers.len() as i64, all - forgotten + 1);
            let is_kept = |p: &Producer| p.batches[0].base_offset >= Offset(forgotten);
            assert!(state.producers.values().all(is_kept));
            state.undo(undo.unwrap());
            assert!(state == full, "what was forgotten is back");
        }
    }

    #[test]
    fn a_snapshot_reads_back_and_a_damaged_one_does_not() {
        let mut state = ProducerState::default();
        append(&mut state, &batch(7, 0, 0, 1), 0);
        append(&mut state, &batch(8, 2, 0, 10), 1);
        let bytes = state.encode();
        assert_eq!(ProducerState::decode(&bytes), Some(state));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 4;
            assert_eq!(ProducerState::decode(&bad), None);
            assert_eq!(ProducerState::decode(&bytes[..at]), None);
        }
    }
}
