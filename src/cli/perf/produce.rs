//! `klamm perf produce`: how many records a second are acknowledged.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::super::choices::{Acks, Compression};
use super::super::error::CliError;
use super::super::output::{per_second, thousands, Output};
use super::batches::{refusal, Batches};
use super::broker::{Broker, Usage};
use super::load::{closed_loop, on_connections, open_loop, Connection, Outcome, Target, Topic};
use super::machine::{measure_disk, Disk};
use super::report::{lines, mb_per_s, Percentiles};
use super::wire::Wire;
use crate::protocol::{metadata, produce};

/// What a record takes in a batch beside its value, at most.
const RECORD_OVERHEAD_BYTES: usize = 24;
/// By default so many records of the whole warm the broker up first, and don't count.
const WARM_UP_PART: u64 = 20;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// How many records to write and count
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    records: u64,
    /// Records written before, which don't count [default: a twentieth of --records]
    #[arg(long, value_name = "N")]
    warm_up: Option<u64>,
    /// Bytes of each record's value
    #[arg(long, default_value_t = 100, value_name = "BYTES")]
    record_size: usize,
    /// At most so many records are one batch
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    batch_records: u64,
    /// At most so many bytes are one batch, before compression
    #[arg(long, default_value_t = 1024 * 1024, value_name = "BYTES")]
    batch_bytes: usize,
    /// When a batch counts as acknowledged
    #[arg(long, value_enum, default_value_t = Acks::All)]
    acks: Acks,
    #[arg(long, value_enum, default_value_t = Compression::None)]
    codec: Compression,
    /// Connections, each with a thread of its own
    #[arg(long, default_value_t = 1, value_name = "N")]
    producers: usize,
    /// Batches under way on each connection
    #[arg(long, default_value_t = 8, value_name = "N")]
    in_flight: usize,
    /// Records a second, all connections together [default: as many as are acknowledged]
    #[arg(long, value_name = "N")]
    rate: Option<u64>,
    /// Measure the disk too, right before and after, and give the rate in percent of its
    #[arg(long)]
    with_machine: bool,
    /// Where --with-machine writes; choose the broker's disk
    #[arg(long, default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    output: Output,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    records: u64,
    failed_records: u64,
    /// Why the first failed.
    first_failure: Option<String>,
    record_size: usize,
    batch_records: u64,
    seconds: f64,
    records_per_s: u64,
    /// Of values alone.
    mb_per_s: f64,
    /// Of a batch, from the request to its acknowledgement; with a rate from when it was due.
    latency: Option<Percentiles>,
    broker: Option<Usage>,
    broker_cpu_us_per_record: Option<f64>,
    disk: Option<[Disk; 2]>,
    /// Of the better of the two measurements of the disk.
    percent_of_disk_1_mib: Option<f64>,
    percent_of_disk_4_mib: Option<f64>,
}

pub fn run(args: Args) -> Result<(), CliError> {
    let mut wire = args.target.connect()?;
    let topic = args.target.create(&mut wire)?;
    let broker = Broker::find(&mut wire)?;
    let warm_up = args.warm_up.unwrap_or(args.records / WARM_UP_PART);
    if warm_up > 0 {
        load(&args, &topic, warm_up)?;
    }
    let disk_before = measure(&args)?;
    let watch = broker.map(|broker| broker.watch());
    let (elapsed, outcome) = load(&args, &topic, args.records)?;
    let usage = watch.and_then(|watch| watch.stop());
    let disk = disk_before.zip(measure(&args)?).map(|(a, b)| [a, b]);
    args.output
        .print(&report(&args, elapsed, &outcome, usage, disk), text)?;
    outcome.result()
}

fn measure(args: &Args) -> Result<Option<Disk>, CliError> {
    match args.with_machine {
        true => measure_disk(&args.dir).map(Some),
        false => Ok(None),
    }
}

impl Args {
    /// How many records of this size one batch takes.
    fn records_per_batch(&self) -> u64 {
        let fit = self.batch_bytes / (self.record_size + RECORD_OVERHEAD_BYTES);
        self.batch_records.min(fit as u64).max(1)
    }
}

/// Writes `records` over all connections, and says how long it took.
fn load(args: &Args, topic: &Topic, records: u64) -> Result<(Duration, Outcome), CliError> {
    let (elapsed, outcomes) = on_connections(topic, args.producers, |wire, connection| {
        produce_part(args, &topic.name, wire, &connection, records)
    })?;
    Ok((elapsed, Outcome::sum(outcomes)?))
}

/// What one connection writes, of `records` in all.
fn produce_part(
    args: &Args,
    topic: &str,
    mut wire: Wire,
    connection: &Connection,
    records: u64,
) -> Result<Outcome, CliError> {
    let batch_records = args.records_per_batch();
    let records = connection.part_of(records);
    let partitions = connection.partitions().to_vec();
    let codec = args.codec.codec();
    let mut batches = Batches::new(topic, partitions, args.acks, codec, args.record_size);
    let mut left = records;
    let next = || {
        let size = left.min(batch_records);
        left -= size;
        match size {
            0 => Ok(None),
            size => batches.request(size).map(Some),
        }
    };
    if args.acks == Acks::None {
        return without_acks(&mut wire, records, next);
    }
    let mut outcome = Outcome::new()?;
    // Only the last batch may have fewer records; taking it for the last to be answered is wrong
    // by one batch at most.
    let mut answered = 0;
    let done = |response: produce::Response, latency| {
        let size = batch_records.min(records - answered);
        answered += size;
        outcome.count(size, latency, refusal(&response));
        Ok(())
    };
    let in_flight = args.in_flight.max(1);
    match args.rate {
        None => closed_loop::<produce::Api>(&mut wire, in_flight, next, done)?,
        Some(rate) => {
            let interval = connection.interval(rate as f64 / batch_records as f64);
            open_loop::<produce::Api>(&mut wire, interval, in_flight, next, done)?;
        }
    }
    Ok(outcome)
}

/// With acks=0 nothing is answered, so the records that were sent are counted. A request behind
/// them that is answered shows that the broker has taken them from the connection.
fn without_acks(
    wire: &mut Wire,
    records: u64,
    mut next: impl FnMut() -> Result<Option<produce::Request>, CliError>,
) -> Result<Outcome, CliError> {
    while let Some(request) = next()? {
        wire.queue::<produce::Api>(&request)?;
        wire.flush()?;
    }
    wire.call::<metadata::Api>(&metadata::Request {
        topics: Some(vec![]),
        allow_auto_topic_creation: false,
    })?;
    Ok(Outcome {
        records,
        ..Outcome::new()?
    })
}

fn report(
    args: &Args,
    elapsed: Duration,
    outcome: &Outcome,
    usage: Option<Usage>,
    disk: Option<[Disk; 2]>,
) -> Report {
    let seconds = elapsed.as_secs_f64();
    let records = outcome.records;
    let rate = mb_per_s(records * args.record_size as u64, seconds);
    let percent_of = |rate_of: fn(&Disk) -> f64| {
        let disk = disk.as_ref()?;
        let best = disk.iter().map(rate_of).fold(0.0, f64::max);
        (best > 0.0).then(|| (rate / best * 1000.0).round() / 10.0)
    };
    Report {
        records,
        failed_records: outcome.failed_records,
        first_failure: outcome.first_failure.clone(),
        record_size: args.record_size,
        batch_records: args.records_per_batch(),
        seconds,
        records_per_s: per_second(records, seconds),
        mb_per_s: rate,
        latency: (args.acks != Acks::None).then(|| outcome.latencies.percentiles()),
        broker_cpu_us_per_record: usage.as_ref().map(|usage| usage.us_per_record(records)),
        broker: usage,
        percent_of_disk_1_mib: percent_of(|disk| disk.synced_1_mib.median_mb_per_s),
        percent_of_disk_4_mib: percent_of(|disk| disk.synced_4_mib.median_mb_per_s),
        disk,
    }
}

fn text(report: &Report) -> String {
    let mut rows = vec![
        (
            "records",
            format!(
                "{} of {} B in {:.3} s, up to {} a batch; {} failed",
                thousands(report.records),
                report.record_size,
                report.seconds,
                report.batch_records,
                report.failed_records
            ),
        ),
        (
            "rate",
            format!(
                "{} records/s, {:.1} MB/s",
                thousands(report.records_per_s),
                report.mb_per_s
            ),
        ),
    ];
    if let Some(latency) = &report.latency {
        rows.push(("batch latency", latency.line()));
    }
    rows.extend(usage_rows(&report.broker, report.broker_cpu_us_per_record));
    if let Some([before, after]) = &report.disk {
        let both = |rate: fn(&Disk) -> f64| {
            format!("{:.0} MB/s before, {:.0} after", rate(before), rate(after))
        };
        rows.push((
            "disk, a sync each MiB",
            format!(
                "{}: the records are {:.0} %",
                both(|disk| disk.synced_1_mib.median_mb_per_s),
                report.percent_of_disk_1_mib.unwrap_or(0.0)
            ),
        ));
        rows.push((
            "disk, a sync each 4 MiB",
            format!(
                "{}: the records are {:.0} %",
                both(|disk| disk.synced_4_mib.median_mb_per_s),
                report.percent_of_disk_4_mib.unwrap_or(0.0)
            ),
        ));
    }
    lines(&rows)
}

/// The broker's CPU and memory, as every load prints them.
pub fn usage_rows(
    usage: &Option<Usage>,
    us_per_record: Option<f64>,
) -> Vec<(&'static str, String)> {
    let Some(usage) = usage else {
        return vec![("broker", "isn't a process of this machine".into())];
    };
    vec![
        (
            "broker CPU",
            format!(
                "{:.3} µs a record ({:.1} % of a core)",
                us_per_record.unwrap_or(0.0),
                usage.cpu_percent
            ),
        ),
        ("broker RSS", usage.memory_line()),
    ]
}
