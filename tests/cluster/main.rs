//! Three nodes as one broker: real processes, which are killed while clients write.
//!
//! `KLAMM_ROUNDS` says how many nodes are killed in a row, and `KLAMM_SEED` repeats which.
#![cfg(feature = "cli")]

#[path = "../broker_process/mod.rs"]
mod broker_process;
mod comes_back;
mod command_line;
mod groups;
#[path = "../broker/history.rs"]
#[allow(dead_code)]
mod history;
mod nearest;
mod nodes;
mod observers;
mod placement;
mod quarantine;
mod readers;
mod stops;
mod throttles;
mod upgrade;
mod writers;
#[path = "../chaos/writers.rs"]
#[allow(dead_code)]
mod writers_of_both;

use std::time::{Duration, Instant};

use klamm::model::BrokerId;

use history::{check, Copies};
use nodes::{number, said_copy, Cluster};
use writers::Writers;

/// How many records are acknowledged from one event to the next.
const RECORDS_BETWEEN: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_survives_the_kill_of_any_node_and_writers_go_on() {
    let mut cluster = Cluster::start();
    let client = cluster.client().await;
    cluster.create(&client, "orders").await;
    let writers = Writers::start(&cluster, "orders", 3).await;
    let mut gaps = Vec::new();
    let seed = number("KLAMM_SEED", 1);
    for round in 0..number("KLAMM_ROUNDS", 3) {
        writers.await_more(RECORDS_BETWEEN).await;
        // The leader first: that is the one that matters.
        let victim = match round {
            0 => cluster.leader(&client, "orders").await,
            _ => BrokerId(1 + ((seed * 7 + round * 5) % 3) as i32),
        };
        let killed = Instant::now();
        cluster.node(victim).kill();
        writers.await_more(RECORDS_BETWEEN).await;
        gaps.push((victim.0, writers.longest_gap_since(killed)));
        cluster.node(victim).restart();
        cluster.node(victim).wait();
        cluster.await_in_sync("orders").await;
    }
    println!("killed, and the longest gap between two acknowledgements after it: {gaps:?}");
    let sent = writers.stop().await;
    let read = cluster.read_all(&client, "orders").await;
    check(&sent, &read, Copies::One).unwrap();
    cluster.replicas_are_equal();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_costs_no_write_and_all_nodes_may_stop_at_once() {
    let mut cluster = Cluster::start();
    let client = cluster.client().await;
    cluster.create(&client, "orders").await;
    let writers = Writers::start(&cluster, "orders", 2).await;
    let mut gaps = Vec::new();
    for id in [1, 2, 3] {
        writers.await_more(RECORDS_BETWEEN).await;
        let told = Instant::now();
        cluster.node(BrokerId(id)).terminate();
        writers.await_more(RECORDS_BETWEEN).await;
        gaps.push(writers.longest_gap_since(told));
        cluster.node(BrokerId(id)).restart();
        cluster.node(BrokerId(id)).wait();
        cluster.await_in_sync("orders").await;
    }
    println!("the longest gap between two acknowledgements in each restart: {gaps:?}");
    let sent = writers.stop().await;
    for id in 1..=3 {
        cluster.node(BrokerId(id)).kill();
    }
    for id in 1..=3 {
        cluster.node(BrokerId(id)).restart();
    }
    for id in 1..=3 {
        cluster.node(BrokerId(id)).wait();
    }
    let client = cluster.client().await;
    cluster.await_in_sync("orders").await;
    let read = cluster.read_all(&client, "orders").await;
    check(&sent, &read, Copies::One).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_go_on_while_the_leader_hangs_with_their_connections_open() {
    let mut cluster = Cluster::start();
    let client = cluster.client().await;
    cluster.create(&client, "orders").await;
    let writers = Writers::start(&cluster, "orders", 2).await;
    for _ in 0..2 {
        writers.await_more(RECORDS_BETWEEN).await;
        let leader = cluster.leader(&client, "orders").await;
        let stopped = Instant::now();
        cluster.node(leader).signal("STOP");
        writers.await_more(RECORDS_BETWEEN).await;
        let gap = writers.longest_gap_since(stopped);
        println!("{leader} hangs, and the longest gap after that is {gap:?}");
        cluster.node(leader).signal("CONT");
        cluster.await_in_sync("orders").await;
    }
    let sent = writers.stop().await;
    let read = cluster.read_all(&client, "orders").await;
    check(&sent, &read, Copies::One).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_acknowledged_and_reads_go_on() {
    let mut cluster = Cluster::start();
    let client = cluster.client().await;
    cluster.create(&client, "orders").await;
    let writers = Writers::start(&cluster, "orders", 1).await;
    writers.await_more(RECORDS_BETWEEN).await;
    let leader = cluster.leader(&client, "orders").await;
    let others = (1..=3).map(BrokerId).filter(|id| *id != leader);
    let others: Vec<BrokerId> = others.collect();
    for id in &others {
        cluster.node(*id).kill();
    }
    // What was on its way may still have been acknowledged.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = writers.acknowledged();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(
        writers.acknowledged(),
        before,
        "one node alone has acknowledged"
    );
    assert!(cluster.read_some(leader, "orders").await > 0);
    for id in &others {
        cluster.node(*id).restart();
    }
    for id in &others {
        cluster.node(*id).wait();
    }
    writers.await_more(RECORDS_BETWEEN).await;
    let sent = writers.stop().await;
    let read = cluster.read_all(&client, "orders").await;
    check(&sent, &read, Copies::One).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_has_lost_its_disk_comes_back_when_it_is_readmitted() {
    let mut cluster = Cluster::start();
    let client = cluster.client().await;
    cluster.create(&client, "orders").await;
    let writers = Writers::start(&cluster, "orders", 2).await;
    writers.await_more(RECORDS_BETWEEN).await;
    let victim = cluster.leader(&client, "orders").await;
    cluster.node(victim).kill();
    cluster.node(victim).wipe();
    let log = cluster.node(victim).restart_logging();
    let copy = said_copy(&log, victim).await;
    writers.await_more(RECORDS_BETWEEN).await;
    client.admin().readmit_voter(victim, &copy).await.unwrap();
    cluster.node(victim).wait();
    cluster.await_in_sync("orders").await;
    writers.await_more(RECORDS_BETWEEN).await;
    // It counts again: the others are enough only together with it.
    let other = (1..=3).map(BrokerId).find(|id| *id != victim).unwrap();
    cluster.node(other).kill();
    writers.await_more(RECORDS_BETWEEN).await;
    cluster.node(other).restart();
    cluster.node(other).wait();
    cluster.await_in_sync("orders").await;
    let sent = writers.stop().await;
    let read = cluster.read_all(&client, "orders").await;
    check(&sent, &read, Copies::One).unwrap();
    cluster.replicas_are_equal();
}
