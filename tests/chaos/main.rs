//! Chaos: three real nodes under load from clients of both protocols, and whatever can befall nodes and
//! the network between them, one fault after the other, as a seed says.
//!
//! | File | What is there |
//! |---|---|
//! | `cluster` | three nodes, and a proxy on each way from one to another |
//! | `fault` | what can befall them, drawn from a seed, and how it is done |
//! | `power` | a power loss: what was never synced is taken away |
//! | `writers` | clients that write whatever happens, and remember what they were told |
//! | `readers` | clients that read all the while, and remember what they saw |
//! | `../broker/history` | what must fit together, tested with planted violations |
//!
//! After each fault all must heal by itself: writes to every partition are acknowledged again. At the end
//! every acknowledged record is where it was acknowledged, once and in its writer's order; whoever read
//! while it happened saw the same; and all replicas have the same bytes.
//!
//! `KLAMM_CHAOS_SECONDS` says how long faults go on and `KLAMM_SEED` which; `just chaos MINUTES SEED` runs
//! it with all faults, in a build that can also break actors and knows what was synced. A seed repeats the
//! faults, not the moments: these are real processes.
#![cfg(feature = "cli")]

#[path = "../broker_process/mod.rs"]
mod broker_process;
#[allow(dead_code)]
mod cluster;
mod fault;
#[path = "../broker/history.rs"]
#[allow(dead_code)]
mod history;
#[cfg(feature = "chaos")]
mod power;
#[path = "../cluster/proxy.rs"]
#[allow(dead_code)]
mod proxy;
mod readers;
#[path = "../broker/seed.rs"]
mod seed;
#[allow(dead_code)]
mod writers;

use std::time::{Duration, Instant};

use cluster::{number, Cluster, Links, PARTITIONS, TOPIC};
use fault::Fault;
use history::{check, Copies};
use readers::Readers;
use seed::Seed;
use writers::Writers;

/// How many records each writer gets acknowledged from one fault to the next.
const RECORDS_BETWEEN: usize = 20;
/// How long faults go on unless the environment says otherwise.
const SECONDS: u64 = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_befalls_the_nodes_nothing_acknowledged_is_lost_and_all_heals() {
    let mut seed = Seed::from_environment();
    let mut cluster = Cluster::start(Links::Proxied);
    let client = cluster.client().await;
    cluster.create(&client).await;
    let writers = Writers::start(&cluster).await;
    let readers = Readers::start(&cluster).await;
    writers.await_all(RECORDS_BETWEEN).await;

    let begun = Instant::now();
    let length = Duration::from_secs(number("KLAMM_CHAOS_SECONDS", SECONDS));
    let mut healed = Vec::new();
    while begun.elapsed() < length {
        let fault = Fault::draw(&mut seed);
        println!("{:6.1} s: {fault}", begun.elapsed().as_secs_f64());
        fault.befall(&mut cluster, &client).await;
        let over = Instant::now();
        writers.await_all(RECORDS_BETWEEN).await;
        healed.push((over.elapsed(), fault));
        cluster.all_run();
    }

    let sent = writers.stop().await;
    cluster.await_in_sync().await;
    let seen = readers.stop().await;
    let (slowest, after) = healed.iter().max_by_key(|(time, _)| *time).unwrap();
    println!(
        "{} faults, {} records; {RECORDS_BETWEEN} more of each writer took at most {slowest:?} after: {after}",
        healed.len(),
        sent.iter().map(Vec::len).sum::<usize>(),
    );
    for partition in 0..PARTITIONS {
        let read = cluster.read_all(&client, partition).await;
        let name = format!("{TOPIC}-{partition}");
        if let Err(violation) = check(&sent[partition as usize], &read, Copies::One) {
            panic!("{name}: {violation}");
        }
        readers::check(&seen[partition as usize], &read).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    drop(client);
    cluster.stop();
    for partition in 0..PARTITIONS {
        cluster.replicas_are_equal(partition);
    }
}
