//! Logs that go bad on disk: they are put aside, and filled again by those who have all of it.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use klamm::client::{Client, ConsumerConfig, ProducerConfig, ProducerRecord, StartAt};
use klamm::model::{BrokerId, Offset};

use crate::nodes::{rack, Cluster};
use crate::writers::Writers;
use crate::RECORDS_BETWEEN;

const WAIT_MAX: Duration = Duration::from_secs(60);
/// The least that a topic may have.
const SEGMENT_BYTES: usize = 1 << 20;
const RECORD_BYTES: usize = 100_000;
const RECORDS: usize = 40;

/// A topic of several segments, with all replicas in sync.
async fn filled(cluster: &Cluster, client: &Client) {
    cluster
        .create_in_segments(client, "orders", SEGMENT_BYTES)
        .await;
    let producer = client.producer(ProducerConfig::default());
    for n in 0..RECORDS {
        let value = vec![n as u8; RECORD_BYTES];
        let record = ProducerRecord::to("orders").value(&value);
        producer.send(record).await.unwrap().await.unwrap();
    }
    cluster.await_in_sync("orders").await;
}

/// The oldest segment of the only partition.
fn first_segment(dir: &Path) -> PathBuf {
    let names = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let segments = names.filter(|path| path.extension().is_some_and(|ext| ext == "log"));
    segments.min().unwrap()
}

/// Changes one byte in the middle of a record.
fn flip_a_byte(segment: &Path) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(segment)
        .unwrap();
    let (mut byte, at) = ([0], 3 * RECORD_BYTES as u64 + 500);
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[!byte[0]], at).unwrap();
}

/// Reads everything as somebody who runs there, in one go.
async fn read_all(client: &Client, near: Option<BrokerId>) -> Vec<Vec<u8>> {
    let config = ConsumerConfig {
        client_rack: near.map(rack),
        ..ConsumerConfig::default()
    };
    let mut consumer = client.consumer(config);
    consumer
        .assign("orders", 0, StartAt::Beginning)
        .await
        .unwrap();
    let mut read = Vec::new();
    while consumer.position("orders", 0) < Some(Offset(RECORDS as i64)) {
        for batch in &consumer.poll(WAIT_MAX).await.unwrap() {
            read.extend(batch.records().map(|record| record.value.unwrap().to_vec()));
        }
    }
    read
}

fn assert_whole(read: &[Vec<u8>]) {
    for (n, value) in read.iter().take(RECORDS).enumerate() {
        assert!(
            *value == vec![n as u8; RECORD_BYTES],
            "record {n} has changed"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_sealed_segment_is_bad_at_its_start_is_filled_again() {
    let mut cluster = Cluster::start();
    let client = cluster.client().await;
    filled(&cluster, &client).await;
    let leader = cluster.leader(&client, "orders").await;
    let victim = BrokerId(leader.0 % 3 + 1);
    let dir = cluster.node(victim).partition_dirs(0).remove(0);
    cluster.node(victim).terminate();
    // Its last batch doesn't lead to the next segment any more.
    let segment = OpenOptions::new()
        .write(true)
        .open(first_segment(&dir))
        .unwrap();
    segment
        .set_len(segment.metadata().unwrap().len() - 10)
        .unwrap();
    let writers = Writers::start(&cluster, "orders", 1).await;
    writers.await_more(RECORDS_BETWEEN).await;
    cluster.node(victim).restart();
    cluster.node(victim).wait();
    cluster.await_put_aside(victim).await;
    cluster.await_in_sync("orders").await;
    writers.await_more(RECORDS_BETWEEN).await;
    writers.stop().await;
    // It serves what it was filled with.
    assert_whole(&read_all(&client, Some(victim)).await);
    cluster.await_in_sync("orders").await;
    cluster.replicas_are_equal();
    assert_eq!(cluster.put_aside(victim), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_byte_that_is_read_is_never_served_and_its_log_is_filled_again_wherever_it_is() {
    let mut cluster = Cluster::start();
    let client = cluster.client().await;
    filled(&cluster, &client).await;
    let leader = cluster.leader(&client, "orders").await;
    let follower = BrokerId(leader.0 % 3 + 1);
    // A follower that has restarted since, and then the leader.
    let dir = cluster.node(follower).partition_dirs(0).remove(0);
    cluster.node(follower).terminate();
    flip_a_byte(&first_segment(&dir));
    cluster.node(follower).restart();
    cluster.node(follower).wait();
    cluster.await_in_sync("orders").await;
    assert_eq!(cluster.put_aside(follower), 0);
    assert_whole(&read_all(&client, Some(follower)).await);
    cluster.await_put_aside(follower).await;
    cluster.await_in_sync("orders").await;

    let dir = cluster.node(leader).partition_dirs(0).remove(0);
    flip_a_byte(&first_segment(&dir));
    assert_whole(&read_all(&client, None).await);
    cluster.await_put_aside(leader).await;
    cluster.await_in_sync("orders").await;
    assert_whole(&read_all(&client, None).await);
    cluster.replicas_are_equal();
    for node in [1, 2, 3].map(BrokerId) {
        let expected = usize::from(node == leader || node == follower);
        assert_eq!(cluster.put_aside(node), expected, "{node}");
    }
}
