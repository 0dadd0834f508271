//! Followers that come back from anywhere: without their logs, and behind what is deleted.

use klamm::client::Client;
use klamm::model::{BrokerId, Offset};
use klamm::protocol::list_offsets::LATEST_TIMESTAMP;

use crate::history::{check, Copies, Outcome};
use crate::nodes::Cluster;
use crate::writers::Writers;
use crate::RECORDS_BETWEEN;

/// Some other node.
fn not(node: BrokerId) -> BrokerId {
    BrokerId(node.0 % 3 + 1)
}

/// Has `node` lead: all others end for a moment, one after the other.
async fn have_lead(cluster: &mut Cluster, client: &Client, node: BrokerId) {
    while cluster.leader(client, "orders").await != node {
        let leader = cluster.leader(client, "orders").await;
        cluster.node(leader).terminate();
        cluster.node(leader).restart();
        cluster.node(leader).wait();
        cluster.await_in_sync("orders").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_has_lost_its_partitions_is_filled_again_and_nothing_else_is_lost() {
    let mut cluster = Cluster::start();
    let client = cluster.client().await;
    cluster.create(&client, "orders").await;
    let writers = Writers::start(&cluster, "orders", 2).await;
    writers.await_more(RECORDS_BETWEEN).await;
    let leader = cluster.leader(&client, "orders").await;
    // The leader, which has everything, and then a follower, which is stopped in good order.
    for (round, victim) in [leader, not(leader)].into_iter().enumerate() {
        match round {
            0 => cluster.node(victim).kill(),
            _ => cluster.node(victim).terminate(),
        }
        writers.await_more(RECORDS_BETWEEN).await;
        let dirs = cluster.node(victim).partition_dirs(0);
        assert_eq!(dirs.len(), 1, "{dirs:?}");
        std::fs::remove_dir_all(&dirs[0]).unwrap();
        cluster.node(victim).restart();
        cluster.node(victim).wait();
        cluster.await_in_sync("orders").await;
        // It counts again: the others are enough only together with it.
        let other = not(victim);
        cluster.node(other).kill();
        writers.await_more(RECORDS_BETWEEN).await;
        cluster.node(other).restart();
        cluster.node(other).wait();
        cluster.await_in_sync("orders").await;
    }
    let sent = writers.stop().await;
    let read = cluster.read_all(&client, "orders").await;
    check(&sent, &read, Copies::One).unwrap();
    cluster.replicas_are_equal();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_was_away_while_all_that_it_has_was_deleted_begins_anew_and_can_lead() {
    let mut cluster = Cluster::start();
    let client = cluster.client().await;
    let admin = client.admin();
    cluster.create(&client, "orders").await;
    let writers = Writers::start(&cluster, "orders", 2).await;
    writers.await_more(RECORDS_BETWEEN).await;
    let victim = not(cluster.leader(&client, "orders").await);
    cluster.node(victim).kill();
    writers.await_more(RECORDS_BETWEEN).await;
    let end = admin
        .list_offset("orders", 0, LATEST_TIMESTAMP)
        .await
        .unwrap();
    let start = end + -20;
    assert_eq!(
        admin.delete_records("orders", 0, start).await.unwrap(),
        start
    );
    cluster.node(victim).restart();
    cluster.node(victim).wait();
    cluster.await_in_sync("orders").await;
    writers.await_more(RECORDS_BETWEEN).await;
    let sent = writers.stop().await;
    have_lead(&mut cluster, &client, victim).await;
    let from = |records: &[(i64, Vec<u8>)]| records.first().map(|(offset, _)| Offset(*offset));
    let read = cluster.read_all(&client, "orders").await;
    assert_eq!(from(&read), Some(start), "what was deleted is there again");
    let is_deleted = |outcome| matches!(outcome, Outcome::Acknowledged(at) if at < start.0);
    let sent: Vec<_> = sent
        .into_iter()
        .filter(|sent| !is_deleted(sent.outcome))
        .collect();
    check(&sent, &read, Copies::One).unwrap();
    let (short, whole) = (cluster.log(victim), cluster.log(not(victim)));
    assert!(short.len() < whole.len(), "nothing was deleted");
    assert!(whole.ends_with(&short), "the replicas differ");
}
