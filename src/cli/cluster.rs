//! `klamm cluster`: which brokers there are, how the partitions are, and a voter that comes back without its
//! metadata.

use serde::Serialize;

use super::connect::{block_on, Bootstrap};
use super::error::CliError;
use super::output::{age, print, table, Column, Output};
use crate::client::PartitionMetadata;
use crate::model::BrokerId;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show the brokers, and how many partitions lack a leader or a replica
    Status(Status),
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
    /// These three only of the broker that was asked.
    process_id: Option<u32>,
    uptime_ms: Option<i64>,
    version: Option<String>,
}

pub fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Status(args) => block_on(status(args)),
        Command::Readmit(args) => block_on(readmit(args)),
    }
}

async fn readmit(args: Readmit) -> Result<(), CliError> {
    let admin = args.bootstrap.connect().await?.admin();
    let voter = BrokerId(args.voter);
    admin.readmit_voter(voter, &args.directory).await?;
    print(&format!("voter {voter} takes part with {}", args.directory))
}

async fn status(args: Status) -> Result<(), CliError> {
    let admin = args.bootstrap.connect().await?.admin();
    let cluster = admin.describe_cluster().await?;
    let topics = admin.list_topics().await?;
    let partitions: Vec<_> = topics.iter().flat_map(|topic| &topic.partitions).collect();
    let shown = Shown {
        cluster_id: cluster.cluster_id,
        controller: cluster.controller_id.0,
        brokers: cluster
            .brokers
            .into_iter()
            .map(|broker| {
                let id = broker.broker_id;
                let is_asked = broker.process_id != 0;
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
                    process_id: is_asked.then_some(broker.process_id),
                    uptime_ms: is_asked.then_some(broker.uptime_ms),
                    version: is_asked.then_some(broker.software_version),
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
    format!(
        "cluster {}\n\n{brokers}\n\n{} topics, {} partitions: {} without a leader, {} under-replicated",
        shown.cluster_id,
        shown.topics,
        shown.partitions,
        shown.leaderless_partitions,
        shown.under_replicated_partitions
    )
}
