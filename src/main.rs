//! The `klamm` binary: it parses the command line and hands over to it.

use std::process::ExitCode;

fn main() -> ExitCode {
    klamm::cli::main()
}
