//! Readers while nodes are in the way.

use std::time::{Duration, Instant};

use klamm::client::{Consumer, ConsumerConfig, StartAt};

use crate::nodes::Cluster;
use crate::writers::Writers;
use crate::RECORDS_BETWEEN;

const WAIT_MAX: Duration = Duration::from_secs(60);
/// Less than the time-out of a request, which is 30 s.
const HANGS_MAX: Duration = Duration::from_secs(15);

/// Reads on until so many more are there.
async fn read_more(consumer: &mut Consumer, records: usize) {
    let begun = Instant::now();
    let mut read = 0;
    while read < records {
        assert!(begun.elapsed() < WAIT_MAX, "{read} of {records} are read");
        let batches = consumer.poll(WAIT_MAX).await.unwrap();
        read += batches
            .iter()
            .map(|batch| batch.records().count())
            .sum::<usize>();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_goes_on_while_the_leader_hangs_with_its_connection_open() {
    let mut cluster = Cluster::start();
    let client = cluster.client().await;
    cluster.create(&client, "orders").await;
    let writers = Writers::start(&cluster, "orders", 2).await;
    let mut consumer = client.consumer(ConsumerConfig::default());
    consumer
        .assign("orders", 0, StartAt::Beginning)
        .await
        .unwrap();
    read_more(&mut consumer, RECORDS_BETWEEN).await;
    let leader = cluster.leader(&client, "orders").await;
    let stopped = Instant::now();
    cluster.node(leader).signal("STOP");
    writers.await_more(RECORDS_BETWEEN).await;
    // More than what was on its way.
    let there = writers.acknowledged();
    while consumer.position("orders", 0).unwrap().0 < there as i64 {
        read_more(&mut consumer, 1).await;
    }
    let gap = stopped.elapsed();
    println!("{leader} hangs, and all that is written is read after {gap:?}");
    assert!(gap < HANGS_MAX, "it took {gap:?}");
    cluster.node(leader).signal("CONT");
    cluster.await_in_sync("orders").await;
    writers.stop().await;
}
