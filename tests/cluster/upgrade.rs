//! Rolling upgrades: the nodes of a cluster are restarted one after the other as nodes of a later build, while clients of
//! both protocols write.
//!
//! A test has but one build. So in builds for chaos tests a node can be told to know less than its build does, and
//! then it stops at whatever it would not have known. A real earlier build takes part where one is named:
//!
//! ```sh
//! KLAMM_EARLIER_BINARY=/path/of/klamm cargo test --test cluster earlier_build -- --ignored --nocapture
//! ```

use std::time::{Duration, Instant};

use klamm::client::{Client, ClientError, Resource};
use klamm::model::BrokerId;
#[cfg(feature = "chaos")]
use klamm::model::ErrorCode;
use klamm::protocol::incremental_alter_configs::AlterConfigOp;

use crate::broker_process::BINARY;
use crate::history::{check, Copies, Outcome};
use crate::nodes::{Cluster, NODES, WAIT_MAX};
use crate::writers_of_both::{Writers, ONE_REQUEST, PARTITIONS, TOPIC};

/// How many records of each writer are acknowledged from one event to the next.
const RECORDS_BETWEEN: usize = 50;

type Settings<'a> = &'a [(&'a str, &'a str)];

/// A change that needs metadata version 5. It is asked for again while nobody leads, or nobody knows what has become
/// of it, as on a busy machine.
async fn change_brokers_config(client: &Client) -> Result<(), ClientError> {
    let rate = ("leader.replication.throttled.rate", "1000000000");
    let change = (rate.0.into(), AlterConfigOp::Set, Some(rate.1.into()));
    let broker = Resource::Broker(BrokerId(1));
    let begun = Instant::now();
    loop {
        let change = std::slice::from_ref(&change);
        match client.admin().alter_configs(&broker, change).await {
            Err(error) if error.is_retriable() && begun.elapsed() < WAIT_MAX => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            changed => return changed,
        }
    }
}

/// A cluster whose nodes all are of the earlier build, and writers.
async fn begin(earlier: Settings<'_>) -> (Cluster, Writers) {
    let cluster = Cluster::start_over(NODES.len(), |_, _, address| address.into(), earlier);
    let client = cluster.client().await;
    cluster.create_with(&client, TOPIC, PARTITIONS).await;
    let writers = Writers::start(&cluster, &[ONE_REQUEST]).await;
    (cluster, writers)
}

/// Restarts a node with other settings.
async fn renew(cluster: &mut Cluster, id: BrokerId, settings: Settings<'_>) {
    cluster.node(id).terminate();
    cluster.node(id).configure(settings);
    cluster.restart(&[id]);
    cluster.await_in_sync(TOPIC).await;
}

/// No write has failed, and nothing is lost.
async fn end(cluster: &mut Cluster, writers: Writers) {
    writers.await_all(RECORDS_BETWEEN).await;
    cluster.all_run();
    let client = cluster.client().await;
    for (partition, sent) in (0..PARTITIONS).zip(writers.stop().await) {
        let failed = sent.iter().filter(|sent| sent.outcome == Outcome::Unknown);
        assert_eq!(failed.count(), 0, "writes have failed");
        let read = cluster.read_partition(&client, TOPIC, partition).await;
        check(&sent, &read, Copies::One).unwrap();
        println!(
            "partition {partition}: {} writes, and none failed",
            sent.len()
        );
    }
}

#[cfg(feature = "chaos")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_upgraded_one_at_a_time_and_none_of_the_others_is_harmed() {
    let knows = |metadata, link| {
        [
            ("KLAMM_METADATA_VERSION_MAX", metadata),
            ("KLAMM_LINK_VERSION_MAX", link),
        ]
    };
    let (earlier, later) = (knows("4", "1"), knows("5", "2"));
    let (mut cluster, writers) = begin(&earlier).await;
    let client = cluster.client().await;
    for id in NODES {
        writers.await_all(RECORDS_BETWEEN).await;
        let refused = change_brokers_config(&client).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::UnsupportedVersion));
        let refused = refused.to_string();
        for node in NODES {
            let named = format!("broker {node} knows none above 4");
            assert_eq!(refused.contains(&named), node >= id, "{refused}");
        }
        let begun = Instant::now();
        renew(&mut cluster, id, &later).await;
        let gaps = (0..2 * PARTITIONS as usize)
            .map(|writer| writers.longest_gap_since(writer, begun).as_millis());
        println!("node {id} is renewed; longest gap: {:?} ms", gaps.max());
        cluster.all_run();
    }
    change_brokers_config(&client).await.unwrap();
    writers.await_all(RECORDS_BETWEEN).await;

    // Nobody goes back now: it says why and ends, and comes back as it was.
    let back = NODES[2];
    cluster.node(back).terminate();
    cluster.node(back).configure(&earlier);
    let log = cluster.node(back).restart_logging();
    cluster.node(back).await_end();
    let said = std::fs::read_to_string(log).unwrap();
    let reason = "the cluster speaks metadata version 5, and this node knows none above 4";
    assert!(said.contains(reason), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    cluster.node(back).configure(&later);
    cluster.restart(&[back]);
    cluster.await_in_sync(TOPIC).await;
    end(&mut cluster, writers).await;
}

#[ignore = "it takes a binary of an earlier build: KLAMM_EARLIER_BINARY"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_an_earlier_build_is_upgraded_one_node_at_a_time() {
    let earlier = std::env::var("KLAMM_EARLIER_BINARY").expect("it names the binary");
    let (mut cluster, writers) = begin(&[(BINARY, &earlier)]).await;
    let client = cluster.client().await;
    // The last one is the controller that the others register with: it keeps only what it knows of.
    let last = cluster.controller(&client).await;
    let first = NODES.into_iter().filter(|id| *id != last);
    for id in first.chain([last]) {
        writers.await_all(RECORDS_BETWEEN).await;
        // An earlier build says in its own way that it doesn't know this.
        if let Err(refused) = change_brokers_config(&client).await {
            println!("before node {id}: {refused}");
        }
        renew(&mut cluster, id, &[(BINARY, env!("CARGO_BIN_EXE_klamm"))]).await;
        cluster.all_run();
    }
    change_brokers_config(&client).await.unwrap();
    end(&mut cluster, writers).await;
}
