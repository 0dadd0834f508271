//! Compaction against a model, with the power going and the disk failing at each step.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::super::begin_anew::begin_anew;
use super::super::tests::{home, make_parent, read_all_from, stamp, sync, DIR, NOW};
use super::*;
use crate::model::LeaderEpoch;
use crate::record::{Batch, BatchBuilder, BatchHeader, Codec, ProducerStamp};
use crate::storage::fs::{FaultyFs, Random};
use crate::storage::log::{LogConfig, Shutdown};

const EPOCH: LeaderEpoch = LeaderEpoch(0);
const MAP_BYTES: usize = 1 << 20;
const KEYS: u64 = 12;
const RETENTION_MS: i64 = 1_000;
/// How many seeds are run when nobody asks for more.
const SEEDS: u64 = 300;

fn compaction() -> CompactionConfig {
    CompactionConfig {
        dirty_millionths_min: 0,
        delete_retention_ms: RETENTION_MS,
        ..CompactionConfig::default()
    }
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 4 << 10,
        index_interval_bytes: 256,
        cleanup: Cleanup::Compact(compaction()),
        ..LogConfig::default()
    }
}

fn open(fs: &FaultyFs, config: LogConfig) -> Result<Log, LogError> {
    let fs = Arc::new(fs.clone());
    Log::open(fs, &home(), config, Shutdown::Unclean, NOW, Lease::none())
}

/// A record: its key, and its value unless it deletes the key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    key: u64,
    value: Option<Vec<u8>>,
}

fn record(random: &mut Random) -> Record {
    Record {
        key: random.below(KEYS),
        value: (!random.one_in(5)).then(|| {
            let len = [1, 20, 150, 400][random.below(4) as usize];
            (0..len).map(|_| random.draw() as u8).collect()
        }),
    }
}

fn batch_of(records: &[Record], stamp: ProducerStamp, codec: Codec) -> Batch {
    let mut builder = BatchBuilder::with_capacity(0);
    for record in records {
        let key = record.key.to_be_bytes();
        builder.append(NOW, Some(&key), record.value.as_deref(), &[]);
    }
    Batch::parse(builder.build(codec, stamp).unwrap()).unwrap()
}

/// What was appended, by offset.
type Model = BTreeMap<Offset, Record>;

/// A log with what was appended to it.
struct Written {
    fs: FaultyFs,
    random: Random,
    model: Model,
    /// Below it everything was synced.
    durable: Offset,
    /// The next sequence of a producer that writes all the time.
    sequence: i32,
}

impl Written {
    fn new(seed: u64) -> Written {
        let fs = FaultyFs::new(seed);
        make_parent(&fs);
        Written {
            fs,
            random: Random::new(seed),
            model: Model::new(),
            durable: Offset::ZERO,
            sequence: 0,
        }
    }

    fn append(&mut self, log: &mut Log) -> Result<(), LogError> {
        let count = 1 + self.random.below(4);
        let records: Vec<Record> = (0..count).map(|_| record(&mut self.random)).collect();
        let codec = [Codec::None, Codec::Lz4, Codec::Zstd][self.random.below(3) as usize];
        let idempotent = self.random.one_in(3);
        let stamp = match idempotent {
            true => stamp(7, self.sequence),
            false => ProducerStamp::NONE,
        };
        let mut next = log.end_offset();
        for record in &records {
            self.model.insert(next, record.clone());
            next = next + 1;
        }
        let batch = batch_of(&records, stamp, codec);
        let appended = log.append(&[batch], EPOCH, NOW)?;
        appended[0].as_ref().unwrap();
        if idempotent {
            self.sequence += records.len() as i32;
        }
        Ok(())
    }

    fn sync(&mut self, log: &mut Log) -> Result<(), LogError> {
        if let Some(job) = log.begin_sync() {
            job.run().map_err(LogError::sync_failed(Path::new(DIR)))?;
            log.complete_sync(job.covers());
        }
        log.set_high_watermark(log.synced_offset());
        self.durable = log.synced_offset();
        Ok(())
    }

    /// Some segments, all of it committed.
    fn fill(&mut self, log: &mut Log, batches: usize) {
        for _ in 0..batches {
            self.append(log).unwrap();
        }
        self.sync(log).unwrap();
    }

    /// The last record of each key is there, none that was deleted has come back, and nothing is
    /// where it wasn't.
    fn check(&self, log: &Log, context: &str) {
        let (start, end) = (log.start_offset(), log.end_offset());
        assert!(end >= self.durable, "{context}: it ends at {end}");
        let there = records_of(log, context);
        for (offset, record) in &there {
            assert_eq!(self.model.get(offset), Some(record), "{context}: {offset}");
        }
        let mut last = BTreeMap::new();
        for (offset, record) in self.model.range(..end) {
            last.insert(record.key, (*offset, record));
        }
        for (key, (offset, record)) in last {
            if offset < start {
                continue;
            }
            let kept = there.iter().rfind(|(_, kept)| kept.key == key);
            match &record.value {
                Some(_) => assert_eq!(kept, Some((&offset, record)), "{context}: key {key}"),
                None => assert!(
                    kept.is_none_or(|(kept, _)| *kept == offset),
                    "{context}: key {key} was deleted at {offset}, and is at {kept:?}"
                ),
            }
        }
    }
}

fn records_of(log: &Log, context: &str) -> Model {
    let start = log.start_offset();
    let bytes = read_all_from(log, start).unwrap_or_else(|e| panic!("{context}: {e}"));
    let mut records = Model::new();
    for batch in batches_of(bytes.into()) {
        for view in &batch.records(1 << 20).unwrap() {
            let view = view.unwrap();
            if view.offset >= start {
                let record = Record {
                    key: u64::from_be_bytes(view.key.unwrap().try_into().unwrap()),
                    value: view.value.map(<[u8]>::to_vec),
                };
                assert_eq!(view.timestamp, NOW);
                records.insert(view.offset, record);
            }
        }
    }
    records
}

fn batches_of(mut bytes: Bytes) -> Vec<Batch> {
    let mut batches = Vec::new();
    while !bytes.is_empty() {
        let size = BatchHeader::decode(&bytes).unwrap().size();
        batches.push(Batch::parse(bytes.split_to(size)).unwrap());
    }
    batches
}

fn compact_at(log: &mut Log, now: Timestamp, map_bytes: usize) -> Result<bool, LogError> {
    let Some(compaction) = log.plan_compaction(now, map_bytes)? else {
        return Ok(false);
    };
    let compacted = compaction.run(|replacement| log.replace(replacement))?;
    log.complete_compaction(&compacted);
    log.checkpoint()
        .run()
        .map_err(LogError::storage("write", Path::new(DIR)))?;
    Ok(true)
}

fn compact(log: &mut Log) -> bool {
    compact_at(log, NOW, MAP_BYTES).unwrap()
}

fn names(fs: &FaultyFs) -> Vec<String> {
    let mut names = fs.list(Path::new(DIR)).unwrap();
    names.sort();
    names
}

#[test]
fn the_last_record_of_each_key_stays_at_its_offset_and_the_others_go() {
    let mut world = Written::new(1);
    let mut log = open(&world.fs, config()).unwrap();
    world.fill(&mut log, 100);
    let before = log.size_bytes();
    let active_from = log.active.base;
    assert!(compact(&mut log));
    world.check(&log, "compacted");
    assert!(log.size_bytes() < before / 2);
    // Below the active segment each key has one record.
    let there = records_of(&log, "compacted");
    let mut keys: Vec<u64> = there.range(..active_from).map(|(_, r)| r.key).collect();
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), count);
    // Nothing is left to do, nor left behind.
    assert!(!compact(&mut log));
    assert!(!names(&world.fs).iter().any(|name| name.contains("tmp")));
    let log_files = names(&world.fs)
        .iter()
        .filter(|n| n.ends_with(".log"))
        .count();
    assert_eq!(log_files, log.sealed.len() + 1);
    // A start finds the same, and goes on.
    let bytes = read_all_from(&log, Offset(0)).unwrap();
    drop(log);
    let mut log = open(&world.fs.restart(), config()).unwrap();
    assert_eq!(read_all_from(&log, Offset(0)).unwrap(), bytes);
    assert!(!compact(&mut log));
}

#[test]
fn small_segments_become_one_and_their_files_go() {
    let mut world = Written::new(11);
    let mut log = open(&world.fs, config()).unwrap();
    world.fill(&mut log, 100);
    let segments = log.sealed.len();
    assert!(compact(&mut log));
    world.check(&log, "compacted");
    assert!(log.sealed.len() < segments / 2);
    let files_of = |suffix: &str| {
        let names = names(&world.fs);
        names.iter().filter(|name| name.ends_with(suffix)).count()
    };
    assert_eq!(files_of(".log"), log.sealed.len() + 1);
    assert!(files_of(".snapshot") <= log.sealed.len() + 1);
    for sealed in &log.sealed {
        let start = sealed.start_for(&log.fs, &log.dir, sealed.next + -1);
        assert!(start.position > 0 || sealed.size < 600, "{sealed:?}");
    }
}

#[test]
fn the_active_segment_and_what_is_not_committed_are_not_touched() {
    let mut world = Written::new(2);
    let mut log = open(&world.fs, config()).unwrap();
    world.fill(&mut log, 60);
    let high_watermark = log.sealed[1].next + 1;
    log.set_high_watermark(high_watermark);
    let from = log.sealed[2].base;
    let bytes = read_all_from(&log, from).unwrap();
    assert!(compact(&mut log));
    assert_eq!(read_all_from(&log, from).unwrap(), bytes);
    // What isn't on disk isn't either.
    world.append(&mut log).unwrap();
    while log.sealed.back().unwrap().next <= log.synced_offset() {
        world.append(&mut log).unwrap();
    }
    log.set_high_watermark(log.end_offset());
    let plan = log.plan_compaction(NOW, MAP_BYTES).unwrap().unwrap();
    assert!(plan.cleanable_to <= log.synced_offset());
}

#[test]
fn a_tombstone_stays_for_its_time_and_what_it_deletes_does_not_come_back() {
    let fs = FaultyFs::new(3);
    make_parent(&fs);
    let mut log = open(&fs, config()).unwrap();
    let append = |log: &mut Log, key, value: Option<usize>| {
        let value = value.map(|len| vec![1; len]);
        let batch = batch_of(&[Record { key, value }], ProducerStamp::NONE, Codec::None);
        log.append(&[batch], EPOCH, NOW).unwrap();
    };
    let roll_and_compact = |log: &mut Log, now| {
        log.roll(now).unwrap();
        sync(log);
        log.set_high_watermark(log.end_offset());
        append(log, 99, Some(10));
        compact_at(log, now, MAP_BYTES).unwrap()
    };
    let tombstones = |log: &Log| {
        let there = records_of(log, "").into_iter();
        there.filter(|(_, r)| r.key == 1).collect::<Vec<_>>()
    };
    let one = |value: Option<usize>| Record {
        key: 1,
        value: value.map(|len| vec![1; len]),
    };
    log.append(
        &[batch_of(&[one(Some(5))], ProducerStamp::NONE, Codec::None)],
        EPOCH,
        NOW,
    )
    .unwrap();
    log.append(
        &[batch_of(&[one(None)], ProducerStamp::NONE, Codec::None)],
        EPOCH,
        NOW,
    )
    .unwrap();
    assert!(roll_and_compact(&mut log, NOW));
    assert_eq!(tombstones(&log), [(Offset(1), one(None))]);
    // Its time hasn't passed; then it has.
    let later = |ms| Timestamp(NOW.0 + ms);
    assert!(roll_and_compact(&mut log, later(RETENTION_MS)));
    assert_eq!(tombstones(&log), [(Offset(1), one(None))]);
    assert!(roll_and_compact(&mut log, later(RETENTION_MS + 1)));
    assert_eq!(tombstones(&log), []);
}

#[test]
fn a_producer_is_known_by_its_last_batch_though_its_records_are_gone() {
    let mut world = Written::new(4);
    let mut log = open(&world.fs, config()).unwrap();
    let record = |len| Record {
        key: 1,
        value: Some(vec![2; len]),
    };
    let first = batch_of(&[record(10), record(11)], stamp(5, 0), Codec::None);
    let second = batch_of(&[record(12)], stamp(5, 2), Codec::None);
    for batch in [&first, &second] {
        log.append(std::slice::from_ref(batch), EPOCH, NOW).unwrap();
    }
    world.sequence = 0;
    world
        .model
        .extend((0..3).map(|n| (Offset(n), record(10 + n as usize))));
    world.fill(&mut log, 100);
    assert!(compact(&mut log));
    assert!(!records_of(&log, "").contains_key(&Offset(2)));
    drop(log);
    let fs = world.fs.restart();
    for name in names(&fs).iter().filter(|name| name.ends_with("snapshot")) {
        fs.remove(&Path::new(DIR).join(name)).unwrap();
    }
    let mut log = open(&fs, config()).unwrap();
    let again = log
        .append(&[second], EPOCH, NOW)
        .unwrap()
        .remove(0)
        .unwrap();
    assert_eq!(again.base_offset, Offset(2));
    let next = batch_of(&[record(13)], stamp(5, 3), Codec::None);
    let next = log.append(&[next], EPOCH, NOW).unwrap().remove(0);
    assert!(next.is_ok(), "{next:?}");
}

#[test]
fn a_small_map_takes_more_than_one_go() {
    let mut world = Written::new(5);
    let mut log = open(&world.fs, config()).unwrap();
    world.fill(&mut log, 100);
    let map_bytes = 6 * offset_map::OffsetMap::SLOT_BYTES;
    let mut goes = 0;
    while compact_at(&mut log, Timestamp(NOW.0 + 10_000 * goes), map_bytes).unwrap() {
        goes += 1;
        world.check(&log, "on the way");
        assert!(goes < 1_000);
    }
    assert!(goes > 2);
    // The clean part has been through the map, a few keys at a time.
    assert_eq!(log.clean_to, log.sealed.back().unwrap().next);
}

#[test]
fn a_log_is_compacted_when_enough_of_it_is_dirty_or_something_is_old() {
    let mut world = Written::new(6);
    let mut log = open(&world.fs, config()).unwrap();
    world.fill(&mut log, 100);
    assert!(compact(&mut log));
    while log.sealed.back().unwrap().next == log.clean_to {
        world.append(&mut log).unwrap();
    }
    world.sync(&mut log).unwrap();
    let plan = |log: &mut Log, config: CompactionConfig, now: i64| {
        log.config.cleanup = Cleanup::Compact(config);
        let plan = log.plan_compaction(Timestamp(NOW.0 + now), MAP_BYTES);
        plan.unwrap().is_some()
    };
    let clean = log.size_bytes() - log.active.size - log.sealed.back().unwrap().size;
    let dirty = log.sealed.back().unwrap().size;
    let share = (dirty * 1_000_000 / (clean + dirty)) as u32;
    let at = |dirty_millionths_min| CompactionConfig {
        dirty_millionths_min,
        ..compaction()
    };
    assert!(plan(&mut log, at(share - 1), 0));
    assert!(!plan(&mut log, at(share + 1), 0));
    let overdue = CompactionConfig {
        lag_ms_max: 500,
        ..at(1_000_000)
    };
    assert!(!plan(&mut log, overdue, 500));
    assert!(plan(&mut log, overdue, 501));
    let young = CompactionConfig {
        lag_ms_min: 700,
        ..at(0)
    };
    assert!(!plan(&mut log, young, 699));
    assert!(plan(&mut log, young, 700));
}

/// The disk fails once at each step: nothing is lost, and the next compaction does the work.
#[test]
fn an_error_at_any_step_loses_nothing() {
    let mut steps = 0;
    for step in 1.. {
        let mut world = Written::new(7);
        let mut log = open(&world.fs, config()).unwrap();
        world.fill(&mut log, 60);
        let fail_at = world.fs.operations() + step;
        world.fs.fail_at(fail_at);
        let failed = compact_at(&mut log, NOW, MAP_BYTES).is_err();
        world.check(&log, &format!("step {step}"));
        if failed {
            steps += 1;
            let _ = compact_at(&mut log, NOW, MAP_BYTES).unwrap();
            world.check(&log, &format!("after step {step}"));
        }
        drop(log);
        let log = open(&world.fs.restart(), config()).unwrap();
        world.check(&log, &format!("step {step}, started again"));
        if world.fs.operations() < fail_at {
            break;
        }
    }
    assert!(steps > 10, "{steps}");
}

/// Kill and power loss at each step of a compaction, and of the start after it.
#[test]
fn a_crash_at_any_step_loses_nothing() {
    for seed in 0..8 {
        for step in 1.. {
            let mut world = Written::new(seed);
            let mut log = open(&world.fs, config()).unwrap();
            world.fill(&mut log, 40);
            world.fs.lose_power_at(world.fs.operations() + step);
            let result = compact_at(&mut log, NOW, MAP_BYTES);
            drop(log);
            let is_over = world.fs.has_power();
            assert!(result.is_err() || is_over);
            for fs in [world.fs.restart(), world.fs.crash()] {
                let context = format!("seed {seed}, step {step}");
                let mut log = open(&fs, config()).unwrap_or_else(|e| panic!("{context}: {e}"));
                world.check(&log, &context);
                compact_at(&mut log, NOW, MAP_BYTES).unwrap();
                world.check(&log, &format!("{context}, compacted again"));
            }
            if is_over {
                break;
            }
        }
    }
}

/// A kill when the merged segment has its place and some of the others are still there. Then records are
/// deleted up to beyond where the second of them begins.
#[test]
fn a_merged_segment_is_not_taken_for_a_deleted_one() {
    let mut world = Written::new(12);
    let mut log = open(&world.fs, config()).unwrap();
    world.fill(&mut log, 60);
    let (second, third) = (log.sealed[1].base, log.sealed[2].base);
    assert!(third > second + 3);
    let plan = log.plan_compaction(NOW, MAP_BYTES).unwrap().unwrap();
    let killed = plan.run(|replacement| {
        let replaced = log.replace(replacement);
        assert!(replaced.is_ok());
        Err(LogError::Superseded)
    });
    assert!(killed.is_err());
    assert!(log.sealed[0].next > second + 3);
    let removed = log.delete_records_before(second + 3).unwrap();
    removed.remove().unwrap();
    drop(log);
    let fs = world.fs.restart();
    let path = segment_path(Path::new(DIR), third, LOG_SUFFIX);
    fs.remove(&path).unwrap();
    let log = open(&fs, config()).unwrap();
    assert_eq!(log.start_offset(), second + 3);
    world.check(&log, "killed");
    let log_files = names(&fs).iter().filter(|n| n.ends_with(".log")).count();
    assert_eq!(log_files, log.sealed.len() + 1);
}

/// The cleaner is slow: the log is cut and written to before it removes what is left over, and a new segment
/// has the name of an old one by then.
#[test]
fn what_is_left_over_goes_before_its_names_are_given_again() {
    let mut world = Written::new(14);
    let mut log = open(&world.fs, config()).unwrap();
    world.fill(&mut log, 60);
    let second = log.sealed[1].base;
    let plan = log.plan_compaction(NOW, MAP_BYTES).unwrap().unwrap();
    let result = plan.run(|replacement| {
        let replaced = log.replace(replacement)?;
        begin_anew(&mut log, second)?;
        world.model.clear();
        world.append(&mut log)?;
        world.sync(&mut log)?;
        Ok(replaced)
    });
    assert!(result.is_ok() || matches!(result, Err(LogError::Superseded)));
    drop(log);
    let log = open(&world.fs.restart(), config()).unwrap();
    assert_eq!(log.start_offset(), second);
    world.check(&log, "begun anew");
}

/// Else one of them could fit what is written after a truncation.
#[test]
fn the_files_that_a_compaction_has_removed_do_not_come_back() {
    for seed in 0..8 {
        let mut world = Written::new(seed);
        let mut log = open(&world.fs, config()).unwrap();
        world.fill(&mut log, 60);
        let plan = log.plan_compaction(NOW, MAP_BYTES).unwrap().unwrap();
        plan.run(|replacement| log.replace(replacement)).unwrap();
        let after = names(&world.fs.crash());
        let log_files = after.iter().filter(|n| n.ends_with(".log")).count();
        assert!(log_files <= log.sealed.len() + 1, "seed {seed}: {after:?}");
    }
}

/// The map may be full between a value and the tombstone that deletes it, in one segment. What it knows
/// nothing of stays, however old.
#[test]
fn a_tombstone_beyond_the_map_does_not_go_before_what_it_deletes() {
    let mut world = Written::new(13);
    let mut log = open(&world.fs, config()).unwrap();
    let records = [
        (1, Some(vec![1])),
        (2, Some(vec![2])),
        (3, Some(vec![3])),
        (1, None),
    ];
    for (offset, (key, value)) in (0..).zip(records) {
        let record = Record { key, value };
        let batch = batch_of(
            std::slice::from_ref(&record),
            ProducerStamp::NONE,
            Codec::None,
        );
        log.append(&[batch], EPOCH, NOW).unwrap();
        world.model.insert(Offset(offset), record);
    }
    log.roll(NOW).unwrap();
    world.sync(&mut log).unwrap();
    // One key at a time, and each time a horizon has passed.
    let mut now = NOW;
    while compact_at(&mut log, now, 0).unwrap() {
        world.check(&log, &format!("clean to {}", log.clean_to));
        now = Timestamp(now.0 + RETENTION_MS + 1);
    }
    assert_eq!(log.clean_to, Offset(4));
}

/// A log that is written to, synced, compacted, cut at its start, closed and killed, with the power going
/// at random.
#[test]
fn random_lives_of_a_compacted_log_keep_what_the_model_says() {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|n: String| n.parse().ok())
    };
    let seeds = match number("KLAMM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("KLAMM_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let mut world = Written::new(seed);
        for life in 0..3 {
            let operation = 1 + world.random.below(250);
            let operation = world.fs.operations() + operation;
            world.fs.lose_power_at(operation);
            world.live();
            world.fs = world.fs.crash();
            let context = format!("seed {seed}, life {life}");
            let log = open(&world.fs, config()).unwrap_or_else(|e| panic!("{context}: {e}"));
            world.check(&log, &context);
            world.forget_beyond(&log);
        }
    }
}

impl Written {
    fn live(&mut self) {
        let mut now = NOW;
        while self.fs.has_power() {
            let Ok(mut log) = open(&self.fs, config()) else {
                assert!(!self.fs.has_power());
                return;
            };
            while self.fs.has_power() {
                now = Timestamp(now.0 + self.random.below(400) as i64);
                let map_bytes = [4 * 24, 8 * 24, MAP_BYTES][self.random.below(3) as usize];
                let result = match self.random.below(20) {
                    0..=11 => self.append(&mut log),
                    12..=14 => self.sync(&mut log),
                    15 => compact_at(&mut log, now, map_bytes).map(|_| ()),
                    16 if log.active.size > 0 => log.roll(now),
                    17 if self.random.one_in(4) => self.delete_records(&mut log),
                    18 if self.random.one_in(3) => {
                        if log.close().is_ok() {
                            self.durable = log.end_offset();
                        }
                        break;
                    }
                    19 if self.random.one_in(3) => log
                        .checkpoint()
                        .run()
                        .map_err(LogError::storage("write", Path::new(DIR))),
                    _ => Ok(()),
                };
                assert!(result.is_ok() || !self.fs.has_power(), "{result:?}");
            }
        }
    }

    fn delete_records(&mut self, log: &mut Log) -> Result<(), LogError> {
        let span = log.high_watermark() - log.start_offset();
        let to = log.start_offset() + self.random.below(span.max(0) as u64 + 1) as i64;
        log.delete_records_before(to)?.remove()
    }

    /// What the crash has taken is written anew.
    fn forget_beyond(&mut self, log: &Log) {
        self.model.split_off(&log.end_offset());
        self.durable = log.end_offset();
        // The producer goes on with another id's worth of sequences.
        let mut header = *batch_of(
            &[Record {
                key: 0,
                value: None,
            }],
            stamp(7, 0),
            Codec::None,
        )
        .header();
        self.sequence = (0..)
            .find(|sequence| {
                header.base_sequence = *sequence;
                matches!(log.producers.check(&header), Ok(None))
            })
            .unwrap();
    }
}

#[test]
fn a_rotten_batch_ends_a_compaction_and_stays_where_it_is() {
    let mut world = Written::new(8);
    let mut log = open(&world.fs, config()).unwrap();
    world.fill(&mut log, 60);
    let path = segment_path(Path::new(DIR), log.sealed[1].base, LOG_SUFFIX);
    world.fs.flip_bit(&path, 500, 3);
    let error = compact_at(&mut log, NOW, MAP_BYTES).unwrap_err();
    assert!(
        matches!(&error, LogError::Corrupt { file, .. } if *file == path),
        "{error}"
    );
    assert!(!names(&world.fs).iter().any(|name| name.contains("tmp")));
}

#[test]
fn a_log_that_is_closed_or_cut_is_not_compacted_any_further() {
    let mut world = Written::new(9);
    let mut log = open(&world.fs, config()).unwrap();
    world.fill(&mut log, 60);
    let closed = log.plan_compaction(NOW, MAP_BYTES).unwrap().unwrap();
    let cut = log.plan_compaction(NOW, MAP_BYTES).unwrap().unwrap();
    let result = cut.run(|replacement| {
        let removed = log.delete_records_before(log.sealed[0].next).unwrap();
        removed.remove().unwrap();
        log.replace(replacement)
    });
    assert!(matches!(result, Err(LogError::Superseded)), "{result:?}");
    world.check(&log, "cut");
    log.close().unwrap();
    let result = closed.run(|_| panic!("nobody wants it"));
    assert!(matches!(result, Err(LogError::Superseded)), "{result:?}");
    assert!(!names(&world.fs).iter().any(|name| name.contains("tmp")));
}

#[test]
fn compact_alone_keeps_what_delete_would_take() {
    let mut world = Written::new(10);
    let mut log = open(&world.fs, config()).unwrap();
    world.fill(&mut log, 60);
    let late = Timestamp(NOW.0 + 1_000_000);
    log.config.retention_ms = Some(1_000);
    assert!(log.apply_retention(late).unwrap().is_empty());
    log.config.cleanup = Cleanup::CompactAndDelete(compaction());
    let removed = log.apply_retention(late).unwrap();
    assert_eq!(removed.start_offset(), log.end_offset());
}

#[test]
fn a_compaction_of_a_log_that_is_begun_anew_leaves_the_new_one_alone() {
    let mut written = Written::new(1);
    let mut log = open(&written.fs, config()).unwrap();
    for _ in 0..3 {
        // What was cleaned once is small, so several segments become one.
        compact(&mut log);
        written.fill(&mut log, 40);
    }
    let compaction = log.plan_compaction(NOW, MAP_BYTES).unwrap().unwrap();
    let mut begun_at = None;
    let ended = compaction.run(|replacement| {
        // A segment that goes, whose name is that of the new log's first.
        let base = replacement.group.get(1).map(|sealed| sealed.base);
        let replaced = log.replace(replacement)?;
        if let (None, Some(base)) = (begun_at, base) {
            begun_at = Some(base);
            begin_anew(&mut log, base).unwrap();
        }
        Ok(replaced)
    });
    assert!(matches!(ended, Err(LogError::Superseded)), "{ended:?}");
    written.model.clear();
    written.sequence = 0;
    written.durable = begun_at.unwrap();
    written.fill(&mut log, 3);
    written.check(&log, "begun anew");
    drop(log);
    let log = open(&written.fs.crash(), config()).unwrap();
    assert_eq!(Some(log.start_offset()), begun_at);
    written.check(&log, "after a crash");
}
