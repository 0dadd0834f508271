//! What the loads that write have in common: options, warm-up, and what is measured beside them.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::choices::Acks;
use super::super::error::CliError;
use super::super::output::{per_second, Output};
use super::broker::{usage_rows, Broker, Usage};
use super::load::{on_connections, Connection, Outcome, Target, Topic};
use super::machine::{measure_disk, Disk};
use super::offsets::Ends;
use super::report::Percentiles;
use super::wire::Wire;

/// By default so many records of the whole warm the broker up first, and don't count.
const WARM_UP_PART: u64 = 20;
/// How often it is looked whether everything is written, and how long nothing may come.
const SETTLE_POLL_INTERVAL: Duration = Duration::from_millis(10);
const SETTLE_PATIENCE: Duration = Duration::from_secs(10);
/// The kernel counts CPU time in ticks: the last one is waited for.
const TICK: Duration = Duration::from_millis(10);

#[derive(Debug, clap::Args)]
pub struct Writing {
    #[command(flatten)]
    target: Target,
    /// Records written before, which don't count [default: a twentieth of --records]
    #[arg(long, value_name = "N")]
    warm_up: Option<u64>,
    /// Bytes of each record's value
    #[arg(long, default_value_t = 100, value_name = "BYTES")]
    pub record_size: usize,
    /// When a record counts as written
    #[arg(long, value_enum, default_value_t = Acks::All)]
    pub acks: Acks,
    /// Measure the disk too, right before and after
    #[arg(long)]
    with_machine: bool,
    /// Where --with-machine writes; choose the broker's disk
    #[arg(long, default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    pub output: Output,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Written {
    pub partitions: usize,
    pub records: u64,
    pub failed_records: u64,
    /// Why the first failed.
    pub first_failure: Option<String>,
    pub record_size: usize,
    /// Until the last was acknowledged, or with acks=0 taken by the broker.
    pub seconds: f64,
    pub records_per_s: u64,
    /// Of a request, until its acknowledgement; with a rate from when it was due.
    pub latency: Option<Percentiles>,
    /// Until everything was written, also what is not acknowledged or acknowledged before.
    pub broker: Option<Usage>,
    pub broker_cpu_us_per_record: Option<f64>,
    /// Right before and right after.
    pub disk: Option<[Disk; 2]>,
}

impl Writing {
    /// Lets so many connections write `records` together: `work` gets the topic, a connection, and
    /// how many all write.
    pub fn measure(
        &self,
        connections: usize,
        records: u64,
        work: impl Fn(&Topic, Wire, &Connection, u64) -> Result<Outcome, CliError> + Sync,
    ) -> Result<Written, CliError> {
        let mut wire = self.target.connect()?;
        let topic = self.target.create(&mut wire)?;
        let broker = Broker::find(&mut wire)?;
        let mut ends = Ends::of(&topic)?;
        let mut load = |records| {
            let before = ends.sum()?;
            let (elapsed, outcomes) = on_connections(&topic, connections, |wire, connection| {
                work(&topic, wire, &connection, records)
            })?;
            let outcome = Outcome::sum(outcomes)?;
            settle(&mut ends, before, outcome.records)?;
            Ok::<_, CliError>((elapsed, outcome))
        };
        let warm_up = self.warm_up.unwrap_or(records / WARM_UP_PART);
        if warm_up > 0 {
            load(warm_up)?;
        }
        let disk_before = self.measure_disk()?;
        let watch = broker.map(|broker| broker.watch());
        let (elapsed, outcome) = load(records)?;
        let usage = watch.and_then(|watch| watch.stop());
        let disk = disk_before.zip(self.measure_disk()?).map(|(a, b)| [a, b]);
        Ok(self.written(&topic, elapsed, outcome, usage, disk))
    }

    fn measure_disk(&self) -> Result<Option<Disk>, CliError> {
        match self.with_machine {
            true => measure_disk(&self.dir).map(Some),
            false => Ok(None),
        }
    }

    fn written(
        &self,
        topic: &Topic,
        elapsed: Duration,
        outcome: Outcome,
        usage: Option<Usage>,
        disk: Option<[Disk; 2]>,
    ) -> Written {
        let seconds = elapsed.as_secs_f64();
        let records = outcome.records;
        Written {
            partitions: topic.leaders.len(),
            records,
            failed_records: outcome.failed_records,
            first_failure: outcome.first_failure,
            record_size: self.record_size,
            seconds,
            records_per_s: per_second(records, seconds),
            latency: (self.acks != Acks::None).then(|| outcome.latencies.percentiles()),
            broker_cpu_us_per_record: usage
                .as_ref()
                .and_then(|usage| usage.us_per_record(records)),
            broker: usage,
            disk,
        }
    }
}

impl Written {
    pub fn broker_rows(&self) -> Vec<(&'static str, String)> {
        usage_rows(&self.broker, self.broker_cpu_us_per_record)
    }

    /// An error if any record failed.
    pub fn result(self) -> Result<(), CliError> {
        match self.first_failure {
            None => Ok(()),
            Some(reason) => Err(CliError::failed(format!(
                "{} records failed: {reason}",
                self.failed_records
            ))),
        }
    }
}

/// Waits until `records` more than before are written, and their CPU time is counted: with acks=0
/// and acks=1 the broker still appends and syncs when the load is over.
fn settle(ends: &mut Ends<'_>, before: u64, records: u64) -> Result<(), CliError> {
    let mut last = 0;
    let mut last_at = Instant::now();
    loop {
        let written = ends.sum()?.saturating_sub(before);
        if written >= records {
            thread::sleep(TICK);
            return Ok(());
        }
        if written > last {
            (last, last_at) = (written, Instant::now());
        } else if last_at.elapsed() > SETTLE_PATIENCE {
            return Err(CliError::failed(format!(
                "of {records} records, only {written} have been written"
            )));
        }
        thread::sleep(SETTLE_POLL_INTERVAL);
    }
}
