//! `klamm group describe`: who is in a group, how far it has come, and how far it is behind.

use std::time::Duration;

use serde::Serialize;

use crate::cli::connect::Bootstrap;
use crate::cli::error::CliError;
use crate::cli::output::{table, Column, Output};
use crate::client::PartitionLag;

/// Below this, fractions of a second are told.
const SHORT: Duration = Duration::from_secs(100);

/// LAG counts the records that the group hasn't done yet. BEHIND is how long ago the first of them was
/// written, by its timestamp and this machine's clock.
#[derive(Debug, clap::Args)]
pub struct Args {
    group: String,
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Described {
    group: String,
    state: String,
    /// What the members of a classic group have agreed on, which is empty unless it is stable; or the assignor
    /// of a group of the consumer protocol.
    protocol: String,
    members: Vec<Member>,
    partitions: Vec<Progress>,
}

#[derive(Serialize)]
struct Member {
    member_id: String,
    instance_id: Option<String>,
    client_id: String,
    host: String,
    /// In a group of the consumer protocol: the assignment epoch that it has reached.
    epoch: Option<i32>,
}

/// Null is what isn't known, or not there.
#[derive(Serialize)]
struct Progress {
    topic: String,
    partition: i32,
    committed: Option<i64>,
    end: Option<i64>,
    /// How many records the group hasn't done yet.
    lag: Option<i64>,
    /// How long ago the first of them was written.
    lag_seconds: Option<f64>,
    member_id: Option<String>,
    /// Why the end isn't known.
    error: Option<String>,
}

impl From<PartitionLag> for Progress {
    fn from(lag: PartitionLag) -> Progress {
        Progress {
            topic: lag.topic.to_string(),
            partition: lag.partition,
            committed: lag.committed.map(|offset| offset.0),
            end: lag.end.as_ref().ok().map(|offset| offset.0),
            lag: lag.records(),
            lag_seconds: lag.behind.map(|behind| behind.as_secs_f64()),
            member_id: lag.member_id,
            error: lag.end.err().map(|error| error.to_string()),
        }
    }
}

pub async fn run(args: Args) -> Result<(), CliError> {
    let admin = args.bootstrap.connect().await?.admin();
    let Some(group) = admin.group_members(&args.group).await? else {
        let message = format!("there is no group {}", args.group);
        return Err(CliError::failed(message));
    };
    let lags = admin.group_lag(&group).await?;
    let members = group.members.into_iter();
    let described = Described {
        group: group.group_id,
        state: group.state,
        protocol: group.protocol,
        members: members
            .map(|member| Member {
                member_id: member.member_id,
                instance_id: member.instance_id,
                client_id: member.client_id,
                host: member.host,
                epoch: member.epoch,
            })
            .collect(),
        partitions: lags.into_iter().map(Progress::from).collect(),
    };
    args.output.print(&described, text)
}

fn text(group: &Described) -> String {
    let mut text = format!("{}: {}", group.group, group.state);
    if !group.protocol.is_empty() {
        text += &format!(", {}", group.protocol);
    }
    if !group.members.is_empty() {
        text += &format!("\n\n{}", members(group));
    }
    if !group.partitions.is_empty() {
        text += &format!("\n\n{}", partitions(group));
    }
    for progress in &group.partitions {
        if let Some(error) = &progress.error {
            text += &format!("\n{error}");
        }
    }
    text
}

fn members(group: &Described) -> String {
    let columns = [
        Column::Left("MEMBER"),
        Column::Left("INSTANCE"),
        Column::Left("CLIENT"),
        Column::Left("HOST"),
        Column::Right("EPOCH"),
    ];
    let rows = group.members.iter().map(|member| {
        vec![
            member.member_id.clone(),
            member.instance_id.clone().unwrap_or_default(),
            member.client_id.clone(),
            member.host.clone(),
            or_dash(member.epoch),
        ]
    });
    table(&columns, rows)
}

fn partitions(group: &Described) -> String {
    let columns = [
        Column::Left("TOPIC"),
        Column::Right("PARTITION"),
        Column::Right("COMMITTED"),
        Column::Right("END"),
        Column::Right("LAG"),
        Column::Right("BEHIND"),
        Column::Left("MEMBER"),
    ];
    let rows = group.partitions.iter().map(|progress| {
        vec![
            progress.topic.clone(),
            progress.partition.to_string(),
            or_dash(progress.committed),
            or_dash(progress.end),
            or_dash(progress.lag),
            or_dash(progress.lag_seconds.map(seconds)),
            or_dash(progress.member_id.as_ref()),
        ]
    });
    table(&columns, rows)
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

fn seconds(seconds: f64) -> String {
    match seconds < SHORT.as_secs_f64() {
        true => format!("{seconds:.1} s"),
        false => format!("{seconds:.0} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_a_dash() {
        assert_eq!(or_dash(None::<i64>), "-");
        assert_eq!(or_dash(Some(seconds(0.04))), "0.0 s");
        assert_eq!(or_dash(Some(seconds(99.96))), "100.0 s");
        assert_eq!(or_dash(Some(seconds(3661.4))), "3661 s");
    }
}
