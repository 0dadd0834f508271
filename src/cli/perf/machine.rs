//! `klamm perf machine`: what the machine gives to anyone, so that the figures of the broker can
//! be read beside it.
//!
//! It writes as the broker's log does: at the end of a file whose space is allocated ahead. Each
//! figure is taken in several rounds, since other guests of the host make them vary.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FallocateFlags;
use serde::Serialize;

use super::super::error::CliError;
use super::super::output::Output;
use super::report::{lines, Latencies, Percentiles, Rate};

const MIB: usize = 1024 * 1024;
/// What is written or sent in one round of each measurement.
const ROUND_BYTES: usize = 64 * MIB;
const ROUNDS: usize = 5;
/// A round before those that count: fresh memory costs the guest 2 to 3 ms for each MiB.
const WARM_UP_ROUNDS: usize = 1;
/// What a small synced write and a round trip carry, and how often each is done.
const SMALL_SYNC_BYTES: usize = 4096;
const SMALL_SYNCS: usize = 300;
const ROUND_TRIP_BYTES: usize = 100;
const ROUND_TRIPS: usize = 5_000;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to write; choose the disk that the broker writes to
    #[arg(long, default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    output: Output,
}

/// What one machine gave.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Writing with one fdatasync for each MiB, and for each 4 MiB.
    pub disk_synced_1_mib: Rate,
    pub disk_synced_4_mib: Rate,
    pub disk_synced_4_kib_latency: Percentiles,
    pub page_cache: Rate,
    pub loopback: Rate,
    pub loopback_round_trip: Percentiles,
}

/// What the disk gave, measured beside a load.
#[derive(Clone, Debug, Serialize)]
pub struct Disk {
    pub synced_1_mib: Rate,
    pub synced_4_mib: Rate,
    pub synced_4_kib_latency: Percentiles,
}

pub fn run(args: Args) -> Result<(), CliError> {
    let disk = measure_disk(&args.dir)?;
    let machine = Machine {
        disk_synced_1_mib: disk.synced_1_mib,
        disk_synced_4_mib: disk.synced_4_mib,
        disk_synced_4_kib_latency: disk.synced_4_kib_latency,
        page_cache: sequential_write(&args.dir, MIB, Sync::Never)?,
        loopback: loopback_throughput()?,
        loopback_round_trip: loopback_round_trips()?,
    };
    args.output.print(&machine, text)
}

/// The disk's synced figures alone, which takes about a second on a good disk.
pub fn measure_disk(dir: &Path) -> Result<Disk, CliError> {
    Ok(Disk {
        synced_1_mib: sequential_write(dir, MIB, Sync::EachWrite)?,
        synced_4_mib: sequential_write(dir, 4 * MIB, Sync::EachWrite)?,
        synced_4_kib_latency: small_syncs(dir)?,
    })
}

fn text(machine: &Machine) -> String {
    lines(&[
        ("disk, a sync each MiB", machine.disk_synced_1_mib.line()),
        ("disk, a sync each 4 MiB", machine.disk_synced_4_mib.line()),
        (
            "disk, 4 KiB and a sync",
            machine.disk_synced_4_kib_latency.line(),
        ),
        ("page cache, no sync", machine.page_cache.line()),
        ("loopback TCP, 1 MiB writes", machine.loopback.line()),
        (
            "loopback TCP, 100 B and back",
            machine.loopback_round_trip.line(),
        ),
    ])
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sync {
    EachWrite,
    Never,
}

fn sequential_write(dir: &Path, write_bytes: usize, sync: Sync) -> Result<Rate, CliError> {
    let failed = |error| CliError::io(format!("writing in {}", dir.display()), error);
    let mut file = scratch_file(dir, (WARM_UP_ROUNDS + ROUNDS) * ROUND_BYTES)?;
    let block = noise(write_bytes);
    let mut rounds = Vec::with_capacity(ROUNDS);
    for round in 0..WARM_UP_ROUNDS + ROUNDS {
        let start = Instant::now();
        for _ in 0..ROUND_BYTES / write_bytes {
            file.write_all(&block).map_err(failed)?;
            if sync == Sync::EachWrite {
                file.sync_data().map_err(failed)?;
            }
        }
        if round >= WARM_UP_ROUNDS {
            rounds.push(start.elapsed());
        }
    }
    Ok(Rate::of_rounds(ROUND_BYTES, &rounds))
}

fn small_syncs(dir: &Path) -> Result<Percentiles, CliError> {
    let failed = |error| CliError::io(format!("writing in {}", dir.display()), error);
    let mut file = scratch_file(dir, SMALL_SYNCS * SMALL_SYNC_BYTES)?;
    let block = noise(SMALL_SYNC_BYTES);
    let mut latencies = Latencies::new()?;
    for _ in 0..SMALL_SYNCS {
        let start = Instant::now();
        file.write_all(&block).map_err(failed)?;
        file.sync_data().map_err(failed)?;
        latencies.record(start.elapsed());
    }
    Ok(latencies.percentiles())
}

fn loopback_throughput() -> Result<Rate, CliError> {
    let failed = |error| CliError::io("loopback", error);
    let (mut sender, mut receiver) = loopback_pair()?;
    let total = (WARM_UP_ROUNDS + ROUNDS) * ROUND_BYTES;
    let reader = thread::spawn(move || -> std::io::Result<()> {
        let mut buffer = vec![0; MIB];
        let mut left = total;
        while left > 0 {
            match receiver.read(&mut buffer)? {
                0 => return Ok(()),
                read => left -= read.min(left),
            }
        }
        Ok(())
    });
    let block = noise(MIB);
    let mut rounds = Vec::with_capacity(ROUNDS);
    for round in 0..WARM_UP_ROUNDS + ROUNDS {
        let start = Instant::now();
        for _ in 0..ROUND_BYTES / MIB {
            sender.write_all(&block).map_err(failed)?;
        }
        if round >= WARM_UP_ROUNDS {
            rounds.push(start.elapsed());
        }
    }
    join(reader)?.map_err(failed)?;
    Ok(Rate::of_rounds(ROUND_BYTES, &rounds))
}

fn loopback_round_trips() -> Result<Percentiles, CliError> {
    let failed = |error| CliError::io("loopback", error);
    let (mut here, mut there) = loopback_pair()?;
    let echo = thread::spawn(move || -> std::io::Result<()> {
        let mut buffer = [0; ROUND_TRIP_BYTES];
        for _ in 0..ROUND_TRIPS {
            there.read_exact(&mut buffer)?;
            there.write_all(&buffer)?;
        }
        Ok(())
    });
    let mut buffer = [0; ROUND_TRIP_BYTES];
    let mut latencies = Latencies::new()?;
    for _ in 0..ROUND_TRIPS {
        let start = Instant::now();
        here.write_all(&buffer).map_err(failed)?;
        here.read_exact(&mut buffer).map_err(failed)?;
        latencies.record(start.elapsed());
    }
    join(echo)?.map_err(failed)?;
    Ok(latencies.percentiles())
}

fn loopback_pair() -> Result<(TcpStream, TcpStream), CliError> {
    let pair = || {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let here = TcpStream::connect(listener.local_addr()?)?;
        let (there, _) = listener.accept()?;
        here.set_nodelay(true)?;
        there.set_nodelay(true)?;
        let limit = Some(Duration::from_secs(60));
        for stream in [&here, &there] {
            stream.set_read_timeout(limit)?;
            stream.set_write_timeout(limit)?;
        }
        Ok((here, there))
    };
    pair().map_err(|error| CliError::io("loopback", error))
}

/// A file without a name, so that nothing stays behind, whose space is allocated.
fn scratch_file(dir: &Path, bytes: usize) -> Result<File, CliError> {
    let path = dir.join(format!(".klamm-perf-{}", std::process::id()));
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(|error| CliError::io(path.display().to_string(), error))?;
    std::fs::remove_file(&path).map_err(|error| CliError::io(path.display().to_string(), error))?;
    // Not every file system can; then the figures are those of a file that grows.
    if let Err(error) = rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, bytes as u64) {
        log::debug!("no space allocated ahead in {}: {error}", dir.display());
    }
    Ok(file)
}

/// Bytes that don't compress, from a xorshift generator.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn join<T>(thread: thread::JoinHandle<T>) -> Result<T, CliError> {
    thread
        .join()
        .map_err(|_| CliError::failed("a measuring thread panicked"))
}
