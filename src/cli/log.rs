//! `klamm log`: what lies in a partition's directory, looked at without a broker.

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Serialize;

use crate::model::PartitionId;
use crate::record::{Batch, BatchHeader, Codec, RecordView};
use crate::storage::fs::RealFs;
use crate::storage::log::{inspect, BadBytes, InspectedBatch};

use super::error::CliError;
use super::json_record::JsonRecord;
use super::output::{print, thousands, Format, Output};

/// What a batch may become when it is decompressed.
const RECORDS_BYTES_MAX: usize = 1024 * 1024 * 1024;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Print every batch, up to the first bad byte
    Dump(Dump),
    /// Check every batch, and name the first bad byte
    Verify(Verify),
}

#[derive(Debug, clap::Args)]
pub struct Dump {
    /// A partition's directory: <data>/logs/<topic id>-<partition>
    dir: PathBuf,
    /// The records instead of the batches in JSON, and below them else
    #[arg(long)]
    records: bool,
    /// End after so many batches
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    #[command(flatten)]
    output: Output,
}

/// A broker may be running; what it is just appending may look like a bad end.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// Partitions' directories: <data>/logs/<topic id>-<partition>
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
}

pub fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Dump(args) => dump(&args),
        Command::Verify(args) => {
            let results: Vec<_> = args.dirs.iter().map(|dir| verify(dir)).collect();
            results.into_iter().collect()
        }
    }
}

fn verify(dir: &Path) -> Result<(), CliError> {
    let (mut batches, mut records, mut bytes) = (0, 0, 0);
    let mut offsets = None;
    let bad = walk(dir, |batch| {
        batches += 1;
        bytes += batch.bytes.len() as u64;
        let header = batch.header;
        let (first, _) = offsets.unwrap_or((header.base_offset, header.base_offset));
        offsets = Some((first, header.next_offset()));
        read_records(batch, |_| {
            records += 1;
            Ok(())
        })
    })?;
    let range = match offsets {
        Some((first, next)) => format!("offsets {first} to before {next}"),
        None => "empty".to_owned(),
    };
    print(&format!(
        "{}: {} batches, {} records, {} bytes, {range}",
        dir.display(),
        thousands(batches),
        thousands(records),
        thousands(bytes)
    ))?;
    bad.map_or(Ok(()), |bad| Err(bad_bytes(&bad)))
}

fn dump(args: &Dump) -> Result<(), CliError> {
    let partition = partition_of(&args.dir);
    let mut out = BufWriter::new(io::stdout().lock());
    let mut left = args.max.unwrap_or(u64::MAX);
    let bad = walk(&args.dir, |batch| {
        if left == 0 {
            return Ok(ControlFlow::Break(()));
        }
        left -= 1;
        match args.output.output {
            Format::Table => dump_text(args, partition, batch, &mut out),
            Format::Json => dump_json(args, partition, batch, &mut out),
        }
    })?;
    out.flush().map_err(CliError::stdout)?;
    bad.map_or(Ok(()), |bad| Err(bad_bytes(&bad)))
}

/// Shows every batch to `each` until it breaks or fails.
fn walk(
    dir: &Path,
    mut each: impl FnMut(InspectedBatch) -> Result<ControlFlow<()>, CliError>,
) -> Result<Option<BadBytes>, CliError> {
    let mut failed = None;
    let bad = inspect(&RealFs, dir, |batch| {
        each(batch).unwrap_or_else(|error| {
            failed = Some(error);
            ControlFlow::Break(())
        })
    })
    .map_err(|error| CliError::failed(error.to_string()))?;
    match failed {
        Some(error) => Err(error),
        None => Ok(bad),
    }
}

fn bad_bytes(bad: &BadBytes) -> CliError {
    CliError::failed(format!(
        "{}: byte {} is the first bad one, where offset {} should be: {}",
        bad.file.display(),
        bad.position,
        bad.offset,
        bad.reason
    ))
}

/// A batch whose header and checksum are right can still hold nonsense, if a client wrote it.
fn read_records(
    batch: InspectedBatch,
    mut each: impl FnMut(&RecordView<'_>) -> Result<(), CliError>,
) -> Result<ControlFlow<()>, CliError> {
    let bad = |error: crate::record::RecordError| {
        CliError::failed(format!(
            "{}: the records of the batch at byte {}, offset {}: {error}",
            batch.file.display(),
            batch.position,
            batch.header.base_offset
        ))
    };
    let whole = Batch::parse(Bytes::from(batch.bytes)).map_err(bad)?;
    let records = whole.records(RECORDS_BYTES_MAX).map_err(bad)?;
    for record in &records {
        each(&record.map_err(bad)?)?;
    }
    Ok(ControlFlow::Continue(()))
}

fn dump_text(
    args: &Dump,
    partition: i32,
    batch: InspectedBatch,
    out: &mut impl Write,
) -> Result<ControlFlow<()>, CliError> {
    let header = batch.header;
    writeln!(
        out,
        "offsets {} to {}  {} records  {} bytes  {}  epoch {}  {}  {}:{}",
        header.base_offset,
        header.last_offset(),
        header.record_count,
        header.size(),
        codec(&header),
        header.leader_epoch,
        time(header.max_timestamp.0),
        batch.file.display(),
        batch.position
    )
    .map_err(CliError::stdout)?;
    if !args.records {
        return Ok(ControlFlow::Continue(()));
    }
    read_records(batch, |record| {
        write!(out, "  ")
            .and_then(|()| json_line(&JsonRecord::new(partition, record), out))
            .map_err(CliError::stdout)
    })
}

/// A batch as a line of JSON.
#[derive(Serialize)]
struct JsonBatch<'a> {
    file: &'a Path,
    position: u64,
    base_offset: i64,
    last_offset: i64,
    records: i32,
    bytes: usize,
    codec: &'static str,
    leader_epoch: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
}

fn dump_json(
    args: &Dump,
    partition: i32,
    batch: InspectedBatch,
    out: &mut impl Write,
) -> Result<ControlFlow<()>, CliError> {
    if args.records {
        return read_records(batch, |record| {
            json_line(&JsonRecord::new(partition, record), out).map_err(CliError::stdout)
        });
    }
    let header = batch.header;
    let line = JsonBatch {
        file: &batch.file,
        position: batch.position,
        base_offset: header.base_offset.0,
        last_offset: header.last_offset().0,
        records: header.record_count,
        bytes: header.size(),
        codec: codec(&header),
        leader_epoch: header.leader_epoch.0,
        base_timestamp: header.base_timestamp.0,
        max_timestamp: header.max_timestamp.0,
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
    };
    json_line(&line, out).map_err(CliError::stdout)?;
    Ok(ControlFlow::Continue(()))
}

fn json_line(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

fn codec(header: &BatchHeader) -> &'static str {
    match header.attributes.codec() {
        Ok(Codec::None) => "uncompressed",
        Ok(Codec::Gzip) => "gzip",
        Ok(Codec::Snappy) => "snappy",
        Ok(Codec::Lz4) => "lz4",
        Ok(Codec::Zstd) => "zstd",
        Err(_) => "unknown codec",
    }
}

fn time(ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(time) => time.to_string(),
        Err(_) => format!("{ms} ms"),
    }
}

/// The partition's number, which the directory's name ends with.
fn partition_of(dir: &Path) -> i32 {
    let name = dir.file_name().and_then(|name| name.to_str());
    let id: Option<PartitionId> = name.and_then(|name| name.parse().ok());
    id.map_or(-1, |id| id.partition)
}
