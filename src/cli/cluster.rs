//! `klamm cluster status`: which brokers there are, and how the partitions are.

use serde::Serialize;

use super::connect::{block_on, Bootstrap};
use super::error::CliError;
use super::output::{age, table, Column, Output};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show the brokers, and how many partitions lack a leader or a replica
    Status(Status),
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
    process_id: u32,
    uptime_ms: i64,
    version: String,
}

pub fn run(command: Command) -> Result<(), CliError> {
    let Command::Status(args) = command;
    block_on(status(args))
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
            .map(|broker| ShownBroker {
                id: broker.broker_id.0,
                host: broker.host,
                port: broker.port,
                rack: broker.rack,
                process_id: broker.process_id,
                uptime_ms: broker.uptime_ms,
                version: broker.software_version,
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
            Column::Right("PROCESS"),
            Column::Right("UP FOR"),
            Column::Left("VERSION"),
            Column::Left("ROLE"),
        ],
        shown.brokers.iter().map(|broker| {
            let is_controller = broker.id == shown.controller;
            vec![
                broker.id.to_string(),
                format!("{}:{}", broker.host, broker.port),
                broker.rack.clone().unwrap_or_else(|| "-".into()),
                broker.process_id.to_string(),
                age(broker.uptime_ms),
                broker.version.clone(),
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
