//! stub
use super::error::CliError;
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    A,
}
pub fn run(_: Command) -> Result<(), CliError> {
    Ok(())
}
