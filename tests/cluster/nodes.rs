//! Three nodes on this machine, or more of which three are voters, each a process of its own.

// Each target of tests compiles this module for itself, and uses a part of it.
#![allow(dead_code)]

use std::env;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use klamm::client::{
    Client, ClientConfig, ClientError, ConsumerConfig, NewTopic, PartitionMetadata, StartAt,
};
use klamm::model::{BrokerId, Offset, PartitionId};
use klamm::protocol::describe_cluster::DescribeClusterBroker;
use klamm::protocol::describe_quorum::DescribedPartition;
use klamm::protocol::list_offsets::LATEST_TIMESTAMP;

use crate::broker_process::{free_address, log_bytes, Broker};

pub const NODES: [BrokerId; 3] = [BrokerId(1), BrokerId(2), BrokerId(3)];

/// Never reached when all is well. What is promised is less, but nodes, clients and whatever else is built
/// beside them may share two cores.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// A number out of the environment.
pub fn number(name: &str, default: u64) -> u64 {
    let set = env::var(name).ok();
    set.map_or(default, |text| text.parse().expect("it is a number"))
}

/// Each node stands in its own.
pub fn rack(node: BrokerId) -> String {
    format!("rack-{node}")
}

pub struct Cluster {
    nodes: Vec<Broker>,
}

impl Cluster {
    pub fn start() -> Cluster {
        Cluster::start_nodes(NODES.len())
    }

    /// So many nodes, the first three of which are voters.
    pub fn start_nodes(count: usize) -> Cluster {
        Cluster::start_over(count, |_, _, address| address.into(), &[])
    }

    /// `way` says where the first node reaches the second one, which listens at this address; with more
    /// variables of the environment.
    pub fn start_over(
        count: usize,
        mut way: impl FnMut(BrokerId, BrokerId, &str) -> String,
        settings: &[(&str, &str)],
    ) -> Cluster {
        let peers: Vec<String> = (0..count).map(|_| free_address()).collect();
        let ids = (1..).map(BrokerId);
        let begin = |(id, peer): (BrokerId, &String)| {
            let reach = |(to, address): (BrokerId, &String)| match to == id {
                true => format!("{to}@{address}"),
                false => format!("{to}@{}", way(id, to, address)),
            };
            let nodes: Vec<String> = ids.clone().zip(&peers).map(reach).collect();
            let (number, nodes, rack) = (id.to_string(), nodes.join(","), rack(id));
            let own: &[(&str, &str)] = &[
                ("KLAMM__NODE__ID", &*number),
                ("KLAMM__CLUSTER__NODES", &nodes),
                ("KLAMM__CLUSTER__VOTERS", "1,2,3"),
                (
                    "KLAMM__CLUSTER__SECRET",
                    "a secret of the tests, and of no cluster",
                ),
                ("KLAMM__LISTENERS__PEER__BIND", peer),
                ("KLAMM__TOPICS__DEFAULT_REPLICATION_FACTOR", "3"),
                ("KLAMM__TOPICS__MIN_INSYNC_REPLICAS", "2"),
                // So that all groups have the same coordinator.
                ("KLAMM__GROUPS__OFFSETS_TOPIC_NUM_PARTITIONS", "1"),
                ("KLAMM__GROUPS__INITIAL_REBALANCE_DELAY_MS", "0"),
                ("KLAMM__NODE__RACK", &rack),
                ("KLAMM__CLUSTER__REPLICA_SELECTOR", "rack-aware"),
            ];
            Broker::begin_with(&[own, settings].concat())
        };
        let mut nodes: Vec<Broker> = ids.clone().zip(&peers).map(begin).collect();
        nodes.iter_mut().for_each(Broker::wait);
        Cluster { nodes }
    }

    pub fn node(&mut self, id: BrokerId) -> &mut Broker {
        &mut self.nodes[index(id)]
    }

    /// No node has ended by itself.
    pub fn all_run(&mut self) {
        for (id, node) in (1..).zip(&mut self.nodes) {
            assert!(node.is_running(), "node {id} has ended by itself");
        }
    }

    /// Leaves all data where they are when the test ends, and says where.
    pub fn keep_data(&mut self) -> Vec<PathBuf> {
        self.nodes.iter_mut().map(Broker::keep_data).collect()
    }

    /// Starts these anew, which have ended, and returns when all of them listen.
    pub fn restart(&mut self, nodes: &[BrokerId]) {
        for id in nodes {
            self.node(*id).restart();
        }
        for id in nodes {
            self.node(*id).wait();
        }
    }

    /// Has all nodes end in good order, at once.
    pub fn stop(&mut self) {
        self.nodes.iter().for_each(|node| node.signal("TERM"));
        self.nodes.iter_mut().for_each(Broker::await_end);
    }

    pub fn bootstrap(&self) -> String {
        let addresses: Vec<&str> = self.nodes.iter().map(|node| &node.address[..]).collect();
        addresses.join(",")
    }

    pub async fn client(&self) -> Client {
        connect(&self.bootstrap()).await.unwrap()
    }

    /// One that asks this node first.
    pub async fn client_of(&self, id: BrokerId) -> Client {
        connect(&self.nodes[index(id)].address).await.unwrap()
    }

    /// Where Kafka's clients connect to.
    pub fn kafka(&self) -> String {
        let addresses: Vec<&str> = self.nodes.iter().map(|node| &node.kafka[..]).collect();
        addresses.join(",")
    }

    /// A topic with one partition, which every node has.
    pub async fn create(&self, client: &Client, name: &str) {
        self.create_with(client, name, 1).await;
    }

    /// The same with more partitions.
    pub async fn create_with(&self, client: &Client, name: &str, partitions: i32) {
        self.await_active(client).await;
        let topic = NewTopic {
            name: name.into(),
            partitions: Some(partitions),
            ..NewTopic::default()
        };
        client.admin().create_topic(&topic).await.unwrap();
    }

    /// A topic with one partition, which these nodes have.
    pub async fn create_on(&self, client: &Client, name: &str, replicas: &[i32]) {
        self.await_active(client).await;
        self.create_at(client, name, replicas).await;
    }

    /// The same, also while some node is away.
    pub async fn create_at(&self, client: &Client, name: &str, replicas: &[i32]) {
        let topic = NewTopic {
            name: name.into(),
            assignments: vec![replicas.iter().copied().map(BrokerId).collect()],
            ..NewTopic::default()
        };
        client.admin().create_topic(&topic).await.unwrap();
    }

    /// The same in small segments.
    pub async fn create_in_segments(&self, client: &Client, name: &str, segment_bytes: usize) {
        self.await_active(client).await;
        let topic = NewTopic {
            name: name.into(),
            partitions: Some(1),
            configs: vec![("segment.bytes".into(), segment_bytes.to_string())],
            ..NewTopic::default()
        };
        client.admin().create_topic(&topic).await.unwrap();
    }

    /// Until no node is fenced.
    async fn await_active(&self, client: &Client) {
        let count = self.nodes.len();
        let are_active = |known: &[DescribeClusterBroker]| {
            known.iter().filter(|broker| !broker.is_fenced).count() == count
        };
        await_known(client, are_active).await;
    }

    /// Of the first partition.
    pub async fn leader(&self, client: &Client, topic: &str) -> BrokerId {
        self.leader_of(client, topic, 0).await.unwrap()
    }

    /// `None` if it has none, or nobody can tell now.
    pub async fn leader_of(
        &self,
        client: &Client,
        topic: &str,
        partition: i32,
    ) -> Option<BrokerId> {
        let partitions = told_of(client, topic).await?;
        partitions.get(usize::try_from(partition).ok()?)?.leader
    }

    /// The active controller.
    pub async fn controller(&self, client: &Client) -> BrokerId {
        client
            .admin()
            .describe_cluster()
            .await
            .unwrap()
            .controller_id
    }

    /// Until all three replicas of each partition are, and every node knows it: one that was away for a while
    /// believes for a moment what was so before.
    pub async fn await_in_sync(&self, topic: &str) {
        let all = |partition: &PartitionMetadata| partition.in_sync.len() == self.nodes.len();
        self.await_so(topic, all).await;
    }

    /// Until these are the replicas of the only partition, in this order, all of them are in sync, and every
    /// node knows it.
    pub async fn await_placed(&self, topic: &str, replicas: &[i32]) {
        let wanted: Vec<BrokerId> = replicas.iter().copied().map(BrokerId).collect();
        let are_placed = |partition: &PartitionMetadata| {
            partition.replicas == wanted && partition.in_sync.len() == wanted.len()
        };
        self.await_so(topic, are_placed).await;
    }

    /// Until every node says the same of all partitions, and it is so.
    async fn await_so(&self, topic: &str, is_so: impl Fn(&PartitionMetadata) -> bool) {
        let begun = Instant::now();
        loop {
            let mut told = Vec::new();
            for node in &self.nodes {
                told.push(match connect(&node.address).await {
                    Ok(client) => told_of(&client, topic).await,
                    Err(_) => None,
                });
            }
            let agree = told.iter().all(|partitions| *partitions == told[0]);
            let are_so = |partitions: &Vec<PartitionMetadata>| partitions.iter().all(&is_so);
            if agree && told[0].as_ref().is_some_and(are_so) {
                return;
            }
            assert!(begun.elapsed() < WAIT_MAX, "it isn't so: {told:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All records of the only partition, each with its offset.
    pub async fn read_all(&self, client: &Client, topic: &str) -> Vec<(i64, Vec<u8>)> {
        self.read_partition(client, topic, 0).await
    }

    pub async fn read_partition(
        &self,
        client: &Client,
        topic: &str,
        partition: i32,
    ) -> Vec<(i64, Vec<u8>)> {
        let admin = client.admin();
        // Who leads may have changed since this client has asked last.
        admin.list_topics().await.unwrap();
        let end = admin.list_offset(topic, partition, LATEST_TIMESTAMP).await;
        let end = end.unwrap();
        let mut consumer = client.consumer(ConsumerConfig::default());
        let start = consumer.assign(topic, partition, StartAt::Beginning);
        start.await.unwrap();
        let mut read = Vec::new();
        let begun = Instant::now();
        while consumer.position(topic, partition) < Some(end) {
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

    /// How many records this node gives out by itself.
    pub async fn read_some(&self, node: BrokerId, topic: &str) -> usize {
        let client = self.client_of(node).await;
        let mut consumer = client.consumer(ConsumerConfig::default());
        consumer
            .assign(topic, 0, StartAt::Offset(Offset(0)))
            .await
            .unwrap();
        let batches = consumer.poll(WAIT_MAX).await.unwrap();
        batches.iter().map(|batch| batch.records().count()).sum()
    }

    /// What this node says of the voters.
    pub async fn quorum_at(&self, id: BrokerId) -> DescribedPartition {
        let client = self.client_of(id).await;
        client.admin().describe_quorum().await.unwrap()
    }

    /// Until every node says that this one leads the only partition.
    pub async fn await_leader(&self, topic: &str, leader: BrokerId) {
        let leads = |partition: &PartitionMetadata| partition.leader == Some(leader);
        self.await_so(topic, leads).await;
    }

    /// Until the node that is asked knows just these brokers.
    pub async fn await_brokers(&self, client: &Client, ids: &[i32]) {
        let are_these = |known: &[DescribeClusterBroker]| {
            known.iter().map(|broker| &broker.broker_id.0).eq(ids)
        };
        await_known(client, are_these).await;
    }

    /// Until the metadata say that a broker is gone. That a partition has no leader is told before, by whoever
    /// has lost the link to it.
    pub async fn await_fenced(&self, client: &Client, id: BrokerId) {
        let is_fenced = |known: &[DescribeClusterBroker]| {
            let mut gone = known.iter().filter(|broker| broker.is_fenced);
            gone.any(|broker| broker.broker_id == id)
        };
        await_known(client, is_fenced).await;
    }

    /// Every replica of the only partition has the same bytes.
    pub fn replicas_are_equal(&self) {
        are_equal("the only partition", NODES.map(|id| self.log(id)));
    }

    /// The same of one of many, on nodes that have ended.
    pub fn replicas_of_are_equal(&self, partition: PartitionId) {
        let log = |node: &Broker| log_bytes(&node.log_dir(partition));
        let logs: Vec<Vec<u8>> = self.nodes.iter().map(log).collect();
        assert!(!logs[0].is_empty(), "{partition} is empty");
        are_equal(&partition.to_string(), logs);
    }

    /// Until this node has no log of the only partition.
    pub async fn await_gone(&self, id: BrokerId) {
        let begun = Instant::now();
        while !self.nodes[index(id)].partition_dirs(0).is_empty() {
            assert!(begun.elapsed() < WAIT_MAX, "node {id} keeps its log");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The corrupt logs that this node has put aside.
    pub fn put_aside(&self, id: BrokerId) -> usize {
        let quarantine = self.nodes[id.0 as usize - 1].data_dir().join("quarantine");
        std::fs::read_dir(quarantine).map_or(0, Iterator::count)
    }

    /// Until this node has put a log aside.
    pub async fn await_put_aside(&self, id: BrokerId) {
        let begun = Instant::now();
        while self.put_aside(id) == 0 {
            assert!(begun.elapsed() < WAIT_MAX, "node {id} puts nothing aside");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The bytes of the only partition's log, up to where all nodes have it.
    pub fn log(&self, id: BrokerId) -> Vec<u8> {
        let dirs = self.nodes[index(id)].partition_dirs(0);
        let [dir] = &dirs[..] else {
            panic!("{dirs:?}");
        };
        log_bytes(dir)
    }
}

/// Until what the node that is asked knows of the brokers is so.
async fn await_known(client: &Client, is_so: impl Fn(&[DescribeClusterBroker]) -> bool) {
    let begun = Instant::now();
    loop {
        let known = client.admin().describe_cluster().await.unwrap().brokers;
        if is_so(&known) {
            return;
        }
        assert!(begun.elapsed() < WAIT_MAX, "{known:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
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

/// What is told of a topic's partitions; `None` while nobody can.
async fn told_of(client: &Client, topic: &str) -> Option<Vec<PartitionMetadata>> {
    let topics = client.admin().list_topics().await.ok()?;
    let found = topics.into_iter().find(|known| &*known.name == topic)?;
    Some(found.partitions)
}

fn index(node: BrokerId) -> usize {
    node.0 as usize - 1
}

fn are_equal(what: &str, logs: impl AsRef<[Vec<u8>]>) {
    let [first, others @ ..] = logs.as_ref() else {
        return;
    };
    for (log, id) in others.iter().zip(&NODES[1..]) {
        let same = log.iter().zip(first).take_while(|(a, b)| a == b).count();
        assert!(
            log == first,
            "the replicas of {what} on nodes {} and {id} have {} and {} bytes, of which the first {same} \
             are the same",
            NODES[0],
            first.len(),
            log.len()
        );
    }
}

/// The id of a new copy of the metadata, out of what its node says.
pub async fn said_copy(log: &Path, node: BrokerId) -> String {
    let begun = Instant::now();
    let command = format!("klamm cluster readmit {node} ");
    loop {
        let said = std::fs::read_to_string(log).unwrap();
        if let Some((_, rest)) = said.split_once(&command) {
            // A UUID in text.
            return rest.chars().take(36).collect();
        }
        assert!(begun.elapsed() < WAIT_MAX, "{said}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
