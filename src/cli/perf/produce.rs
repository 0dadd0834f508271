//! `klamm perf produce`: how many records a second are acknowledged.

use serde::Serialize;

use super::super::choices::{Acks, Compression};
use super::super::error::CliError;
use super::super::output::thousands;
use super::batches::{refusal, Batches};
use super::load::{closed_loop, open_loop, Connection, Outcome};
use super::machine::Disk;
use super::report::{lines, mb_per_s};
use super::wire::Wire;
use super::writing::{Writing, Written};
use crate::protocol::{metadata, produce};

/// What a record takes in a batch beside its value, at most.
const RECORD_OVERHEAD_BYTES: usize = 24;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many records to write and count
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    records: u64,
    /// At most so many records are one batch
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    batch_records: u64,
    /// At most so many bytes are one batch, before compression
    #[arg(long, default_value_t = 1024 * 1024, value_name = "BYTES")]
    batch_bytes: usize,
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
    #[command(flatten)]
    writing: Writing,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    written: Written,
    batch_records: u64,
    /// Of values alone.
    mb_per_s: f64,
    /// Of the better of the two measurements of the disk.
    percent_of_disk_1_mib: Option<f64>,
    percent_of_disk_4_mib: Option<f64>,
}

pub fn run(args: Args) -> Result<(), CliError> {
    let written = args.writing.measure(
        args.producers,
        args.records,
        |topic, wire, connection, n| produce_part(&args, &topic.name, wire, connection, n),
    )?;
    let report = report(&args, written);
    args.writing.output.print(&report, text)?;
    report.written.result()
}

impl Args {
    /// How many records of this size one batch takes.
    fn records_per_batch(&self) -> u64 {
        let fit = self.batch_bytes / (self.writing.record_size + RECORD_OVERHEAD_BYTES);
        self.batch_records.min(fit as u64).max(1)
    }
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
    let acks = args.writing.acks;
    let mut batches = Batches::new(topic, partitions, acks, codec, args.writing.record_size);
    let mut left = records;
    let next = || {
        let size = left.min(batch_records);
        left -= size;
        match size {
            0 => Ok(None),
            size => batches.request(size).map(Some),
        }
    };
    if acks == Acks::None {
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
        ..Default::default()
    })?;
    Ok(Outcome {
        records,
        ..Outcome::new()?
    })
}

fn report(args: &Args, written: Written) -> Report {
    let bytes = written.records * written.record_size as u64;
    let rate = mb_per_s(bytes, written.seconds);
    let percent_of = |rate_of: fn(&Disk) -> f64| {
        let disk = written.disk.as_ref()?;
        let best = disk.iter().map(rate_of).fold(0.0, f64::max);
        (best > 0.0).then(|| (rate / best * 1000.0).round() / 10.0)
    };
    Report {
        batch_records: args.records_per_batch(),
        mb_per_s: rate,
        percent_of_disk_1_mib: percent_of(|disk| disk.synced_1_mib.median_mb_per_s),
        percent_of_disk_4_mib: percent_of(|disk| disk.synced_4_mib.median_mb_per_s),
        written,
    }
}

fn text(report: &Report) -> String {
    let written = &report.written;
    let mut rows = vec![
        (
            "records",
            format!(
                "{} of {} B in {:.3} s, up to {} a batch; {} failed",
                thousands(written.records),
                written.record_size,
                written.seconds,
                report.batch_records,
                written.failed_records
            ),
        ),
        (
            "rate",
            format!(
                "{} records/s, {:.1} MB/s",
                thousands(written.records_per_s),
                report.mb_per_s
            ),
        ),
    ];
    if let Some(latency) = &written.latency {
        rows.push(("batch latency", latency.line()));
    }
    rows.extend(written.broker_rows());
    if let Some([before, after]) = &written.disk {
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
