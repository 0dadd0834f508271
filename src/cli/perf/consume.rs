//! `klamm perf consume`: how many records a second can be read.

use std::collections::HashMap;
use std::hint::black_box;

use bytes::Bytes;
use clap::ValueEnum;
use serde::Serialize;

use super::super::error::CliError;
use super::super::output::{per_second, thousands, Output};
use super::broker::{usage_rows, Broker, Usage};
use super::load::{on_connections, Connection, Target};
use super::offsets::offsets;
use super::report::{lines, mb_per_s};
use super::wire::Wire;
use crate::model::{LeaderEpoch, Offset, Timestamp, TopicId};
use crate::protocol::{fetch, list_offsets};
use crate::record::{Batch, BatchHeader, RecordError};

/// What lies in the log is there, so no fetch waits; this only bounds a broker's mistake.
const MAX_WAIT_MS: i32 = 1_000;

/// How large the records of a batch may become when they are decompressed.
const RECORDS_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Reads each partition from its start to the end that it has now, one fetch under way for each.
/// Every batch's checksum is compared. The records in it are counted; with --check records each is
/// taken apart too, as a consumer does with those that it hands on.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Connections, each with a thread of its own
    #[arg(long, default_value_t = 1, value_name = "N")]
    consumers: usize,
    /// At most so many bytes in one fetch, of one partition
    #[arg(long, default_value_t = 1024 * 1024, value_name = "BYTES", value_parser = clap::value_parser!(i32).range(1..))]
    fetch_bytes: i32,
    /// Read everything so many times; the first time, the broker reads what may not be in memory
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// What is done with each batch that was read
    #[arg(long, value_enum, default_value_t = Check::Checksums, value_name = "WHAT")]
    check: Check,
    #[command(flatten)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Check {
    /// Compare its checksum
    Checksums,
    /// Compare its checksum, decompress it, and take each record apart
    Records,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    check: Check,
    records: u64,
    /// Of whole batches, as they lie in the log.
    bytes: u64,
    seconds: f64,
    records_per_s: u64,
    mb_per_s: f64,
    broker: Option<Usage>,
    broker_cpu_us_per_record: Option<f64>,
}

#[derive(Default)]
struct Count {
    records: u64,
    bytes: u64,
}

pub fn run(args: Args) -> Result<(), CliError> {
    let mut wire = args.target.connect()?;
    let topic = args.target.find(&mut wire)?;
    let broker = Broker::find(&mut wire)?;
    let watch = broker.map(|broker| broker.watch());
    let (elapsed, counts) = on_connections(&topic, args.consumers, |wire, connection| {
        let mut reader = Reader {
            topic: &topic.name,
            fetch_bytes: args.fetch_bytes,
            check: args.check,
            wire,
            count: Count::default(),
        };
        for _ in 0..args.rounds {
            reader.read_all(&connection)?;
        }
        Ok(reader.count)
    })?;
    let usage = watch.and_then(|watch| watch.stop());
    let seconds = elapsed.as_secs_f64();
    let records = counts.iter().map(|count| count.records).sum();
    let bytes = counts.iter().map(|count| count.bytes).sum();
    let report = Report {
        check: args.check,
        records,
        bytes,
        seconds,
        records_per_s: per_second(records, seconds),
        mb_per_s: mb_per_s(bytes, seconds),
        broker_cpu_us_per_record: usage
            .as_ref()
            .and_then(|usage| usage.us_per_record(records)),
        broker: usage,
    };
    args.output.print(&report, text)
}

/// Reads partitions over one connection.
struct Reader<'a> {
    topic: &'a str,
    fetch_bytes: i32,
    check: Check,
    wire: Wire,
    count: Count,
}

impl Reader<'_> {
    fn read_all(&mut self, connection: &Connection) -> Result<(), CliError> {
        let partitions = connection.partitions();
        let starts = self.offsets(partitions, list_offsets::EARLIEST_TIMESTAMP)?;
        let ends = self.offsets(partitions, list_offsets::LATEST_TIMESTAMP)?;
        let mut under_way = HashMap::new();
        for partition in partitions {
            self.fetch(
                *partition,
                starts[partition],
                ends[partition],
                &mut under_way,
            )?;
        }
        let mut frames = Vec::new();
        while !under_way.is_empty() {
            self.wire.flush()?;
            self.wire.receive(&mut frames)?;
            for frame in frames.drain(..) {
                let (id, response) = self.wire.decode::<fetch::Api>(&frame)?;
                let Some((partition, from)) = under_way.remove(&id) else {
                    continue;
                };
                let records = records_of(response)?;
                let (next, count) = count_records(&records, from)?;
                // The next fetch is under way before this one's batches are checked.
                self.fetch(partition, next, ends[&partition], &mut under_way)?;
                self.wire.flush()?;
                check(self.check, &records)?;
                self.count.records += count;
                self.count.bytes += records.len() as u64;
            }
        }
        Ok(())
    }

    /// Queues the fetch of what lies from `from`, unless that is the end.
    fn fetch(
        &mut self,
        partition: i32,
        from: Offset,
        end: Offset,
        under_way: &mut HashMap<i32, (i32, Offset)>,
    ) -> Result<(), CliError> {
        if from >= end {
            return Ok(());
        }
        let id = self.wire.queue::<fetch::Api>(&fetch::Request {
            max_wait_ms: MAX_WAIT_MS,
            min_bytes: 1,
            max_bytes: self.fetch_bytes,
            topics: vec![fetch::FetchTopic {
                topic: self.topic.to_owned(),
                topic_id: TopicId::NONE,
                partitions: vec![fetch::FetchPartition {
                    partition,
                    current_leader_epoch: LeaderEpoch::NONE,
                    fetch_offset: from,
                    partition_max_bytes: self.fetch_bytes,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        })?;
        under_way.insert(id, (partition, from));
        Ok(())
    }

    fn offsets(
        &mut self,
        partitions: &[i32],
        timestamp: Timestamp,
    ) -> Result<HashMap<i32, Offset>, CliError> {
        offsets(&mut self.wire, self.topic, partitions, timestamp)
    }
}

/// The records of the one partition that was asked for.
fn records_of(response: fetch::Response) -> Result<Bytes, CliError> {
    let failed = |code| CliError::failed(format!("Fetch: {code}"));
    if !response.error_code.is_ok() {
        return Err(failed(response.error_code));
    }
    let mut partitions = response.responses.into_iter().flat_map(|t| t.partitions);
    match partitions.next() {
        Some(data) if data.error_code.is_ok() => Ok(data.records.0),
        Some(data) => Err(failed(data.error_code)),
        None => Err(CliError::failed("Fetch: the partition isn't answered")),
    }
}

/// The offset after the last whole batch, and how many records lie in them from `from` on.
fn count_records(records: &Bytes, from: Offset) -> Result<(Offset, u64), CliError> {
    let mut next = from;
    let mut count = 0;
    for batch in Batches(records) {
        let (header, _) = batch?;
        let first = header.base_offset.max(from);
        count += u64::try_from(header.next_offset() - first).unwrap_or(0);
        next = header.next_offset();
    }
    Ok((next, count))
}

fn check(what: Check, records: &Bytes) -> Result<(), CliError> {
    for batch in Batches(records) {
        let (header, bytes) = batch?;
        let checked = match what {
            Check::Checksums => header.check_crc(bytes),
            Check::Records => take_apart(records.slice_ref(bytes)),
        };
        checked.map_err(|error| at(&header, &error.to_string()))?;
    }
    Ok(())
}

fn take_apart(bytes: Bytes) -> Result<(), RecordError> {
    let batch = Batch::parse(bytes)?;
    for record in &batch.records(RECORDS_BYTES_MAX)? {
        black_box(record?);
    }
    Ok(())
}

fn at(header: &BatchHeader, error: &str) -> CliError {
    CliError::failed(format!("at offset {}: {error}", header.base_offset))
}

/// The whole batches of a fetch; what is cut at its end is left.
struct Batches<'a>(&'a [u8]);

impl<'a> Iterator for Batches<'a> {
    type Item = Result<(BatchHeader, &'a [u8]), CliError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.len() < BatchHeader::LEN {
            return None;
        }
        match BatchHeader::decode(self.0) {
            Ok(header) if header.size() > self.0.len() => None,
            Ok(header) => {
                let (batch, rest) = self.0.split_at(header.size());
                self.0 = rest;
                Some(Ok((header, batch)))
            }
            Err(error) => {
                self.0 = &[];
                Some(Err(CliError::failed(error.to_string())))
            }
        }
    }
}

fn text(report: &Report) -> String {
    let mut rows = vec![
        (
            "records",
            format!("{} in {:.3} s", thousands(report.records), report.seconds),
        ),
        (
            "of each batch",
            match report.check {
                Check::Checksums => "the checksum is compared, no record is taken apart".into(),
                Check::Records => "the checksum is compared, every record is taken apart".into(),
            },
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
    rows.extend(usage_rows(&report.broker, report.broker_cpu_us_per_record));
    lines(&rows)
}
