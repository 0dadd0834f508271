//! Power loss at every durable step, against a model.
//!
//! A seed drives a log through appends, syncs, checkpoints, deletions, truncations, closes and
//! restarts on a [`FaultyFs`], and the power goes in the middle of some operation on the disk. The
//! model knows what was released by a sync. After the restart that must be there, byte for byte
//! at its offset; whatever else is there must be what was appended there; and the log must go on.
//!
//! `KLAMM_SEEDS=100000 cargo test power_loss` runs more; a failure names its seed, and
//! `KLAMM_SEED=17` runs that one alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::tests::{batch_at, home, make_parent, read_all_from, stamp, stamped, NOW};
use super::*;
use crate::record::{Batch, Codec, ProducerStamp};
use crate::storage::fs::{FaultyFs, Random};

/// So many seeds are run when nobody asks for more.
const SEEDS: u64 = 2_000;
const OPERATIONS_A_LIFE_MAX: u64 = 150;
const LIVES: u64 = 3;

/// A batch as the model knows it.
#[derive(Clone, Debug)]
struct Known {
    base: Offset,
    next: Offset,
    bytes: Vec<u8>,
    /// Producer and first sequence, with the batch as it was sent.
    sent: Option<(i64, i32, Batch)>,
}

/// What must be, and what may be.
#[derive(Debug, Default)]
struct Model {
    /// What was appended, in the order of offsets; the last may have come to nothing.
    known: Vec<Known>,
    /// Everything below was released by a sync.
    durable: Offset,
    /// The start that was made durable, and the one that was asked for.
    start_durable: Offset,
    start_asked: Offset,
    /// Where the log was asked to begin anew, when the power went.
    anew_asked: Option<Offset>,
    /// The next sequence of each producer.
    sequences: BTreeMap<i64, i32>,
}

impl Model {
    fn began_anew(&mut self, at: Offset) {
        *self = Model {
            durable: at,
            start_durable: at,
            start_asked: at,
            ..Model::default()
        };
    }
}

struct World {
    seed: u64,
    random: Random,
    fs: FaultyFs,
    model: Model,
    epoch: LeaderEpoch,
}

fn config(random: &mut Random) -> LogConfig {
    LogConfig {
        segment_bytes: [8 << 10, 16 << 10, 1 << 20][random.below(3) as usize],
        index_interval_bytes: [0, 512, 4096][random.below(3) as usize],
        retention_bytes: Some(24 << 10),
        retention_ms: None,
        ..LogConfig::default()
    }
}

impl World {
    fn new(seed: u64) -> World {
        let fs = FaultyFs::new(seed);
        make_parent(&fs);
        World {
            seed,
            random: Random::new(seed),
            fs,
            model: Model::default(),
            epoch: LeaderEpoch(0),
        }
    }

    fn open(&mut self, last: Shutdown) -> Result<Log, LogError> {
        let config = config(&mut self.random);
        let fs = Arc::new(self.fs.clone());
        Log::open(fs, &home(), config, last, NOW, Lease::none())
    }

    /// One life of the log, in which the power goes at `operation`, counted from its first.
    fn live(&mut self, operation: u64) {
        self.fs.lose_power_at(self.fs.operations() + operation);
        let mut last = Shutdown::Unclean;
        while self.fs.has_power() {
            let Ok(mut log) = self.open(last) else {
                assert!(!self.fs.has_power(), "seed {}: it doesn't open", self.seed);
                break;
            };
            // As for a new leader.
            self.epoch = self.epoch.next();
            last = self.use_log(&mut log);
        }
        self.fs = self.fs.crash();
        self.check();
    }

    /// Uses the log until it is closed, killed, or without power.
    fn use_log(&mut self, log: &mut Log) -> Shutdown {
        while self.fs.has_power() {
            let failed = match self.random.below(25) {
                0..=9 => self.append(log),
                10..=15 => self.sync(log),
                16..=17 => log.checkpoint().run().is_err(),
                18 => self.delete_records(log),
                19 => self.retain(log),
                20 => self.truncate(log),
                21 => self.sync_late(log),
                22 if self.random.one_in(3) => {
                    if log.close().is_ok() {
                        self.model.durable = log.end_offset();
                    }
                    return Shutdown::Clean;
                }
                23 if self.random.one_in(3) => return Shutdown::Unclean,
                24 if self.random.one_in(2) => self.begin_anew(log),
                _ => false,
            };
            assert!(
                !failed || !self.fs.has_power(),
                "seed {}: an operation failed with the power on",
                self.seed
            );
        }
        Shutdown::Unclean
    }

    fn batches(&mut self) -> Vec<Batch> {
        let count = 1 + self.random.below(4);
        let batches = (0..count).map(|_| {
            let records = 1 + self.random.below(4) as usize;
            let bytes = [1, 60, 300, 1_500][self.random.below(4) as usize];
            let at = Timestamp(NOW.0 + self.random.below(1_000) as i64);
            let mut stamped = ProducerStamp::NONE;
            if self.random.one_in(2) {
                let producer = self.random.below(3) as i64;
                let sequence = self.model.sequences.entry(producer).or_default();
                stamped = stamp(producer, *sequence);
                *sequence += records as i32;
            }
            batch_at(at, records, bytes, stamped, Codec::None)
        });
        batches.collect()
    }

    /// A producer whose batches were all deleted may be forgotten; it starts at 0 again then.
    fn restart_forgotten_producers(&mut self, log: &Log) {
        for (producer, sequence) in &mut self.model.sequences {
            let next = batch_at(NOW, 1, 1, stamp(*producer, *sequence), Codec::None);
            if let Err(AppendError::UnknownProducer { .. }) = log.producers.check(next.header()) {
                let of_it = |k: &&Known| k.sent.as_ref().is_some_and(|s| s.0 == *producer);
                let newest = self.model.known.iter().rfind(of_it).map(|k| k.base);
                assert!(
                    newest < Some(log.start_offset()),
                    "seed {}: producer {producer} is forgotten, and wrote {newest:?}",
                    self.seed
                );
                *sequence = 0;
            }
        }
    }

    fn append(&mut self, log: &mut Log) -> bool {
        self.restart_forgotten_producers(log);
        let batches = self.batches();
        let mut next = log.end_offset();
        let appended = log.append(&batches, self.epoch, NOW);
        // Known before it is certain: when the power went, it may be there.
        for batch in &batches {
            let header = batch.header();
            let end = next + i64::from(header.last_offset_delta) + 1;
            let sent = (header.producer_id >= 0)
                .then(|| (header.producer_id, header.base_sequence, batch.clone()));
            self.model.known.push(Known {
                base: next,
                next: end,
                bytes: stamped(batch, next, self.epoch),
                sent,
            });
            next = end;
        }
        let Ok(appended) = appended else {
            return true;
        };
        for (result, known) in appended.iter().zip(self.last_known(batches.len())) {
            let appended = result.as_ref().expect("a sequence was refused");
            assert_eq!(
                (appended.base_offset, appended.next_offset),
                (known.base, known.next)
            );
        }
        false
    }

    fn last_known(&self, count: usize) -> &[Known] {
        &self.model.known[self.model.known.len() - count..]
    }

    fn sync(&mut self, log: &mut Log) -> bool {
        let Some(job) = log.begin_sync() else {
            return false;
        };
        self.complete(log, job)
    }

    /// A sync that runs while the log goes on.
    fn sync_late(&mut self, log: &mut Log) -> bool {
        let Some(job) = log.begin_sync() else {
            return false;
        };
        if self.append(log) {
            return true;
        }
        self.complete(log, job)
    }

    fn complete(&mut self, log: &mut Log, job: SyncJob) -> bool {
        if job.run().is_err() {
            return true;
        }
        log.complete_sync(job.covers());
        log.set_high_watermark(log.synced_offset());
        self.model.durable = log.synced_offset();
        false
    }

    fn delete_records(&mut self, log: &mut Log) -> bool {
        let start = log.start_offset();
        let span = log.high_watermark() - start;
        if span <= 0 || !self.random.one_in(2) {
            return false;
        }
        let to = start + self.random.below(span as u64 + 1) as i64;
        let removed = log
            .delete_records_before(to)
            .expect("it is below the high watermark");
        self.remove(removed)
    }

    fn retain(&mut self, log: &mut Log) -> bool {
        match log.apply_retention(NOW) {
            Ok(removed) => self.remove(removed),
            Err(_) => true,
        }
    }

    fn remove(&mut self, removed: Removed) -> bool {
        let start = removed.start_offset();
        self.model.start_asked = start;
        let failed = removed.remove().is_err();
        if !failed {
            self.model.start_durable = start;
        }
        failed
    }

    fn truncate(&mut self, log: &mut Log) -> bool {
        let low = log.start_offset().max(log.high_watermark());
        let span = log.end_offset() - low;
        if span <= 0 {
            return false;
        }
        let to = low + self.random.below(span as u64 + 1) as i64;
        // The batch that holds it goes as a whole.
        let held = self
            .model
            .known
            .iter()
            .find(|k| k.base <= to && to < k.next);
        let end = held.map_or(to, |k| k.base);
        self.model.durable = self.model.durable.min(end);
        if log.truncate_to(to).is_err() {
            return true;
        }
        assert_eq!(log.end_offset(), end);
        self.forget_beyond(end);
        self.epoch = self.epoch.next();
        false
    }

    /// Beyond the log's end, as a rule.
    fn begin_anew(&mut self, log: &mut Log) -> bool {
        let to = match self.random.one_in(4) {
            true => log.start_offset() + self.random.below(20) as i64,
            false => log.end_offset() + self.random.below(20) as i64,
        };
        self.model.anew_asked = Some(to);
        if begin_anew::begin_anew(log, to).is_err() {
            return true;
        }
        self.model.began_anew(to);
        // Its leader's epochs are others.
        self.epoch = LeaderEpoch(self.random.below(3) as i32);
        false
    }

    fn forget_beyond(&mut self, end: Offset) {
        while let Some(last) = self.model.known.pop_if(|k| k.next > end) {
            if let Some((producer, sequence, _)) = last.sent {
                self.model.sequences.insert(producer, sequence);
            }
        }
    }

    /// What the disk holds must be what the model knows.
    fn check(&mut self) {
        let seed = self.seed;
        let log = match self.open(Shutdown::Unclean) {
            Ok(log) => log,
            Err(error) => panic!("seed {seed}: it doesn't open after power loss: {error}"),
        };
        let (start, end) = (log.start_offset(), log.end_offset());
        if self.model.anew_asked == Some(start) && start == end {
            self.model.began_anew(start);
        }
        self.model.anew_asked = None;
        let model = &self.model;
        assert!(
            end >= model.durable,
            "seed {seed}: {end} is left of {} released",
            model.durable
        );
        assert!(
            start >= model.start_durable && start <= model.start_asked.max(model.start_durable),
            "seed {seed}: it starts at {start}: {} was durable, {} asked",
            model.start_durable,
            model.start_asked
        );
        assert_eq!(log.synced_offset(), end, "seed {seed}");
        let there = model.known.iter();
        let there = there.filter(|k| k.next > start && k.next <= end);
        let expected = there.map(|k| &k.bytes[..]).collect::<Vec<_>>().concat();
        let read = read_all_from(&log, start);
        let read = read.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert!(
            read == expected,
            "seed {seed}: other bytes between {start} and {end}"
        );
        self.forget_beyond(end);
        self.model.durable = end;
        self.model.start_durable = start;
        self.model.start_asked = start;
        self.check_producers(log);
    }

    /// The last batch of each producer is known as a duplicate, unless it has gone by retention.
    fn check_producers(&mut self, mut log: Log) {
        let mut newest = BTreeMap::new();
        for known in &self.model.known {
            if let (Some(sent), true) = (&known.sent, known.base >= log.start_offset()) {
                newest.insert(sent.0, (sent.2.clone(), known.base));
            }
        }
        for (batch, base) in newest.into_values() {
            let again = log.append(&[batch], self.epoch, NOW);
            let again = again.expect("the power is on").remove(0);
            let again = again.unwrap_or_else(|e| panic!("seed {}: {e}", self.seed));
            assert_eq!(again.base_offset, base, "seed {}", self.seed);
        }
    }
}

fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn power_loss_at_random_steps_loses_nothing_that_was_released() {
    let seeds = match number_of("KLAMM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number_of("KLAMM_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let mut world = World::new(seed);
        for _ in 0..LIVES {
            let operation = 1 + world.random.below(OPERATIONS_A_LIFE_MAX);
            world.live(operation);
        }
    }
}

#[test]
fn power_loss_at_every_single_step_loses_nothing_that_was_released() {
    for seed in 0..6 {
        for operation in 1..OPERATIONS_A_LIFE_MAX {
            World::new(seed).live(operation);
        }
    }
}
