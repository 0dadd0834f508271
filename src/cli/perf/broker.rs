//! The broker's process, if it runs on this machine: its CPU time and memory, from `/proc`.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::error::CliError;
use super::wire::Wire;
use crate::protocol::describe_cluster;

/// Linux gives user space 100 ticks a second on every architecture that we run on (USER_HZ).
const TICKS_A_SECOND: f64 = 100.0;
/// The name of our process, as the kernel knows it.
const PROCESS_NAME: &str = "klamm";
/// In less time a few ticks decide what a record seems to cost.
const CPU_SECONDS_MIN: f64 = 1.0;
/// How often its memory is looked at.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(20);

/// A broker's process on this machine.
#[derive(Clone, Copy, Debug)]
pub struct Broker {
    process_id: u32,
}

/// What it used while something was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Usage {
    pub process_id: u32,
    /// How long it was watched.
    pub seconds: f64,
    pub cpu_seconds: f64,
    /// Of one core.
    pub cpu_percent: f64,
    pub rss_before_kib: u64,
    pub rss_after_kib: u64,
    pub rss_peak_kib: u64,
}

impl Broker {
    /// The process that answers at the other end of `wire`; `None` if it isn't on this machine.
    pub fn find(wire: &mut Wire) -> Result<Option<Broker>, CliError> {
        if !wire.is_local() {
            return Ok(None);
        }
        let cluster = wire.call::<describe_cluster::Api>(&describe_cluster::Request::default())?;
        let process_id = match cluster.brokers.as_slice() {
            [broker] => broker.process_id,
            brokers => brokers
                .iter()
                .find(|broker| u16::try_from(broker.port) == Ok(wire.port()))
                .map_or(0, |broker| broker.process_id),
        };
        let name = fs::read_to_string(format!("/proc/{process_id}/comm")).unwrap_or_default();
        Ok((name.trim() == PROCESS_NAME).then_some(Broker { process_id }))
    }

    /// The CPU seconds that all its threads have used.
    pub fn cpu_seconds(&self) -> Option<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process_id)).ok()?;
        cpu_seconds(&stat)
    }

    pub fn rss_kib(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process_id)).ok()?;
        kib_of(&status, "VmRSS:")
    }

    /// Watches it from now on.
    pub fn watch(&self) -> Watch {
        let peak_kib = Arc::new(AtomicU64::new(0));
        let is_over = Arc::new(AtomicBool::new(false));
        let sampler = {
            let (broker, peak_kib, is_over) = (*self, peak_kib.clone(), is_over.clone());
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    peak_kib.fetch_max(broker.rss_kib().unwrap_or(0), Ordering::Relaxed);
                    thread::park_timeout(SAMPLE_INTERVAL);
                }
            })
        };
        Watch {
            broker: *self,
            started: Instant::now(),
            cpu_seconds: self.cpu_seconds().unwrap_or(0.0),
            rss_kib: self.rss_kib().unwrap_or(0),
            peak_kib,
            is_over,
            sampler,
        }
    }
}

/// A broker that is being watched.
pub struct Watch {
    broker: Broker,
    started: Instant,
    cpu_seconds: f64,
    rss_kib: u64,
    peak_kib: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    sampler: thread::JoinHandle<()>,
}

impl Watch {
    /// What was used since the start; `None` if the process has gone.
    pub fn stop(self) -> Option<Usage> {
        let seconds = self.started.elapsed().as_secs_f64();
        let cpu_seconds = self.broker.cpu_seconds()? - self.cpu_seconds;
        let rss_after_kib = self.broker.rss_kib()?;
        self.is_over.store(true, Ordering::Relaxed);
        self.sampler.thread().unpark();
        // The sampler only reads /proc; if it panicked, the peak is what it saw till then.
        self.sampler.join().ok();
        Some(Usage {
            process_id: self.broker.process_id,
            seconds,
            cpu_seconds,
            cpu_percent: (cpu_seconds / seconds * 1000.0).round() / 10.0,
            rss_before_kib: self.rss_kib,
            rss_after_kib,
            rss_peak_kib: self.peak_kib.load(Ordering::Relaxed).max(rss_after_kib),
        })
    }
}

impl Usage {
    /// CPU microseconds for each of `records`; `None` if it was watched too shortly to say.
    pub fn us_per_record(&self, records: u64) -> Option<f64> {
        let is_long_enough = self.seconds >= CPU_SECONDS_MIN && records > 0;
        is_long_enough.then(|| self.cpu_seconds * 1e6 / records as f64)
    }

    fn memory_line(&self) -> String {
        let mib = |kib: u64| kib as f64 / 1024.0;
        format!(
            "{:.1} MiB before, {:.1} MiB after, {:.1} MiB at most",
            mib(self.rss_before_kib),
            mib(self.rss_after_kib),
            mib(self.rss_peak_kib)
        )
    }
}

/// The broker's CPU and memory, as every load prints them.
pub fn usage_rows(
    usage: &Option<Usage>,
    us_per_record: Option<f64>,
) -> Vec<(&'static str, String)> {
    let Some(usage) = usage else {
        return vec![("broker", "isn't a process of this machine".into())];
    };
    let per_record = match us_per_record {
        Some(us) => format!("{us:.3} µs a record"),
        None => "too short a run to say what a record costs".into(),
    };
    vec![
        (
            "broker CPU",
            format!("{per_record} ({:.1} % of a core)", usage.cpu_percent),
        ),
        ("broker RSS", usage.memory_line()),
    ]
}

/// `utime` and `stime` of `/proc/<pid>/stat`, whose second field may hold blanks and parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_A_SECOND)
}

fn kib_of(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_any_process_name() {
        let stat = "42 (a) b (c)) S 1 1 1 0 -1 4 9 0 0 0 250 50 0 0 20 0 8 0 1 2 3";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("42 (klamm"), None);
    }

    #[test]
    fn a_short_run_says_nothing_of_a_record() {
        let usage = |seconds| Usage {
            process_id: 1,
            seconds,
            cpu_seconds: 0.5,
            cpu_percent: 0.0,
            rss_before_kib: 0,
            rss_after_kib: 0,
            rss_peak_kib: 0,
        };
        assert_eq!(usage(0.9).us_per_record(1_000_000), None);
        assert_eq!(usage(1.0).us_per_record(1_000_000), Some(0.5));
        assert_eq!(usage(1.0).us_per_record(0), None);
    }

    #[test]
    fn memory_is_read_from_the_status() {
        let status = "Name:\tklamm\nVmHWM:\t  999 kB\nVmRSS:\t  1234 kB\n";
        assert_eq!(kib_of(status, "VmRSS:"), Some(1234));
        assert_eq!(kib_of(status, "VmSwap:"), None);
    }
}
