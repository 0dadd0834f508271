//! A coordinator that begins with what a compaction has left of many commits.

use std::time::{Duration, Instant};

use klamm::client::{Admin, Client, ClientConfig, GroupOffsets, NewTopic, Resource};
use klamm::model::Offset;
use klamm::protocol::incremental_alter_configs::AlterConfigOp;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::broker_process::Broker;
use crate::WAIT_MAX;

const TOPIC: &str = "loaded";
const GROUPS: usize = 100;
const PARTITIONS: i32 = 100;
/// Each of the 10,000 offsets is committed so often.
const COMMITS: i64 = 100;
/// So many requests are under way at the same time.
const AT_ONCE: usize = 16;
/// What is left of the log when it is compacted, and the segment that is written to, has less than this.
const COMPACTED_BYTES: u64 = 8 << 20;

pub async fn measure() {
    let mut broker = Broker::start_with(&[
        ("KLAMM__GROUPS__OFFSETS_TOPIC_NUM_PARTITIONS", "1"),
        ("KLAMM__LOG__CLEANER_BACKOFF_MS", "500"),
    ]);
    let client = connect(&broker).await;
    let admin = client.admin();
    let topic = NewTopic {
        name: TOPIC.into(),
        partitions: Some(PARTITIONS),
        ..NewTopic::default()
    };
    admin.create_topic(&topic).await.unwrap();
    commit(&admin, 0..1, 1).await;
    let small = (
        "segment.bytes".into(),
        AlterConfigOp::Set,
        Some("1048576".into()),
    );
    let offsets = Resource::Topic("__consumer_offsets".into());
    admin.alter_configs(&offsets, &[small]).await.unwrap();
    let begun = Instant::now();
    commit(&admin, 0..GROUPS, COMMITS).await;
    let filled = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    while broker.logs_bytes() > COMPACTED_BYTES {
        let left = broker.logs_bytes();
        assert!(begun.elapsed() < WAIT_MAX, "{left} bytes are left");
        sleep(Duration::from_millis(100)).await;
    }
    let left = broker.logs_bytes();

    broker.terminate();
    let begun = Instant::now();
    broker.restart();
    broker.wait();
    let listens = begun.elapsed();
    let admin = connect(&broker).await.admin();
    let told = admin.group_offsets(&group(GROUPS - 1)).await.unwrap();
    let took = begun.elapsed() - listens;
    assert_eq!(told.len(), PARTITIONS as usize);
    assert!(told.values().all(|offset| *offset == Offset(COMMITS)));
    println!(
        "| 1,000,000 commits of 10,000 keys (written in {filled:.1} s), of which a compaction has left {} MiB: from listening, {} ms after the start, until the offsets are told | {} ms |",
        left >> 20,
        listens.as_millis(),
        took.as_millis()
    );
}

async fn connect(broker: &Broker) -> Client {
    let config = ClientConfig::from(broker.address.as_str());
    Client::connect(config).await.unwrap()
}

fn group(number: usize) -> String {
    format!("group-{number}")
}

/// Each of these groups commits all partitions so often.
async fn commit(admin: &Admin, groups: std::ops::Range<usize>, times: i64) {
    let mut under_way = JoinSet::new();
    for number in groups {
        if under_way.len() == AT_ONCE {
            under_way.join_next().await.unwrap().unwrap();
        }
        let admin = admin.clone();
        under_way.spawn(async move {
            for offset in 1..=times {
                let offsets = (0..PARTITIONS).map(|p| ((TOPIC.to_owned(), p), Offset(offset)));
                let offsets: GroupOffsets = offsets.collect();
                let group = group(number);
                let committed = admin.set_group_offsets(&group, &offsets);
                committed.await.unwrap();
            }
        });
    }
    under_way.join_all().await;
}
