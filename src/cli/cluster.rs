//! `klamm cluster`: which brokers there are, how the partitions are, and a voter that comes back without its
//! metadata.

use std::time::Duration;

use serde::Serialize;

use super::connect::{block_on, Bootstrap};
use super::error::CliError;
use super::output::{age, joined, print, table, Column, Output};
use super::placement::{changes, leave};
use super::reassign::{active_brokers, await_moved, begin, placed};
use crate::client::PartitionMetadata;
use crate::model::{BrokerId, Timestamp};
use crate::protocol::describe_quorum::{DescribedPartition, ReplicaState};

/// How long each broker may take to say what it is; one that hangs is shown without that.
const BROKER_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show the brokers, and how many partitions lack a leader or a replica
    Status(Status),
    /// Move all replicas and leaderships away from a broker
    Drain(Drain),
    /// Forget a broker that is gone for good
    Unregister(Unregister),
    /// Let a voter whose copy of the metadata is lost for good take part with its new one
    Readmit(Readmit),
}

#[derive(Debug, clap::Args)]
pub struct Readmit {
    /// The voter's number
    voter: i32,
    /// The new copy's id, as the voter says it in its log
    directory: String,
    #[command(flatten)]
    bootstrap: Bootstrap,
}

#[derive(Debug, clap::Args)]
pub struct Drain {
    /// The broker's number
    broker: i32,
    /// Only show what would move
    #[arg(long)]
    dry_run: bool,
    /// Return when the moves have begun
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    bootstrap: Bootstrap,
}

#[derive(Debug, clap::Args)]
pub struct Unregister {
    /// The broker's number
    broker: i32,
    #[command(flatten)]
    bootstrap: Bootstrap,
}

#[derive(Debug, clap::Args)]
pub struct Status {
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Serialize)]
struct Shown {
    cluster_id: String,
    controller: i32,
    brokers: Vec<ShownBroker>,
    topics: usize,
    partitions: usize,
    /// Partitions that nobody leads now.
    leaderless_partitions: usize,
    /// Partitions with a replica that isn't in sync.
    under_replicated_partitions: usize,
    /// Who keeps the metadata; null while nobody leads them.
    quorum: Option<ShownQuorum>,
}

/// The voters, and the nodes that follow without a vote, as the voter that leads sees them. Ends are those of the
/// metadata's log.
#[derive(Debug, Serialize)]
struct ShownQuorum {
    leader: i32,
    term: i32,
    high_watermark: i64,
    voters: Vec<ShownReplica>,
    observers: Vec<ShownReplica>,
}

#[derive(Debug, Serialize)]
struct ShownReplica {
    id: i32,
    directory: String,
    /// What isn't known of it is null.
    log_end: Option<i64>,
    /// How many entries it lacks.
    lag: Option<i64>,
    /// How long ago it was heard, and that was with which it had all.
    heard_ms_ago: Option<i64>,
    caught_up_ms_ago: Option<i64>,
}

impl ShownQuorum {
    fn new(quorum: DescribedPartition, now: Timestamp) -> ShownQuorum {
        let leader = quorum.leader_id;
        let ends = quorum.current_voters.iter();
        let end = ends.map(|voter| voter.log_end_offset).max().unwrap_or(0);
        let shown = |replica: &ReplicaState| {
            let log_end = Some(replica.log_end_offset).filter(|end| *end >= 0);
            let ago = |at: Timestamp| (at.0 >= 0).then(|| (now - at).max(0));
            ShownReplica {
                id: replica.replica_id.0,
                directory: replica.replica_directory_id.to_string(),
                log_end,
                lag: log_end.map(|known| (end - known).max(0)),
                heard_ms_ago: ago(replica.last_fetch_timestamp),
                caught_up_ms_ago: ago(replica.last_caught_up_timestamp),
            }
        };
        ShownQuorum {
            leader: leader.0,
            term: quorum.leader_epoch,
            high_watermark: quorum.high_watermark,
            voters: quorum.current_voters.iter().map(shown).collect(),
            observers: quorum.observers.iter().map(shown).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct ShownBroker {
    id: i32,
    host: String,
    port: i32,
    rack: Option<String>,
    /// It is registered, and doesn't answer.
    fenced: bool,
    /// Of how many partitions it has a replica, which of those is in sync, and which it leads.
    replicas: usize,
    in_sync: usize,
    leads: usize,
    /// These three are null of a broker that doesn't answer.
    process_id: Option<u32>,
    uptime_ms: Option<i64>,
    version: Option<String>,
}

pub fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Status(args) => block_on(status(args)),
        Command::Drain(args) => block_on(drain(args)),
        Command::Unregister(args) => block_on(unregister(args)),
        Command::Readmit(args) => block_on(readmit(args)),
    }
}

async fn readmit(args: Readmit) -> Result<(), CliError> {
    let admin = args.bootstrap.connect().await?.admin();
    let voter = BrokerId(args.voter);
    admin.readmit_voter(voter, &args.directory).await?;
    print(&format!("voter {voter} takes part with {}", args.directory))
}

async fn unregister(args: Unregister) -> Result<(), CliError> {
    let admin = args.bootstrap.connect().await?.admin();
    admin.unregister_broker(BrokerId(args.broker)).await?;
    print(&format!("broker {} is no more", args.broker))
}

/// Gives to other brokers what this one has. Those that have nothing to do with it stay as they are.
async fn drain(args: Drain) -> Result<(), CliError> {
    let admin = args.bootstrap.connect().await?.admin();
    let broker = BrokerId(args.broker);
    let mut others = active_brokers(&admin).await?;
    others.remove(&broker);
    let now = placed(&admin).await?;
    let planned = leave(&now, broker, &others).map_err(CliError::failed)?;
    let planned = changes(&now, planned);
    if args.dry_run {
        for partition in &planned {
            let replicas = joined(&partition.replicas);
            print(&format!("{partition} would move to {replicas}"))?;
        }
        return Ok(());
    }
    begin(&admin, &planned).await?;
    if !args.no_wait {
        await_moved(&admin, &planned).await?;
        print(&format!("broker {broker} has nothing any more"))?;
    }
    Ok(())
}

async fn status(args: Status) -> Result<(), CliError> {
    let admin = args.bootstrap.connect().await?.admin();
    let cluster = admin.describe_brokers(BROKER_PATIENCE).await?;
    let topics = admin.list_topics().await?;
    let quorum = admin.describe_quorum().await;
    if let Err(error) = &quorum {
        eprintln!("klamm: nobody says how the metadata's voters are: {error}");
    }
    let partitions: Vec<_> = topics.iter().flat_map(|topic| &topic.partitions).collect();
    let shown = Shown {
        cluster_id: cluster.cluster_id,
        controller: cluster.controller_id.0,
        brokers: cluster
            .brokers
            .into_iter()
            .map(|broker| {
                let id = broker.broker_id;
                let answers = broker.process_id != 0;
                let count = |is: &dyn Fn(&PartitionMetadata) -> bool| {
                    partitions.iter().filter(|partition| is(partition)).count()
                };
                ShownBroker {
                    id: id.0,
                    host: broker.host,
                    port: broker.port,
                    rack: broker.rack,
                    fenced: broker.is_fenced,
                    replicas: count(&|partition| partition.replicas.contains(&id)),
                    in_sync: count(&|partition| partition.in_sync.contains(&id)),
                    leads: count(&|partition| partition.leader == Some(id)),
                    process_id: answers.then_some(broker.process_id),
                    uptime_ms: answers.then_some(broker.uptime_ms),
                    version: answers.then_some(broker.software_version),
                }
            })
            .collect(),
        topics: topics.len(),
        partitions: partitions.len(),
        leaderless_partitions: partitions.iter().filter(|p| p.leader.is_none()).count(),
        under_replicated_partitions: partitions
            .iter()
            .filter(|partition| partition.in_sync.len() < partition.replicas.len())
            .count(),
        quorum: quorum
            .ok()
            .map(|quorum| ShownQuorum::new(quorum, Timestamp::now())),
    };
    args.output.print(&shown, text)
}

fn text(shown: &Shown) -> String {
    let brokers = table(
        &[
            Column::Right("BROKER"),
            Column::Left("ADDRESS"),
            Column::Left("RACK"),
            Column::Left("STATE"),
            Column::Right("REPLICAS"),
            Column::Right("IN SYNC"),
            Column::Right("LEADS"),
            Column::Right("PROCESS"),
            Column::Right("UP FOR"),
            Column::Left("VERSION"),
            Column::Left("ROLE"),
        ],
        shown.brokers.iter().map(|broker| {
            let is_controller = broker.id == shown.controller;
            let or_dash = |told: Option<String>| told.unwrap_or_else(|| "-".to_owned());
            vec![
                broker.id.to_string(),
                format!("{}:{}", broker.host, broker.port),
                broker.rack.clone().unwrap_or_else(|| "-".into()),
                if broker.fenced { "fenced" } else { "active" }.to_owned(),
                broker.replicas.to_string(),
                broker.in_sync.to_string(),
                broker.leads.to_string(),
                or_dash(broker.process_id.map(|id| id.to_string())),
                or_dash(broker.uptime_ms.map(age)),
                or_dash(broker.version.clone()),
                if is_controller { "controller" } else { "" }.to_owned(),
            ]
        }),
    );
    let quorum = shown
        .quorum
        .as_ref()
        .map_or_else(|| "metadata: nobody leads".to_owned(), quorum_text);
    format!(
        "cluster {}\n\n{brokers}\n\n{quorum}\n\n{} topics, {} partitions: {} without a leader, {} under-replicated",
        shown.cluster_id,
        shown.topics,
        shown.partitions,
        shown.leaderless_partitions,
        shown.under_replicated_partitions
    )
}

fn quorum_text(quorum: &ShownQuorum) -> String {
    let or_dash = |told: Option<String>| told.unwrap_or_else(|| "-".to_owned());
    let voters = quorum.voters.iter().map(|voter| (voter, "voter"));
    let observers = quorum.observers.iter();
    let observers = observers.map(|observer| (observer, "observer"));
    let replicas = table(
        &[
            Column::Right("NODE"),
            Column::Left("ROLE"),
            Column::Right("LOG END"),
            Column::Right("LAG"),
            Column::Right("HEARD AGO"),
            Column::Right("CAUGHT UP AGO"),
            Column::Left("COPY"),
        ],
        voters.chain(observers).map(|(replica, role)| {
            let leads = replica.id == quorum.leader;
            let ago = |ago: Option<i64>| match leads {
                true => "-".to_owned(),
                false => or_dash(ago.map(age)),
            };
            vec![
                replica.id.to_string(),
                if leads { "leader" } else { role }.to_owned(),
                or_dash(replica.log_end.map(|end| end.to_string())),
                or_dash(replica.lag.map(|lag| lag.to_string())),
                ago(replica.heard_ms_ago),
                ago(replica.caught_up_ms_ago),
                replica.directory.clone(),
            ]
        }),
    );
    format!(
        "metadata: voter {} leads in term {}, committed up to {}\n\n{replicas}",
        quorum.leader, quorum.term, quorum.high_watermark
    )
}
