//! How a command fails: one line on stderr, and the exit code.

use std::io;
use std::process::ExitCode;

use thiserror::Error;

use crate::client::ClientError;
use crate::config::ConfigError;
use crate::node::NodeError;

/// What a shell says of a command that SIGINT ended: 128 and the signal's number.
const EXIT_INTERRUPTED: u8 = 130;

/// What ends a command early.
#[derive(Debug, Error)]
pub enum CliError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("{what}: {error}")]
    Io { what: String, error: io::Error },
    #[error("{0}")]
    Failed(String),
    /// The command line is well formed, and makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Ctrl-C before the end.
    #[error("interrupted")]
    Interrupted,
    /// Whoever reads our stdout has left, as `head` does. That is no failure.
    #[error("stdout is closed")]
    StdoutClosed,
}

impl CliError {
    /// `what` says which file or address it was.
    pub fn io(what: impl Into<String>, error: io::Error) -> CliError {
        CliError::Io {
            what: what.into(),
            error,
        }
    }

    pub fn failed(reason: impl Into<String>) -> CliError {
        CliError::Failed(reason.into())
    }

    /// A failed write to stdout.
    pub fn stdout(error: io::Error) -> CliError {
        match error.kind() {
            io::ErrorKind::BrokenPipe => CliError::StdoutClosed,
            _ => CliError::io("stdout", error),
        }
    }

    /// Says it on stderr, unless there is nothing to say.
    pub fn report(self) -> ExitCode {
        let code = match self {
            CliError::StdoutClosed => return ExitCode::SUCCESS,
            CliError::Usage(_) => 2,
            CliError::Interrupted => EXIT_INTERRUPTED,
            _ => 1,
        };
        let lines = self.to_string();
        let line = lines.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        eprintln!("klamm: {line}");
        ExitCode::from(code)
    }
}
