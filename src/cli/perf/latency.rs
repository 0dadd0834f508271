//! `klamm perf latency`: how long one record takes to be acknowledged.

use std::time::Duration;

use serde::Serialize;

use super::super::choices::Acks;
use super::super::error::CliError;
use super::super::output::{per_second, thousands, Output};
use super::batches::{refusal, Batches};
use super::broker::{Broker, Usage};
use super::load::{closed_loop, on_connections, open_loop, Connection, Outcome, Target, Topic};
use super::produce::usage_rows;
use super::report::{lines, Percentiles};
use super::wire::Wire;
use crate::protocol::produce;
use crate::record::Codec;

/// By default so many records of the whole warm the broker up first, and don't count.
const WARM_UP_PART: u64 = 20;
/// An open loop isn't to be held up by its bound; a broker that is so far behind has failed.
const OPEN_LOOP_IN_FLIGHT_MAX: usize = 100_000;

/// Every record is a produce request of its own. They are written raw on one connection (or on
/// several, with --connections), --in-flight of them pipelined; no client library batches them.
/// With --rate they go out at that rate whatever the broker does, and each record's time counts
/// from when it was due.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// How many records to write and count
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    records: u64,
    /// Records written before, which don't count [default: a twentieth of --records]
    #[arg(long, value_name = "N")]
    warm_up: Option<u64>,
    /// Bytes of each record's value
    #[arg(long, default_value_t = 100, value_name = "BYTES")]
    record_size: usize,
    /// When a record counts as acknowledged
    #[arg(long, value_enum, default_value_t = Acks::All)]
    acks: Acks,
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
    output: Output,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    records: u64,
    failed_records: u64,
    /// Why the first failed.
    first_failure: Option<String>,
    partitions: usize,
    seconds: f64,
    records_per_s: u64,
    latency: Percentiles,
    broker: Option<Usage>,
    broker_cpu_us_per_record: Option<f64>,
}

pub fn run(args: Args) -> Result<(), CliError> {
    if args.acks == Acks::None {
        return Err(CliError::Usage(
            "with --acks 0 nothing is acknowledged, so it has no latency".into(),
        ));
    }
    let mut wire = args.target.connect()?;
    let topic = args.target.create(&mut wire)?;
    let broker = Broker::find(&mut wire)?;
    let warm_up = args.warm_up.unwrap_or(args.records / WARM_UP_PART);
    if warm_up > 0 {
        load(&args, &topic, warm_up)?;
    }
    let watch = broker.map(|broker| broker.watch());
    let (elapsed, outcome) = load(&args, &topic, args.records)?;
    let usage = watch.and_then(|watch| watch.stop());
    args.output
        .print(&report(&topic, elapsed, &outcome, usage), text)?;
    outcome.result()
}

/// Writes `records` over all connections, and says how long it took.
fn load(args: &Args, topic: &Topic, records: u64) -> Result<(Duration, Outcome), CliError> {
    let (elapsed, outcomes) = on_connections(topic, args.connections, |wire, connection| {
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
    let partitions = connection.partitions().to_vec();
    let mut requests = Batches::new(topic, partitions, args.acks, Codec::None, args.record_size);
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

fn report(topic: &Topic, elapsed: Duration, outcome: &Outcome, usage: Option<Usage>) -> Report {
    let seconds = elapsed.as_secs_f64();
    Report {
        records: outcome.records,
        failed_records: outcome.failed_records,
        first_failure: outcome.first_failure.clone(),
        partitions: topic.leaders.len(),
        seconds,
        records_per_s: per_second(outcome.records, seconds),
        latency: outcome.latencies.percentiles(),
        broker_cpu_us_per_record: usage.as_ref().map(|u| u.us_per_record(outcome.records)),
        broker: usage,
    }
}

fn text(report: &Report) -> String {
    let mut rows = vec![
        (
            "records",
            format!(
                "{} to {} partitions in {:.3} s; {} failed",
                thousands(report.records),
                report.partitions,
                report.seconds,
                report.failed_records
            ),
        ),
        (
            "rate",
            format!("{} records/s", thousands(report.records_per_s)),
        ),
        ("latency", report.latency.line()),
    ];
    rows.extend(usage_rows(&report.broker, report.broker_cpu_us_per_record));
    lines(&rows)
}
