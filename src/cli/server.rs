//! `klamm server`: a broker in this process.

use std::path::PathBuf;

use crate::config::Config;
use crate::node::{self, Versions};

use super::error::CliError;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A TOML file; config/klamm.toml documents every key. KLAMM__… in the environment overrides
    /// it. Without it the defaults run: data in ./data, clients at 127.0.0.1:7070
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Knows no later metadata version, as a node of an earlier build
    #[cfg(feature = "chaos")]
    #[arg(long, env = "KLAMM_METADATA_VERSION_MAX", value_name = "VERSION")]
    metadata_version_max: Option<u16>,
    /// Speaks this version of the peers' protocol and all before, as a node of another build
    #[cfg(feature = "chaos")]
    #[arg(long, env = "KLAMM_LINK_VERSION_MAX", value_name = "VERSION")]
    link_version_max: Option<u16>,
}

impl Args {
    #[cfg(not(feature = "chaos"))]
    fn versions(&self) -> Versions {
        Versions::default()
    }

    #[cfg(feature = "chaos")]
    fn versions(&self) -> Versions {
        let Versions {
            metadata_max,
            links,
        } = Versions::default();
        let link_max = self.link_version_max.unwrap_or(*links.end());
        Versions {
            metadata_max: self.metadata_version_max.unwrap_or(metadata_max),
            links: *links.start()..=link_max,
        }
    }
}

/// Runs until SIGTERM or SIGINT, which `node` takes care of.
pub fn run(args: Args) -> Result<(), CliError> {
    start_logging();
    let config = Config::load(args.config.as_deref())?;
    node::run(config, args.versions())?;
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
