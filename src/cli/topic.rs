//! `klamm topic`: create, list, describe, alter, delete, move, and elect leaders.

use serde::Serialize;

use crate::client::{
    Admin, ClientError, ConfigChange, NewTopic, PartitionMetadata, Resource, TopicMetadata,
};
use crate::model::Offset;
use crate::protocol::describe_configs::ConfigSource;
use crate::protocol::incremental_alter_configs::AlterConfigOp;
use crate::protocol::list_offsets::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};

use super::choices::{name_and_value, BrokerList};
use super::connect::{block_on, Bootstrap};
use super::error::CliError;
use super::output::{joined, print, table, Column, Output};
use super::{elect, reassign};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Create a topic
    Create(Create),
    /// List all topics
    List(List),
    /// Show a topic's partitions and settings
    Describe(Describe),
    /// Change a topic's settings, or give it more partitions
    Alter(Alter),
    /// Delete topics and all their records
    Delete(Delete),
    /// Move partitions to other brokers
    #[command(subcommand)]
    Reassign(reassign::Command),
    /// Have partitions led by their preferred replicas, or by anybody rather than nobody
    Elect(elect::Args),
}

#[derive(Debug, clap::Args)]
pub struct Create {
    name: String,
    /// How many partitions [default: the broker's topics.num_partitions]
    #[arg(long, value_name = "N")]
    partitions: Option<i32>,
    /// On how many brokers each partition is [default: the broker's]
    #[arg(long, value_name = "N")]
    replication_factor: Option<i16>,
    /// The brokers of each partition in turn, the preferred leader first, such as 1,2; may be given several
    /// times, for partitions 0, 1, …
    #[arg(long = "replicas", value_name = "ID,…", conflicts_with_all = ["partitions", "replication_factor"])]
    replicas: Vec<BrokerList>,
    /// A setting of its own, such as retention.ms=3600000; may be given several times
    #[arg(long = "config", value_name = "NAME=VALUE", value_parser = name_and_value)]
    configs: Vec<(String, String)>,
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
pub struct Describe {
    name: String,
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
#[group(id = "change", required = true, multiple = true, args = ["partitions", "configs", "defaults"])]
pub struct Alter {
    name: String,
    /// How many partitions it shall have in all; they can only become more
    #[arg(long, value_name = "N")]
    partitions: Option<i32>,
    /// Set this; may be given several times
    #[arg(long = "config", value_name = "NAME=VALUE", value_parser = name_and_value)]
    configs: Vec<(String, String)>,
    /// Go back to the broker's default; may be given several times
    #[arg(long = "default", value_name = "NAME")]
    defaults: Vec<String>,
    #[command(flatten)]
    bootstrap: Bootstrap,
}

#[derive(Debug, clap::Args)]
pub struct Delete {
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    bootstrap: Bootstrap,
}

pub fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Create(args) => block_on(create(args)),
        Command::List(args) => block_on(list(args)),
        Command::Describe(args) => block_on(describe(args)),
        Command::Alter(args) => block_on(alter(args)),
        Command::Delete(args) => block_on(delete(args)),
        Command::Reassign(command) => reassign::run(command),
        Command::Elect(args) => elect::run(args),
    }
}

async fn create(args: Create) -> Result<(), CliError> {
    let admin = args.bootstrap.connect().await?.admin();
    // With replicas by hand, all numbers follow from them.
    let topic = NewTopic {
        name: args.name,
        partitions: args.partitions,
        replication_factor: args.replication_factor,
        configs: args.configs,
        assignments: args.replicas.into_iter().map(|list| list.0).collect(),
    };
    admin.create_topic(&topic).await?;
    print(&format!("created {}", topic.name))
}

async fn alter(args: Alter) -> Result<(), CliError> {
    let admin = args.bootstrap.connect().await?.admin();
    let set = args.configs.into_iter();
    let reset = args.defaults.into_iter();
    let changes: Vec<ConfigChange> = set
        .map(|(name, value)| (name, AlterConfigOp::Set, Some(value)))
        .chain(reset.map(|name| (name, AlterConfigOp::Delete, None)))
        .collect();
    if !changes.is_empty() {
        let resource = Resource::Topic(args.name.clone());
        admin.alter_configs(&resource, &changes).await?;
    }
    if let Some(count) = args.partitions {
        admin.create_partitions(&args.name, count).await?;
    }
    print(&format!("altered {}", args.name))
}

async fn delete(args: Delete) -> Result<(), CliError> {
    let admin = args.bootstrap.connect().await?.admin();
    for name in args.names {
        admin.delete_topic(&name).await?;
        print(&format!("deleted {name}"))?;
    }
    Ok(())
}

/// A topic in the list.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    id: String,
    partitions: usize,
    replication_factor: usize,
    /// Partitions that nobody leads now.
    leaderless: usize,
    is_internal: bool,
}

impl From<&TopicMetadata> for Listed {
    fn from(topic: &TopicMetadata) -> Listed {
        let of_first = topic.partitions.first();
        Listed {
            name: topic.name.to_string(),
            id: topic.id.to_string(),
            partitions: topic.partitions.len(),
            replication_factor: of_first.map_or(0, |partition| partition.replicas.len()),
            leaderless: topic
                .partitions
                .iter()
                .filter(|p| p.leader.is_none())
                .count(),
            is_internal: topic.is_internal,
        }
    }
}

async fn list(args: List) -> Result<(), CliError> {
    let admin = args.bootstrap.connect().await?.admin();
    let topics: Vec<Listed> = admin
        .list_topics()
        .await?
        .iter()
        .map(Listed::from)
        .collect();
    args.output.print(&topics, |topics| {
        let columns = [
            Column::Left("NAME"),
            Column::Right("PARTITIONS"),
            Column::Right("REPLICAS"),
            Column::Right("LEADERLESS"),
            Column::Left("ID"),
        ];
        let row = |topic: &Listed| {
            vec![
                topic.name.clone(),
                topic.partitions.to_string(),
                topic.replication_factor.to_string(),
                topic.leaderless.to_string(),
                topic.id.clone(),
            ]
        };
        table(&columns, topics.iter().map(row))
    })
}

#[derive(Debug, Serialize)]
struct Described {
    name: String,
    id: String,
    is_internal: bool,
    partitions: Vec<DescribedPartition>,
    configs: Vec<DescribedConfig>,
}

#[derive(Debug, Serialize)]
struct DescribedPartition {
    partition: i32,
    leader: Option<i32>,
    leader_epoch: i32,
    replicas: Vec<i32>,
    in_sync: Vec<i32>,
    offline: Vec<i32>,
    /// Not known while nobody leads.
    start_offset: Option<i64>,
    /// The high watermark.
    end_offset: Option<i64>,
    /// What is wrong with it, if anything.
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct DescribedConfig {
    name: String,
    value: Option<String>,
    source: &'static str,
}

async fn describe(args: Describe) -> Result<(), CliError> {
    let admin = args.bootstrap.connect().await?.admin();
    let topic = admin.describe_topic(&args.name).await?;
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for partition in &topic.partitions {
        let mut described = DescribedPartition::from(partition);
        // One that is offline says so in its own row; the others are shown beside it.
        match offsets(&admin, &args.name, partition.index).await {
            Ok((start, end)) => {
                described.start_offset = Some(start.0);
                described.end_offset = Some(end.0);
            }
            Err(error) => {
                let reason = error.code().map_or(error.to_string(), |c| c.to_string());
                described.error.get_or_insert(reason);
            }
        }
        partitions.push(described);
    }
    let configs = admin.describe_configs(&Resource::Topic(args.name)).await?;
    let described = Described {
        name: topic.name.to_string(),
        id: topic.id.to_string(),
        is_internal: topic.is_internal,
        partitions,
        configs: configs
            .into_iter()
            .map(|config| DescribedConfig {
                name: config.name,
                value: config.value,
                source: source(config.config_source),
            })
            .collect(),
    };
    args.output.print(&described, describe_text)
}

/// Where a partition starts and ends.
async fn offsets(
    admin: &Admin,
    topic: &str,
    partition: i32,
) -> Result<(Offset, Offset), ClientError> {
    let start = admin.list_offset(topic, partition, EARLIEST_TIMESTAMP);
    let start = start.await?;
    let end = admin.list_offset(topic, partition, LATEST_TIMESTAMP);
    Ok((start, end.await?))
}

impl From<&PartitionMetadata> for DescribedPartition {
    fn from(partition: &PartitionMetadata) -> DescribedPartition {
        let ids = |brokers: &[crate::model::BrokerId]| brokers.iter().map(|id| id.0).collect();
        let code = partition.error_code;
        DescribedPartition {
            partition: partition.index,
            leader: partition.leader.map(|id| id.0),
            leader_epoch: partition.leader_epoch.0,
            replicas: ids(&partition.replicas),
            in_sync: ids(&partition.in_sync),
            offline: ids(&partition.offline),
            start_offset: None,
            end_offset: None,
            error: (!code.is_ok()).then(|| code.to_string()),
        }
    }
}

fn source(number: i8) -> &'static str {
    let is = |source: ConfigSource| number == source as i8;
    match () {
        () if is(ConfigSource::DynamicTopicConfig) => "topic",
        () if is(ConfigSource::DynamicBrokerConfig) => "broker",
        () if is(ConfigSource::StaticBrokerConfig) => "config file",
        () if is(ConfigSource::DefaultConfig) => "default",
        () => "unknown",
    }
}

fn describe_text(topic: &Described) -> String {
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let partitions = table(
        &[
            Column::Right("PARTITION"),
            Column::Right("LEADER"),
            Column::Right("EPOCH"),
            Column::Left("REPLICAS"),
            Column::Left("IN SYNC"),
            Column::Right("START"),
            Column::Right("END"),
            Column::Left("ERROR"),
        ],
        topic.partitions.iter().map(|partition| {
            vec![
                partition.partition.to_string(),
                text(partition.leader.map(|id| id.to_string())),
                partition.leader_epoch.to_string(),
                joined(&partition.replicas),
                joined(&partition.in_sync),
                text(partition.start_offset.map(|offset| offset.to_string())),
                text(partition.end_offset.map(|offset| offset.to_string())),
                partition.error.clone().unwrap_or_default(),
            ]
        }),
    );
    let configs = table(
        &[
            Column::Left("SETTING"),
            Column::Left("VALUE"),
            Column::Left("FROM"),
        ],
        topic.configs.iter().map(|config| {
            vec![
                config.name.clone(),
                text(config.value.clone()),
                config.source.to_owned(),
            ]
        }),
    );
    format!("{}  {}\n\n{partitions}\n\n{configs}", topic.name, topic.id)
}
