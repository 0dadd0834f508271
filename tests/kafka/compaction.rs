//! Compacted topics: what is left is read by every library at the offsets where it was written, though
//! most of what was between is gone.

use std::collections::BTreeMap;
use std::time::Instant;

use klamm::client::{ConsumerConfig, StartAt};
use klamm::model::Offset;
use klamm::record::{BatchHeader, Codec};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::FutureProducer;

use crate::broker_process::Broker;
use crate::entry::{Entry, TIME};
use crate::library::{
    admin, consumer_at, entry, klamm, next_message, rdkafka, rskafka, rskafka_entry, send, Library,
    WAIT,
};
use crate::log_files::batches;
use crate::report::{Client, Row};

const KEYS: u64 = 40;
const RECORDS: u64 = 3_000;
/// A segment has at least 1 MiB, so some 500 of these.
const VALUE_BYTES: usize = 2_000;
/// The active segment isn't compacted.
const RECORDS_LEFT_MAX: usize = 1_000;

const CONFIGS: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "1048576"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("delete.retention.ms", "60000"),
];

async fn compacted_topic(broker: &Broker, name: &str) {
    let mut topic = NewTopic::new(name, 1, TopicReplication::Fixed(1));
    for (key, value) in CONFIGS {
        topic = topic.set(key, value);
    }
    let admin = admin(broker);
    let created = admin.create_topics(&[topic], &AdminOptions::new()).await;
    assert_eq!(created.unwrap(), [Ok(name.to_owned())]);
}

fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let byte = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    // librdkafka sends what becomes no smaller as it is.
    let part: Vec<u8> = (0..bytes / 4).map(byte).collect();
    part.repeat(4)
}

/// Every tenth deletes its key.
fn record(number: u64) -> Entry {
    Entry {
        key: Some(format!("key {}", number % KEYS).into_bytes()),
        value: (number % 10 != 9 || number.is_multiple_of(3)).then(|| noise(VALUE_BYTES, number)),
        ..Entry::value("").at(TIME + number as i64)
    }
}

/// What a library finds from the first offset to the last, which must be there.
async fn read(library: Library, broker: &Broker, topic: &str, last: i64) -> BTreeMap<i64, Entry> {
    let mut found = BTreeMap::new();
    let is_last = |found: &BTreeMap<i64, Entry>| found.contains_key(&last);
    match library {
        Library::Rdkafka => {
            let consumer = consumer_at(broker, topic, 0, rdkafka::Offset::Offset(0), &[]);
            while !is_last(&found) {
                let message = next_message(&consumer);
                found.insert(message.offset(), entry(&message));
            }
        }
        Library::Rskafka => {
            let partition = rskafka(broker, topic, 0).await;
            let mut from = 0;
            while !is_last(&found) {
                let fetched = partition.fetch_records(from, 1..10_000_000, 1_000).await;
                for record in fetched.unwrap().0 {
                    from = record.offset + 1;
                    found.insert(record.offset, rskafka_entry(record.record));
                }
            }
        }
        Library::Klamm => {
            let mut consumer = klamm(broker).await.consumer(ConsumerConfig::default());
            let from = StartAt::Offset(Offset(0));
            consumer.assign(topic, 0, from).await.unwrap();
            while !is_last(&found) {
                for batch in &consumer.poll(WAIT).await.unwrap() {
                    for record in batch.records() {
                        let entry = Entry {
                            key: record.key.map(<[u8]>::to_vec),
                            value: record.value.map(<[u8]>::to_vec),
                            headers: Vec::new(),
                            timestamp: record.timestamp.0,
                        };
                        found.insert(record.offset.0, entry);
                    }
                }
            }
        }
    }
    found
}

/// The last of each key is there, and whatever is there is what was written there.
fn check(found: &BTreeMap<i64, Entry>, context: &str) {
    for (offset, entry) in found {
        assert_eq!(*entry, record(*offset as u64), "{context}: {offset}");
    }
    for last in RECORDS - KEYS..RECORDS {
        assert!(found.contains_key(&(last as i64)), "{context}: {last}");
    }
}

async fn compacts(writer: Library, codec: Codec) {
    let mut broker = Broker::start_with(&[("KLAMM__LOG__CLEANER_BACKOFF_MS", "100")]);
    compacted_topic(&broker, "states").await;
    let records: Vec<Entry> = (0..RECORDS).map(record).collect();
    for some in records.chunks(50) {
        writer.write(&broker, "states", codec, some).await;
    }
    let last = RECORDS as i64 - 1;
    let began = Instant::now();
    loop {
        let found = read(Library::Klamm, &broker, "states", last).await;
        check(&found, "while it is compacted");
        if found.len() <= RECORDS_LEFT_MAX {
            break;
        }
        assert!(began.elapsed() < WAIT, "{} records are left", found.len());
    }
    for reader in Library::ALL {
        let found = read(reader, &broker, "states", last).await;
        check(&found, &format!("{writer:?} to {reader:?}"));
        assert!(found.len() <= RECORDS_LEFT_MAX);
    }
    broker.kill_and_restart();
    let found = read(Library::Rdkafka, &broker, "states", last).await;
    check(&found, "after kill -9");
    broker.terminate();
    // A lone record without a value becomes no smaller either.
    let with_values = |batch: &BatchHeader| batch.batch_length as usize > VALUE_BYTES / 4;
    for batch in batches(&broker).into_iter().filter(with_values) {
        assert_eq!(batch.attributes.codec().unwrap(), codec);
    }
}

#[tokio::test]
async fn what_is_left_of_a_compacted_topic_is_read_by_all() {
    let row = Row::new(
        Client::Rdkafka,
        "a compacted topic keeps the last record of each key, for rdkafka, rskafka and klamm::client",
    );
    compacts(Library::Rdkafka, Codec::Lz4).await;
    row.works();
}

#[tokio::test]
async fn what_klamms_client_has_written_is_compacted_too() {
    compacts(Library::Klamm, Codec::None).await;
}

#[tokio::test]
async fn a_record_without_a_key_is_refused_by_a_compacted_topic() {
    let row = Row::new(
        Client::Rdkafka,
        "a record without a key fails with INVALID_RECORD where the topic is compacted, and the next one is taken",
    );
    let broker = Broker::start();
    compacted_topic(&broker, "states").await;
    for codec in ["none", "zstd"] {
        let producer: FutureProducer = rdkafka(&broker, &[("compression.type", codec)]);
        let refused = send(&producer, "states", 0, &Entry::value("whose is it?")).await;
        let (error, _) = refused.unwrap().unwrap_err();
        let expected = KafkaError::MessageProduction(RDKafkaErrorCode::InvalidRecord);
        assert_eq!(error, expected);
        let taken = send(&producer, "states", 0, &record(0)).await;
        taken.unwrap().unwrap();
    }
    row.works();
}
