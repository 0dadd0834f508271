//! Three nodes, each of which may reach each other one through a proxy of its own.

use std::collections::HashMap;
use std::env;
use std::time::{Duration, Instant};

use klamm::client::{
    Client, ClientConfig, ClientError, ConsumerConfig, NewTopic, PartitionMetadata, StartAt,
    TopicMetadata,
};
use klamm::model::BrokerId;
use klamm::protocol::list_offsets::LATEST_TIMESTAMP;

use crate::broker_process::{free_address, log_bytes, Broker};
use crate::proxy::Proxy;

pub const NODES: [i32; 3] = [1, 2, 3];
pub const TOPIC: &str = "orders";
pub const PARTITIONS: i32 = 3;

/// Never reached when all is well. What is promised is less, but nodes, clients and whatever else is built
/// beside them may share two cores.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// A number out of the environment.
pub fn number(name: &str, default: u64) -> u64 {
    let set = env::var(name).ok();
    set.map_or(default, |text| text.parse().expect("it is a number"))
}

pub struct Cluster {
    nodes: HashMap<i32, Broker>,
    /// By who dials, and whom; empty where they reach each other directly.
    ways: HashMap<(i32, i32), Proxy>,
}

/// How nodes reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code)]
pub enum Links {
    Direct,
    Proxied,
}

impl Cluster {
    pub fn start(links: Links) -> Cluster {
        let peers: HashMap<i32, String> = NODES.map(|id| (id, free_address())).into();
        let mut ways = HashMap::new();
        for from in NODES.into_iter().filter(|_| links == Links::Proxied) {
            for to in NODES.into_iter().filter(|to| *to != from) {
                let target = peers[&to].parse().expect("it is an address");
                ways.insert((from, to), Proxy::start(target));
            }
        }
        let begin = |id: i32| {
            let address = |to: i32| match ways.get(&(id, to)) {
                Some(proxy) => proxy.address().to_string(),
                None => peers[&to].clone(),
            };
            let nodes = NODES.map(|to| format!("{to}@{}", address(to))).join(",");
            let broker = Broker::begin_with(&[
                ("RUST_LOG", "error"),
                ("KLAMM__NODE__ID", &id.to_string()),
                ("KLAMM__CLUSTER__NODES", &nodes),
                (
                    "KLAMM__CLUSTER__SECRET",
                    "a secret of the tests, and of no cluster",
                ),
                ("KLAMM__LISTENERS__PEER__BIND", &peers[&id]),
                ("KLAMM__TOPICS__DEFAULT_REPLICATION_FACTOR", "3"),
                ("KLAMM__TOPICS__MIN_INSYNC_REPLICAS", "2"),
                // Small, so that faults fall into rolls too.
                ("KLAMM__LOG__SEGMENT_BYTES", "1048576"),
                ("KLAMM__LOG__MESSAGE_MAX_BYTES", "524288"),
            ]);
            (id, broker)
        };
        let mut nodes: HashMap<i32, Broker> = NODES.map(begin).into();
        nodes.values_mut().for_each(Broker::wait);
        Cluster { nodes, ways }
    }

    pub fn node(&mut self, id: i32) -> &mut Broker {
        self.nodes.get_mut(&id).expect("there is such a node")
    }

    /// The proxy through which one node dials another.
    pub fn way(&self, from: i32, to: i32) -> &Proxy {
        &self.ways[&(from, to)]
    }

    /// No node has ended by itself.
    pub fn all_run(&mut self) {
        for (id, node) in &mut self.nodes {
            assert!(node.is_running(), "node {id} has ended by itself");
        }
    }

    pub fn bootstrap(&self) -> String {
        NODES.map(|id| self.nodes[&id].address.clone()).join(",")
    }

    pub fn kafka_bootstrap(&self) -> String {
        NODES.map(|id| self.nodes[&id].kafka.clone()).join(",")
    }

    pub async fn client(&self) -> Client {
        connect(&self.bootstrap()).await.unwrap()
    }

    /// The topic of all writers, once all nodes can have a replica.
    pub async fn create(&self, client: &Client) {
        let begun = Instant::now();
        loop {
            let described = client.admin().describe_cluster().await.unwrap();
            let active = described.brokers.iter().filter(|b| !b.is_fenced);
            if active.count() == NODES.len() {
                break;
            }
            assert!(begun.elapsed() < WAIT_MAX, "{described:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let topic = NewTopic {
            name: TOPIC.into(),
            partitions: Some(PARTITIONS),
            ..NewTopic::default()
        };
        client.admin().create_topic(&topic).await.unwrap();
    }

    /// `None` while nobody can say.
    async fn topic(&self, client: &Client) -> Option<TopicMetadata> {
        let topics = client.admin().list_topics().await.unwrap_or_default();
        topics.into_iter().find(|topic| &*topic.name == TOPIC)
    }

    /// Who leads a partition, as far as anybody can say.
    pub async fn leader(&self, client: &Client, partition: i32) -> Option<BrokerId> {
        self.topic(client).await?.partitions[partition as usize].leader
    }

    /// The active controller.
    pub async fn controller(&self, client: &Client) -> BrokerId {
        let described = client.admin().describe_cluster().await.unwrap();
        described.controller_id
    }

    /// Until all replicas of all partitions are, and every node knows it: one that was away for a while
    /// believes for a moment what was so before.
    pub async fn await_in_sync(&self) {
        let begun = Instant::now();
        loop {
            let mut told = Vec::new();
            for id in NODES {
                let client = connect(&self.nodes[&id].address).await;
                told.push(match &client {
                    Ok(client) => self.topic(client).await.map(|topic| topic.partitions),
                    Err(_) => None,
                });
            }
            let is_in_sync = |partitions: &Vec<PartitionMetadata>| {
                let mut in_sync = partitions.iter().map(|partition| partition.in_sync.len());
                in_sync.all(|count| count == NODES.len())
            };
            let agree = told.iter().all(|partitions| *partitions == told[0]);
            if agree && told[0].as_ref().is_some_and(is_in_sync) {
                return;
            }
            assert!(begun.elapsed() < WAIT_MAX, "not in sync: {told:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All records of a partition, each with its offset.
    pub async fn read_all(&self, client: &Client, partition: i32) -> Vec<(i64, Vec<u8>)> {
        let admin = client.admin();
        // Who leads may have changed since this client has asked last.
        admin.list_topics().await.unwrap();
        let end = admin.list_offset(TOPIC, partition, LATEST_TIMESTAMP).await;
        let end = end.unwrap();
        let mut consumer = client.consumer(ConsumerConfig::default());
        let start = consumer.assign(TOPIC, partition, StartAt::Beginning);
        start.await.unwrap();
        let mut read = Vec::new();
        let begun = Instant::now();
        while consumer.position(TOPIC, partition) < Some(end) {
            let count = read.len();
            assert!(begun.elapsed() < WAIT_MAX, "{count} of {end} were read");
            for batch in &consumer.poll(WAIT_MAX).await.unwrap() {
                for record in batch.records() {
                    read.push((record.offset.0, record.value.unwrap().to_vec()));
                }
            }
        }
        read
    }

    /// Ends all nodes in good order.
    pub fn stop(&mut self) {
        self.nodes.values_mut().for_each(Broker::terminate);
    }

    /// Compares the bytes of a partition's log on all nodes, which have ended.
    pub fn replicas_are_equal(&self, partition: i32) {
        let log = |id: &i32| {
            let dirs = self.nodes[id].partition_dirs(partition);
            let [dir] = &dirs[..] else {
                panic!("node {id}, partition {partition}: {dirs:?}");
            };
            log_bytes(dir)
        };
        let logs = NODES.map(|id| log(&id));
        assert!(!logs[0].is_empty());
        for (id, log) in NODES.iter().zip(&logs) {
            let same = log.iter().zip(&logs[0]).take_while(|(a, b)| a == b).count();
            assert!(
                *log == logs[0],
                "the replicas of partition {partition} on nodes 1 and {id} have {} and {} bytes, of \
                 which the first {same} are the same",
                logs[0].len(),
                log.len()
            );
        }
    }
}

async fn connect(bootstrap: &str) -> Result<Client, ClientError> {
    let config = ClientConfig {
        retry_backoff: Duration::from_millis(10),
        retry_backoff_max: Duration::from_millis(100),
        ..ClientConfig::from(bootstrap)
    };
    Client::connect(config).await
}
