//! `klamm consume`: a topic's records on stdout.

mod group;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::os::fd::AsFd;
use std::time::Duration;

use clap::ValueEnum;

use crate::client::{Batches, Client, ClientError, Consumer, ConsumerConfig, StartAt};
use crate::model::{ErrorCode, Offset};
use crate::protocol::list_offsets::LATEST_TIMESTAMP;
use crate::record::RecordView;

use super::choices::time;
use super::connect::{block_on, Bootstrap};
use super::error::CliError;
use super::json_record::JsonRecord;

/// Written to stdout at once.
const WRITE_BYTES: usize = 256 * 1024;
/// How long a poll waits; only after it is looked whether everything is read.
const POLL_TIMEOUT: Duration = Duration::from_millis(500);

/// Writes each record's value and a newline. Without --follow or --max it ends where the topic
/// ended when it began. Records of one partition come in their order; those of several partitions
/// come in any order between partitions. A record without a value is an empty line; --output json
/// tells it from an empty value.
///
/// It fails when the topic is deleted, and when a broker can't be reached for half a minute; with
/// --follow it says so then, and waits on.
///
/// With --group it shares the partitions of the topics with the other members of the group, begins
/// where the group has come to, and follows. What it has written it commits, so that the group goes
/// on after it. Ctrl-C or SIGTERM ends it: it commits and leaves.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One topic; several only with --group
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Read as a member of this consumer group
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Where to start: beginning, end, an offset, or a time such as 2026-01-31T12:00:00Z (the
    /// first record at or after it). With --group: beginning or end, where the group has committed
    /// nothing
    #[arg(long, default_value = "beginning", value_name = "WHERE", value_parser = start_at)]
    from: StartAt,
    /// Read this partition; may be given several times [default: all]
    #[arg(long = "partition", value_name = "N", conflicts_with = "group")]
    partitions: Vec<i32>,
    /// End after so many records
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// Wait for more at the end, until Ctrl-C
    #[arg(long)]
    follow: bool,
    /// The values, or one JSON object a line with partition, offset, timestamp (in milliseconds),
    /// key, value and headers, with --group also topic; what isn't UTF-8 is {"base64": …}
    #[arg(long, value_enum, default_value_t = Form::Value, value_name = "FORM")]
    output: Form,
    #[command(flatten)]
    bootstrap: Bootstrap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Value,
    Json,
}

pub fn run(args: Args) -> Result<(), CliError> {
    let stdout = io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .map_err(CliError::stdout)?;
    // A file of our own: std's stdout looks for the last newline of everything that is written.
    let mut out = BufWriter::with_capacity(WRITE_BYTES, File::from(stdout));
    let result = block_on(async {
        if let Some(name) = &args.group {
            return group::consume(&args, name, &mut out).await;
        }
        tokio::select! {
            // First, so that it is heard from the beginning, and while records keep coming.
            biased;
            _ = tokio::signal::ctrl_c() => match args.follow {
                true => Ok(()),
                false => Err(CliError::Interrupted),
            },
            read = consume(&args, &mut out) => read,
        }
    });
    match result {
        // A second attempt would only fail again, when `out` is dropped.
        Err(CliError::StdoutClosed) => std::mem::forget(out),
        _ => out.flush().map_err(CliError::stdout)?,
    }
    result
}

async fn consume(args: &Args, out: &mut impl Write) -> Result<(), CliError> {
    let [topic] = &args.topics[..] else {
        let message = "several topics are read only with --group";
        return Err(CliError::Usage(message.to_owned()));
    };
    let client = args.bootstrap.connect().await?;
    // As it is now: what comes later isn't waited for.
    let mut ends = ends(args, topic, &client).await?;
    check_start(args, topic, &mut ends)?;
    let mut consumer = client.consumer(ConsumerConfig::default());
    for (partition, end) in &ends {
        let start = match args.from {
            // Where it doesn't reach yet, with --follow: what comes below is left out.
            StartAt::Offset(from) => StartAt::Offset(from.min(*end)),
            start => start,
        };
        consumer.assign(topic, *partition, start).await?;
    }
    let mut left = args.max.unwrap_or(u64::MAX);
    while left > 0 && (args.follow || !is_at(&consumer, topic, &ends)) {
        let Some(batches) = args.poll(&mut consumer).await? else {
            continue;
        };
        for batch in &batches {
            let partition = batch.partition();
            let asked = args.asked(ends.get(&partition).copied());
            for record in batch.records() {
                if left == 0 || record.offset >= asked.end {
                    break;
                }
                if record.offset >= asked.start {
                    write(args.output, (None, partition), &record, out)?;
                    left -= 1;
                }
            }
        }
        if args.follow {
            out.flush().map_err(CliError::stdout)?;
        }
    }
    Ok(())
}

impl Args {
    /// `None` after an error with which it goes on.
    async fn poll(&self, consumer: &mut Consumer) -> Result<Option<Batches>, CliError> {
        match consumer.poll(POLL_TIMEOUT).await {
            Ok(batches) => Ok(Some(batches)),
            Err(error) => {
                eprintln!("klamm: {}, and is tried again", self.bear(error)?);
                Ok(None)
            }
        }
    }

    /// Whether to go on after an error: only who follows waits for a broker to come back, and
    /// nobody for a topic to do so.
    fn bear(&self, error: ClientError) -> Result<ClientError, CliError> {
        match error.code() {
            Some(ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId) => {
                let topics = self.topics.join(", ");
                let reason = format!("topic {topics} can't be read any more: {error}");
                Err(CliError::failed(reason))
            }
            _ if (self.follow || self.group.is_some()) && error.is_retriable() => Ok(error),
            _ => Err(error.into()),
        }
    }

    /// Which offsets of a partition are written that ended at `end` when the command began.
    fn asked(&self, end: Option<Offset>) -> Range<Offset> {
        let start = match self.from {
            StartAt::Offset(from) => from,
            _ => Offset::ZERO,
        };
        let end = match self.follow {
            true => Offset(i64::MAX),
            false => end.unwrap_or(Offset::ZERO),
        };
        start..end
    }
}

/// Where each partition that is asked for ends now. No other is asked: it may be offline.
async fn ends(
    args: &Args,
    topic: &str,
    client: &Client,
) -> Result<BTreeMap<i32, Offset>, CliError> {
    let admin = client.admin();
    let described = admin.describe_topic(topic).await?;
    let there: Vec<i32> = described.partitions.iter().map(|p| p.index).collect();
    let asked = match args.partitions.is_empty() {
        true => &there,
        false => &args.partitions,
    };
    if let Some(partition) = asked.iter().find(|partition| !there.contains(partition)) {
        return Err(CliError::failed(format!(
            "topic {topic} has no partition {partition}, but {}",
            there.len()
        )));
    }
    let asked = asked.iter();
    let asked = asked.map(|partition| ((described.name.clone(), *partition), LATEST_TIMESTAMP));
    let ends = admin.find_offsets(asked.collect()).await.into_iter();
    let ends = ends.map(|((_, partition), end)| Ok((partition, end?)));
    ends.collect()
}

/// An offset that no partition has reached yet is more likely a slip than a wish for nothing.
/// Where some have reached it, only these are read, unless more is waited for.
fn check_start(args: &Args, topic: &str, ends: &mut BTreeMap<i32, Offset>) -> Result<(), CliError> {
    let StartAt::Offset(from) = args.from else {
        return Ok(());
    };
    let last = ends.values().max().copied().unwrap_or(Offset::ZERO);
    if from > last {
        return Err(CliError::failed(format!(
            "topic {topic} ends at offset {last}, before {from}"
        )));
    }
    if args.follow {
        return Ok(());
    }
    let skipped: Vec<String> = ends
        .iter()
        .filter(|(_, end)| **end <= from)
        .map(|(partition, end)| format!("{partition} (ends at {end})"))
        .collect();
    ends.retain(|_, end| *end > from);
    if !skipped.is_empty() {
        eprintln!(
            "klamm: nothing at or after offset {from} in partition {}",
            skipped.join(", ")
        );
    }
    Ok(())
}

/// Whether every partition is read up to its end.
fn is_at(consumer: &Consumer, topic: &str, ends: &BTreeMap<i32, Offset>) -> bool {
    ends.iter().all(|(partition, end)| {
        let position = consumer.position(topic, *partition);
        position.is_some_and(|position| position >= *end)
    })
}

fn write(
    form: Form,
    (topic, partition): (Option<&str>, i32),
    record: &RecordView<'_>,
    out: &mut impl Write,
) -> Result<(), CliError> {
    let written = match form {
        Form::Value => out.write_all(record.value.unwrap_or_default()),
        Form::Json => {
            let record = JsonRecord::new(partition, record);
            let record = match topic {
                Some(topic) => record.of(topic),
                None => record,
            };
            serde_json::to_writer(&mut *out, &record).map_err(Into::into)
        }
    };
    written
        .and_then(|()| out.write_all(b"\n"))
        .map_err(CliError::stdout)
}

/// `beginning`, `end`, an offset, or a time as RFC 3339 writes it.
fn start_at(text: &str) -> Result<StartAt, String> {
    match text {
        "beginning" => return Ok(StartAt::Beginning),
        "end" => return Ok(StartAt::End),
        _ => {}
    }
    if let Ok(offset) = text.parse::<i64>() {
        return match offset >= 0 {
            true => Ok(StartAt::Offset(Offset(offset))),
            false => Err("an offset can't be negative".into()),
        };
    }
    time(text).map(StartAt::Time).map_err(|error| {
        format!(
            "{text:?} is neither beginning, end, an offset nor a time such as \
             2026-01-31T12:00:00Z ({error})"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    #[test]
    fn only_who_follows_bears_an_error_and_only_one_that_passes() {
        #[derive(clap::Parser)]
        struct Command {
            #[command(flatten)]
            args: Args,
        }
        let args = |args: &[&str]| {
            let command = [&["consume", "t"], args].concat();
            <Command as clap::Parser>::parse_from(command).args
        };
        let (once, follow) = (args(&[]), args(&["--follow"]));
        let unreachable = ClientError::Connect {
            address: "broker:7070".into(),
            reason: "refused".into(),
        };
        assert!(follow.bear(unreachable.clone()).is_ok());
        assert!(once.bear(unreachable).is_err());
        let deleted = ClientError::Topic {
            topic: "t".into(),
            code: ErrorCode::UnknownTopicOrPartition,
            message: String::new(),
        };
        for args in [once, follow] {
            let error = args.bear(deleted.clone()).unwrap_err().to_string();
            assert!(
                error.starts_with("topic t can't be read any more"),
                "{error}"
            );
            let invalid = ClientError::Invalid("no".into());
            assert!(args.bear(invalid).is_err());
        }
    }

    #[test]
    fn a_start_is_a_word_an_offset_or_a_time() {
        assert_eq!(start_at("beginning"), Ok(StartAt::Beginning));
        assert_eq!(start_at("end"), Ok(StartAt::End));
        assert_eq!(start_at("42"), Ok(StartAt::Offset(Offset(42))));
        let time = Ok(StartAt::Time(Timestamp(1_769_860_800_500)));
        assert_eq!(start_at("2026-01-31T12:00:00.5Z"), time);
        assert_eq!(start_at("2026-01-31T14:00:00.5+02:00"), time);
        for wrong in ["-1", "yesterday", "2026-13-01T00:00:00Z", ""] {
            assert!(start_at(wrong).is_err(), "{wrong:?}");
        }
    }
}
