//! `klamm topic elect`: partitions are led by their preferred replicas again, or by anybody rather than nobody.

use super::connect::{block_on, Bootstrap};
use super::error::CliError;
use super::output::print;
use crate::client::Election;
use crate::model::ErrorCode;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these topics [default: all]
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,
    /// Only this partition of them
    #[arg(long, value_name = "N", requires = "topics")]
    partition: Option<i32>,
    /// Where nobody leads, elect a replica that may lack committed records: they are lost then
    #[arg(long)]
    unclean: bool,
    #[command(flatten)]
    bootstrap: Bootstrap,
}

pub fn run(args: Args) -> Result<(), CliError> {
    block_on(elect(args))
}

async fn elect(args: Args) -> Result<(), CliError> {
    let admin = args.bootstrap.connect().await?.admin();
    let election = match args.unclean {
        true => Election::Unclean,
        false => Election::Preferred,
    };
    let mut named = Vec::new();
    for topic in &args.topics {
        let described = admin.describe_topic(topic).await?;
        let numbers = described.partitions.iter().map(|p| p.index);
        let wanted = numbers.filter(|number| args.partition.is_none_or(|only| only == *number));
        named.extend(wanted.map(|number| (topic.clone(), number)));
    }
    let named = (!args.topics.is_empty()).then_some(named);
    let outcomes = admin.elect_leaders(election, named.as_deref()).await?;
    let mut failed = 0;
    for outcome in &outcomes {
        let (topic, partition) = (&outcome.topic, outcome.partition);
        match &outcome.result {
            Ok(()) => print(&format!("{topic}-{partition} has another leader"))?,
            Err(error) if error.code() == Some(ErrorCode::ElectionNotNeeded) => {
                print(&format!("{topic}-{partition} is led as it shall be"))?;
            }
            Err(error) => {
                failed += 1;
                eprintln!("klamm: {error}");
            }
        }
    }
    if outcomes.is_empty() {
        print("no partition needs an election")?;
    }
    match failed {
        0 => Ok(()),
        failed => Err(CliError::failed(format!("{failed} elections have failed"))),
    }
}
