//! The way from a command to a broker.

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
