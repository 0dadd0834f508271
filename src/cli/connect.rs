//! The way from a command to a broker.

use std::future::Future;

use crate::client::{Client, ClientError};

use super::error::CliError;

/// `--bootstrap`, for every command that talks to a broker.
#[derive(Clone, Debug, clap::Args)]
pub struct Bootstrap {
    /// A broker to start from; several are tried in turn
    #[arg(
        long,
        env = "KLAMM_BOOTSTRAP",
        default_value = "127.0.0.1:7070",
        value_name = "HOST:PORT[,…]"
    )]
    pub bootstrap: String,
}

impl Bootstrap {
    pub async fn connect(&self) -> Result<Client, ClientError> {
        Client::connect(self.bootstrap.as_str()).await
    }
}

/// Runs a command's future on this thread: a command has one thing to do.
pub fn block_on<T>(command: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::io("starting the runtime", error))?;
    let result = runtime.block_on(command);
    // What a command leaves behind on an error is not waited for: a thread may read a terminal.
    runtime.shutdown_background();
    result
}
