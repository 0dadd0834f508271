//! Measures compaction: `cargo bench --bench compaction [-- log | broker]`.
//!
//! 1 GiB of 1,024-byte values of 100,000 keys is compacted: as a log by itself (`log`), and in a broker to which
//! somebody writes meanwhile (`broker`). On the file system of the temporary directory (`TMPDIR`); one in memory
//! measures nothing.

mod broker;
#[path = "../../tests/broker_process/mod.rs"]
mod broker_process;
#[path = "../live_writer/mod.rs"]
mod live_writer;
mod log;

use std::error::Error;

const BYTES: u64 = 1 << 30;
const KEYS: u64 = 100_000;
const VALUE_BYTES: usize = 1_024;
const SEGMENT_BYTES: u64 = 128 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let is_asked = |name: &str| {
        let mut parts = args
            .iter()
            .filter(|arg| ["log", "broker"].contains(&&arg[..]));
        parts.clone().count() == 0 || parts.any(|arg| arg == name)
    };
    if is_asked("log") {
        log::measure()?;
    }
    if is_asked("broker") {
        broker::measure()?;
    }
    Ok(())
}

/// The same numbers each time.
fn random() -> impl FnMut() -> u64 {
    let mut state = 1_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// The next record's key, and its value, half of which can be compressed.
fn next_record(random: &mut impl FnMut() -> u64, value: &mut [u8]) -> [u8; 8] {
    for word in value[..VALUE_BYTES / 2].chunks_mut(8) {
        word.copy_from_slice(&random().to_le_bytes());
    }
    (random() % KEYS).to_be_bytes()
}

/// What a process takes of memory: `VmRSS` now, `VmHWM` at most, in KiB.
fn memory_kib(process: &str, name: &str) -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(value.ok_or("the kernel doesn't say")?.parse()?)
}
