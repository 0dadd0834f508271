//! `klamm topic reassign`: partitions move to other brokers. The plans are JSON as Kafka's
//! kafka-reassign-partitions has it.

mod plan_file;
mod throttle;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::choices::BrokerList;
use super::connect::{block_on, Bootstrap};
use super::error::CliError;
use super::output::{joined, print, table, Column, Output};
use super::placement::{changes, spread, Brokers, Placed};
use crate::client::{Admin, PartitionOutcome, PartitionTarget, Reassigning};
use crate::model::BrokerId;
use plan_file::{read_plan, to_json};

/// How many partitions one request asks for.
const AT_ONCE_MAX: usize = 10_000;
/// How often it is looked whether all have moved.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show a plan by which only some brokers have the partitions, evenly
    Plan(Plan),
    /// Begin to move partitions
    Execute(Execute),
    /// Show whether the partitions of a plan have moved; fails unless all have. Removes throttles once nothing
    /// moves any more
    Verify(Verify),
    /// Show what is moving
    List(List),
    /// Stop moving partitions, and go back to the replicas of before
    Cancel(Cancel),
}

#[derive(Debug, clap::Args)]
pub struct Plan {
    /// Only these topics [default: all]
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,
    /// The brokers that shall have them [default: all that are there]
    #[arg(long, value_name = "ID,…")]
    brokers: Option<BrokerList>,
    #[command(flatten)]
    bootstrap: Bootstrap,
}

#[derive(Debug, clap::Args)]
pub struct Execute {
    /// Only these topics, with --brokers [default: all]
    #[arg(value_name = "TOPIC", conflicts_with = "file")]
    topics: Vec<String>,
    /// The brokers that shall have them, as 'plan' would plan it
    #[arg(
        long,
        value_name = "ID,…",
        conflicts_with = "file",
        required_unless_present = "file"
    )]
    brokers: Option<BrokerList>,
    /// A plan; '-' for stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Return when all have moved
    #[arg(long)]
    wait: bool,
    /// How much each broker gives and takes for the copies at most; 'verify' removes it, and so does --wait
    #[arg(long, value_name = "BYTES/S", value_parser = clap::value_parser!(i64).range(1..))]
    throttle: Option<i64>,
    #[command(flatten)]
    bootstrap: Bootstrap,
}

#[derive(Debug, clap::Args)]
pub struct Verify {
    /// The plan; '-' for stdin
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Let throttles be
    #[arg(long)]
    preserve_throttles: bool,
    #[command(flatten)]
    bootstrap: Bootstrap,
}

#[derive(Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub struct Cancel {
    /// Only those of a plan; '-' for stdin [default: all that move]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Let throttles be
    #[arg(long)]
    preserve_throttles: bool,
    #[command(flatten)]
    bootstrap: Bootstrap,
}

pub fn run(command: Command) -> Result<(), CliError> {
    block_on(async {
        match command {
            Command::Plan(args) => plan(args).await,
            Command::Execute(args) => execute(args).await,
            Command::Verify(args) => verify(args).await,
            Command::List(args) => list(args).await,
            Command::Cancel(args) => cancel(args).await,
        }
    })
}

async fn plan(args: Plan) -> Result<(), CliError> {
    let admin = args.bootstrap.connect().await?.admin();
    let planned = planned(&admin, &args.topics, args.brokers.as_ref()).await?;
    print(&to_json(planned)?)
}

/// What has to change so that only these brokers have the topics, evenly.
async fn planned(
    admin: &Admin,
    topics: &[String],
    brokers: Option<&BrokerList>,
) -> Result<Vec<Placed>, CliError> {
    let mut there = active_brokers(admin).await?;
    if let Some(BrokerList(wanted)) = brokers {
        if let Some(missing) = wanted.iter().find(|id| !there.contains_key(id)) {
            return Err(CliError::failed(format!("broker {missing} isn't there")));
        }
        there.retain(|id, _| wanted.contains(id));
    }
    let mut now = placed(admin).await?;
    if let Some(missing) = topics.iter().find(|t| !now.iter().any(|p| p.topic == **t)) {
        return Err(CliError::failed(format!("there is no topic {missing}")));
    }
    now.retain(|partition| topics.is_empty() || topics.contains(&partition.topic));
    let planned = spread(&now, &there).map_err(CliError::failed)?;
    Ok(changes(&now, planned))
}

/// The brokers that are there.
pub async fn active_brokers(admin: &Admin) -> Result<Brokers, CliError> {
    let brokers = admin.describe_cluster().await?.brokers.into_iter();
    let active = brokers.filter(|broker| !broker.is_fenced);
    Ok(active
        .map(|broker| (broker.broker_id, broker.rack))
        .collect())
}

/// Where all partitions are, or will be once they have moved.
pub async fn placed(admin: &Admin) -> Result<Vec<Placed>, CliError> {
    let moving = admin.list_reassignments().await?.into_iter();
    let going: BTreeMap<(String, i32), Vec<BrokerId>> = moving
        .map(|moving| ((moving.topic, moving.partition), moving.removing))
        .collect();
    let topics = admin.newest_topics().await?;
    let mut placed = Vec::new();
    for topic in &topics {
        for partition in &topic.partitions {
            let going = going.get(&(topic.name.to_string(), partition.index));
            let stays = |id: &BrokerId| going.is_none_or(|going| !going.contains(id));
            placed.push(Placed {
                topic: topic.name.to_string(),
                partition: partition.index,
                replicas: partition.replicas.iter().copied().filter(stays).collect(),
            });
        }
    }
    Ok(placed)
}

async fn execute(args: Execute) -> Result<(), CliError> {
    let admin = args.bootstrap.connect().await?.admin();
    let planned = match &args.file {
        Some(file) => read_plan(file)?,
        None => planned(&admin, &args.topics, args.brokers.as_ref()).await?,
    };
    if let Some(rate) = args.throttle {
        throttle::set(&admin, &planned, rate).await?;
    }
    begin(&admin, &planned).await?;
    if args.wait {
        await_moved(&admin, &planned).await?;
        if args.throttle.is_some() {
            throttle::remove(&admin, topics_of(&planned)).await?;
        }
    }
    Ok(())
}

fn topics_of(planned: &[Placed]) -> BTreeSet<&str> {
    planned.iter().map(|partition| &*partition.topic).collect()
}

/// Begins to move partitions, and says which. All are asked for, whichever are refused.
pub async fn begin(admin: &Admin, planned: &[Placed]) -> Result<(), CliError> {
    if planned.is_empty() {
        return print("nothing has to move");
    }
    let mut failed = 0;
    for planned in planned.chunks(AT_ONCE_MAX) {
        let targets = planned.iter().map(|partition| PartitionTarget {
            topic: partition.topic.clone(),
            partition: partition.partition,
            replicas: Some(partition.replicas.clone()),
        });
        let targets: Vec<PartitionTarget> = targets.collect();
        let refused = refused(&admin.reassign_partitions(&targets).await?);
        failed += refused.len();
        for partition in planned.iter().filter(|p| !refused.contains(&p.key())) {
            let replicas = ids(&partition.replicas);
            print(&format!("{partition} moves to {replicas}"))?;
        }
    }
    fail_if(failed, "can't be moved")
}

/// Says which were refused, and returns them.
fn refused(outcomes: &[PartitionOutcome]) -> BTreeSet<(String, i32)> {
    let mut refused = BTreeSet::new();
    for outcome in outcomes {
        if let Err(error) = &outcome.result {
            eprintln!("klamm: {error}");
            refused.insert((outcome.topic.clone(), outcome.partition));
        }
    }
    refused
}

fn fail_if(failed: usize, what: &str) -> Result<(), CliError> {
    match failed {
        0 => Ok(()),
        failed => Err(CliError::failed(format!("{failed} partitions {what}"))),
    }
}

/// Waits until none of these is on its way, and all are where they shall be.
pub async fn await_moved(admin: &Admin, planned: &[Placed]) -> Result<(), CliError> {
    let wanted: BTreeSet<(String, i32)> = planned.iter().map(Placed::key).collect();
    let mut left_before = None;
    loop {
        let moving = admin.list_reassignments().await?;
        let keys = moving.into_iter().map(|m| (m.topic, m.partition));
        let left = keys.filter(|key| wanted.contains(key)).count();
        if left == 0 {
            break;
        }
        if left_before != Some(left) {
            eprintln!("{left} partitions are on their way");
        }
        left_before = Some(left);
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    let states = states(admin, planned).await?;
    let missed = states.iter().filter(|(_, state)| *state != State::Moved);
    fail_if(
        missed.count(),
        "are elsewhere: another reassignment was faster",
    )
}

/// How far a partition of a plan is.
#[derive(Debug, PartialEq)]
enum State {
    Moved,
    UnderWay(Reassigning),
    /// It is there, and isn't on its way.
    Elsewhere(Vec<BrokerId>),
    Unknown,
}

async fn states<'a>(
    admin: &Admin,
    planned: &'a [Placed],
) -> Result<Vec<(&'a Placed, State)>, CliError> {
    let moving = admin.list_reassignments().await?.into_iter();
    let mut moving: BTreeMap<(String, i32), Reassigning> = moving
        .map(|moving| ((moving.topic.clone(), moving.partition), moving))
        .collect();
    let now = placed(admin).await?.into_iter();
    let now: BTreeMap<(String, i32), Vec<BrokerId>> =
        now.map(|placed| (placed.key(), placed.replicas)).collect();
    let state = |partition: &'a Placed| {
        let key = partition.key();
        let state = match (moving.remove(&key), now.get(&key)) {
            (Some(moving), _) => State::UnderWay(moving),
            (None, None) => State::Unknown,
            (None, Some(now)) if *now == partition.replicas => State::Moved,
            (None, Some(now)) => State::Elsewhere(now.clone()),
        };
        (partition, state)
    };
    Ok(planned.iter().map(state).collect())
}

async fn verify(args: Verify) -> Result<(), CliError> {
    let admin = args.bootstrap.connect().await?.admin();
    let planned = read_plan(&args.file)?;
    let states = states(&admin, &planned).await?;
    for (partition, state) in &states {
        let told = match state {
            State::Moved => "has moved".to_owned(),
            State::UnderWay(moving) => {
                let (adding, removing) = (ids(&moving.adding), ids(&moving.removing));
                format!("is on its way: {adding} comes, {removing} goes")
            }
            State::Elsewhere(now) => format!("is on {} and doesn't move", ids(now)),
            State::Unknown => "isn't there".to_owned(),
        };
        print(&format!("{partition} {told}"))?;
    }
    if !args.preserve_throttles {
        throttle::remove(&admin, topics_of(&planned)).await?;
    }
    let left = states.iter().filter(|(_, state)| *state != State::Moved);
    fail_if(left.count(), "haven't moved")
}

/// What is moving, as it is listed.
#[derive(Debug, Serialize)]
struct Listed {
    topic: String,
    partition: i32,
    replicas: Vec<i32>,
    adding: Vec<i32>,
    removing: Vec<i32>,
}

async fn list(args: List) -> Result<(), CliError> {
    let admin = args.bootstrap.connect().await?.admin();
    let moving = admin.list_reassignments().await?.into_iter();
    let numbers = |ids: Vec<BrokerId>| ids.into_iter().map(|id| id.0).collect();
    let listed = moving.map(|moving| Listed {
        topic: moving.topic,
        partition: moving.partition,
        replicas: numbers(moving.replicas),
        adding: numbers(moving.adding),
        removing: numbers(moving.removing),
    });
    let listed: Vec<Listed> = listed.collect();
    args.output.print(&listed, |listed| {
        let columns = [
            Column::Left("TOPIC"),
            Column::Right("PARTITION"),
            Column::Left("REPLICAS"),
            Column::Left("ADDING"),
            Column::Left("REMOVING"),
        ];
        let row = |moving: &Listed| {
            vec![
                moving.topic.clone(),
                moving.partition.to_string(),
                joined(&moving.replicas),
                joined(&moving.adding),
                joined(&moving.removing),
            ]
        };
        table(&columns, listed.iter().map(row))
    })
}

async fn cancel(args: Cancel) -> Result<(), CliError> {
    let admin = args.bootstrap.connect().await?.admin();
    let moving = admin.list_reassignments().await?.into_iter();
    let moving = moving.map(|moving| (moving.topic, moving.partition));
    let mut keys: BTreeSet<(String, i32)> = moving.collect();
    if let Some(file) = &args.file {
        let planned: BTreeSet<_> = read_plan(file)?.iter().map(Placed::key).collect();
        keys.retain(|key| planned.contains(key));
    }
    let targets = keys.iter().map(|(topic, partition)| PartitionTarget {
        topic: topic.clone(),
        partition: *partition,
        replicas: None,
    });
    let targets: Vec<PartitionTarget> = targets.collect();
    let mut failed = BTreeSet::new();
    for targets in targets.chunks(AT_ONCE_MAX) {
        failed.extend(refused(&admin.reassign_partitions(targets).await?));
    }
    for (topic, partition) in keys.difference(&failed) {
        print(&format!("{topic}-{partition} doesn't move any more"))?;
    }
    if keys.is_empty() {
        print("nothing moves")?;
    }
    if !args.preserve_throttles {
        let topics = keys.iter().map(|(topic, _)| &**topic);
        throttle::remove(&admin, topics.collect()).await?;
    }
    fail_if(failed.len(), "still move")
}

fn ids(ids: &[BrokerId]) -> String {
    match ids.is_empty() {
        true => "nobody".to_owned(),
        false => joined(ids),
    }
}
