//! `klamm perf connections`: what those cost the broker that are connected and only wait.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
use serde::Serialize;

use super::super::error::CliError;
use super::super::output::{thousands, Output};
use super::broker::{Broker, Usage};
use super::load::Target;
use super::offsets::offsets;
use super::report::lines;
use super::wire::Wire;
use crate::model::{LeaderEpoch, Offset, TopicId};
use crate::protocol::{fetch, list_offsets};

/// A waiting thread needs next to nothing.
const STACK_BYTES: usize = 256 * 1024;
/// Before the broker is measured it may free what the greetings cost.
const SETTLE: Duration = Duration::from_millis(500);

/// Opens connections and watches the broker's process while they wait. Use a broker that was just
/// started: after a load its heap has room left, and connections that fit there seem to cost
/// nothing.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Open so many connections that do nothing
    #[arg(long, value_name = "N", required_unless_present = "long_poll")]
    idle: Option<usize>,
    /// Open so many connections that each wait for the next record of --topic
    #[arg(long, value_name = "N", conflicts_with = "idle")]
    long_poll: Option<usize>,
    /// How long each long poll waits before it asks again
    #[arg(long, default_value_t = 5_000, value_name = "MS", value_parser = clap::value_parser!(i32).range(1..20_000))]
    max_wait_ms: i32,
    /// How long to watch the broker
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    seconds: u64,
    #[command(flatten)]
    output: Output,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    connections: usize,
    /// Fetches that were answered, all together.
    polls: u64,
    rss_before_kib: u64,
    rss_with_connections_kib: u64,
    kib_per_connection: f64,
    /// While they waited.
    broker: Usage,
}

pub fn run(args: Args) -> Result<(), CliError> {
    let count = args.idle.or(args.long_poll).unwrap_or(0);
    raise_file_limit(count)?;
    let mut wire = args.target.connect()?;
    let broker = Broker::find(&mut wire)?.ok_or_else(|| {
        CliError::failed("the broker isn't a process of this machine, so it can't be watched")
    })?;
    let end = match args.long_poll {
        Some(_) => Some(end_of_topic(&args, &mut wire)?),
        None => None,
    };
    let rss_before_kib = broker.rss_kib().ok_or_else(gone)?;
    let wires: Vec<Wire> = (0..count)
        .map(|_| args.target.connect())
        .collect::<Result<_, _>>()?;

    let (usage, polls) = match end {
        Some(end) => watch_polling(&args, &broker, wires, end)?,
        None => (watch(&args, &broker)?, 0),
    };
    let grown = usage.rss_after_kib.saturating_sub(rss_before_kib);
    let report = Report {
        connections: count,
        polls,
        rss_before_kib,
        rss_with_connections_kib: usage.rss_after_kib,
        kib_per_connection: (grown as f64 / count.max(1) as f64 * 10.0).round() / 10.0,
        broker: usage,
    };
    args.output.print(&report, text)
}

fn gone() -> CliError {
    CliError::failed("the broker has gone")
}

/// What the broker uses while nothing is asked of it.
fn watch(args: &Args, broker: &Broker) -> Result<Usage, CliError> {
    thread::sleep(SETTLE);
    let watch = broker.watch();
    thread::sleep(Duration::from_secs(args.seconds));
    watch.stop().ok_or_else(gone)
}

/// What the broker uses while each connection waits for a record, and how often it had to be told
/// that there is none.
fn watch_polling(
    args: &Args,
    broker: &Broker,
    wires: Vec<Wire>,
    end: Offset,
) -> Result<(Usage, u64), CliError> {
    let polls = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut waiting = Vec::with_capacity(wires.len());
        for mut wire in wires {
            let (polls, is_over) = (&polls, &is_over);
            let thread = thread::Builder::new()
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, move || poll(args, &mut wire, end, polls, is_over));
            waiting.push(thread);
        }
        let usage = watch(args, broker);
        let polls = polls.load(Ordering::Relaxed);
        is_over.store(true, Ordering::Relaxed);
        for thread in waiting {
            let thread = thread.map_err(|error| CliError::io("starting a thread", error))?;
            let result = thread.join();
            result.map_err(|_| CliError::failed("a waiting thread panicked"))??;
        }
        Ok((usage?, polls))
    })
}

/// The end of the topic's first partition, where the long polls wait.
fn end_of_topic(args: &Args, wire: &mut Wire) -> Result<Offset, CliError> {
    let topic = args.target.create(wire)?;
    let ends = offsets(wire, &topic.name, &[0], list_offsets::LATEST_TIMESTAMP)?;
    Ok(ends[&0])
}

/// Waits for a record that doesn't come, again and again.
fn poll(
    args: &Args,
    wire: &mut Wire,
    end: Offset,
    polls: &AtomicU64,
    is_over: &AtomicBool,
) -> Result<(), CliError> {
    let request = fetch::Request {
        max_wait_ms: args.max_wait_ms,
        min_bytes: 1,
        max_bytes: 1024 * 1024,
        topics: vec![fetch::FetchTopic {
            topic: args.target.topic.clone(),
            topic_id: TopicId::NONE,
            partitions: vec![fetch::FetchPartition {
                partition: 0,
                current_leader_epoch: LeaderEpoch::NONE,
                fetch_offset: end,
                partition_max_bytes: 1024 * 1024,
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    while !is_over.load(Ordering::Relaxed) {
        let response = wire.call::<fetch::Api>(&request)?;
        wire.check("Fetch", response.error_code)?;
        for partition in response
            .responses
            .iter()
            .flat_map(|topic| &topic.partitions)
        {
            wire.check("Fetch", partition.error_code)?;
        }
        polls.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// A connection is an open file, and the usual soft limit is 1024 of them.
fn raise_file_limit(connections: usize) -> Result<(), CliError> {
    const OTHER_FILES: u64 = 64;
    let needed = connections as u64 + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(limit.maximum.map_or(needed, |maximum| maximum.min(needed))),
        maximum: limit.maximum,
    };
    if raised.current < Some(needed) {
        return Err(CliError::failed(format!(
            "{connections} connections need {needed} open files, and this process may have {}",
            raised.current.unwrap_or(0)
        )));
    }
    setrlimit(Resource::Nofile, raised)
        .map_err(|error| CliError::io("raising the limit of open files", error.into()))
}

fn text(report: &Report) -> String {
    lines(&[
        (
            "connections",
            format!(
                "{} waiting, {} polls answered",
                thousands(report.connections as u64),
                thousands(report.polls)
            ),
        ),
        (
            "memory",
            format!(
                "{:.1} KiB each ({} KiB before, {} KiB with them)",
                report.kib_per_connection,
                thousands(report.rss_before_kib),
                thousands(report.rss_with_connections_kib)
            ),
        ),
        (
            "broker CPU",
            format!("{:.1} % of a core", report.broker.cpu_percent),
        ),
    ])
}
