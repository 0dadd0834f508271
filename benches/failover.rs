//! How long writers wait when a node goes: `cargo bench --bench failover -- [ROUNDS [HIT…]]`, of the hits
//! `leader`, `controller`, `hang` and `restart`.
//!
//! Three nodes of this build, and for each of three partitions (three replicas, acks=all, synced) one
//! writer of Klamm's client library and one of librdkafka, at their defaults but for short back-offs before
//! retries. In each round one node is hit; of the writers to the partitions that it led, the longest time
//! between two acknowledgements from then on counts. Then the node comes back, and the next round begins when
//! all replicas are in sync again.

#[path = "../tests/broker_process/mod.rs"]
mod broker_process;
#[path = "../tests/broker/history.rs"]
#[allow(dead_code)]
mod history;
#[path = "../tests/cluster/nodes.rs"]
mod nodes;
#[path = "../tests/chaos/writers.rs"]
#[allow(dead_code)]
mod writers;

use std::time::{Duration, Instant};

use klamm::client::Client;
use klamm::model::BrokerId;
use tokio::time::sleep;

use history::Outcome;
use nodes::{Cluster, NODES};
use writers::{Writers, PARTITIONS, TOPIC};

/// Rounds of each kind unless told otherwise.
const ROUNDS: usize = 20;
/// How many records each writer gets acknowledged before and after a hit.
const RECORDS_BETWEEN: usize = 50;
/// How long a node hangs: longer than its session.
const HANGS: Duration = Duration::from_secs(3);
/// How long it may take until a node that is to be hit leads something.
const LEADER_MAX: Duration = Duration::from_secs(60);

/// What is done to a node.
#[derive(Clone, Copy, Debug)]
enum Hit {
    KillLeader,
    KillController,
    Hang,
    Restart,
}

impl Hit {
    const ALL: [Hit; 4] = [
        Hit::KillLeader,
        Hit::KillController,
        Hit::Hang,
        Hit::Restart,
    ];

    /// Those that the command line names; all, if none.
    fn asked_for() -> Vec<Hit> {
        let args: Vec<String> = std::env::args().collect();
        let is_asked = |hit: &Hit| args.iter().any(|arg| arg == hit.argument());
        let asked: Vec<Hit> = Hit::ALL.into_iter().filter(is_asked).collect();
        match asked.is_empty() {
            true => Hit::ALL.into(),
            false => asked,
        }
    }

    fn argument(self) -> &'static str {
        match self {
            Hit::KillLeader => "leader",
            Hit::KillController => "controller",
            Hit::Hang => "hang",
            Hit::Restart => "restart",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Hit::KillLeader => "kill -9 of a leader that isn't the active controller",
            Hit::KillController => "kill -9 of the active controller, which leads too",
            Hit::Hang => "SIGSTOP of a leader for 3 s",
            Hit::Restart => "restart of a leader in good order",
        }
    }
}

/// Gaps of Klamm's writers, and of librdkafka's.
type Gaps = [Vec<Duration>; 2];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let rounds = std::env::args().skip(1).find_map(|arg| arg.parse().ok());
    let rounds: usize = rounds.unwrap_or(ROUNDS);
    // A node that is hit says so.
    let quiet = [("RUST_LOG", "error")];
    let mut cluster = Cluster::start_over(NODES.len(), |_, _, address| address.into(), &quiet);
    let client = cluster.client().await;
    cluster.create_with(&client, TOPIC, PARTITIONS).await;
    let writers = Writers::start(&cluster, &[]).await;
    println!("| {rounds} rounds of each; ms: median, max | Klamm's client | librdkafka |");
    println!("|---|---|---|");
    for hit in Hit::asked_for() {
        let mut gaps = Gaps::default();
        for round in 0..rounds {
            writers.await_all(RECORDS_BETWEEN).await;
            strike(hit, round, &mut cluster, &client, &writers, &mut gaps).await;
        }
        let [klamm, librdkafka] = gaps.map(summary);
        println!("| {} | {klamm} | {librdkafka} |", hit.name());
    }
    let sent = writers.stop().await.concat();
    let failed = sent.iter().filter(|sent| sent.outcome == Outcome::Unknown);
    println!("{} records written, {} failed", sent.len(), failed.count());
}

async fn strike(
    hit: Hit,
    round: usize,
    cluster: &mut Cluster,
    client: &Client,
    writers: &Writers,
    gaps: &mut Gaps,
) {
    let (victim, led) = victim(hit, round, cluster, client).await;
    let begun = Instant::now();
    match hit {
        Hit::KillLeader | Hit::KillController => cluster.node(victim).kill(),
        Hit::Hang => {
            cluster.node(victim).signal("STOP");
            sleep(HANGS).await;
            cluster.node(victim).signal("CONT");
        }
        Hit::Restart => cluster.node(victim).terminate(),
    }
    writers.await_all(RECORDS_BETWEEN).await;
    if !matches!(hit, Hit::Hang) {
        cluster.node(victim).restart();
        cluster.node(victim).wait();
    }
    cluster.await_in_sync(TOPIC).await;
    for partition in led {
        for (library, gaps) in gaps.iter_mut().enumerate() {
            gaps.push(writers.longest_gap_since(2 * partition + library, begun));
        }
    }
}

/// A node that the hit can be for, and the partitions that it leads.
async fn victim(
    hit: Hit,
    round: usize,
    cluster: &Cluster,
    client: &Client,
) -> (BrokerId, Vec<usize>) {
    let begun = Instant::now();
    loop {
        let controller = cluster.controller(client).await;
        let is_meant = |id: &BrokerId| match hit {
            Hit::KillController => *id == controller,
            Hit::KillLeader | Hit::Hang => *id != controller,
            Hit::Restart => true,
        };
        let mut led = [const { Vec::new() }; NODES.len()];
        for partition in 0..PARTITIONS {
            if let Some(leader) = cluster.leader_of(client, TOPIC, partition).await {
                led[leader.0 as usize - 1].push(partition as usize);
            }
        }
        // Another one each round, where there are several.
        let mut nodes = NODES.into_iter().cycle().skip(round).take(NODES.len());
        let found = nodes.find(|id| is_meant(id) && !led[id.0 as usize - 1].is_empty());
        if let Some(id) = found {
            return (id, std::mem::take(&mut led[id.0 as usize - 1]));
        }
        assert!(begun.elapsed() < LEADER_MAX, "nobody can be hit: {led:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

fn summary(mut gaps: Vec<Duration>) -> String {
    gaps.sort_unstable();
    match (gaps.get(gaps.len() / 2), gaps.last()) {
        (Some(median), Some(max)) => format!("{}, {}", median.as_millis(), max.as_millis()),
        _ => "-".into(),
    }
}
