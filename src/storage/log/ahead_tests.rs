//! Zeros ahead of small writes: nobody takes them for batches, and nothing hides behind them.

use std::io::IoSlice;
use std::ops::ControlFlow;
use std::path::Path;

use super::segment::{segment_path, LOG_SUFFIX};
use super::tests::{append, batch, config, fill, open, read_all_from, stamped, sync, DIR, NOW};
use super::*;
use crate::record::Batch;
use crate::storage::fs::FaultyFs;

/// A log that has had so many small syncs that its file has zeros ahead, and all that it must serve.
fn log_with_zeros_ahead(fs: &FaultyFs) -> (Log, Vec<u8>) {
    let mut log = open(fs, config()).unwrap();
    let all = append_and_sync(&mut log, 12);
    assert!(zeros_ahead(fs, &log) > 4_000);
    (log, all)
}

fn append_and_sync(log: &mut Log, batches: usize) -> Vec<u8> {
    let mut all = Vec::new();
    for _ in 0..batches {
        all.extend(append_one(log, &batch(2, 30)));
        sync(log);
    }
    all
}

fn append_one(log: &mut Log, batch: &Batch) -> Vec<u8> {
    let base = append(log, std::slice::from_ref(batch))[0];
    stamped(batch, base, LeaderEpoch(0))
}

fn zeros_ahead(fs: &FaultyFs, log: &Log) -> u64 {
    len_of(fs, log.active.base) - log.active.size
}

fn len_of(fs: &FaultyFs, segment: Offset) -> u64 {
    let path = segment_path(Path::new(DIR), segment, LOG_SUFFIX);
    fs.open(&path).unwrap().len().unwrap()
}

fn inspected(fs: &FaultyFs) -> (Vec<u8>, Option<BadBytes>) {
    let mut seen = Vec::new();
    let each = |batch: InspectedBatch| {
        seen.extend(batch.bytes);
        ControlFlow::Continue(())
    };
    let bad = inspect(fs, Path::new(DIR), each).unwrap();
    (seen, bad)
}

#[test]
fn a_file_with_zeros_ahead_is_as_large_as_its_batches_for_everybody() {
    let fs = FaultyFs::new(1);
    let (mut log, mut all) = log_with_zeros_ahead(&fs);
    assert_eq!(log.size_bytes(), all.len() as u64);
    assert_eq!(read_all_from(&log, Offset(0)).unwrap(), all);
    assert_eq!(inspected(&fs), (all.clone(), None));
    // Most appends leave the file's size as it is.
    let len = len_of(&fs, Offset(0));
    all.extend(append_and_sync(&mut log, 20));
    assert_eq!(len_of(&fs, Offset(0)), len);
    assert_eq!(log.size_bytes(), all.len() as u64);
    log.close().unwrap();
    assert_eq!(len_of(&fs, Offset(0)), all.len() as u64);
}

#[test]
fn a_killed_broker_finds_the_end_before_the_zeros_and_goes_on_there() {
    let fs = FaultyFs::new(1);
    let (log, mut all) = log_with_zeros_ahead(&fs);
    log.checkpoint().run().unwrap();
    let end = log.end_offset();
    let fs = fs.restart();
    let mut log = open(&fs, config()).unwrap();
    assert_eq!(log.end_offset(), end);
    assert_eq!(zeros_ahead(&fs, &log), 0);
    all.extend(fill(&mut log, 20));
    assert_eq!(read_all_from(&log, Offset(0)).unwrap(), all);
}

#[test]
fn zeros_ahead_are_no_loss_where_it_is_not_known_what_was_synced() {
    let fs = FaultyFs::new(1);
    let (log, all) = log_with_zeros_ahead(&fs);
    let checkpoint = log.checkpoint();
    checkpoint.run().unwrap();
    fs.flip_bit(&checkpoint.path(), 30, 1);
    let log = open(&fs.restart(), config()).unwrap();
    assert_eq!(read_all_from(&log, Offset(0)).unwrap(), all);
}

#[test]
fn a_sealed_segment_has_no_zeros() {
    let fs = FaultyFs::new(1);
    let (mut log, mut all) = log_with_zeros_ahead(&fs);
    all.extend(append_and_sync(&mut log, 300));
    assert!(log.sealed.len() >= 2);
    for sealed in &log.sealed {
        assert_eq!(len_of(&fs, sealed.base), sealed.size);
    }
    // The next segment knows from the last one how small the syncs are.
    assert!(zeros_ahead(&fs, &log) > 0);
    assert_eq!(read_all_from(&log, Offset(0)).unwrap(), all);
}

/// It can have some where the file system refused to cut it, or lost the cut with the power.
#[test]
fn zeros_behind_a_sealed_segment_are_not_its_size() {
    let fs = FaultyFs::new(1);
    let (mut log, mut all) = log_with_zeros_ahead(&fs);
    all.extend(append_and_sync(&mut log, 200));
    log.checkpoint().run().unwrap();
    let first = log.sealed[0].clone();
    let path = segment_path(Path::new(DIR), first.base, LOG_SUFFIX);
    fs.open(&path).unwrap().set_len(first.size + 9_000).unwrap();
    let fs = fs.restart();
    let log = open(&fs, config()).unwrap();
    assert_eq!(log.sealed[0].size, first.size);
    assert_eq!(log.size_bytes(), all.len() as u64);
    assert_eq!(read_all_from(&log, Offset(0)).unwrap(), all);
    assert_eq!(inspected(&fs), (all, None));
}

#[test]
fn zeros_where_synced_batches_were_are_corruption() {
    let fs = FaultyFs::new(1);
    let (log, _) = log_with_zeros_ahead(&fs);
    log.checkpoint().run().unwrap();
    let file = fs.open(&log.active.path).unwrap();
    let from = log.active.size - 200;
    file.write_vectored_at(&[IoSlice::new(&[0; 200])], from)
        .unwrap();
    let error = open(&fs.restart(), config()).unwrap_err();
    assert!(matches!(error, LogError::Corrupt { .. }), "{error}");
}

/// A power loss may have put a later batch on disk and not the one before it. When what is appended next
/// ends where that one begins, it must not come back.
#[test]
fn what_lies_behind_zeros_never_comes_back() {
    let fs = FaultyFs::new(1);
    let (log, all) = log_with_zeros_ahead(&fs);
    log.checkpoint().run().unwrap();
    let lost = batch(2, 30);
    let remnant = stamped(&batch(2, 40), log.end_offset() + 2, LeaderEpoch(0));
    let file = fs.open(&log.active.path).unwrap();
    let at = log.active.size + lost.bytes().len() as u64;
    file.write_vectored_at(&[IoSlice::new(&remnant)], at)
        .unwrap();
    let (seen, bad) = inspected(&fs);
    assert_eq!(seen, all);
    assert!(bad.is_some());
    let fs = fs.restart();
    let mut log = open(&fs, config()).unwrap();
    let whole = [all, append_one(&mut log, &lost)].concat();
    let fs = fs.restart();
    let log = open(&fs, config()).unwrap();
    assert_eq!(read_all_from(&log, Offset(0)).unwrap(), whole);
}

#[test]
fn where_the_disk_has_no_room_for_zeros_batches_go_on_as_long_as_there_is_room_for_them() {
    let fs = FaultyFs::new(1);
    let mut log = open(&fs, config()).unwrap();
    let mut all = append_and_sync(&mut log, 8);
    // The next one comes with zeros, and there is room for a part of them.
    fs.limit_capacity(Some(fs.used_bytes() + 1_000));
    let one = batch(2, 30);
    for _ in 0..3 {
        all.extend(append_one(&mut log, &one));
    }
    assert_eq!(zeros_ahead(&fs, &log), 0);
    let large = batch(1, 2_000);
    let error = log.append(&[large], LeaderEpoch(0), NOW).unwrap_err();
    assert!(matches!(error, LogError::Storage { .. }), "{error}");
    all.extend(append_one(&mut log, &one));
    assert_eq!(read_all_from(&log, Offset(0)).unwrap(), all);
}
