//! `klamm actors`: the actors of a broker at work.

use std::io::IsTerminal;
use std::time::Duration;

use crate::client::Admin;
use crate::model::BrokerId;
use crate::protocol::describe_actors::ActorDescription;

use super::connect::{block_on, Bootstrap};
use super::error::CliError;
use super::output::{age, print, table, thousands, Column, Format, Output};

/// Moves a terminal's cursor home and clears what is below.
const CLEAR_SCREEN: &str = "\x1b[H\x1b[2J";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only actors of this kind: connection, partition_leader, partition_follower, group_coordinator, controller, guardian
    #[arg(long)]
    kind: Option<String>,
    /// The broker's number [default: the one that --bootstrap finds]
    #[arg(long, value_name = "ID")]
    broker: Option<i32>,
    /// Look again and again, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// How often to look, with --watch
    #[arg(
        long,
        default_value_t = 1.0,
        value_name = "SECONDS",
        requires = "watch"
    )]
    interval: f64,
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(flatten)]
    output: Output,
}

pub fn run(args: Args) -> Result<(), CliError> {
    let interval = Duration::try_from_secs_f64(args.interval)
        .map_err(|_| CliError::Usage("--interval must be a number of seconds".into()))?;
    block_on(async {
        let admin = args.bootstrap.connect().await?.admin();
        if !args.watch {
            let actors = ask(&args, &admin).await?;
            return args.output.print(&actors, |actors| text(actors));
        }
        loop {
            show(&args, &ask(&args, &admin).await?)?;
            tokio::time::sleep(interval).await;
        }
    })
}

async fn ask(args: &Args, admin: &Admin) -> Result<Vec<ActorDescription>, CliError> {
    let broker = args.broker.map(BrokerId);
    let actors = admin.describe_actors(broker, args.kind.as_deref()).await?;
    Ok(actors)
}

/// One look of many: a screen on a terminal, one line of JSON, or tables below each other.
fn show(args: &Args, actors: &[ActorDescription]) -> Result<(), CliError> {
    match args.output.output {
        Format::Json => {
            let line = serde_json::to_string(actors)
                .map_err(|error| CliError::failed(format!("JSON: {error}")))?;
            print(&line)
        }
        Format::Table if std::io::stdout().is_terminal() => {
            print(&format!("{CLEAR_SCREEN}{}", text(actors)))
        }
        Format::Table => print(&format!("{}\n\u{20}", text(actors))),
    }
}

fn text(actors: &[ActorDescription]) -> String {
    table(
        &[
            Column::Left("KIND"),
            Column::Left("NAME"),
            Column::Left("STATE"),
            Column::Right("MAILBOX"),
            Column::Right("HANDLED"),
            Column::Right("RESTARTS"),
            Column::Right("AGE"),
            Column::Left("DETAIL"),
        ],
        actors.iter().map(|actor| {
            vec![
                actor.kind.clone(),
                actor.name.clone(),
                actor.state.clone(),
                actor.mailbox_depth.to_string(),
                thousands(actor.messages_handled),
                actor.restarts.to_string(),
                age(actor.age_ms),
                actor.detail.clone(),
            ]
        }),
    )
}
