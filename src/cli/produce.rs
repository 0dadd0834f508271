//! `klamm produce`: the lines of a file, or of stdin, as records.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;

use crate::client::{BatchOutcome, Client, Producer, ProducerConfig, ProducerRecord, Resource};
use crate::model::Timestamp;
use crate::record::{BatchBuilder, BatchHeader, ProducerStamp};

use super::choices::{Acks, Compression};
use super::connect::{block_on, Bootstrap};
use super::error::CliError;
use super::lines::{key_and_value, Lines};
use super::output::{per_second, thousands};

/// The longest line: half of the broker's default frame. The topic's max.message.bytes is usually
/// smaller.
const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What a line's record may take beside the line.
const RECORD_OVERHEAD_BYTES_MAX: usize = 1024;
/// What the reading thread hands over at once, and how many such it may be ahead.
const CHUNK_LINES_MAX: usize = 4096;
const CHUNKS_AHEAD: usize = 4;
/// The client's batches, in bytes: a file comes as fast as it can be sent, so they fill.
const BATCH_BYTES: usize = 256 * 1024;

/// Writes each line as a record: the bytes between newlines, whatever they are; a carriage return
/// stays. `klamm consume` puts a newline behind each value, so from a topic with one partition a
/// file that ends with a newline comes back byte for byte; one that doesn't gets one at its end.
///
/// While the broker can't be reached, it tries again. At the end it says how many records were
/// acknowledged, how long the slowest took, and fails if any wasn't.
#[derive(Debug, clap::Args)]
pub struct Args {
    topic: String,
    /// Lines to write; - is stdin, as without it
    file: Option<PathBuf>,
    /// What stands between key and value in each line; a line without it has no key
    #[arg(long, value_name = "STRING")]
    key_separator: Option<String>,
    /// When a record counts as written
    #[arg(long, value_enum, default_value_t = Acks::All)]
    acks: Acks,
    /// How batches are compressed
    #[arg(long, value_enum, default_value_t = Compression::None, value_name = "CODEC")]
    compression: Compression,
    /// Write to this partition only [default: by the key, or to all in turn]
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    #[command(flatten)]
    bootstrap: Bootstrap,
}

impl Args {
    /// What is read if it isn't stdin.
    fn named_file(&self) -> Option<&Path> {
        self.file.as_deref().filter(|file| *file != Path::new("-"))
    }
}

pub fn run(args: Args) -> Result<(), CliError> {
    if args.key_separator.as_deref() == Some("") {
        return Err(CliError::Usage("--key-separator can't be empty".into()));
    }
    let (source, progress) = open(args.named_file())?;
    block_on(produce(&args, source, progress))
}

async fn produce(
    args: &Args,
    source: Box<dyn Read + Send>,
    progress: ProgressBar,
) -> Result<(), CliError> {
    let client = args.bootstrap.connect().await?;
    let limit = Limit::of_topic(args, &client).await;
    let slowest = Arc::new(Slowest::default());
    let told = slowest.clone();
    let producer = client.producer(ProducerConfig {
        acks: args.acks.into(),
        delivery_listener: Some(Arc::new(move |outcome| told.take_in(outcome))),
        codec: args.compression.codec(),
        batch_bytes: BATCH_BYTES.min(limit.batch_bytes_max),
        record_bytes_max: LINE_BYTES_MAX + RECORD_OVERHEAD_BYTES_MAX,
        ..ProducerConfig::default()
    });
    let start = Instant::now();
    let mut chunks = read_lines(source)?;
    let sent = tokio::select! {
        sent = send_all(args, &producer, &limit, &mut chunks, &progress) => sent,
        _ = tokio::signal::ctrl_c() => Err(CliError::Interrupted),
    };
    let flushed = tokio::select! {
        () = producer.flush() => Ok(()),
        _ = tokio::signal::ctrl_c() => Err(CliError::Interrupted),
    };
    progress.finish_and_clear();
    let stats = producer.stats();
    let seconds = start.elapsed().as_secs_f64();
    let (done, slowest) = match args.acks {
        Acks::None => ("sent, none acknowledged as --acks 0 says", String::new()),
        _ => ("acknowledged", slowest.to_string()),
    };
    eprintln!(
        "{} records {done}, {} failed, {seconds:.2} s, {} records/s{slowest}",
        thousands(stats.acknowledged),
        thousands(stats.failed),
        thousands(per_second(stats.acknowledged, seconds)),
    );
    sent.and(flushed)?;
    match producer.first_error() {
        Some(error) => Err(CliError::failed(error.to_string())),
        None => Ok(()),
    }
}

/// How long the slowest record took, from where it was read to its acknowledgement, in microseconds.
#[derive(Debug, Default)]
struct Slowest(AtomicU64);

impl Slowest {
    fn take_in(&self, outcome: &BatchOutcome) {
        if outcome.result.is_ok() {
            let took = outcome.took.as_micros().try_into().unwrap_or(u64::MAX);
            self.0.fetch_max(took, Ordering::Relaxed);
        }
    }
}

impl fmt::Display for Slowest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Duration::from_micros(self.0.load(Ordering::Relaxed)) {
            Duration::ZERO => Ok(()),
            took => write!(
                out,
                ", the slowest after {:.1} ms",
                took.as_secs_f64() * 1e3
            ),
        }
    }
}

/// What the topic takes.
struct Limit {
    /// The largest batch as it is sent.
    batch_bytes_max: usize,
}

impl Limit {
    /// The topic's `max.message.bytes`. Where it can't be had there is no limit, and the producer
    /// says what is wrong.
    async fn of_topic(args: &Args, client: &Client) -> Limit {
        let resource = Resource::Topic(args.topic.clone());
        let configs = client.admin().describe_configs(&resource).await;
        let limit = configs.unwrap_or_default().into_iter().find_map(|config| {
            let is_it = config.name == "max.message.bytes";
            config.value.filter(|_| is_it)?.parse().ok()
        });
        Limit {
            batch_bytes_max: limit.unwrap_or(usize::MAX),
        }
    }

    /// An error if a record doesn't even fit into a batch of its own. Only one that is close to
    /// the limit costs more than a comparison: it is encoded to see.
    fn check(&self, args: &Args, record: &ProducerRecord<'_>) -> Result<(), String> {
        let (key, value) = (record.key, record.value);
        let most = BatchHeader::LEN + BatchBuilder::record_size_max(key, value, &[]);
        if most <= self.batch_bytes_max {
            return Ok(());
        }
        let mut batch = BatchBuilder::default();
        batch.append(Timestamp::now(), key, value, &[]);
        let batch = batch.build(args.compression.codec(), ProducerStamp::NONE);
        match batch.map(|batch| batch.len()) {
            Ok(size) if size <= self.batch_bytes_max => Ok(()),
            Ok(size) => Err(format!(
                "a batch of {size} bytes, and topic {} takes up to {} (max.message.bytes)",
                args.topic, self.batch_bytes_max
            )),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Sends every line. That a record fails later is counted by the producer; an error here is of
/// the input, or of a record that could not even be queued.
async fn send_all(
    args: &Args,
    producer: &Producer,
    limit: &Limit,
    chunks: &mut mpsc::Receiver<io::Result<Vec<Bytes>>>,
    progress: &ProgressBar,
) -> Result<(), CliError> {
    let separator = args.key_separator.as_deref().map(str::as_bytes);
    let mut number = 0_u64;
    while let Some(chunk) = chunks.recv().await {
        let lines = chunk.map_err(|error| CliError::io(source_name(args), error))?;
        let mut bytes = 0;
        for line in lines {
            let length = line.len();
            bytes += length as u64 + 1;
            number += 1;
            let (key, value) = match separator {
                Some(separator) => key_and_value(line, separator),
                None => (None, line),
            };
            let record = ProducerRecord {
                partition: args.partition,
                key: key.as_deref(),
                value: Some(&value),
                ..ProducerRecord::to(&args.topic)
            };
            limit.check(args, &record).map_err(|reason| {
                let name = source_name(args);
                CliError::failed(format!("{name}: line {number} of {length} bytes: {reason}"))
            })?;
            producer
                .send(record)
                .await
                .map_err(|error| CliError::failed(error.to_string()))?;
        }
        progress.inc(bytes);
    }
    Ok(())
}

/// Reads on a thread of its own, since reading a pipe or a terminal blocks.
fn read_lines(
    source: Box<dyn Read + Send>,
) -> Result<mpsc::Receiver<io::Result<Vec<Bytes>>>, CliError> {
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    thread::Builder::new()
        .name("lines".into())
        .spawn(move || {
            let mut lines = Lines::new(source, LINE_BYTES_MAX);
            loop {
                let chunk = read_chunk(&mut lines);
                let is_last = matches!(&chunk, Ok(lines) if lines.is_empty()) || chunk.is_err();
                if sender.blocking_send(chunk).is_err() || is_last {
                    return;
                }
            }
        })
        .map_err(|error| CliError::io("starting a thread", error))?;
    Ok(receiver)
}

/// The next line, and those after it that are already read.
fn read_chunk(lines: &mut Lines<Box<dyn Read + Send>>) -> io::Result<Vec<Bytes>> {
    let mut chunk = Vec::new();
    while let Some(line) = lines.next_line()? {
        chunk.push(line);
        if chunk.len() >= CHUNK_LINES_MAX || !lines.has_next() {
            break;
        }
    }
    Ok(chunk)
}

/// What is read, and a progress bar that shows itself on a terminal only.
fn open(file: Option<&Path>) -> Result<(Box<dyn Read + Send>, ProgressBar), CliError> {
    let Some(path) = file else {
        let progress = match io::stdin().is_terminal() {
            true => ProgressBar::hidden(),
            false => ProgressBar::no_length(),
        };
        return Ok((Box::new(io::stdin()), progress));
    };
    let failed = |error| CliError::io(path.display().to_string(), error);
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    let progress = ProgressBar::new(metadata.len());
    let style = "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(style) {
        progress.set_style(style);
    }
    Ok((Box::new(file), progress))
}

fn source_name(args: &Args) -> String {
    match args.named_file() {
        Some(path) => path.display().to_string(),
        None => "stdin".into(),
    }
}
