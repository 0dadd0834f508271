//! `klamm perf`: load on a broker and what it costs, and what the machine itself can do.
//!
//! Broker and load usually share a machine, so the load has to be cheap: it speaks the protocol
//! over blocking sockets ([`wire`]), pipelined, and does no more with a record than it must. What
//! it measures is the broker, not the client library.
//!
//! Every figure on disk depends on the disk, so each can be printed beside what the disk gave in
//! the same minute ([`machine`]). If the broker is a process of this machine, its CPU and memory
//! are read from `/proc` ([`broker`]).

mod batches;
mod broker;
mod connections;
mod consume;
mod latency;
mod load;
mod machine;
mod offsets;
mod produce;
mod report;
mod wire;
mod writing;

use clap::Subcommand;

use super::error::CliError;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// What disk, page cache and loopback of this machine can do, without any broker
    Machine(machine::Args),
    /// Throughput of writing
    Produce(produce::Args),
    /// Throughput of reading
    Consume(consume::Args),
    /// How long a record takes to be acknowledged
    Latency(latency::Args),
    /// What connections cost the broker that only wait
    Connections(connections::Args),
}

pub fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Machine(args) => machine::run(args),
        Command::Produce(args) => produce::run(args),
        Command::Consume(args) => consume::run(args),
        Command::Latency(args) => latency::run(args),
        Command::Connections(args) => connections::run(args),
    }
}
