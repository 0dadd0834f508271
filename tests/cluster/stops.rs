//! All nodes end at once: what one has led moves to another one that is just ending too.

use klamm::client::{Client, Election};

use crate::nodes::{Cluster, NODES};
use crate::writers::Writers;
use crate::RECORDS_BETWEEN;

/// Many, so that some of them are between two roles whenever a node closes its logs.
const PARTITIONS: i32 = 60;
const ROUNDS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_stop_at_once_under_load_and_each_has_closed_all_its_logs() {
    let mut cluster = Cluster::start();
    let client = cluster.client().await;
    cluster.create_with(&client, "many", PARTITIONS).await;
    let writers = Writers::start(&cluster, "many", 3).await;
    for round in 0..ROUNDS {
        cluster.await_in_sync("many").await;
        lead_evenly(&client).await;
        writers.await_more(RECORDS_BETWEEN).await;
        cluster.stop();
        for id in NODES {
            let is_clean = cluster.node(id).has_clean_mark();
            assert!(is_clean, "round {round}: node {id} has no clean mark");
        }
        cluster.restart(&NODES);
    }
    writers.await_more(RECORDS_BETWEEN).await;
    writers.stop().await;
}

/// Has every node lead what it leads first: there is something to hand over.
async fn lead_evenly(client: &Client) {
    let admin = client.admin();
    let elected = admin.elect_leaders(Election::Preferred, None).await;
    elected.unwrap();
}
