//! More nodes than voters: a fourth one has replicas and clients like any other, and follows the metadata.

use std::process::Command;
use std::time::{Duration, Instant};

use klamm::model::{BrokerId, ErrorCode};

use crate::history::{check, Copies};
use crate::nodes::Cluster;
use crate::placement::reassign;
use crate::writers::Writers;
use crate::RECORDS_BETWEEN;

const FOURTH: BrokerId = BrokerId(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fourth_node_gets_replicas_is_killed_and_comes_back_and_nothing_is_lost() {
    let mut cluster = Cluster::start_nodes(4);
    let client = cluster.client().await;
    cluster.create_on(&client, "orders", &[4, 1, 2]).await;
    let writers = Writers::start(&cluster, "orders", 3).await;
    writers.await_more(RECORDS_BETWEEN).await;
    assert_eq!(cluster.leader(&client, "orders").await, FOURTH);
    let killed = Instant::now();
    cluster.node(FOURTH).kill();
    writers.await_more(RECORDS_BETWEEN).await;
    let gap = writers.longest_gap_since(killed);
    println!("the longest gap after the fourth node was killed: {gap:?}");
    cluster.node(FOURTH).restart();
    cluster.node(FOURTH).wait();
    cluster.await_placed("orders", &[4, 1, 2]).await;
    // It leads again, and gives that away when it ends in good order.
    cluster.await_leader("orders", FOURTH).await;
    cluster.node(FOURTH).terminate();
    writers.await_more(RECORDS_BETWEEN).await;
    cluster.node(FOURTH).restart();
    cluster.node(FOURTH).wait();
    cluster.await_placed("orders", &[4, 1, 2]).await;
    // Away from it, and back.
    let none = ErrorCode::None;
    assert_eq!(reassign(&client, "orders", Some(&[1, 2, 3])).await, none);
    cluster.await_placed("orders", &[1, 2, 3]).await;
    cluster.await_gone(FOURTH).await;
    assert_eq!(reassign(&client, "orders", Some(&[3, 4, 1])).await, none);
    cluster.await_placed("orders", &[3, 4, 1]).await;
    writers.await_more(RECORDS_BETWEEN).await;
    // One that has lost its disk is no stranger, since it has no vote to have forgotten.
    cluster.node(FOURTH).kill();
    cluster.node(FOURTH).wipe();
    cluster.node(FOURTH).restart();
    cluster.node(FOURTH).wait();
    cluster.await_placed("orders", &[3, 4, 1]).await;
    writers.await_more(RECORDS_BETWEEN).await;
    let sent = writers.stop().await;
    let read = cluster.read_all(&client, "orders").await;
    check(&sent, &read, Copies::One).unwrap();
    let log = cluster.log(FOURTH);
    assert!(log == cluster.log(BrokerId(3)), "the replicas differ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voters_end_and_the_fourth_node_follows_another_and_forwards_what_it_is_asked() {
    let mut cluster = Cluster::start_nodes(4);
    let all = cluster.client().await;
    cluster.create_on(&all, "orders", &[4, 1, 2]).await;
    // From now on a client that knows the fourth one only.
    let client = cluster.client_of(FOURTH).await;
    let writers = Writers::start(&cluster, "orders", 2).await;
    for id in 1..=3 {
        let leader = cluster.quorum_at(FOURTH).await.leader_id;
        writers.await_more(RECORDS_BETWEEN).await;
        let killed = Instant::now();
        cluster.node(leader).kill();
        writers.await_more(RECORDS_BETWEEN).await;
        let gap = writers.longest_gap_since(killed);
        println!(
            "voter {leader}, which led, was killed, and the longest gap after that is {gap:?}"
        );
        cluster.create_at(&client, &format!("new-{id}"), &[4]).await;
        let quorum = cluster.quorum_at(FOURTH).await;
        assert_ne!(quorum.leader_id, leader);
        cluster.node(leader).restart();
        cluster.node(leader).wait();
        cluster.await_placed("orders", &[4, 1, 2]).await;
    }
    // The voter that leads knows how far it is, and everybody tells so.
    let begun = Instant::now();
    loop {
        let quorum = cluster.quorum_at(FOURTH).await;
        let ids: Vec<i32> = quorum.observers.iter().map(|o| o.replica_id.0).collect();
        let voters = quorum.current_voters.iter().map(|v| v.replica_id.0);
        assert_eq!(voters.collect::<Vec<_>>(), [1, 2, 3]);
        let is_there = quorum.observers.iter().any(|observer| {
            observer.log_end_offset == quorum.high_watermark
                && observer.last_caught_up_timestamp.0 > 0
        });
        if ids == [4] && is_there {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{quorum:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let status = Command::new(env!("CARGO_BIN_EXE_klamm"))
        .args(["cluster", "status", "--bootstrap"])
        .arg(cluster.bootstrap())
        .output();
    let status = String::from_utf8(status.unwrap().stdout).unwrap();
    let observer = status.lines().find(|line| line.contains("observer"));
    let observer = observer.unwrap_or_else(|| panic!("{status}"));
    assert!(observer.trim_start().starts_with("4  observer"), "{status}");
    let sent = writers.stop().await;
    let read = cluster.read_all(&all, "orders").await;
    check(&sent, &read, Copies::One).unwrap();
}
