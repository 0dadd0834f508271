//! A log of 1 GiB is compacted round after round: MB of old log a second, and what the process takes of memory.
//! Beside it another log is appended to and synced, one record at a time, once alone and once while compaction
//! runs.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use klamm::model::{LeaderEpoch, Timestamp};
use klamm::record::{Batch, BatchBuilder, Codec, ProducerStamp};
use klamm::storage::fs::RealFs;
use klamm::storage::lease::Lease;
use klamm::storage::log::{Cleanup, CompactionConfig, Log, LogConfig, Shutdown};
use klamm::storage::witness::LogHome;

use crate::{memory_kib, next_record, random, BYTES, SEGMENT_BYTES, VALUE_BYTES};

const ROUNDS: usize = 3;
const RECORDS_A_BATCH: usize = 16;
const MAP_BYTES: usize = 128 << 20;
/// How long the other log is written to alone.
const ALONE: Duration = Duration::from_secs(3);

pub fn measure() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    println!("| codec | MiB before | after | s | MB/s | memory MiB before | highest | append and sync µs p50 / p99 alone | beside it |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for codec in [Codec::None, Codec::Lz4] {
        for round in 0..ROUNDS {
            compact(&temporary.path().join(format!("{codec:?}-{round}")), codec)?;
        }
    }
    Ok(())
}

fn compact(dir: &Path, codec: Codec) -> Result<(), Box<dyn Error>> {
    let mut log = open(&dir.join("compacted"))?;
    fill(&mut log, codec)?;
    let before = log.size_bytes();
    let memory = memory_kib("self", "VmRSS")?;
    let over = Arc::new(AtomicBool::new(false));
    let alone = {
        let ends = over.clone();
        let other = other_log(dir.join("other"), over.clone());
        std::thread::sleep(ALONE);
        ends.store(true, Ordering::Release);
        other
            .join()
            .map_err(|_| "the other log's thread has panicked")?
    };
    over.store(false, Ordering::Release);
    let other = other_log(dir.join("other-beside"), over.clone());
    let began = Instant::now();
    let plan = log.plan_compaction(Timestamp::now(), MAP_BYTES)?;
    let plan = plan.ok_or("there is nothing to compact")?;
    let compacted = plan.run(|replacement| log.replace(replacement))?;
    log.complete_compaction(&compacted);
    let seconds = began.elapsed().as_secs_f64();
    over.store(true, Ordering::Release);
    let beside = other
        .join()
        .map_err(|_| "the other log's thread has panicked")?;
    println!(
        "| {codec:?} | {} | {} | {seconds:.2} | {:.0} | {} | {} | {} | {} |",
        before >> 20,
        log.size_bytes() >> 20,
        compacted.bytes_before as f64 / 1e6 / seconds,
        memory >> 10,
        memory_kib("self", "VmHWM")? >> 10,
        percentiles(alone),
        percentiles(beside)
    );
    drop(log);
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

fn fill(log: &mut Log, codec: Codec) -> Result<(), Box<dyn Error>> {
    let mut random = random();
    let mut value = vec![0; VALUE_BYTES];
    let mut written = 0;
    while written < BYTES {
        let mut builder = BatchBuilder::with_capacity(RECORDS_A_BATCH * (VALUE_BYTES + 40));
        for _ in 0..RECORDS_A_BATCH {
            let key = next_record(&mut random, &mut value);
            builder.append(Timestamp::now(), Some(&key), Some(&value), &[]);
            written += VALUE_BYTES as u64;
        }
        let batch = Batch::parse(builder.build(codec, ProducerStamp::NONE)?)?;
        log.append(&[batch], LeaderEpoch(0), Timestamp::now())?;
    }
    sync(log)?;
    log.set_high_watermark(log.end_offset());
    Ok(())
}

/// Appends to another log and syncs it until told to end: µs of each time.
fn other_log(
    dir: PathBuf,
    over: Arc<AtomicBool>,
) -> std::thread::JoinHandle<Result<Vec<f64>, String>> {
    std::thread::spawn(move || write_until(&dir, &over).map_err(|e| e.to_string()))
}

fn write_until(dir: &Path, over: &AtomicBool) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut log = open(dir)?;
    let mut builder = BatchBuilder::with_capacity(2 * VALUE_BYTES);
    builder.append(Timestamp::now(), None, Some(&[7; VALUE_BYTES]), &[]);
    let batch = Batch::parse(builder.build(Codec::None, ProducerStamp::NONE)?)?;
    let mut took = Vec::new();
    while !over.load(Ordering::Acquire) {
        let began = Instant::now();
        log.append(
            std::slice::from_ref(&batch),
            LeaderEpoch(0),
            Timestamp::now(),
        )?;
        sync(&mut log)?;
        took.push(began.elapsed().as_secs_f64() * 1e6);
        // Producers don't wait for each other only.
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(took)
}

fn sync(log: &mut Log) -> Result<(), Box<dyn Error>> {
    if let Some(job) = log.begin_sync() {
        job.run()?;
        log.complete_sync(job.covers());
    }
    Ok(())
}

fn percentiles(took: Result<Vec<f64>, String>) -> String {
    let mut took = match took {
        Ok(took) if !took.is_empty() => took,
        Ok(_) => return "-".into(),
        Err(e) => return e,
    };
    took.sort_by(f64::total_cmp);
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
    format!("{:.0} / {:.0}", at(50), at(99))
}

fn open(dir: &Path) -> Result<Log, Box<dyn Error>> {
    let config = LogConfig {
        segment_bytes: SEGMENT_BYTES,
        cleanup: Cleanup::Compact(CompactionConfig::default()),
        ..LogConfig::default()
    };
    Ok(Log::open(
        Arc::new(RealFs),
        &LogHome::unwitnessed(dir),
        config,
        Shutdown::Unclean,
        Timestamp::now(),
        Lease::none(),
    )?)
}
