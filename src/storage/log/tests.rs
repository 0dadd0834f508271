//! What a log promises, step by step, in memory and on a real file system.

use std::io::IoSlice;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::index::{Entry, OffsetEntry, TimeEntry};
use super::segment::{segment_path, LOG_SUFFIX};
use super::*;
use crate::record::{Batch, BatchBuilder, BatchHeader, Codec, ProducerStamp};
use crate::storage::fs::{create_dir_durably, read_all, replace_unsynced, FaultyFs, RealFs};
use crate::storage::witness::LogHome;

pub(super) const DIR: &str = "/data/logs/t-0";
pub(super) const NOW: Timestamp = Timestamp(1_700_000_000_000);
const EPOCH: LeaderEpoch = LeaderEpoch(0);

const WITNESS: &str = "/data/witnesses/t-0";

/// Makes the directories that hold the logs and their witnesses, as the data directory does.
pub(super) fn make_parent(fs: &FaultyFs) {
    for file in [DIR, WITNESS] {
        create_dir_durably(fs, Path::new(file).parent().unwrap()).unwrap();
    }
}

/// A batch of `records` records whose values have `value_bytes` bytes; its timestamps ascend by
/// one from `at`.
pub(super) fn batch_at(
    at: Timestamp,
    records: usize,
    value_bytes: usize,
    stamp: ProducerStamp,
    codec: Codec,
) -> Batch {
    let mut builder = BatchBuilder::with_capacity(0);
    for n in 0..records {
        let value = vec![b'a' + (n % 26) as u8; value_bytes];
        builder.append(Timestamp(at.0 + n as i64), None, Some(&value), &[]);
    }
    Batch::parse(builder.build(codec, stamp).unwrap()).unwrap()
}

pub(super) fn batch(records: usize, value_bytes: usize) -> Batch {
    batch_at(NOW, records, value_bytes, ProducerStamp::NONE, Codec::None)
}

pub(super) fn stamp(producer_id: i64, base_sequence: i32) -> ProducerStamp {
    ProducerStamp {
        producer_id,
        producer_epoch: 0,
        base_sequence,
    }
}

pub(super) fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 16 << 10,
        index_interval_bytes: 1 << 10,
        ..LogConfig::default()
    }
}

type Found = Result<Option<TimestampedOffset>, LogError>;

impl Log {
    /// Closes the log, and waits for it.
    pub(super) fn close(&mut self) -> Result<(), LogError> {
        self.begin_close()?.run()
    }

    fn find_timestamp(&self, at: Timestamp, upper: Offset) -> Found {
        self.plan_lookup(LookFor::AtOrAfter(at), upper).run()
    }

    fn max_timestamp(&self, upper: Offset) -> Found {
        self.plan_lookup(LookFor::Largest, upper).run()
    }
}

pub(super) fn home() -> LogHome {
    LogHome {
        dir: DIR.into(),
        witness: Witness::at(WITNESS.into()),
    }
}

pub(super) fn open(fs: &FaultyFs, config: LogConfig) -> Result<Log, LogError> {
    make_parent(fs);
    let fs = Arc::new(fs.clone());
    Log::open(fs, &home(), config, Shutdown::Unclean, NOW, Lease::none())
}

fn open_real(dir: &Path) -> Log {
    let fs = Arc::new(RealFs);
    Log::open(
        fs,
        &LogHome::unwitnessed(dir),
        config(),
        Shutdown::Clean,
        NOW,
        Lease::none(),
    )
    .unwrap()
}

pub(super) fn append(log: &mut Log, batches: &[Batch]) -> Vec<Offset> {
    let appended = log.append(batches, EPOCH, NOW).unwrap();
    appended
        .into_iter()
        .map(|a| a.unwrap().base_offset)
        .collect()
}

pub(super) fn sync(log: &mut Log) {
    if let Some(job) = log.begin_sync() {
        job.run().unwrap();
        log.complete_sync(job.covers());
    }
}

/// Everything from `from` on, read plan by plan.
pub(super) fn read_all_from(log: &Log, from: Offset) -> Result<Vec<u8>, LogError> {
    let mut all = Vec::new();
    let mut next = from;
    while next < log.end_offset() {
        let plan = log.plan_read(next, log.end_offset(), 3_000, FirstBatch::Always)?;
        let bytes = match plan.read_cached()? {
            Some(bytes) => bytes,
            None => plan.read()?,
        };
        assert!(!bytes.is_empty(), "nothing to read at {next}");
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            let header = BatchHeader::decode(&rest).unwrap();
            next = header.next_offset();
            rest = rest.slice(header.size()..);
        }
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

/// The bytes that the log must serve of a batch.
pub(super) fn stamped(batch: &Batch, base_offset: Offset, epoch: LeaderEpoch) -> Vec<u8> {
    let mut bytes = batch.bytes().to_vec();
    bytes[..8].copy_from_slice(&base_offset.0.to_be_bytes());
    bytes[12..16].copy_from_slice(&epoch.0.to_be_bytes());
    bytes
}

fn segments(fs: &FaultyFs) -> Vec<String> {
    let mut names = fs.list(Path::new(DIR)).unwrap();
    names.retain(|name| name.ends_with(LOG_SUFFIX));
    names
}

pub(super) fn fill(log: &mut Log, batches: usize) -> Vec<u8> {
    let mut all = Vec::new();
    for n in 0..batches {
        let batch = batch(1 + n % 5, [10, 100, 700, 3_000][n % 4]);
        let base = append(log, std::slice::from_ref(&batch))[0];
        all.extend(stamped(&batch, base, EPOCH));
    }
    all
}

#[test]
fn what_is_appended_is_read_byte_for_byte_also_after_reopening() {
    let fs = FaultyFs::new(1);
    let mut log = open(&fs, config()).unwrap();
    let all = fill(&mut log, 100);
    assert!(segments(&fs).len() > 3, "{:?}", segments(&fs));
    assert_eq!(read_all_from(&log, Offset(0)).unwrap(), all);
    log.close().unwrap();
    let log = open(&fs, config()).unwrap();
    assert_eq!(read_all_from(&log, Offset(0)).unwrap(), all);
    assert_eq!(log.synced_offset(), log.end_offset());
    assert_eq!(log.size_bytes(), all.len() as u64);
}

#[test]
fn the_same_holds_on_a_real_file_system() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("t-0");
    let open = || open_real(&dir);
    let mut log = open();
    let mut all = fill(&mut log, 60);
    sync(&mut log);
    assert_eq!(log.synced_offset(), log.end_offset());
    assert_eq!(read_all_from(&log, Offset(0)).unwrap(), all);
    log.close().unwrap();
    let mut log = open();
    all.extend(fill(&mut log, 60));
    // Not closed: as after a kill.
    drop(log);
    let log = open();
    assert_eq!(read_all_from(&log, Offset(0)).unwrap(), all);
}

#[test]
fn a_read_holds_whole_batches_within_its_limits() {
    let fs = FaultyFs::new(1);
    let mut log = open(&fs, LogConfig::default()).unwrap();
    let batches: Vec<Batch> = (0..10).map(|_| batch(10, 100)).collect();
    append(&mut log, &batches);
    let size = batches[0].bytes().len();
    let read = |from, upper, max_bytes, first| {
        let plan = log.plan_read(Offset(from), Offset(upper), max_bytes, first);
        let bytes = plan.unwrap().read().unwrap();
        assert_eq!(bytes.len() % size, 0);
        (
            bytes.len() / size,
            Batch::parse(bytes.slice(..size.min(bytes.len()))).ok(),
        )
    };
    // From the batch that holds the offset, up to the limit of bytes.
    let (batches, first) = read(25, 100, 3 * size, FirstBatch::Always);
    assert_eq!(batches, 3);
    assert_eq!(first.unwrap().header().base_offset, Offset(20));
    // Below the upper offset only, also where that lies within a batch.
    assert_eq!(read(0, 40, usize::MAX >> 1, FirstBatch::Always).0, 4);
    assert_eq!(read(0, 39, usize::MAX >> 1, FirstBatch::Always).0, 3);
    // A batch that is larger than the limit comes only if the first must.
    assert_eq!(read(0, 100, 10, FirstBatch::Always).0, 1);
    assert_eq!(read(0, 100, 10, FirstBatch::IfFits).0, 0);
    assert_eq!(read(100, 100, 10, FirstBatch::Always).0, 0);
    let beyond = log.plan_read(Offset(101), Offset(200), 10, FirstBatch::Always);
    assert!(matches!(beyond, Err(LogError::OffsetOutOfRange { .. })));
}

#[test]
fn log_append_time_is_stamped_and_the_checksum_made_anew() {
    let fs = FaultyFs::new(1);
    let config = LogConfig {
        timestamp_type: TimestampType::LogAppendTime,
        ..config()
    };
    let mut log = open(&fs, config).unwrap();
    let late = Timestamp(NOW.0 + 5_000);
    let appended = log.append(&[batch(3, 10)], LeaderEpoch(7), late).unwrap();
    assert_eq!(appended[0].as_ref().unwrap().log_append_time, late);
    let bytes = read_all_from(&log, Offset(0)).unwrap();
    let stored = Batch::parse(bytes.into()).unwrap();
    assert_eq!(stored.header().max_timestamp, late);
    assert_eq!(stored.header().leader_epoch, LeaderEpoch(7));
    let records = stored.records(1 << 20).unwrap();
    assert!(records.iter().all(|r| r.unwrap().timestamp == late));
}

#[test]
fn a_sync_covers_what_was_appended_before_it_and_not_what_came_later() {
    let fs = FaultyFs::new(1);
    let mut log = open(&fs, config()).unwrap();
    append(&mut log, &[batch(5, 10)]);
    assert_eq!(log.synced_offset(), Offset(0));
    let job = log.begin_sync().unwrap();
    append(&mut log, &[batch(5, 10)]);
    job.run().unwrap();
    log.complete_sync(job.covers());
    assert_eq!(log.synced_offset(), Offset(5));
    sync(&mut log);
    assert_eq!(log.synced_offset(), Offset(10));
    assert!(log.begin_sync().is_none());
}

#[test]
fn a_sync_that_began_before_a_truncation_covers_nothing_that_came_after_it() {
    let fs = FaultyFs::new(1);
    let mut log = open(&fs, config()).unwrap();
    append(&mut log, &[batch(5, 10), batch(5, 10)]);
    let job = log.begin_sync().unwrap();
    job.run().unwrap();
    log.truncate_to(Offset(5)).unwrap();
    append(&mut log, &[batch(5, 10)]);
    log.complete_sync(job.covers());
    assert!(log.synced_offset() <= Offset(5));
}

#[test]
fn the_name_of_a_segment_that_an_earlier_life_made_is_synced_by_the_next() {
    for seed in 0..20 {
        let fs = FaultyFs::new(seed);
        let mut log = open(&fs, config()).unwrap();
        let mut all = fill(&mut log, 3);
        sync(&mut log);
        log.checkpoint().run().unwrap();
        log.roll(NOW).unwrap();
        // Killed, with the power on.
        drop(log);
        let mut log = open(&fs, config()).unwrap();
        all.extend(fill(&mut log, 3));
        sync(&mut log);
        let log = open(&fs.crash(), config()).unwrap();
        assert_eq!(read_all_from(&log, Offset(0)).unwrap(), all, "seed {seed}");
    }
}

#[test]
fn the_directory_of_a_log_is_on_disk_before_its_checkpoint_is() {
    for seed in 0..20 {
        let fs = FaultyFs::new(seed);
        let mut log = open(&fs, config()).unwrap();
        append(&mut log, &[batch(5, 10)]);
        // As with acknowledgements from memory.
        log.set_high_watermark(log.end_offset());
        let removed = log.delete_records_before(Offset(5)).unwrap();
        removed.remove().unwrap();
        let log = open(&fs.crash(), config()).unwrap();
        assert_eq!(log.start_offset(), Offset(5), "seed {seed}");
    }
}

#[test]
fn a_log_whose_directory_vanished_is_not_made_anew() {
    let fs = FaultyFs::new(1);
    let mut log = open(&fs, config()).unwrap();
    fill(&mut log, 3);
    sync(&mut log);
    drop(log);
    fs.remove_dir_all(Path::new(DIR)).unwrap();
    let error = open(&fs, config()).unwrap_err();
    assert!(matches!(error, LogError::Vanished { .. }), "{error}");
    assert!(error.to_string().contains(DIR), "{error}");
    assert!(!fs.is_dir(Path::new(DIR)).unwrap(), "it was made");
    // Empty, it is no better.
    fs.create_dir_all(Path::new(DIR)).unwrap();
    let error = open(&fs, config()).unwrap_err();
    assert!(error.to_string().contains(DIR), "{error}");
    // Whoever removes the witness says that the loss is known.
    fs.remove(Path::new(WITNESS)).unwrap();
    assert_eq!(open(&fs, config()).unwrap().end_offset(), Offset(0));
}

#[test]
fn a_log_without_a_witness_gets_one_when_it_is_opened() {
    let fs = FaultyFs::new(1);
    let mut log = open(&fs, config()).unwrap();
    fill(&mut log, 3);
    log.close().unwrap();
    fs.remove(Path::new(WITNESS)).unwrap();
    open(&fs, config()).unwrap();
    let fs = fs.crash();
    assert!(home().witness.find(&fs).unwrap().is_some());
}

#[test]
fn a_log_whose_making_was_cut_off_is_made_again_at_every_step() {
    for seed in 0..4 {
        for operation in 1..40 {
            let fs = FaultyFs::new(seed);
            make_parent(&fs);
            fs.lose_power_at(fs.operations() + operation);
            let mut released = Offset(0);
            if let Ok(mut log) = open(&fs, config()) {
                let _ = log.append(&[batch(5, 10)], EPOCH, NOW);
                if let Some(job) = log.begin_sync().filter(|job| job.run().is_ok()) {
                    log.complete_sync(job.covers());
                    released = log.synced_offset();
                }
            }
            let after = fs.crash();
            let log = open(&after, config()).unwrap();
            assert!(log.end_offset() >= released, "{seed}, {operation}");
            drop(log);
            if released > Offset(0) {
                after.remove_dir_all(Path::new(DIR)).unwrap();
                assert!(open(&after, config()).is_err(), "{seed}, {operation}");
            }
        }
    }
}

#[test]
fn the_recovery_point_stays_below_a_segment_whose_indexes_are_not_on_disk() {
    for seed in 0..40 {
        let fs = FaultyFs::new(seed);
        let mut log = open(&fs, config()).unwrap();
        fill(&mut log, 8);
        sync(&mut log);
        let job = log.begin_sync();
        log.roll(NOW).unwrap();
        if let Some(job) = job {
            job.run().unwrap();
            log.complete_sync(job.covers());
        }
        let checkpoint = log.checkpoint();
        checkpoint.run().unwrap();
        let latest = log.max_timestamp(log.end_offset()).unwrap();
        let log = open(&fs.crash(), config()).unwrap();
        assert_eq!(
            log.max_timestamp(log.end_offset()).unwrap(),
            latest,
            "seed {seed}"
        );
    }
}

#[test]
fn duplicates_are_answered_with_their_first_offset_also_after_a_restart() {
    let fs = FaultyFs::new(1);
    let mut log = open(&fs, config()).unwrap();
    let of = |sequence| batch_at(NOW, 10, 500, stamp(7, sequence), Codec::None);
    for n in 0..8 {
        append(&mut log, &[of(n * 10), batch(1, 10)]);
    }
    for restart in 0..2 {
        let end = log.end_offset();
        let again = log.append(&[of(60), of(90), of(20)], EPOCH, NOW).unwrap();
        let first = again[0].as_ref().unwrap();
        assert_eq!(
            (first.base_offset, first.next_offset),
            (Offset(66), Offset(76))
        );
        for refused in &again[1..] {
            let refused = refused.as_ref().unwrap_err();
            assert!(matches!(refused, AppendError::OutOfOrderSequence { .. }));
        }
        assert_eq!(log.end_offset(), end);
        if restart == 0 {
            log.close().unwrap();
        }
        log = open(&fs, config()).unwrap();
    }
}

#[test]
fn a_full_disk_refuses_the_append_and_works_again_when_there_is_space() {
    let fs = FaultyFs::new(1);
    let mut log = open(&fs, config()).unwrap();
    let mut all = fill(&mut log, 10);
    let producer = batch_at(NOW, 3, 900, stamp(7, 0), Codec::None);
    // Enough for a part of it, and for less and less of it.
    for room in [2_000, 100, 1, 0] {
        fs.limit_capacity(Some(fs.used_bytes() + room));
        let end = log.end_offset();
        let error = log
            .append(std::slice::from_ref(&producer), EPOCH, NOW)
            .unwrap_err();
        assert!(matches!(error, LogError::Storage { .. }), "{error}");
        assert!(error.to_string().contains(".log"), "{error}");
        assert_eq!(log.end_offset(), end);
        assert_eq!(read_all_from(&log, Offset(0)).unwrap(), all);
        // Nothing of the failed write is left behind the end.
        let file = fs.open(&log.active.path).unwrap();
        assert_eq!(file.len().unwrap(), log.active.size, "with room for {room}");
    }
    fs.limit_capacity(None);
    let base = append(&mut log, std::slice::from_ref(&producer))[0];
    all.extend(stamped(&producer, base, EPOCH));
    all.extend(fill(&mut log, 10));
    assert_eq!(read_all_from(&log, Offset(0)).unwrap(), all);
}

#[test]
fn an_append_that_fills_the_disk_in_its_next_segment_is_taken_back_as_a_whole() {
    let fs = FaultyFs::new(1);
    let mut log = open(&fs, config()).unwrap();
    let mut all = fill(&mut log, 10);
    let end = log.end_offset();
    // Three segments, of which the first fits.
    let batches: Vec<Batch> = (0..12).map(|_| batch(2, 2_000)).collect();
    fs.limit_capacity(Some(fs.used_bytes() + 20_000));
    let error = log.append(&batches, EPOCH, NOW).unwrap_err();
    assert!(matches!(error, LogError::Storage { .. }), "{error}");
    assert_eq!(log.end_offset(), end);
    assert_eq!(read_all_from(&log, Offset(0)).unwrap(), all);
    fs.limit_capacity(None);
    all.extend(fill(&mut log, 10));
    assert_eq!(read_all_from(&log, Offset(0)).unwrap(), all);
}

#[test]
fn an_error_at_any_operation_leaves_all_or_nothing_of_an_append() {
    for seed in 0..60 {
        let fs = FaultyFs::new(seed);
        let mut log = open(&fs, config()).unwrap();
        let mut all = fill(&mut log, 10);
        let end = log.end_offset();
        // Enough for three segments, so that a later write of the call can fail.
        let batches: Vec<Batch> = (0..12).map(|_| batch(2, 2_000)).collect();
        fs.fail_at(fs.operations() + 1 + seed);
        match log.append(&batches, EPOCH, NOW) {
            Ok(_) => {
                for (n, batch) in batches.iter().enumerate() {
                    all.extend(stamped(batch, end + 2 * n as i64, EPOCH));
                }
            }
            Err(error) => assert!(matches!(error, LogError::Storage { .. }), "{error}"),
        }
        assert_eq!(read_all_from(&log, Offset(0)).unwrap(), all, "seed {seed}");
        fs.fail_at(0);
        all.extend(fill(&mut log, 10));
        sync(&mut log);
        assert_eq!(read_all_from(&log, Offset(0)).unwrap(), all, "seed {seed}");
        let log = open(&fs.crash(), config()).unwrap();
        assert_eq!(read_all_from(&log, Offset(0)).unwrap(), all, "seed {seed}");
    }
}

#[test]
fn a_flipped_bit_below_the_synced_point_is_never_served_and_is_named() {
    for at in (0..4_000).step_by(37) {
        let fs = FaultyFs::new(at);
        let mut log = open(&fs, config()).unwrap();
        let all = fill(&mut log, 40);
        sync(&mut log);
        log.checkpoint().run().unwrap();
        let file = segment_path(Path::new(DIR), Offset(0), LOG_SUFFIX);
        fs.flip_bit(&file, at, at as u8);
        let check = |result: Result<Vec<u8>, LogError>| match result {
            Ok(served) => panic!("flip at {at}: served {} bytes", served.len()),
            Err(LogError::Corrupt {
                file: named,
                position,
                ..
            }) => {
                assert_eq!(named, file);
                assert!(
                    position <= at && at < position + 16_000,
                    "{position} of {at}"
                );
            }
            Err(other) => panic!("flip at {at}: {other}"),
        };
        check(read_all_from(&log, Offset(0)));
        // The same after a restart; nothing is cut.
        let reopened = open(&fs.restart(), config()).unwrap();
        assert_eq!(reopened.end_offset(), log.end_offset());
        check(read_all_from(&reopened, Offset(0)));
        assert_eq!(reopened.size_bytes(), all.len() as u64);
    }
}

#[test]
fn a_hole_below_the_synced_point_keeps_the_log_from_opening_and_nothing_is_cut() {
    let fs = FaultyFs::new(1);
    let mut log = open(&fs, config()).unwrap();
    fill(&mut log, 40);
    sync(&mut log);
    log.checkpoint().run().unwrap();
    let before = fs.used_bytes();
    let last = log.active.path.clone();
    fs.open(&last)
        .unwrap()
        .set_len(log.active.size - 1)
        .unwrap();
    let error = open(&fs, config()).unwrap_err();
    assert!(
        matches!(&error, LogError::Corrupt { file, .. } if *file == last),
        "{error}"
    );
    fs.remove(&segment_path(Path::new(DIR), Offset(0), LOG_SUFFIX))
        .unwrap();
    assert!(matches!(open(&fs, config()), Err(LogError::Corrupt { .. })));
    assert!(before - fs.used_bytes() <= 17 << 10);
}

#[test]
fn a_torn_tail_past_the_synced_point_is_cut() {
    let fs = FaultyFs::new(1);
    let mut log = open(&fs, config()).unwrap();
    let all = fill(&mut log, 20);
    sync(&mut log);
    log.checkpoint().run().unwrap();
    let size = log.active.size;
    let end = log.end_offset();
    append(&mut log, &[batch(3, 100), batch(3, 100)]);
    let file = fs.open(&log.active.path).unwrap();
    let rubbish = [0x55; 20];
    file.write_vectored_at(&[IoSlice::new(&rubbish)], size + 80)
        .unwrap();
    let log = open(&fs, config()).unwrap();
    assert_eq!(log.end_offset(), end);
    assert_eq!(read_all_from(&log, Offset(0)).unwrap(), all);
    assert_eq!(file.len().unwrap(), size);
}

#[test]
fn a_damaged_checkpoint_deletes_nothing_and_cuts_nothing() {
    let fs = FaultyFs::new(1);
    let mut log = open(&fs, config()).unwrap();
    let all = fill(&mut log, 40);
    sync(&mut log);
    let checkpoint = log.checkpoint();
    checkpoint.run().unwrap();
    fs.flip_bit(&checkpoint.path(), 30, 1);
    // All segments are whole: nothing is lost.
    let log = open(&fs, config()).unwrap();
    assert_eq!(read_all_from(&log, Offset(0)).unwrap(), all);
    // A bad byte could be a torn tail or a rotten one: nobody knows, so it is refused.
    fs.flip_bit(&checkpoint.path(), 30, 1);
    fs.flip_bit(&log.active.path, log.active.size - 3, 1);
    let error = open(&fs, config()).unwrap_err();
    assert!(
        error.to_string().contains("checkpoint is damaged"),
        "{error}"
    );
    assert_eq!(
        fs.open(&log.active.path).unwrap().len().unwrap(),
        log.active.size
    );
}

#[test]
fn missing_and_wrong_indexes_are_rebuilt() {
    let fs = FaultyFs::new(1);
    let mut log = open(&fs, config()).unwrap();
    let all = fill(&mut log, 100);
    log.close().unwrap();
    let dir = Path::new(DIR);
    for suffix in [OffsetEntry::SUFFIX, TimeEntry::SUFFIX] {
        for damage in 0..4 {
            for base in log.sealed.iter().map(|s| s.base).chain([log.active.base]) {
                let path = segment_path(dir, base, suffix);
                let good = read_all(&fs, &path).unwrap_or_default();
                match damage {
                    0 => drop(fs.remove(&path)),
                    1 => (0..good.len() as u64).for_each(|at| fs.flip_bit(&path, at, 3)),
                    2 => replace_unsynced(&fs, &path, &good[..good.len() / 2]).unwrap(),
                    _ => replace_unsynced(&fs, &path, &[0xff; 240]).unwrap(),
                }
            }
            let log = open(&fs, config()).unwrap();
            assert_eq!(read_all_from(&log, Offset(0)).unwrap(), all);
            for offset in (0..log.end_offset().0).rev().step_by(7) {
                let plan = log.plan_read(Offset(offset), log.end_offset(), 1, FirstBatch::Always);
                let bytes = plan.unwrap().read().unwrap();
                let header = BatchHeader::decode(&bytes).unwrap();
                let held = header.base_offset.0..header.next_offset().0;
                assert!(held.contains(&offset), "{offset} isn't in {held:?}");
            }
            let latest = log.max_timestamp(log.end_offset()).unwrap().unwrap();
            assert_eq!(latest.timestamp, Timestamp(NOW.0 + 4));
        }
    }
}

#[test]
fn records_are_found_by_their_time_exactly() {
    let fs = FaultyFs::new(1);
    let mut log = open(&fs, config()).unwrap();
    let mut times = Vec::new();
    for n in 0..80i64 {
        let at = Timestamp(1_000 + n * 100 - (n % 7) * 250);
        let codec = [Codec::None, Codec::Lz4, Codec::Gzip][n as usize % 3];
        append(
            &mut log,
            &[batch_at(at, 10, 200, ProducerStamp::NONE, codec)],
        );
        times.extend((0..10).map(|i| at.0 + i));
    }
    let check = |log: &Log| {
        let end = log.end_offset();
        for at in (0..10_000).step_by(33) {
            let expected = times.iter().position(|t| *t >= at);
            let found = log.find_timestamp(Timestamp(at), end).unwrap();
            assert_eq!(
                found.map(|f| f.offset.0),
                expected.map(|e| e as i64),
                "at {at}"
            );
        }
        for upper in [5, 10, 200, 795, 800] {
            let below = &times[..upper / 10 * 10];
            let found = log.max_timestamp(Offset(upper as i64)).unwrap();
            let latest = below.iter().max();
            assert_eq!(
                found.map(|f| f.timestamp.0),
                latest.copied(),
                "below {upper}"
            );
            if let (Some(found), Some(latest)) = (found, latest) {
                assert_eq!(below[found.offset.0 as usize], *latest);
            }
        }
    };
    check(&log);
    log.close().unwrap();
    check(&open(&fs, config()).unwrap());
}

#[test]
fn deleted_records_are_gone_for_good_and_their_segments_too() {
    let fs = FaultyFs::new(1);
    let mut log = open(&fs, config()).unwrap();
    fill(&mut log, 100);
    sync(&mut log);
    let count = segments(&fs).len();
    let middle = Offset(log.end_offset().0 / 2);
    assert!(
        log.delete_records_before(middle).is_err(),
        "above the high watermark"
    );
    log.set_high_watermark(log.end_offset());
    let removed = log.delete_records_before(middle).unwrap();
    assert_eq!(log.start_offset(), middle);
    let below = log.plan_read(Offset(0), middle, 10, FirstBatch::Always);
    assert!(matches!(below, Err(LogError::OffsetOutOfRange { .. })));
    removed.remove().unwrap();
    assert!(segments(&fs).len() < count);
    let mut log = open(&fs.crash(), config()).unwrap();
    assert_eq!(log.start_offset(), middle);
    read_all_from(&log, middle).unwrap();
    // All of it.
    let end = log.end_offset();
    log.set_high_watermark(end);
    log.delete_records_before(end).unwrap().remove().unwrap();
    assert_eq!((log.start_offset(), log.end_offset()), (end, end));
    assert_eq!(append(&mut log, &[batch(1, 1)]), [end]);
}

#[test]
fn retention_removes_the_oldest_segments_below_the_high_watermark() {
    let fs = FaultyFs::new(1);
    let keep_bytes = LogConfig {
        retention_bytes: Some(40 << 10),
        retention_ms: None,
        ..config()
    };
    let mut log = open(&fs, keep_bytes.clone()).unwrap();
    fill(&mut log, 100);
    assert!(
        log.apply_retention(NOW).unwrap().is_empty(),
        "nothing is committed"
    );
    log.set_high_watermark(log.end_offset());
    log.apply_retention(NOW).unwrap().remove().unwrap();
    let size = log.size_bytes();
    assert!((40 << 10..56 << 10).contains(&size), "{size}");

    log.set_config(LogConfig {
        retention_bytes: None,
        retention_ms: Some(60_000),
        ..keep_bytes
    });
    let soon = Timestamp(NOW.0 + 30_000);
    assert!(log.apply_retention(soon).unwrap().is_empty());
    let later = Timestamp(NOW.0 + 120_000);
    log.apply_retention(later).unwrap().remove().unwrap();
    assert_eq!(log.start_offset(), log.end_offset());
    assert_eq!(log.size_bytes(), 0);
    assert_eq!(segments(&fs).len(), 1);
}

#[test]
fn a_sync_that_fails_while_a_log_is_opened_or_closed_is_fatal() {
    let fs = FaultyFs::new(1);
    let mut log = open(&fs, config()).unwrap();
    fill(&mut log, 10);
    let unsynced = fs.restart();
    fs.fail_syncs();
    assert!(log.close().unwrap_err().is_fatal());
    unsynced.fail_syncs();
    assert!(open(&unsynced, config()).unwrap_err().is_fatal());
}

#[test]
fn segments_roll_by_time() {
    let fs = FaultyFs::new(1);
    let config = LogConfig {
        segment_ms: 1_000,
        ..config()
    };
    let mut log = open(&fs, config).unwrap();
    for ms in [0, 900, 1_001, 1_500, 2_002] {
        let at = Timestamp(NOW.0 + ms);
        append(
            &mut log,
            &[batch_at(at, 1, 10, ProducerStamp::NONE, Codec::None)],
        );
    }
    assert_eq!(segments(&fs).len(), 3);
}

#[test]
fn leader_epochs_survive_and_truncation_cuts_them() {
    let fs = FaultyFs::new(1);
    let mut log = open(&fs, config()).unwrap();
    for epoch in [0, 0, 3, 5, 5] {
        log.append(&[batch(10, 1_500)], LeaderEpoch(epoch), NOW)
            .unwrap();
    }
    drop(log);
    let mut log = open(&fs, config()).unwrap();
    assert_eq!(log.latest_epoch(), Some(LeaderEpoch(5)));
    assert_eq!(log.epoch_of(Offset(25)), Some(LeaderEpoch(3)));
    let end_of_0 = log.end_offset_of_epoch(LeaderEpoch(2));
    assert_eq!(end_of_0, Some((LeaderEpoch(0), Offset(20))));
    log.truncate_to(Offset(24)).unwrap();
    assert_eq!(log.end_offset(), Offset(20));
    assert_eq!(log.latest_epoch(), Some(LeaderEpoch(0)));
    log.append(&[batch(1, 10)], LeaderEpoch(9), NOW).unwrap();
    let log = open(&fs, config()).unwrap();
    assert_eq!(log.epoch_of(Offset(20)), Some(LeaderEpoch(9)));
    read_all_from(&log, Offset(0)).unwrap();
}

#[test]
fn a_leader_of_an_epoch_that_has_ended_is_refused() {
    let fs = FaultyFs::new(1);
    let mut log = open(&fs, config()).unwrap();
    log.append(&[batch(1, 10)], LeaderEpoch(4), NOW).unwrap();
    let refused = log.append(&[batch(1, 10)], LeaderEpoch(3), NOW).unwrap();
    assert!(matches!(
        refused[0],
        Err(AppendError::FencedLeaderEpoch { .. })
    ));
    assert_eq!(log.end_offset(), Offset(1));
}

#[test]
fn a_log_whose_unsynced_records_were_deleted_and_then_lost_begins_at_its_start() {
    for seed in 0..40 {
        let fs = FaultyFs::new(seed);
        let mut log = open(&fs, config()).unwrap();
        fill(&mut log, 30);
        sync(&mut log);
        fill(&mut log, 30);
        let end = log.end_offset();
        // As with acknowledgements from memory.
        log.set_high_watermark(end);
        let mut start = end;
        if seed % 2 == 0 {
            start = Offset(end.0 - 3);
        }
        log.delete_records_before(start).unwrap().remove().unwrap();
        let mut log = open(&fs.crash(), config()).unwrap();
        assert_eq!(log.start_offset(), start, "seed {seed}");
        assert!(log.end_offset() >= start, "seed {seed}");
        append(&mut log, &[batch(1, 10)]);
        read_all_from(&log, start).unwrap();
    }
}

#[test]
fn a_wrong_leader_epoch_on_disk_is_corruption() {
    let fs = FaultyFs::new(1);
    let mut log = open(&fs, config()).unwrap();
    append(&mut log, &[batch(1, 10)]);
    fs.flip_bit(&log.active.path.clone(), 15, 0);
    let error = read_all_from(&log, Offset(0)).unwrap_err();
    assert!(error.to_string().contains("leader epoch 1"), "{error}");
}

#[test]
fn what_one_recovery_has_scanned_the_next_takes_as_synced() {
    let fs = FaultyFs::new(1);
    let mut log = open(&fs, config()).unwrap();
    fill(&mut log, 40);
    drop(log);
    let log = open(&fs, config()).unwrap();
    let place = (log.active.path.clone(), log.active.size - 3);
    let end = log.end_offset();
    drop(log);
    fs.flip_bit(&place.0, place.1, 0);
    let log = open(&fs, config()).unwrap();
    assert_eq!(log.end_offset(), end, "synced records were cut");
    assert_eq!(corrupt_at(read_all_from(&log, Offset(0))).0, place.0);
}

#[test]
fn a_log_opens_on_a_full_disk_too() {
    let fs = FaultyFs::new(1);
    let mut log = open(&fs, config()).unwrap();
    let mut all = fill(&mut log, 3);
    sync(&mut log);
    all.extend(fill(&mut log, 3));
    drop(log);
    fs.limit_capacity(Some(0));
    let log = open(&fs, config()).unwrap();
    assert_eq!(read_all_from(&log, Offset(0)).unwrap(), all);
}

const HOUR_MS: i64 = 60 * 60 * 1000;

fn hours_later(hours: i64) -> Timestamp {
    Timestamp(NOW.0 + hours * HOUR_MS)
}

fn open_at(fs: &FaultyFs, config: LogConfig, now: Timestamp) -> Log {
    make_parent(fs);
    fs.set_time(now);
    let fs = Arc::new(fs.clone());
    Log::open(fs, &home(), config, Shutdown::Unclean, now, Lease::none()).unwrap()
}

/// Whether the log still knows that it has this producer's only batch.
fn remembers(log: &mut Log, producer: i64, now: Timestamp) -> bool {
    let end = log.end_offset();
    log.apply_retention(now).unwrap().remove().unwrap();
    let only = batch_at(NOW, 1, 10, stamp(producer, 0), Codec::None);
    let again = log.append(&[only], EPOCH, now).unwrap().remove(0).unwrap();
    again.next_offset <= end
}

#[test]
fn a_restart_makes_no_producer_younger_than_its_last_write() {
    for timestamp_type in [TimestampType::CreateTime, TimestampType::LogAppendTime] {
        let fs = FaultyFs::new(1);
        let config = LogConfig {
            timestamp_type,
            ..config()
        };
        let mut log = open_at(&fs, config.clone(), NOW);
        let only = batch_at(NOW, 1, 10, stamp(7, 0), Codec::None);
        append(&mut log, &[only]);
        drop(log);
        // Killed again and again; the topic's producers are forgotten after 24 hours.
        drop(open_at(&fs, config.clone(), hours_later(10)));
        let mut log = open_at(&fs, config.clone(), hours_later(20));
        assert!(remembers(&mut log, 7, hours_later(23)));
        drop(log);
        let mut log = open_at(&fs, config, hours_later(23));
        assert!(!remembers(&mut log, 7, hours_later(25)));
    }
}

#[test]
fn a_truncation_makes_no_producer_older_than_its_last_write() {
    let fs = FaultyFs::new(1);
    let mut log = open_at(&fs, config(), NOW);
    let late = hours_later(20);
    fs.set_time(late);
    let of = |producer| batch_at(NOW, 1, 10, stamp(producer, 0), Codec::None);
    let appended = log.append(&[of(7), batch(1, 10)], EPOCH, late).unwrap();
    assert!(appended.iter().all(Result::is_ok));
    fs.set_time(hours_later(22));
    log.truncate_to(Offset(1)).unwrap();
    assert!(remembers(&mut log, 7, hours_later(43)));
    assert!(!remembers(&mut log, 7, hours_later(45)));
}

/// Where the last batch of the first segment begins, and the whole segment.
fn last_batch_of_first_segment(fs: &FaultyFs) -> (PathBuf, u64, Vec<u8>) {
    let file = segment_path(Path::new(DIR), Offset(0), LOG_SUFFIX);
    let bytes = read_all(fs, &file).unwrap();
    let mut last = 0;
    while let Ok(header) = BatchHeader::decode(&bytes[last..]) {
        match last + header.size() {
            next if next < bytes.len() => last = next,
            _ => break,
        }
    }
    (file, last as u64, bytes)
}

/// The place that the error names.
fn corrupt_at<T>(result: Result<T, LogError>) -> (PathBuf, u64) {
    match result {
        Err(LogError::Corrupt { file, position, .. }) => (file, position),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the damage wasn't noticed"),
    }
}

#[test]
fn a_log_whose_sealed_segment_was_cut_does_not_open_and_says_where() {
    let fs = FaultyFs::new(1);
    let mut log = open(&fs, config()).unwrap();
    fill(&mut log, 40);
    log.close().unwrap();
    let (file, last, bytes) = last_batch_of_first_segment(&fs);
    let index = segment_path(Path::new(DIR), Offset(0), OffsetEntry::SUFFIX);
    // With the index, and without it; between two batches, and within a header and a batch.
    for _ in 0..2 {
        for beyond in [0, 30, 70] {
            let left = &bytes[..last as usize + beyond];
            replace_unsynced(&fs, &file, left).unwrap();
            let opened = open(&fs, config());
            assert_eq!(corrupt_at(opened), (file.clone(), last), "{beyond}");
            assert_eq!(read_all(&fs, &file).unwrap(), left, "something was cut");
        }
        let _ = fs.remove(&index);
    }
    replace_unsynced(&fs, &file, &bytes).unwrap();
    open(&fs, config()).unwrap();
}

#[test]
fn readers_of_a_segment_that_lacks_its_last_batches_are_told_so_and_do_not_wait() {
    for beyond in [0, 30] {
        let fs = FaultyFs::new(1);
        let mut log = open(&fs, config()).unwrap();
        fill(&mut log, 40);
        log.close().unwrap();
        let mut log = open(&fs, config()).unwrap();
        let (file, last, bytes) = last_batch_of_first_segment(&fs);
        let left = last + beyond;
        replace_unsynced(&fs, &file, &bytes[..left as usize]).unwrap();
        Arc::get_mut(&mut log.sealed[0]).unwrap().size = left;
        let place = (file, last);
        assert_eq!(corrupt_at(read_all_from(&log, Offset(0))), place);
        let lost = log.sealed[0].next + -1;
        assert_eq!(corrupt_at(log.max_timestamp(lost)), place);
        assert_eq!(corrupt_at(log.truncate_to(lost)), place);
    }
}

#[test]
fn inspection_names_the_first_bad_byte_and_changes_nothing() {
    let fs = FaultyFs::new(1);
    let mut log = open(&fs, config()).unwrap();
    let all = fill(&mut log, 50);
    let mut seen = Vec::new();
    let mut each = |batch: InspectedBatch| {
        seen.extend(batch.bytes);
        ControlFlow::Continue(())
    };
    assert_eq!(inspect(&fs, Path::new(DIR), &mut each).unwrap(), None);
    assert_eq!(seen, all);
    let file: PathBuf = segment_path(Path::new(DIR), Offset(0), LOG_SUFFIX);
    fs.flip_bit(&file, 5_000, 2);
    let operations = fs.operations();
    let bad = inspect(&fs, Path::new(DIR), |_| ControlFlow::Continue(())).unwrap();
    let bad = bad.unwrap();
    assert_eq!(bad.file, file);
    assert!(bad.position <= 5_000);
    assert!(bad.reason.contains("CRC"), "{}", bad.reason);
    assert_eq!(fs.operations(), operations);
}

#[test]
fn reads_that_were_planned_go_on_while_their_segment_is_removed() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("t-0");
    let mut log = open_real(&dir);
    let all = fill(&mut log, 50);
    log.set_high_watermark(log.end_offset());
    let plan = log.plan_read(Offset(0), log.end_offset(), 1_000, FirstBatch::Always);
    let plan = plan.unwrap();
    log.delete_records_before(log.end_offset())
        .unwrap()
        .remove()
        .unwrap();
    let bytes: Bytes = plan.read().unwrap();
    assert_eq!(bytes[..], all[..bytes.len()]);
    assert!(!bytes.is_empty());
}

#[test]
fn the_lease_on_the_directory_ends_with_the_last_job_and_not_with_the_log() {
    let fs = FaultyFs::new(1);
    let guard = Arc::new(());
    make_parent(&fs);
    let lent = Arc::downgrade(&guard);
    let lease = Lease::new(guard);
    let fs = Arc::new(fs);
    let mut log = Log::open(fs, &home(), config(), Shutdown::Clean, NOW, lease).unwrap();
    fill(&mut log, 30);
    let sync = log.begin_sync().unwrap();
    let checkpoint = log.checkpoint();
    log.set_high_watermark(log.end_offset());
    let removed = log.delete_records_before(log.end_offset()).unwrap();
    drop(log);
    let is_lent = || lent.upgrade().is_some();
    sync.run().unwrap();
    drop(sync);
    assert!(is_lent(), "a checkpoint is still to be written");
    checkpoint.run().unwrap();
    drop(checkpoint);
    assert!(is_lent(), "files are still to be removed");
    removed.remove().unwrap();
    assert!(!is_lent());
}
