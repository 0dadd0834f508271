//! Measures how a broker's logs get to the disk: `cargo bench --bench sync [-- DIR]`.
//!
//! 1. Many logs, each dirty by one batch of 1 KiB, synced by pools of several sizes, by `syncfs`,
//!    and by both together: milliseconds until all are on disk.
//! 2. One log: appending alone, and with one group commit in flight all the time.
//! 3. One file, one write and one sync in turn: how its size and its blocks are set ahead.
//!
//! All ways take turns in each round, so that a disk that becomes slow meanwhile is slow for all.
//! DIR (a temporary directory without it) says on which file system; a memory file system
//! measures nothing.

use std::error::Error;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{channel, Receiver};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{fallocate, FallocateFlags};

use klamm::model::{LeaderEpoch, Timestamp};
use klamm::record::{Batch, BatchBuilder, Codec, ProducerStamp};
use klamm::storage::fs::RealFs;
use klamm::storage::lease::Lease;
use klamm::storage::log::{Covered, Log, LogConfig, Shutdown};
use klamm::storage::syncer::{AbortProcess, SyncFileSystem, SyncPool, Syncer};
use klamm::storage::witness::LogHome;

const ROUNDS: usize = 5;
const LOGS: [usize; 4] = [1, 10, 100, 1_000];

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo passes `--bench`.
    let dir = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let temporary = tempfile::tempdir()?;
    let dir = dir.map_or(temporary.path().to_owned(), PathBuf::from);
    println!("in {}\n", dir.display());
    many_logs(&dir)?;
    one_log(&dir)?;
    one_file(&dir)
}

/// A way to sync many logs.
struct Way {
    name: &'static str,
    pool: SyncPool,
    ms: Vec<f64>,
}

impl Way {
    fn new(name: &'static str, threads: usize, whole: SyncFileSystem) -> std::io::Result<Way> {
        Ok(Way {
            name,
            pool: SyncPool::with(threads, whole, Arc::new(AbortProcess))?,
            ms: Vec::new(),
        })
    }
}

fn ways() -> std::io::Result<Vec<Way>> {
    use SyncFileSystem::{FromJobs, Never};
    Ok(vec![
        Way::new("pool of 1", 1, Never)?,
        Way::new("pool of 8", 8, Never)?,
        Way::new("pool of 32", 32, Never)?,
        Way::new("pool of 128", 128, Never)?,
        Way::new("1 thread, syncfs from 2 jobs", 1, FromJobs(2))?,
        Way::new("pool of 8, syncfs from 16", 8, FromJobs(16))?,
        Way::new("pool of 8, syncfs from 64", 8, FromJobs(64))?,
        Way::new("pool of 32, syncfs from 64", 32, FromJobs(64))?,
    ])
}

fn many_logs(dir: &Path) -> Result<(), Box<dyn Error>> {
    println!(
        "ms until all logs are on disk, each dirty by 1 KiB: min / median / max of {ROUNDS}\n"
    );
    println!("| {:<30} | {:>4} | {:>22} |", "way", "logs", "ms");
    println!("|{}|{}|{}|", "-".repeat(32), "-".repeat(6), "-".repeat(24));
    for count in LOGS {
        let mut logs = (0..count)
            .map(|n| open(&dir.join(format!("many-{count}-{n}"))))
            .collect::<Result<Vec<Log>, _>>()?;
        let mut ways = ways()?;
        // The first round makes the files, and isn't counted.
        for round in 0..=ROUNDS {
            for way in &mut ways {
                // One after the other takes too long to wait for.
                if count == 1_000 && way.name == "pool of 1" && round > 2 {
                    continue;
                }
                let took = sync_all(&mut logs, &way.pool)?;
                if round > 0 {
                    way.ms.push(took.as_secs_f64() * 1e3);
                }
            }
        }
        for way in &mut ways {
            println!(
                "| {:<30} | {count:>4} | {:>22} |",
                way.name,
                summary(&mut way.ms)
            );
        }
    }
    Ok(())
}

fn sync_all(logs: &mut [Log], pool: &SyncPool) -> Result<Duration, Box<dyn Error>> {
    let batch = batch(1, 930)?;
    for log in logs.iter_mut() {
        log.append(
            std::slice::from_ref(&batch),
            LeaderEpoch(0),
            Timestamp::now(),
        )?;
    }
    let (sender, done) = channel();
    let began = Instant::now();
    for (n, log) in logs.iter().enumerate() {
        let sender = sender.clone();
        let job = log.begin_sync().ok_or("nothing to sync")?;
        pool.submit(
            job,
            Box::new(move |covered| {
                let _ = sender.send((n, covered));
            }),
        );
    }
    for _ in 0..logs.len() {
        let (n, covered) = done.recv()?;
        logs[n].complete_sync(covered);
    }
    Ok(began.elapsed())
}

fn one_log(dir: &Path) -> Result<(), Box<dyn Error>> {
    println!("\none log, 256 MiB: MB/s min / median / max of {ROUNDS}; syncs a second (median)\n");
    println!(
        "| {:<22} | {:<12} | {:>22} | {:>7} |",
        "append calls", "sync", "MB/s", "syncs/s"
    );
    println!(
        "|{}|{}|{}|{}|",
        "-".repeat(24),
        "-".repeat(14),
        "-".repeat(24),
        "-".repeat(9)
    );
    for (name, batches, records, value) in [
        ("1 batch of 1 x 100 B", 1, 1, 100),
        ("64 batches of 1 x 100 B", 64, 1, 100),
        ("1 batch of 16 KiB", 1, 16, 1_000),
        ("16 batches of 64 KiB", 16, 64, 1_000),
    ] {
        let batches = vec![batch(records, value)?; batches];
        for synced in [Synced::Never, Synced::GroupCommit] {
            let mut rates = Vec::new();
            let mut syncs = Vec::new();
            for round in 0..ROUNDS {
                let dir = dir.join(format!("one-{value}-{records}-{round}-{synced:?}"));
                let (rate, sync_rate) = append_much(&dir, &batches, synced)?;
                rates.push(rate);
                syncs.push(sync_rate);
                std::fs::remove_dir_all(&dir)?;
            }
            syncs.sort_by(f64::total_cmp);
            println!(
                "| {name:<22} | {:<12} | {:>22} | {:>7.0} |",
                format!("{synced:?}"),
                summary(&mut rates),
                syncs[syncs.len() / 2]
            );
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Synced {
    Never,
    GroupCommit,
}

/// Appends until there are 256 MiB or two seconds are over: MB/s and syncs/s.
fn append_much(
    dir: &Path,
    batches: &[Batch],
    synced: Synced,
) -> Result<(f64, f64), Box<dyn Error>> {
    let mut log = open(dir)?;
    let pool = SyncPool::start(2, Arc::new(AbortProcess))?;
    let mut in_flight: Option<Receiver<Covered>> = None;
    let mut syncs = 0;
    let began = Instant::now();
    while log.size_bytes() < 256 << 20 && began.elapsed() < Duration::from_secs(2) {
        log.append(batches, LeaderEpoch(0), Timestamp::now())?;
        if synced == Synced::Never {
            continue;
        }
        if let Some(covered) = in_flight.as_ref().and_then(|done| done.try_recv().ok()) {
            log.complete_sync(covered);
            in_flight = None;
            syncs += 1;
        }
        if in_flight.is_none() {
            in_flight = log.begin_sync().map(|job| {
                let (sender, done) = channel();
                pool.submit(
                    job,
                    Box::new(move |covered| {
                        let _ = sender.send(covered);
                    }),
                );
                done
            });
        }
    }
    if let Some(done) = in_flight {
        log.complete_sync(done.recv()?);
    }
    let seconds = began.elapsed().as_secs_f64();
    let rate = log.size_bytes() as f64 / 1e6 / seconds;
    Ok((rate, f64::from(syncs) / seconds))
}

/// How a file is made ready for what comes.
#[derive(Clone, Copy, Debug)]
enum Ahead {
    /// It grows with each write.
    Nothing,
    /// Blocks are reserved beyond its end, in steps from 64 KiB to 16 MiB.
    Reserved,
    /// Its size is set ahead by so many bytes, and blocks are reserved.
    Sized(u64),
    /// So many zeros are written ahead.
    Zeros(u64),
}

/// What writes in turn with syncs cost, in µs.
struct Cost {
    median: f64,
    p99: f64,
    mean: f64,
    cpu: f64,
}

fn one_file(dir: &Path) -> Result<(), Box<dyn Error>> {
    println!("\none file, a write and a sync in turn: µs, min / median / max of {ROUNDS} rounds\n");
    println!(
        "| {:>7} | {:<14} | {:>18} | {:>18} | {:>18} | {:>14} |",
        "bytes", "ahead", "median", "p99", "mean", "CPU"
    );
    let ways = [
        Ahead::Nothing,
        Ahead::Reserved,
        Ahead::Sized(1 << 20),
        Ahead::Zeros(64 << 10),
        Ahead::Zeros(256 << 10),
        Ahead::Zeros(1 << 20),
    ];
    for (bytes, writes) in [
        (170, 4_000),
        (1 << 10, 3_000),
        (4 << 10, 2_000),
        (16 << 10, 1_000),
        (64 << 10, 400),
        (256 << 10, 100),
    ] {
        let mut costs: Vec<Vec<Cost>> = ways.iter().map(|_| Vec::new()).collect();
        for _ in 0..ROUNDS {
            for (way, costs) in ways.iter().zip(&mut costs) {
                costs.push(write_and_sync(&dir.join("one-file"), *way, bytes, writes)?);
            }
        }
        for (way, costs) in ways.iter().zip(&costs) {
            let column = |of: fn(&Cost) -> f64| {
                let mut values: Vec<f64> = costs.iter().map(of).collect();
                values.sort_by(f64::total_cmp);
                let last = values.len() - 1;
                format!(
                    "{:.0} / {:.0} / {:.0}",
                    values[0],
                    values[last / 2],
                    values[last]
                )
            };
            println!(
                "| {bytes:>7} | {:<14} | {:>18} | {:>18} | {:>18} | {:>14} |",
                format!("{way:?}"),
                column(|c| c.median),
                column(|c| c.p99),
                column(|c| c.mean),
                column(|c| c.cpu)
            );
        }
    }
    Ok(())
}

fn write_and_sync(
    path: &Path,
    ahead: Ahead,
    bytes: u64,
    writes: usize,
) -> Result<Cost, Box<dyn Error>> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).open(path)?;
    file.sync_all()?;
    let batch = vec![b'k'; bytes as usize];
    let (mut size, mut ready, mut step) = (0, 0, 64 << 10);
    let mut took = Vec::with_capacity(writes);
    let cpu = cpu_us();
    for _ in 0..writes {
        let began = Instant::now();
        if size + bytes > ready {
            match ahead {
                Ahead::Nothing => {}
                Ahead::Reserved => {
                    fallocate(&file, FallocateFlags::KEEP_SIZE, ready, step.max(bytes))?;
                    ready += step.max(bytes);
                    step = (step * 2).min(16 << 20);
                }
                Ahead::Sized(step) => {
                    fallocate(&file, FallocateFlags::empty(), ready, step)?;
                    ready += step;
                }
                Ahead::Zeros(step) => {
                    let step = step.max(2 * bytes);
                    file.write_all_at(&vec![0; step as usize], ready)?;
                    ready += step;
                }
            }
        }
        file.write_all_at(&batch, size)?;
        size += bytes;
        file.sync_data()?;
        took.push(began.elapsed().as_secs_f64() * 1e6);
    }
    let cpu = (cpu_us() - cpu) / writes as f64;
    std::fs::remove_file(path)?;
    let mean = took.iter().sum::<f64>() / writes as f64;
    took.sort_by(f64::total_cmp);
    Ok(Cost {
        median: took[writes / 2],
        p99: took[writes * 99 / 100],
        mean,
        cpu,
    })
}

/// The CPU time of this process so far.
fn cpu_us() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

fn open(dir: &Path) -> Result<Log, Box<dyn Error>> {
    let config = LogConfig::default();
    let now = Timestamp::now();
    Ok(Log::open(
        Arc::new(RealFs),
        &LogHome::unwitnessed(dir),
        config,
        Shutdown::Unclean,
        now,
        Lease::none(),
    )?)
}

fn batch(records: usize, value_bytes: usize) -> Result<Batch, Box<dyn Error>> {
    let mut builder = BatchBuilder::with_capacity(records * (value_bytes + 20));
    let value = vec![b'k'; value_bytes];
    for _ in 0..records {
        builder.append(Timestamp::now(), None, Some(&value), &[]);
    }
    Ok(Batch::parse(
        builder.build(Codec::None, ProducerStamp::NONE)?,
    )?)
}

fn summary(values: &mut [f64]) -> String {
    values.sort_by(f64::total_cmp);
    match &*values {
        [] => "-".into(),
        [first, .., last] => format!("{first:.1} / {:.1} / {last:.1}", values[values.len() / 2]),
        [only] => format!("{only:.1}"),
    }
}
