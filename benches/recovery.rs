//! How long three nodes take to be whole again: `cargo bench --bench recovery -- [refill] [partitions]`.
//!
//! `refill`: a node has lost its disk, and 1 GiB of records with it. It is readmitted and copies them while a
//! writer goes on at a fixed rate, whose latency is compared with that before.
//!
//! `partitions`: 3,000 partitions are created, and a node that leads a third of them is killed with -9. Counted
//! is until each of those partitions has acknowledged a record of its new leader.

#[path = "../tests/broker_process/mod.rs"]
mod broker_process;
mod live_writer;
#[path = "../tests/cluster/nodes.rs"]
mod nodes;

use std::time::{Duration, Instant};

use klamm::client::{Admin, Client, NewTopic, Producer, ProducerConfig, ProducerRecord};
use klamm::model::BrokerId;
use tokio::time::sleep;

use live_writer::{incompressible, LiveWriter};
use nodes::{said_copy, Cluster};

const NODES: usize = 3;
const REFILL_BYTES: usize = 1 << 30;
const RECORD_BYTES: usize = 1024;
/// So many partitions share what is refilled.
const REFILL_PARTITIONS: i32 = 3;
/// For how long its latency is measured before the node is lost, and after it is back.
const CALM: Duration = Duration::from_secs(10);
const PARTITIONS: i32 = 3_000;
/// How much worse than promised is still waited for.
const WAIT_MAX: Duration = Duration::from_secs(300);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let is_asked = |name: &str| {
        let names = ["refill", "partitions"];
        !args.iter().any(|arg| names.contains(&&arg[..])) || args.iter().any(|arg| arg == name)
    };
    if is_asked("refill") {
        refill().await;
    }
    if is_asked("partitions") {
        partitions().await;
    }
}

async fn refill() {
    let mut cluster = Cluster::start();
    let client = cluster.client().await;
    cluster.create(&client, "live").await;
    create(&client.admin(), "filled", REFILL_PARTITIONS).await;
    fill(&client).await;
    await_in_sync(&client.admin(), "filled").await;

    let calm = LiveWriter::start(&client, "live");
    sleep(CALM).await;
    calm.stop("before").await;
    let leader = cluster.leader(&client, "live").await;
    let victim = (1..).map(BrokerId).find(|id| *id != leader).unwrap();
    cluster.node(victim).kill();
    cluster.node(victim).wipe();
    let log = cluster.node(victim).restart_logging();
    let copy = said_copy(&log, victim).await;
    let busy = LiveWriter::start(&client, "live");
    let begun = Instant::now();
    readmit(&client.admin(), victim, &copy).await;
    await_in_sync(&client.admin(), "filled").await;
    await_in_sync(&client.admin(), "live").await;
    println!(
        "a wiped node is back in sync {:.1} s after it was readmitted, with {} MiB copied",
        begun.elapsed().as_secs_f64(),
        REFILL_BYTES >> 20
    );
    busy.stop("meanwhile").await;
}

/// The one that was wiped may have been the active controller, and there may be none yet.
async fn readmit(admin: &Admin, voter: BrokerId, copy: &str) {
    while let Err(error) = admin.readmit_voter(voter, copy).await {
        assert!(error.is_retriable(), "{error}");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn fill(client: &Client) {
    let producer = client.producer(ProducerConfig::default());
    let value = incompressible(RECORD_BYTES);
    let begun = Instant::now();
    for number in 0..REFILL_BYTES / RECORD_BYTES {
        let record = ProducerRecord::to("filled").value(&value);
        let sent = producer.send(record.partition(number as i32 % REFILL_PARTITIONS));
        // What became of all of them is asked below.
        drop(sent.await.unwrap());
    }
    producer.close().await;
    assert_eq!(producer.first_error(), None);
    println!("filled in {:.1} s", begun.elapsed().as_secs_f64());
}

async fn partitions() {
    let mut cluster = Cluster::start();
    let client = cluster.client().await;
    cluster.create(&client, "first").await;
    let admin = client.admin();
    let begun = Instant::now();
    create(&admin, "many", PARTITIONS).await;
    println!(
        "{PARTITIONS} partitions were created in {:.2} s",
        begun.elapsed().as_secs_f64()
    );
    await_in_sync(&admin, "many").await;
    println!(
        "and all replicas in sync after {:.2} s",
        begun.elapsed().as_secs_f64()
    );
    let controller = admin.describe_cluster().await.unwrap().controller_id;
    for victim in [2, 1].map(|step| BrokerId((controller.0 - 1 + step) % NODES as i32 + 1)) {
        fail_over(&mut cluster, &admin, victim).await;
    }
    let controller = admin.describe_cluster().await.unwrap().controller_id;
    fail_over(&mut cluster, &admin, controller).await;
}

/// Kills a node, and writes a record to each of the partitions that it led.
async fn fail_over(cluster: &mut Cluster, admin: &Admin, victim: BrokerId) {
    let topic = admin.describe_topic("many").await.unwrap();
    let led = topic.partitions.iter();
    let led = led.filter(|partition| partition.leader == Some(victim));
    let led: Vec<i32> = led.map(|partition| partition.index).collect();
    let controller = admin.describe_cluster().await.unwrap().controller_id;
    let what = if controller == victim {
        "the active controller"
    } else {
        "a node"
    };
    let producer = cluster.client().await.producer(ProducerConfig::default());
    // The connections are there, as those of a client that is at work.
    write_to(&producer, &led).await;
    let begun = Instant::now();
    cluster.node(victim).kill();
    write_to(&producer, &led).await;
    let took = begun.elapsed();
    println!(
        "{what} that led {} partitions was killed: all of them have acknowledged a record after {:.2} s",
        led.len(),
        took.as_secs_f64()
    );
    let begun = Instant::now();
    cluster.node(victim).restart();
    cluster.node(victim).wait();
    await_in_sync(admin, "many").await;
    println!(
        "it is back in sync {:.2} s after its start",
        begun.elapsed().as_secs_f64()
    );
    await_led(admin, victim, led.len()).await;
}

async fn write_to(producer: &Producer, partitions: &[i32]) {
    let mut deliveries = Vec::new();
    for partition in partitions {
        let record = ProducerRecord::to("many")
            .partition(*partition)
            .value(b"on");
        deliveries.push(producer.send(record).await.unwrap());
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
}

async fn create(admin: &Admin, name: &str, partitions: i32) {
    let topic = NewTopic {
        name: name.into(),
        partitions: Some(partitions),
        ..NewTopic::default()
    };
    admin.create_topic(&topic).await.unwrap();
}

/// Until every partition has a leader and all replicas in sync.
async fn await_in_sync(admin: &Admin, name: &str) {
    let begun = Instant::now();
    loop {
        let topic = admin.describe_topic(name).await.unwrap();
        let mut partitions = topic.partitions.iter();
        if partitions
            .all(|partition| partition.in_sync.len() == NODES && partition.leader.is_some())
        {
            return;
        }
        assert!(begun.elapsed() < WAIT_MAX, "{name} isn't in sync again");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Until a node leads as much again as it did.
async fn await_led(admin: &Admin, node: BrokerId, count: usize) {
    let begun = Instant::now();
    loop {
        let topic = admin.describe_topic("many").await.unwrap();
        let led = topic.partitions.iter();
        if led
            .filter(|partition| partition.leader == Some(node))
            .count()
            >= count
        {
            return;
        }
        assert!(begun.elapsed() < WAIT_MAX, "{node} doesn't lead again");
        sleep(Duration::from_millis(100)).await;
    }
}
