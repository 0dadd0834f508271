//! `klamm server`: a broker in this process.

use std::path::PathBuf;

use crate::config::Config;
use crate::node;

use super::error::CliError;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A TOML file; config/klamm.toml documents every key. KLAMM__… in the environment overrides
    /// it. Without it the defaults run: data in ./data, clients at 127.0.0.1:7070
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs until SIGTERM or SIGINT, which `node` takes care of.
pub fn run(args: Args) -> Result<(), CliError> {
    start_logging();
    let config = Config::load(args.config.as_deref())?;
    node::run(config)?;
    Ok(())
}

/// To stderr, at `info` unless `RUST_LOG` says otherwise. sled and async-raft tell of their inner
/// life at `info`, which only their authors want to read.
fn start_logging() {
    let filter = "info,sled=warn,async_raft=warn";
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(filter))
        .format_timestamp_millis()
        .init();
}
