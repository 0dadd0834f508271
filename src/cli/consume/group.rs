//! `klamm consume --group`: records as a member of a group, which commits what it has written.

use std::collections::BTreeMap;
use std::io::Write;
use std::pin::pin;
use std::time::Duration;

use tokio::signal::unix::{signal, SignalKind};

use super::{write, Args};
use crate::cli::error::CliError;
use crate::client::{
    Assignor, Commits, Consumer, ConsumerConfig, GroupConfig, OffsetReset, StartAt, TopicPartition,
};
use crate::model::Offset;

/// What is written twice at most when it is killed.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

pub async fn consume(args: &Args, group: &str, out: &mut impl Write) -> Result<(), CliError> {
    let offset_reset = offset_reset(args.from)?;
    let mut stop = pin!(told_to_stop());
    let mut consumer = tokio::select! {
        stopped = &mut stop => return stopped.and(Err(CliError::Interrupted)),
        joined = join(args, group, offset_reset) => joined?,
    };
    let ended = tokio::select! {
        // First, so that it is heard while records keep coming.
        biased;
        stopped = &mut stop => stopped,
        read = read(args, &mut consumer, out) => read,
    };
    match ended {
        // All that was handed out is written: a poll is the only place to be stopped at.
        Ok(()) => Ok(consumer.close().await?),
        Err(error) => {
            consumer.leave().await;
            Err(error)
        }
    }
}

fn offset_reset(from: StartAt) -> Result<OffsetReset, CliError> {
    match from {
        StartAt::Beginning => Ok(OffsetReset::Earliest),
        StartAt::End => Ok(OffsetReset::Latest),
        StartAt::Offset(_) | StartAt::Time(_) => Err(CliError::Usage(
            "a group goes on where it has committed: --from says only beginning or end; \
             `klamm group reset` moves it"
                .to_owned(),
        )),
    }
}

async fn told_to_stop() -> Result<(), CliError> {
    let failed = |error| CliError::io("signals", error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        stopped = tokio::signal::ctrl_c() => stopped.map_err(failed),
    }
}

async fn join(args: &Args, group: &str, offset_reset: OffsetReset) -> Result<Consumer, CliError> {
    let client = args.bootstrap.connect().await?;
    for topic in &args.topics {
        // A slip of the name is better told than waited for.
        client.admin().describe_topic(topic).await?;
    }
    let mut consumer = client.consumer(ConsumerConfig {
        offset_reset,
        ..ConsumerConfig::default()
    });
    let config = GroupConfig {
        // It gets along with whoever is in the group already, also where that takes giving up everything first.
        assignors: Assignor::ALL.to_vec(),
        commits: Commits::Automatic(COMMIT_INTERVAL),
        ..GroupConfig::from(group)
    };
    consumer.subscribe(args.topics.iter().map(String::as_str), config)?;
    Ok(consumer)
}

async fn read(args: &Args, consumer: &mut Consumer, out: &mut impl Write) -> Result<(), CliError> {
    let mut left = args.max.unwrap_or(u64::MAX);
    let mut handed_back: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
    while left > 0 {
        let Some(batches) = args.poll(consumer).await? else {
            continue;
        };
        for batch in &batches {
            let (topic, partition) = (batch.topic(), batch.partition());
            for record in batch.records() {
                if left == 0 {
                    let key = (topic.clone(), partition);
                    handed_back.entry(key).or_insert(record.offset);
                    break;
                }
                write(args.output, (Some(topic), partition), &record, out)?;
                left -= 1;
            }
        }
        out.flush().map_err(CliError::stdout)?;
    }
    for ((topic, partition), offset) in handed_back {
        let to = StartAt::Offset(offset);
        consumer.seek(&topic, partition, to).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_starts_at_an_end_or_where_it_was() {
        assert_eq!(offset_reset(StartAt::End).unwrap(), OffsetReset::Latest);
        let beginning = offset_reset(StartAt::Beginning).unwrap();
        assert_eq!(beginning, OffsetReset::Earliest);
        assert!(offset_reset(StartAt::Offset(Offset(7))).is_err());
    }
}
