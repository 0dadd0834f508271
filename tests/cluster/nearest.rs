//! Consumers that read from a replica nearby (KIP-392): librdkafka, as its users have it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use klamm::model::BrokerId;
use rdkafka::consumer::{Consumer, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};

use crate::history::{check, Copies};
use crate::nodes::{rack, Cluster};
use crate::writers::Writers;
use crate::RECORDS_BETWEEN;

const WAIT_MAX: Duration = Duration::from_secs(60);

/// From which brokers librdkafka says that it fetches.
#[derive(Clone, Default)]
struct FetchedFrom(Arc<Mutex<BTreeSet<i32>>>);

impl FetchedFrom {
    fn seen(&self) -> BTreeSet<i32> {
        self.0.lock().unwrap().clone()
    }
}

impl ClientContext for FetchedFrom {
    fn stats(&self, statistics: Statistics) {
        let topic = statistics.topics.get("orders");
        let partition = topic.and_then(|topic| topic.partitions.get(&0));
        if let Some(partition) = partition {
            // -1 while it has none.
            let broker = Some(partition.broker).filter(|broker| *broker >= 0);
            self.0.lock().unwrap().extend(broker);
        }
    }
}

impl ConsumerContext for FetchedFrom {}

fn consumer(cluster: &Cluster, near: Option<BrokerId>) -> StreamConsumer<FetchedFrom> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", cluster.kafka())
        .set("group.id", "nobody")
        .set("enable.auto.commit", "false")
        .set("statistics.interval.ms", "50")
        .set("auto.offset.reset", "error");
    if let Some(node) = near {
        config.set("client.rack", rack(node));
    }
    let consumer: StreamConsumer<FetchedFrom> =
        config.create_with_context(FetchedFrom::default()).unwrap();
    let mut assigned = TopicPartitionList::new();
    let assigning = assigned.add_partition_offset("orders", 0, Offset::Beginning);
    assigning.unwrap();
    consumer.assign(&assigned).unwrap();
    consumer
}

/// Reads on until it is enough.
async fn read_until(
    consumer: &StreamConsumer<FetchedFrom>,
    into: &mut Vec<(i64, Vec<u8>)>,
    is_enough: impl Fn(usize, BTreeSet<i32>) -> bool,
) {
    let begun = Instant::now();
    loop {
        let from = consumer.context().seen();
        if is_enough(into.len(), from.clone()) {
            return;
        }
        assert!(begun.elapsed() < WAIT_MAX, "{} from {from:?}", into.len());
        // Its statistics come with what is read.
        let next = tokio::time::timeout(WAIT_MAX, consumer.recv()).await;
        let message = match next.expect("it comes in time") {
            Ok(message) => message,
            // News of the node that is gone.
            Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown,
            )) => continue,
            Err(error) => panic!("{error}"),
        };
        into.push((message.offset(), message.payload().unwrap().to_vec()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_reads_from_the_replica_in_its_rack_and_goes_on_elsewhere_when_that_is_gone() {
    let mut cluster = Cluster::start();
    let client = cluster.client().await;
    cluster.create(&client, "orders").await;
    let writers = Writers::start(&cluster, "orders", 2).await;
    writers.await_more(RECORDS_BETWEEN).await;
    let leader = cluster.leader(&client, "orders").await;
    let near = BrokerId(leader.0 % 3 + 1);

    let nearby = consumer(&cluster, Some(near));
    let anywhere = consumer(&cluster, None);
    let (mut read_near, mut read_leader) = (Vec::new(), Vec::new());
    read_until(&nearby, &mut read_near, |_, from| from.contains(&near.0)).await;
    read_until(&anywhere, &mut read_leader, |_, from| {
        from.contains(&leader.0)
    })
    .await;
    assert_eq!(anywhere.context().seen(), BTreeSet::from([leader.0]));
    // It reads what is written while it reads, too.
    let so_far = read_near.len();
    read_until(&nearby, &mut read_near, |read, _| {
        read >= so_far + RECORDS_BETWEEN
    })
    .await;

    cluster.node(near).kill();
    writers.await_more(RECORDS_BETWEEN).await;
    cluster.node(near).restart();
    cluster.node(near).wait();
    let sent = writers.stop().await;
    cluster.await_in_sync("orders").await;
    let all = cluster.read_all(&client, "orders").await;
    read_until(&nearby, &mut read_near, |read, _| read >= all.len()).await;
    check(&sent, &read_near, Copies::One).unwrap();
    assert!(read_near == all, "another replica has given something else");
}
