//! `klamm fault`: break an actor by name. Only a build with the feature `chaos` has it.

use std::time::Duration;

use crate::model::BrokerId;

use super::connect::{block_on, Bootstrap};
use super::error::CliError;
use super::output::print;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Stop it, as if it had ended by itself
    Stop(Victim),
    /// Make it panic while it handles a message
    Panic(Victim),
    /// Let it sleep while its mailbox fills
    Stall(Stall),
}

#[derive(Debug, clap::Args)]
pub struct Victim {
    /// As `klamm actors` lists it
    kind: String,
    /// As `klamm actors` lists it
    name: String,
    /// The broker's number [default: the one that --bootstrap finds]
    #[arg(long, value_name = "ID")]
    broker: Option<i32>,
    #[command(flatten)]
    bootstrap: Bootstrap,
}

#[derive(Debug, clap::Args)]
pub struct Stall {
    #[command(flatten)]
    victim: Victim,
    /// For how long
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    ms: u64,
}

pub fn run(command: Command) -> Result<(), CliError> {
    let (fault, victim, stall_ms) = match command {
        Command::Stop(victim) => ("stop", victim, 0),
        Command::Panic(victim) => ("panic", victim, 0),
        Command::Stall(stall) => ("stall", stall.victim, stall.ms),
    };
    block_on(async {
        let admin = victim.bootstrap.connect().await?.admin();
        let broker = victim.broker.map(BrokerId);
        let stall = Duration::from_millis(stall_ms);
        admin
            .inject_fault(broker, &victim.kind, &victim.name, fault, stall)
            .await?;
        print(&format!("{fault}: {} {}", victim.kind, victim.name))
    })
}
