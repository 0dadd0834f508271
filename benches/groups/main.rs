//! What groups cost: `cargo bench --bench groups -- [leave] [kill] [consumers] [coordinator] [commits] [load]`, all
//! without a name; a number sets the rounds of those that have some.
//!
//! Real processes of this build, three nodes unless it says otherwise, everything synced; members of Klamm's client
//! in this process, each with connections of its own.
//!
//! | name | what |
//! |---|---|
//! | `leave` | 100 members share 600 partitions cooperatively, one leaves: until others have what it had |
//! | `kill` | the same with one in a process of its own that is killed with -9; its session is 6 s |
//! | `consumers` | both in the consumer protocol (KIP-848), with members that do by its requests what it demands, all in this process; and what their heartbeats cost while nothing happens |
//! | `coordinator` | the node of a group's coordinator is killed with -9: until a commit is acknowledged again |
//! | `commits` | 50 members commit one offset after the other, each waiting for its answer |
//! | `load` | one node whose partition of `__consumer_offsets` had 1,000,000 commits of 10,000 keys, compacted: from when it listens after a restart until it tells the offsets |

#[path = "../../tests/broker_process/mod.rs"]
mod broker_process;
mod commits;
mod consumers;
mod load;
mod members;
#[path = "../../tests/cluster/nodes.rs"]
mod nodes;
mod rebalance;
mod wire;

use std::time::Duration;

/// Of each kind unless told otherwise.
const ROUNDS: usize = 5;
/// How much worse than promised is still waited for.
const WAIT_MAX: Duration = Duration::from_secs(120);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [role, bootstrap, ..] = &args[..] {
        if role == members::ROLE {
            return members::run_alone(bootstrap).await;
        }
    }
    let names = [
        "leave",
        "kill",
        "consumers",
        "coordinator",
        "commits",
        "load",
    ];
    let is_asked = |name: &str| {
        !args.iter().any(|arg| names.contains(&&arg[..])) || args.iter().any(|arg| arg == name)
    };
    let rounds = args.iter().find_map(|arg| arg.parse().ok());
    let rounds = rounds.unwrap_or(ROUNDS);
    println!("| what | measured |");
    println!("|---|---|");
    if is_asked("leave") || is_asked("kill") {
        let leaves = is_asked("leave").then_some(rounds);
        let kills = is_asked("kill").then_some(rounds);
        rebalance::measure(leaves.unwrap_or(0), kills.unwrap_or(0)).await;
    }
    if is_asked("consumers") {
        consumers::measure(rounds).await;
        consumers::measure_rest().await;
    }
    if is_asked("coordinator") {
        commits::measure_fail_over(rounds).await;
    }
    if is_asked("commits") {
        commits::measure_rate().await;
    }
    if is_asked("load") {
        load::measure().await;
    }
}

/// Median and most, in milliseconds.
fn summary(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    match (times.get(times.len() / 2), times.last()) {
        (Some(median), Some(max)) => format!(
            "median {}, most {} ms of {}",
            median.as_millis(),
            max.as_millis(),
            times.len()
        ),
        _ => "-".into(),
    }
}
