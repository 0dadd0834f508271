//! The command line: one file a subcommand.
//!
//! Every command prints what was asked for to stdout and everything else to stderr, and a failure
//! is one line there. It exits with 0, with 1 if it failed, with 2 if it was used wrongly, or with
//! 130 if Ctrl-C ended it before it was done.

mod actors;
mod choices;
mod cluster;
mod connect;
mod consume;
mod elect;
mod error;
#[cfg(feature = "chaos")]
mod fault;
mod group;
mod json_record;
mod lines;
mod log;
mod output;
mod perf;
mod placement;
mod produce;
mod reassign;
mod server;
mod topic;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use error::CliError;

/// A distributed, partitioned, replicated log broker built as a system of actors.
#[derive(Debug, Parser)]
#[command(
    name = "klamm",
    version,
    propagate_version = true,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a broker
    Server(server::Args),
    /// Create, list, describe, alter and delete topics
    #[command(subcommand)]
    Topic(topic::Command),
    /// Write lines to a topic, each as a record
    Produce(produce::Args),
    /// Read a topic's records
    Consume(consume::Args),
    /// List, describe, reset and delete consumer groups
    #[command(subcommand)]
    Group(group::Command),
    /// Measure the machine, and a broker under load
    #[command(subcommand)]
    Perf(perf::Command),
    /// Look at the cluster
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// List the actors of a broker at work
    Actors(actors::Args),
    /// Look into a partition's files, without a broker
    #[command(subcommand)]
    Log(log::Command),
    /// Break an actor by name (this is a build for chaos tests)
    #[cfg(feature = "chaos")]
    #[command(subcommand)]
    Fault(fault::Command),
}

/// Runs what the process's arguments say.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Server(args) => server::run(args),
        Command::Topic(command) => topic::run(command),
        Command::Produce(args) => produce::run(args),
        Command::Consume(args) => consume::run(args),
        Command::Group(command) => group::run(command),
        Command::Perf(command) => perf::run(command),
        Command::Cluster(command) => cluster::run(command),
        Command::Actors(args) => actors::run(args),
        Command::Log(command) => log::run(command),
        #[cfg(feature = "chaos")]
        Command::Fault(command) => fault::run(command),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{CommandFactory, Parser};

    use super::Cli;

    #[test]
    fn the_commands_and_their_options_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn just_bench_runs_the_readmes_measurements_and_they_are_well_formed() {
        let readme = include_str!("../../README.md");
        let (_, table) = readme.split_once("Command: `klamm perf`").unwrap();
        let rows = table.lines().skip(1).take_while(|row| row.starts_with('|'));
        let commands = rows.filter_map(|row| row.rsplit('|').nth(1));
        let commands = commands.flat_map(|cell| cell.split('`').skip(1).step_by(2));
        let readme: BTreeSet<&str> = commands.collect();

        let recipe = include_str!("../../justfile").lines();
        let commands = recipe.filter_map(|line| line.split_once("-- perf "));
        let recipe: BTreeSet<&str> = commands
            .filter_map(|(_, command)| command.strip_suffix(" {{ARGS}}"))
            .collect();
        assert_eq!(readme, recipe);
        for command in readme {
            let line = format!("klamm perf {command} --bootstrap 127.0.0.1:1");
            let parsed = Cli::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {:?}", parsed.err());
        }
    }
}
