//! The `klamm` binary: it parses the command line and hands over to it.

use std::process::ExitCode;

/// Connections and batches come and go on every thread, and mimalloc is about twice as fast at
/// that as the system's allocator, and gives memory back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    klamm::cli::main()
}
