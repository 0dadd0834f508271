//! The three libraries, each as its users set it up, and what all of them can do: write records to
//! a partition, and read them back.

use std::collections::BTreeMap;
use std::time::Duration;

use klamm::client::{Consumer, ConsumerConfig, ProducerConfig, ProducerRecord, StartAt};
use klamm::model::{Offset, Timestamp};
use klamm::record::{Codec, Header};
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::message::{BorrowedMessage, Headers as _, Message, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::ClientConfig;
use rskafka::chrono::DateTime;
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::client::ClientBuilder;
use rskafka::record::Record;

use crate::broker_process::Broker;
use crate::entry::Entry;

/// How long a test waits for anything before it fails. Never reached when all is well.
pub const WAIT: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    Rdkafka,
    Rskafka,
    Klamm,
}

impl Library {
    pub const ALL: [Library; 3] = [Library::Rdkafka, Library::Rskafka, Library::Klamm];

    /// Writes to partition 0, in this order, and returns when all is acknowledged.
    pub async fn write(self, broker: &Broker, topic: &str, codec: Codec, entries: &[Entry]) {
        match self {
            Library::Rdkafka => {
                let codec = ("compression.type", codec_name(codec));
                let producer: FutureProducer = rdkafka(broker, &[codec, ("linger.ms", "50")]);
                let sent = entries.iter().map(|entry| send(&producer, topic, 0, entry));
                for delivery in sent.collect::<Vec<_>>() {
                    delivery.await.unwrap().unwrap();
                }
            }
            Library::Rskafka => {
                let partition = rskafka(broker, topic, 0).await;
                let records = entries.iter().map(rskafka_record).collect();
                let codec = rskafka_compression(codec);
                partition.produce(records, codec).await.unwrap();
            }
            Library::Klamm => {
                let producer = klamm(broker).await.producer(ProducerConfig {
                    codec,
                    ..ProducerConfig::default()
                });
                for entry in entries {
                    klamm_send(&producer, topic, entry).await;
                }
                producer.close().await;
                assert_eq!(producer.first_error(), None);
            }
        }
    }

    /// The first records of partition 0.
    pub async fn read(self, broker: &Broker, topic: &str, count: usize) -> Vec<Entry> {
        match self {
            Library::Rdkafka => {
                let consumer = consumer_at(broker, topic, 0, rdkafka::Offset::Offset(0), &[]);
                (0..count).map(|_| next(&consumer)).collect()
            }
            Library::Rskafka => {
                let partition = rskafka(broker, topic, 0).await;
                let mut entries = Vec::new();
                while entries.len() < count {
                    let from = entries.len() as i64;
                    let fetched = partition.fetch_records(from, 1..10_000_000, 1_000).await;
                    let records = fetched.unwrap().0.into_iter();
                    entries.extend(records.map(|record| rskafka_entry(record.record)));
                }
                entries
            }
            Library::Klamm => {
                let mut consumer = klamm(broker).await.consumer(ConsumerConfig::default());
                let from = StartAt::Offset(Offset(0));
                consumer.assign(topic, 0, from).await.unwrap();
                let mut entries = Vec::new();
                while entries.len() < count {
                    klamm_poll(&mut consumer, &mut entries).await;
                }
                entries
            }
        }
    }
}

/// A client of librdkafka with these settings: a producer, a consumer or an admin.
pub fn rdkafka<C: FromClientConfig>(broker: &Broker, settings: &[(&str, &str)]) -> C {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &broker.kafka);
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config.create().unwrap()
}

pub fn admin(broker: &Broker) -> AdminClient<DefaultClientContext> {
    rdkafka(broker, &[])
}

/// A consumer of this partition, by assignment: there are no consumer groups yet. To find a logical
/// offset takes librdkafka half a second, so most tests name one.
pub fn consumer_at(
    broker: &Broker,
    topic: &str,
    partition: i32,
    offset: rdkafka::Offset,
    settings: &[(&str, &str)],
) -> BaseConsumer {
    let fixed = [
        // librdkafka makes no consumer without a group.
        ("group.id", "none"),
        ("enable.auto.commit", "false"),
        // What has nothing more to fetch is sought and closed only when the last fetch has ended.
        ("fetch.wait.max.ms", "10"),
    ];
    let settings = [&fixed[..], settings].concat();
    let consumer: BaseConsumer = rdkafka(broker, &settings);
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset(topic, partition, offset)
        .unwrap();
    consumer.assign(&assignment).unwrap();
    consumer
}

/// The next record; anything else fails the test.
pub fn next(consumer: &BaseConsumer) -> Entry {
    entry(&next_message(consumer))
}

pub fn next_message(consumer: &BaseConsumer) -> BorrowedMessage<'_> {
    next_event(consumer).unwrap()
}

/// The next record or error.
pub fn next_event(consumer: &BaseConsumer) -> KafkaResult<BorrowedMessage<'_>> {
    consumer.poll(WAIT).expect("something comes in time")
}

pub fn entry(message: &BorrowedMessage) -> Entry {
    let headers = message.headers().into_iter().flat_map(|h| h.iter());
    Entry {
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers
            .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
            .collect(),
        timestamp: message.timestamp().to_millis().unwrap(),
    }
}

/// Gives a record to librdkafka, which sends it in its order.
pub fn send(
    producer: &FutureProducer,
    topic: &str,
    partition: i32,
    entry: &Entry,
) -> DeliveryFuture {
    let mut headers = OwnedHeaders::new_with_capacity(entry.headers.len());
    for (key, value) in &entry.headers {
        headers = headers.insert(rdkafka::message::Header {
            key,
            value: value.as_ref(),
        });
    }
    let mut record: FutureRecord<Vec<u8>, Vec<u8>> = FutureRecord::to(topic)
        .partition(partition)
        .timestamp(entry.timestamp)
        .headers(headers);
    (record.key, record.payload) = (entry.key.as_ref(), entry.value.as_ref());
    let queued = producer.send_result(record);
    queued.map_err(|(error, _)| error).unwrap()
}

fn codec_name(codec: Codec) -> &'static str {
    match codec {
        Codec::None => "none",
        Codec::Gzip => "gzip",
        Codec::Snappy => "snappy",
        Codec::Lz4 => "lz4",
        Codec::Zstd => "zstd",
    }
}

pub async fn rskafka_client(broker: &Broker) -> rskafka::client::Client {
    let client = ClientBuilder::new(vec![broker.kafka.clone()]);
    client.build().await.unwrap()
}

pub async fn rskafka(broker: &Broker, topic: &str, partition: i32) -> PartitionClient {
    let client = rskafka_client(broker).await;
    let found = client.partition_client(topic, partition, UnknownTopicHandling::Error);
    found.await.unwrap()
}

pub fn rskafka_record(entry: &Entry) -> Record {
    let headers = entry.headers.iter();
    let headers = headers.map(|(key, value)| (key.clone(), value.clone().unwrap()));
    Record {
        key: entry.key.clone(),
        value: entry.value.clone(),
        headers: headers.collect::<BTreeMap<_, _>>(),
        timestamp: DateTime::from_timestamp_millis(entry.timestamp).unwrap(),
    }
}

pub fn rskafka_entry(record: Record) -> Entry {
    let headers = record.headers.into_iter();
    Entry {
        key: record.key,
        value: record.value,
        headers: headers.map(|(key, value)| (key, Some(value))).collect(),
        timestamp: record.timestamp.timestamp_millis(),
    }
}

fn rskafka_compression(codec: Codec) -> Compression {
    match codec {
        Codec::None => Compression::NoCompression,
        Codec::Gzip => Compression::Gzip,
        Codec::Snappy => Compression::Snappy,
        Codec::Lz4 => Compression::Lz4,
        Codec::Zstd => Compression::Zstd,
    }
}

pub async fn klamm(broker: &Broker) -> klamm::client::Client {
    let client = klamm::client::Client::connect(broker.address.as_str());
    client.await.unwrap()
}

async fn klamm_send(producer: &klamm::client::Producer, topic: &str, entry: &Entry) {
    let headers = entry.headers.iter().map(|(key, value)| Header {
        key,
        value: value.as_deref(),
    });
    let headers: Vec<Header> = headers.collect();
    let record = ProducerRecord {
        topic,
        partition: Some(0),
        key: entry.key.as_deref(),
        value: entry.value.as_deref(),
        headers: &headers,
        timestamp: Some(Timestamp(entry.timestamp)),
    };
    producer.send(record).await.unwrap();
}

async fn klamm_poll(consumer: &mut Consumer, entries: &mut Vec<Entry>) {
    for batch in &consumer.poll(WAIT).await.unwrap() {
        for record in batch.records() {
            let headers = record.headers.iter();
            let headers =
                headers.map(|header| (header.key.into(), header.value.map(<[u8]>::to_vec)));
            entries.push(Entry {
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: headers.collect(),
                timestamp: record.timestamp.0,
            });
        }
    }
}
