//! Chaos: three real nodes under load from clients of both protocols and from consumer groups, and whatever can
//! befall nodes, their disks, the network between them and the members of the groups, one fault after the
//! other, as a seed says.
//!
//! | File | What is there |
//! |---|---|
//! | `../cluster/nodes` | three nodes |
//! | `network` | a proxy on each way from one to another |
//! | `fault` | what can befall them, drawn from a seed, and how it is done |
//! | `power` | a power loss: what was never synced is taken away |
//! | `writers` | clients that write whatever happens, and remember what they were told |
//! | `readers` | clients that read all the while, and remember what they saw |
//! | `../broker/history` | what must fit together of these, tested with planted violations |
//! | `groups` | consumer groups, and who looks at what they have committed |
//! | `member` | a member of one, of librdkafka or of Klamm's client, in a process of its own |
//! | `mishap` | what can befall a member |
//! | `diary` | what a member notes |
//! | `group_history` | what must fit together of these, of either group protocol, tested with planted violations |
//!
//! After each fault all must heal by itself: writes to every partition are acknowledged again, and every group
//! commits all that was written. At the end every acknowledged record is where it was acknowledged, once and in
//! its writer's order; whoever read while it happened saw the same; every group was given all of it, and has
//! never gone back; and all replicas have the same bytes.
//!
//! `KLAMM_CHAOS_SECONDS` says how long faults go on and `KLAMM_SEED` which; `just chaos MINUTES SEED` runs
//! it with all faults, in a build that can also break actors, fill disks, and knows what was synced. A seed
//! repeats the faults, not the moments: these are real processes.
#![cfg(feature = "cli")]

#[path = "../broker_process/mod.rs"]
mod broker_process;
mod diary;
mod fault;
mod group_history;
mod groups;
#[path = "../broker/history.rs"]
#[allow(dead_code)]
mod history;
mod member;
mod mishap;
mod network;
#[path = "../cluster/nodes.rs"]
mod nodes;
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

use klamm::client::{Client, TopicMetadata};
use klamm::model::PartitionId;
use klamm::protocol::list_offsets::LATEST_TIMESTAMP;
use tokio::time::sleep;

use fault::{Fault, Scene};
use groups::Groups;
use history::{check, Copies};
use mishap::Mishap;
use network::Network;
use nodes::{number, Cluster, NODES, WAIT_MAX};
use readers::Readers;
use seed::Seed;
use writers::{Writers, ONE_REQUEST, PARTITIONS, TOPIC};

/// How many records each writer gets acknowledged from one fault to the next.
const RECORDS_BETWEEN: usize = 20;
/// How long faults go on unless the environment says otherwise.
const SECONDS: u64 = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_befalls_the_nodes_nothing_acknowledged_is_lost_and_all_heals() {
    let mut seed = Seed::from_environment();
    let mut scene = set_scene().await;
    let client = scene.client.clone();
    let writers = Writers::start(&scene.cluster, &[ONE_REQUEST]).await;
    let readers = Readers::start(&scene.cluster).await;
    let mut groups = Groups::start(&scene.cluster).await;
    writers.await_all(RECORDS_BETWEEN).await;
    groups.await_committed(&ends(&client).await).await;

    let begun = Instant::now();
    let length = Duration::from_secs(number("KLAMM_CHAOS_SECONDS", SECONDS));
    let mut healed = Vec::new();
    while begun.elapsed() < length {
        let mishap = Mishap::draw(&mut seed);
        let fault = Fault::draw(&mut seed);
        println!("{:6.1} s: {fault}", begun.elapsed().as_secs_f64());
        if let Some(mishap) = mishap {
            println!("          {}", mishap.tell(&groups));
            mishap.begin(&mut groups);
        }
        fault.befall(&mut scene).await;
        let over = Instant::now();
        writers.await_all(RECORDS_BETWEEN).await;
        healed.push((over.elapsed(), fault));
        if let Some(mishap) = mishap {
            mishap.end(&mut groups).await;
        }
        groups.await_committed(&ends(&client).await).await;
        scene.cluster.all_run();
        groups.all_run();
    }

    let sent = writers.stop().await;
    scene.cluster.await_in_sync(TOPIC).await;
    groups.await_committed(&ends(&client).await).await;
    let seen = readers.stop().await;
    let (slowest, after) = healed.iter().max_by_key(|(time, _)| *time).unwrap();
    println!(
        "{} faults, {} records; {RECORDS_BETWEEN} more of each writer took at most {slowest:?} after: {after}",
        healed.len(),
        sent.iter().map(Vec::len).sum::<usize>(),
    );
    let mut read = Vec::new();
    for partition in 0..PARTITIONS {
        read.push(
            scene
                .cluster
                .read_partition(&client, TOPIC, partition)
                .await,
        );
    }
    for (partition, read) in read.iter().enumerate() {
        let written = check(&sent[partition], read, Copies::One).map_err(|found| found.to_string());
        if let Err(violation) = written.and_then(|()| readers::check(&seen[partition], read)) {
            let kept = scene.cluster.keep_data();
            panic!("{TOPIC}-{partition}: {violation}; the nodes' data are in {kept:?}");
        }
    }
    groups.stop_and_check(&read).await;
    let topic = client.admin().describe_topic(TOPIC).await.unwrap();
    drop(client);
    stop_and_compare(scene, &topic);
}

/// Three nodes with proxies between them, and the topic of all writers.
async fn set_scene() -> Scene {
    let mut network = Network::default();
    let cluster = Cluster::start_over(
        NODES.len(),
        |from, to, address| network.lay(from, to, address),
        &[
            ("RUST_LOG", "error"),
            // Small, so that faults fall into rolls too.
            ("KLAMM__LOG__SEGMENT_BYTES", "1048576"),
            ("KLAMM__LOG__MESSAGE_MAX_BYTES", "524288"),
            ("KLAMM__GROUPS__MIN_SESSION_TIMEOUT_MS", "1000"),
            (
                "KLAMM__GROUPS__CONSUMER_SESSION_TIMEOUT_MS",
                &member::SESSION.as_millis().to_string(),
            ),
            (
                "KLAMM__GROUPS__CONSUMER_HEARTBEAT_INTERVAL_MS",
                &member::HEARTBEAT_INTERVAL.as_millis().to_string(),
            ),
            (
                "KLAMM__GROUPS__OFFSETS_TOPIC_NUM_PARTITIONS",
                &groups::COORDINATORS.to_string(),
            ),
        ],
    );
    let client = cluster.client().await;
    cluster.create_with(&client, TOPIC, PARTITIONS).await;
    Scene {
        cluster,
        network,
        client,
    }
}

/// Where each partition ends now.
async fn ends(client: &Client) -> Vec<i64> {
    let admin = client.admin();
    let begun = Instant::now();
    let mut ends = Vec::new();
    for partition in 0..PARTITIONS {
        loop {
            // Who leads may have changed since this client has asked last.
            let _ = admin.list_topics().await;
            match admin.list_offset(TOPIC, partition, LATEST_TIMESTAMP).await {
                Ok(end) => break ends.push(end.0),
                Err(error) => assert!(begun.elapsed() < WAIT_MAX, "{error}"),
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
    ends
}

fn stop_and_compare(mut scene: Scene, topic: &TopicMetadata) {
    scene.cluster.stop();
    for partition in 0..PARTITIONS {
        let topic_id = topic.id;
        let id = PartitionId {
            topic_id,
            partition,
        };
        scene.cluster.replicas_of_are_equal(id);
    }
}
