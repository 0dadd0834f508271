//! Copies under a throttle: they take the time that it gives them, and nobody else does.

use std::time::{Duration, Instant};

use klamm::client::{Client, ProducerConfig, ProducerRecord, Resource};
use klamm::model::BrokerId;
use klamm::protocol::describe_configs::ConfigSource;

use crate::command_line::works;
use crate::history::{check, Copies};
use crate::nodes::Cluster;
use crate::writers::Writers;
use crate::RECORDS_BETWEEN;

const WAIT_MAX: Duration = Duration::from_secs(60);
const RATE: usize = 1_000_000;
/// What a throttle may have saved up, and what the last push may carry beyond it.
const AHEAD: usize = 2 * RATE;
const RECORD_BYTES: usize = 100_000;

/// So many bytes, in a topic of their own partition.
async fn fill(client: &Client, topic: &str, bytes: usize) {
    let producer = client.producer(ProducerConfig::default());
    for _ in 0..bytes / RECORD_BYTES {
        let value = [7; RECORD_BYTES];
        let record = ProducerRecord::to(topic).value(&value);
        producer.send(record).await.unwrap().await.unwrap();
    }
}

/// The throttles that are set for the topic and the brokers.
async fn throttles(client: &Client, topic: &str) -> Vec<String> {
    let mut set = Vec::new();
    let brokers = (1..=3).map(|id| Resource::Broker(BrokerId(id)));
    for resource in [Resource::Topic(topic.into())].into_iter().chain(brokers) {
        let configs = client.admin().describe_configs(&resource).await.unwrap();
        let are_set = configs.into_iter().filter(|config| {
            let of_topic = config.config_source == ConfigSource::DynamicTopicConfig as i8;
            let of_broker = config.config_source == ConfigSource::DynamicBrokerConfig as i8;
            config.name.contains("throttled") && (of_topic || of_broker)
        });
        set.extend(are_set.filter_map(|config| config.value));
    }
    set
}

/// Until just these are set, as every broker knows it.
async fn await_throttles(client: &Client, topic: &str, expected: &[&str]) {
    let begun = Instant::now();
    loop {
        let set = throttles(client, topic).await;
        if set == expected {
            return;
        }
        assert!(begun.elapsed() < WAIT_MAX, "{set:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_copy_takes_its_time_while_writers_go_on_and_verify_ends_it() {
    let cluster = Cluster::start();
    let client = cluster.client().await;
    cluster.create_on(&client, "orders", &[1, 2]).await;
    let bytes = 6 * RATE;
    fill(&client, "orders", bytes).await;
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("plan.json");
    let plan = |replicas: &str| {
        let plan = format!(
            r#"{{"version":1,"partitions":[{{"topic":"orders","partition":0,"replicas":[{replicas}]}}]}}"#
        );
        std::fs::write(&file, plan).unwrap();
    };
    let named = file.to_str().unwrap();
    let execute = ["topic", "reassign", "execute", "--file", named];
    let verify = ["topic", "reassign", "verify", "--file", named];

    plan("3,2");
    let rate = RATE.to_string();
    let begun = Instant::now();
    let said = works(&cluster, &[&execute[..], &["--throttle", &rate]].concat());
    assert!(
        said.contains("1000000 bytes a second at brokers 1,2,3"),
        "{said}"
    );
    let mut expected = vec!["0:3", "0:1,0:2"];
    expected.extend([rate.as_str(); 6]);
    await_throttles(&client, "orders", &expected).await;
    // Those in sync are as fast as ever.
    let writers = Writers::start(&cluster, "orders", 2).await;
    writers.await_more(RECORDS_BETWEEN).await;
    let under_way = client.admin().list_reassignments().await.unwrap();
    assert_eq!(
        under_way.len(),
        1,
        "it was over after {:?}",
        begun.elapsed()
    );
    let sent = writers.stop().await;
    cluster.await_placed("orders", &[3, 2]).await;
    let took = begun.elapsed();
    let least = Duration::from_secs(((bytes - AHEAD) / RATE) as u64);
    assert!(took >= least, "{bytes} bytes were copied in {took:?}");
    let said = works(&cluster, &verify);
    assert!(said.contains("the throttles are removed"), "{said}");
    await_throttles(&client, "orders", &[]).await;

    // Nothing holds it up any more.
    plan("1,2");
    let said = works(&cluster, &[&execute[..], &["--wait"]].concat());
    assert!(!said.contains("throttle"), "{said}");
    cluster.await_placed("orders", &[1, 2]).await;
    let read = cluster.read_all(&client, "orders").await;
    let written = read
        .into_iter()
        .filter(|(_, value)| value.len() < RECORD_BYTES);
    check(&sent, &written.collect::<Vec<_>>(), Copies::One).unwrap();
}
