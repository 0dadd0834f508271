//! The client library against a real broker: every codec and every acks, and records that are
//! there once and in order although the broker is killed in the midst of them.
#![cfg(feature = "cli")]

#[path = "../broker_process/mod.rs"]
mod broker_process;
mod groups;

use std::time::Duration;

use broker_process::Broker;
use klamm::client::{
    Acks, Client, ClientConfig, Consumer, ConsumerConfig, NewTopic, Producer, ProducerConfig,
    ProducerRecord, Resource, StartAt,
};
use klamm::model::Offset;
use klamm::protocol::list_offsets::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};
use klamm::record::{Codec, Header};

const POLL: Duration = Duration::from_secs(20);

async fn client(broker: &Broker) -> Client {
    let config = ClientConfig {
        retry_backoff: Duration::from_millis(10),
        ..ClientConfig::from(broker.address.as_str())
    };
    Client::connect(config).await.unwrap()
}

async fn create(client: &Client, name: &str, partitions: i32) {
    let topic = NewTopic {
        name: name.into(),
        partitions: Some(partitions),
        ..NewTopic::default()
    };
    client.admin().create_topic(&topic).await.unwrap();
}

async fn send_numbers(producer: &Producer, topic: &str, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let value = format!("record number {number}");
        let record = ProducerRecord::to(topic).value(value.as_bytes());
        producer.send(record).await.unwrap();
    }
}

/// The numbers in a topic of one partition, up to its end.
async fn read_numbers(client: &Client, topic: &str) -> Vec<usize> {
    let end = client
        .admin()
        .list_offset(topic, 0, LATEST_TIMESTAMP)
        .await
        .unwrap();
    let mut consumer = client.consumer(ConsumerConfig::default());
    consumer.assign(topic, 0, StartAt::Beginning).await.unwrap();
    let mut numbers = Vec::new();
    while consumer.position(topic, 0) < Some(end) {
        for batch in &consumer.poll(POLL).await.unwrap() {
            for record in batch.records() {
                assert_eq!(record.offset, Offset(numbers.len() as i64));
                let value = std::str::from_utf8(record.value.unwrap()).unwrap();
                numbers.push(value.rsplit(' ').next().unwrap().parse().unwrap());
            }
        }
    }
    numbers
}

async fn next_offset(consumer: &mut Consumer) -> Offset {
    let batches = consumer.poll(POLL).await.unwrap();
    let first = batches.iter().next().expect("something is there");
    first.records().next().unwrap().offset
}

#[tokio::test]
async fn every_codec_with_every_acks_comes_back() {
    let broker = Broker::start();
    let client = client(&broker).await;
    for codec in Codec::ALL {
        for acks in [Acks::None, Acks::Leader, Acks::All] {
            let topic = format!("{codec:?}-{acks:?}");
            create(&client, &topic, 1).await;
            let producer = client.producer(ProducerConfig {
                codec,
                acks,
                batch_bytes: 4096,
                ..ProducerConfig::default()
            });
            send_numbers(&producer, &topic, 0..999).await;
            producer.close().await;
            // What has no answer is appended before a later record that has one.
            let last = client.producer(ProducerConfig::default());
            while acks == Acks::None && read_numbers(&client, &topic).await.len() < 999 {}
            send_numbers(&last, &topic, 999..1000).await;
            last.close().await;
            assert_eq!(last.first_error(), None);
            let numbers = read_numbers(&client, &topic).await;
            assert_eq!(numbers, (0..1000).collect::<Vec<_>>(), "{topic}");
        }
    }
}

#[tokio::test]
async fn records_are_there_once_and_in_order_although_the_broker_is_killed() {
    let mut broker = Broker::start();
    let client = client(&broker).await;
    create(&client, "killed", 1).await;
    let producer = client.producer(ProducerConfig {
        batch_bytes: 1000,
        ..ProducerConfig::default()
    });
    let sender = producer.clone();
    let sending = tokio::spawn(async move {
        send_numbers(&sender, "killed", 0..30_000).await;
        sender.flush().await;
    });
    for acknowledged in [1_000, 8_000, 16_000] {
        while producer.stats().acknowledged < acknowledged {
            tokio::task::yield_now().await;
        }
        // Elsewhere, so that the client meets a broker that isn't there.
        let restarted = tokio::task::spawn_blocking(move || {
            broker.kill_and_restart();
            broker
        });
        broker = restarted.await.unwrap();
    }
    sending.await.unwrap();
    let stats = producer.stats();
    assert_eq!(
        (stats.acknowledged, stats.failed),
        (30_000, 0),
        "{:?}",
        producer.first_error()
    );
    assert!(stats.retries > 0);
    let numbers = read_numbers(&client, "killed").await;
    assert_eq!(numbers, (0..30_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_consumer_starts_where_it_is_told_to() {
    let broker = Broker::start();
    let client = client(&broker).await;
    create(&client, "places", 1).await;
    let producer = client.producer(ProducerConfig {
        batch_bytes: 500,
        ..ProducerConfig::default()
    });
    let mut timestamps = Vec::new();
    for number in 0..100 {
        let headers = [Header {
            key: "n",
            value: Some(b"1"),
        }];
        let record = ProducerRecord::to("places")
            .key(b"k")
            .value(b"v")
            .headers(&headers);
        let delivery = producer.send(record).await.unwrap().await.unwrap();
        assert_eq!(delivery.offset, Offset(number));
        timestamps.push(delivery.timestamp);
    }
    let mut consumer = client.consumer(ConsumerConfig::default());
    for (from, first) in [
        (StartAt::Beginning, Offset(0)),
        (StartAt::Offset(Offset(42)), Offset(42)),
        (StartAt::Offset(Offset(99)), Offset(99)),
    ] {
        consumer.assign("places", 0, from).await.unwrap();
        assert_eq!(next_offset(&mut consumer).await, first);
    }
    let wanted = timestamps[60];
    let first = timestamps.iter().position(|time| *time >= wanted).unwrap();
    consumer
        .seek("places", 0, StartAt::Time(wanted))
        .await
        .unwrap();
    assert_eq!(next_offset(&mut consumer).await, Offset(first as i64));

    consumer.seek("places", 0, StartAt::End).await.unwrap();
    producer
        .send(ProducerRecord::to("places").value(b"new"))
        .await
        .unwrap()
        .await
        .unwrap();
    assert_eq!(next_offset(&mut consumer).await, Offset(100));

    let start = client
        .admin()
        .delete_records("places", 0, Offset(50))
        .await
        .unwrap();
    assert_eq!(start, Offset(50));
    consumer
        .seek("places", 0, StartAt::Beginning)
        .await
        .unwrap();
    assert_eq!(next_offset(&mut consumer).await, Offset(50));
}

#[tokio::test]
async fn topics_are_administrated() {
    let broker = Broker::start();
    let client = client(&broker).await;
    let admin = client.admin();
    create(&client, "one", 2).await;
    create(&client, "two", 1).await;
    let again = NewTopic {
        name: "one".into(),
        ..NewTopic::default()
    };
    let error = admin.create_topic(&again).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("topic one: TOPIC_ALREADY_EXISTS"),
        "{error}"
    );
    assert!(!error.is_retriable());

    admin.create_partitions("one", 5).await.unwrap();
    let names: Vec<_> = admin
        .list_topics()
        .await
        .unwrap()
        .into_iter()
        .map(|t| t.name)
        .collect();
    assert_eq!(names, ["one".into(), "two".into()]);
    assert_eq!(
        admin.describe_topic("one").await.unwrap().partitions.len(),
        5
    );
    let starts = admin.list_offsets("one", EARLIEST_TIMESTAMP).await.unwrap();
    assert_eq!(starts.len(), 5);
    let configs = admin
        .describe_configs(&Resource::Topic("one".into()))
        .await
        .unwrap();
    assert!(configs.iter().any(|config| config.name == "retention.ms"));
    assert!(!admin.describe_actors(None, None).await.unwrap().is_empty());
    let cluster = admin.describe_cluster().await.unwrap();
    assert_eq!(cluster.cluster_id, client.cluster_id());

    admin.delete_topic("two").await.unwrap();
    let error = admin.describe_topic("two").await.unwrap_err();
    assert!(error.to_string().contains("topic two"), "{error}");
}
