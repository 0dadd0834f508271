//! `klamm group`: list, describe, reset and delete consumer groups.

mod describe;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::client::{Admin, GroupMembers, GroupOffsets};
use crate::model::{Offset, Timestamp};
use crate::protocol::list_offsets::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};

use super::choices::time;
use super::connect::{block_on, Bootstrap};
use super::error::CliError;
use super::output::{print, table, Column, Output};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List all groups
    List(List),
    /// Show a group's members, how far it has come, and what it lacks
    Describe(describe::Args),
    /// Set where a group without members goes on; without --execute it is only shown
    Reset(Reset),
    /// Forget groups that have no members, and their offsets
    Delete(Delete),
}

#[derive(Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
#[group(id = "target", required = true, multiple = false, args = [
    "to_earliest", "to_latest", "to_offset", "to_datetime", "by_duration", "shift_by",
])]
pub struct Reset {
    group: String,
    /// Only this topic; may be given several times [default: all that the group has committed]
    #[arg(long = "topic", value_name = "TOPIC")]
    topics: Vec<String>,
    /// To the first record that is there
    #[arg(long)]
    to_earliest: bool,
    /// To the end
    #[arg(long)]
    to_latest: bool,
    /// To this offset
    #[arg(long, value_name = "OFFSET")]
    to_offset: Option<i64>,
    /// To the first record at or after this time, such as 2026-01-31T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    to_datetime: Option<Timestamp>,
    /// To the first record of the last so long, such as 2h or 30min
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    by_duration: Option<i64>,
    /// By so many records, back if it is negative
    #[arg(long, value_name = "RECORDS", allow_negative_numbers = true)]
    shift_by: Option<i64>,
    /// Do it
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub struct Delete {
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    #[command(flatten)]
    bootstrap: Bootstrap,
}

pub fn run(command: Command) -> Result<(), CliError> {
    block_on(async {
        match command {
            Command::List(args) => list(args).await,
            Command::Describe(args) => describe::run(args).await,
            Command::Reset(args) => reset(args).await,
            Command::Delete(args) => delete(args).await,
        }
    })
}

fn duration_ms(text: &str) -> Result<i64, String> {
    let duration = text.parse::<jiff::SignedDuration>();
    let ms = duration.map_err(|error| error.to_string())?.as_millis();
    i64::try_from(ms).map_err(|_| format!("{text} is too long"))
}

/// What `list` shows of one group.
#[derive(Serialize)]
struct Listed {
    group: String,
    state: String,
    protocol: String,
    protocol_type: String,
}

async fn list(args: List) -> Result<(), CliError> {
    let admin = args.bootstrap.connect().await?.admin();
    let groups = admin.list_groups().await?.into_iter();
    let groups: Vec<Listed> = groups
        .map(|group| Listed {
            group: group.group_id,
            state: group.group_state,
            protocol: group.group_type,
            protocol_type: group.protocol_type,
        })
        .collect();
    args.output.print(&groups, |groups| {
        let columns = [
            Column::Left("GROUP"),
            Column::Left("STATE"),
            Column::Left("PROTOCOL"),
            Column::Left("TYPE"),
        ];
        let rows = groups.iter().map(|group| {
            let shown = [
                &group.group,
                &group.state,
                &group.protocol,
                &group.protocol_type,
            ];
            shown.into_iter().cloned().collect()
        });
        table(&columns, rows)
    })
}

/// What `reset` does to one partition.
#[derive(Serialize)]
struct Move {
    topic: String,
    partition: i32,
    /// -1: the group has committed none.
    from: i64,
    to: i64,
}

async fn reset(args: Reset) -> Result<(), CliError> {
    let admin = args.bootstrap.connect().await?.admin();
    let committed = admin.group_offsets(&args.group).await?;
    let mut moves = Vec::new();
    let mut offsets = GroupOffsets::new();
    for (topic, partitions) in places(&admin, &args, &committed).await? {
        for partition in partitions {
            let from = committed.get(&(topic.clone(), partition)).copied();
            let to = target(&admin, &args, (&topic, partition), from).await?;
            offsets.insert((topic.clone(), partition), to);
            moves.push(Move {
                topic: topic.clone(),
                partition,
                from: from.unwrap_or(Offset::NONE).0,
                to: to.0,
            });
        }
    }
    if moves.is_empty() {
        let message = "the group has committed nothing: say --topic";
        return Err(CliError::Usage(message.to_owned()));
    }
    if args.execute {
        let known = admin.group_members(&args.group).await?;
        if let Some(GroupMembers { state, .. }) = known.filter(|known| known.state != "Empty") {
            let message = format!("group {} is {state}: stop its members first", args.group);
            return Err(CliError::failed(message));
        }
        admin.set_group_offsets(&args.group, &offsets).await?;
    }
    args.output.print(&moves, |moves| {
        let columns = [
            Column::Left("TOPIC"),
            Column::Right("PARTITION"),
            Column::Right("FROM"),
            Column::Right("TO"),
        ];
        let rows = moves.iter().map(|m| {
            let numbers = [
                m.partition.to_string(),
                m.from.to_string(),
                m.to.to_string(),
            ];
            std::iter::once(m.topic.clone()).chain(numbers).collect()
        });
        let made = match args.execute {
            true => "",
            false => "\n\nnothing is changed: --execute does it",
        };
        format!("{}{made}", table(&columns, rows))
    })
}

/// All partitions of the topics that are named, or those that the group has committed.
async fn places(
    admin: &Admin,
    args: &Reset,
    committed: &GroupOffsets,
) -> Result<BTreeMap<String, BTreeSet<i32>>, CliError> {
    let mut places: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    if args.topics.is_empty() {
        for (topic, partition) in committed.keys() {
            places.entry(topic.clone()).or_default().insert(*partition);
        }
    }
    for topic in &args.topics {
        let described = admin.describe_topic(topic).await?;
        let partitions = described.partitions.iter().map(|p| p.index);
        places.insert(topic.clone(), partitions.collect());
    }
    Ok(places)
}

/// Where the group goes on; never outside of what the partition holds.
async fn target(
    admin: &Admin,
    args: &Reset,
    (topic, partition): (&str, i32),
    from: Option<Offset>,
) -> Result<Offset, CliError> {
    let start = admin
        .list_offset(topic, partition, EARLIEST_TIMESTAMP)
        .await?;
    let end = admin
        .list_offset(topic, partition, LATEST_TIMESTAMP)
        .await?;
    let now = Timestamp::now();
    let time = match args.by_duration {
        Some(ms) => Some(Timestamp(now.0.saturating_sub(ms).max(0))),
        None => args.to_datetime,
    };
    let wanted = if args.to_earliest {
        start
    } else if let Some(time) = time {
        match admin.list_offset(topic, partition, time).await? {
            Offset::NONE => end,
            found => found,
        }
    } else if let Some(offset) = args.to_offset {
        Offset(offset)
    } else if let Some(records) = args.shift_by {
        Offset(from.unwrap_or(start).0.saturating_add(records))
    } else {
        end
    };
    Ok(wanted.max(start).min(end))
}

async fn delete(args: Delete) -> Result<(), CliError> {
    let admin = args.bootstrap.connect().await?.admin();
    for group in &args.groups {
        admin.delete_group(group).await?;
        print(&format!("deleted {group}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_durations_are_read() {
        let time = time("2026-01-31T08:00:00Z");
        assert_eq!(time, Ok(Timestamp(1_769_846_400_000)));
        assert_eq!(duration_ms("2h"), Ok(7_200_000));
        assert!(duration_ms("soon").is_err());
    }
}
