//! `klamm perf latency`: how long one record takes to be acknowledged.

use super::super::choices::Acks;
use super::super::error::CliError;
use super::super::output::thousands;
use super::batches::{refusal, Batches};
use super::load::{closed_loop, open_loop, Connection, Outcome};
use super::report::lines;
use super::wire::Wire;
use super::writing::{Writing, Written};
use crate::protocol::produce;
use crate::record::Codec;

/// An open loop isn't to be held up by its bound; a broker that is so far behind has failed.
const OPEN_LOOP_IN_FLIGHT_MAX: usize = 100_000;

/// Every record is a produce request of its own. They are written raw on one connection (or on
/// several, with --connections), --in-flight of them pipelined; no client library batches them.
/// With --rate they go out at that rate whatever the broker does, and each record's time counts
/// from when it was due.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many records to write and count
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    records: u64,
    /// Records under way, all connections together; 1 is one at a time
    #[arg(long, default_value_t = 1, value_name = "N", conflicts_with = "rate")]
    in_flight: usize,
    /// Records a second, all connections together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Connections, each with threads of its own
    #[arg(long, default_value_t = 1, value_name = "N")]
    connections: usize,
    #[command(flatten)]
    writing: Writing,
}

pub fn run(args: Args) -> Result<(), CliError> {
    if args.writing.acks == Acks::None {
        return Err(CliError::Usage(
            "with --acks 0 nothing is acknowledged, so it has no latency".into(),
        ));
    }
    let written = args.writing.measure(
        args.connections,
        args.records,
        |topic, wire, connection, n| produce_part(&args, &topic.name, wire, connection, n),
    )?;
    args.writing.output.print(&written, text)?;
    written.result()
}

/// What one connection writes, of `records` in all.
fn produce_part(
    args: &Args,
    topic: &str,
    mut wire: Wire,
    connection: &Connection,
    records: u64,
) -> Result<Outcome, CliError> {
    let partitions = connection.partitions().to_vec();
    let writing = &args.writing;
    let size = writing.record_size;
    let mut requests = Batches::new(topic, partitions, writing.acks, Codec::None, size);
    let mut left = connection.part_of(records);
    let next = || match left {
        0 => Ok(None),
        _ => {
            left -= 1;
            requests.request(1).map(Some)
        }
    };
    let mut outcome = Outcome::new()?;
    let done = |response: produce::Response, latency| {
        outcome.count(1, latency, refusal(&response));
        Ok(())
    };
    match args.rate {
        None => {
            let in_flight = connection.part_of(args.in_flight as u64).max(1);
            closed_loop::<produce::Api>(&mut wire, in_flight as usize, next, done)?;
        }
        Some(rate) => {
            let interval = connection.interval(rate as f64);
            let in_flight_max = OPEN_LOOP_IN_FLIGHT_MAX;
            open_loop::<produce::Api>(&mut wire, interval, in_flight_max, next, done)?;
        }
    }
    Ok(outcome)
}

fn text(written: &Written) -> String {
    let mut rows = vec![
        (
            "records",
            format!(
                "{} to {} partitions in {:.3} s; {} failed",
                thousands(written.records),
                written.partitions,
                written.seconds,
                written.failed_records
            ),
        ),
        (
            "rate",
            format!("{} records/s", thousands(written.records_per_s)),
        ),
    ];
    if let Some(latency) = &written.latency {
        rows.push(("latency", latency.line()));
    }
    rows.extend(written.broker_rows());
    if let Some([before, after]) = &written.disk {
        rows.push((
            "disk, 4 KiB and a sync, before",
            before.synced_4_kib_latency.line(),
        ));
        rows.push(("the same after", after.synced_4_kib_latency.line()));
        rows.push((
            "disk, a sync each MiB",
            format!(
                "{:.0} MB/s before, {:.0} after",
                before.synced_1_mib.median_mb_per_s, after.synced_1_mib.median_mb_per_s
            ),
        ));
    }
    lines(&rows)
}
