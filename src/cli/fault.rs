//! `klamm fault`: break an actor by name, or fill the disk. Only a build with the feature `chaos` has it.

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
    /// Fill the disk: only a few more bytes fit
    FillDisk(FillDisk),
    /// Make room on the disk again
    FreeDisk(Broker),
}

#[derive(Debug, clap::Args)]
pub struct Broker {
    /// The broker's number [default: the one that --bootstrap finds]
    #[arg(long = "broker", value_name = "ID")]
    id: Option<i32>,
    #[command(flatten)]
    bootstrap: Bootstrap,
}

#[derive(Debug, clap::Args)]
pub struct Victim {
    /// As `klamm actors` lists it
    kind: String,
    /// As `klamm actors` lists it
    name: String,
    #[command(flatten)]
    broker: Broker,
}

#[derive(Debug, clap::Args)]
pub struct Stall {
    #[command(flatten)]
    victim: Victim,
    /// For how long
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    ms: u64,
}

#[derive(Debug, clap::Args)]
pub struct FillDisk {
    #[command(flatten)]
    broker: Broker,
    /// How many more bytes fit
    #[arg(long, default_value_t = 0, value_name = "BYTES")]
    room: u64,
}

pub fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Stop(victim) => break_actor(victim, "stop", Duration::ZERO),
        Command::Panic(victim) => break_actor(victim, "panic", Duration::ZERO),
        Command::Stall(Stall { victim, ms }) => {
            break_actor(victim, "stall", Duration::from_millis(ms))
        }
        Command::FillDisk(FillDisk { broker, room }) => fill_disk(broker, Some(room)),
        Command::FreeDisk(broker) => fill_disk(broker, None),
    }
}

fn break_actor(victim: Victim, fault: &str, stall: Duration) -> Result<(), CliError> {
    let Victim { kind, name, broker } = victim;
    block_on(async {
        let admin = broker.bootstrap.connect().await?.admin();
        let id = broker.id.map(BrokerId);
        admin.inject_fault(id, &kind, &name, fault, stall).await?;
        print(&format!("{fault}: {kind} {name}"))
    })
}

fn fill_disk(broker: Broker, room_bytes: Option<u64>) -> Result<(), CliError> {
    block_on(async {
        let admin = broker.bootstrap.connect().await?.admin();
        let id = broker.id.map(BrokerId);
        admin.fill_disk(id, room_bytes).await?;
        print(match room_bytes {
            Some(_) => "the disk is full",
            None => "there is room on the disk again",
        })
    })
}
