//! What one library writes, each of them reads: the same keys, values, headers and timestamps, for
//! each codec, and compressed in the broker's files if the producer compressed it.

use std::collections::HashMap;

use klamm::client::{partition_of_key, ProducerConfig, ProducerRecord};
use klamm::record::Codec;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::message::{Message, Timestamp};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};

use crate::broker_process::Broker;
use crate::entry::{many, peculiar, with_peculiar_headers, Entry, TIME};
use crate::library::{admin, consumer_at, klamm, next, next_message, rdkafka, send, Library, WAIT};
use crate::log_files::batches;
use crate::report::{Client, Row};

pub async fn create_topic(broker: &Broker, name: &str, partitions: i32) {
    let topics = [NewTopic::new(name, partitions, TopicReplication::Fixed(1))];
    let admin = admin(broker);
    let created = admin.create_topics(&topics, &AdminOptions::new()).await;
    assert_eq!(created.unwrap(), [Ok(name.to_owned())]);
}

async fn exchange(writer: Library, codec: Codec, readers: &[Library], entries: &[Entry]) {
    let broker = Broker::start();
    create_topic(&broker, "exchange", 1).await;
    writer.write(&broker, "exchange", codec, entries).await;
    let codecs: Vec<Codec> = batches(&broker)
        .iter()
        .map(|batch| batch.attributes.codec().unwrap())
        .collect();
    assert!(
        codecs.iter().all(|is| *is == codec),
        "{codec:?}: {codecs:?}"
    );
    for reader in readers {
        let read = reader.read(&broker, "exchange", entries.len()).await;
        for (read, written) in read.iter().zip(entries) {
            assert_eq!(read, written, "{writer:?} to {reader:?}, {codec:?}");
        }
        assert_eq!(read.len(), entries.len());
    }
}

#[tokio::test]
async fn what_rdkafka_writes_with_each_codec_is_read_by_all() {
    let row = Row::new(Client::Rdkafka, "produces with none, gzip, snappy, lz4 and zstd: compressed in the log's files, and the same for rdkafka, rskafka and klamm::client");
    for codec in Codec::ALL {
        exchange(Library::Rdkafka, codec, &Library::ALL, &many()).await;
    }
    row.works();
}

#[tokio::test]
async fn what_rskafka_writes_with_each_codec_is_read_by_all() {
    let row = Row::new(Client::Rskafka, "produces with none, gzip, snappy, lz4 and zstd: compressed in the log's files, and the same for rdkafka, rskafka and klamm::client");
    for codec in Codec::ALL {
        exchange(Library::Rskafka, codec, &Library::ALL, &many()).await;
    }
    row.works();
}

#[tokio::test]
async fn what_klamm_writes_with_each_codec_is_read_by_all() {
    let rdkafka = Row::new(
        Client::Rdkafka,
        "consumes what klamm::client wrote with none, gzip, snappy, lz4 and zstd",
    );
    let rskafka = Row::new(
        Client::Rskafka,
        "consumes what klamm::client wrote with none, gzip, snappy, lz4 and zstd",
    );
    for codec in Codec::ALL {
        exchange(Library::Klamm, codec, &Library::ALL, &many()).await;
    }
    rdkafka.works();
    rskafka.works();
}

#[tokio::test]
async fn nulls_empty_values_and_odd_times_pass_unchanged() {
    let rdkafka = Row::new(Client::Rdkafka, "keys and values that are null or empty (tombstones), headers, any timestamps: from and to rdkafka, rskafka and klamm::client");
    let rskafka = Row::new(Client::Rskafka, "keys and values that are null or empty (tombstones), headers, any timestamps: from and to rdkafka, rskafka and klamm::client");
    for writer in Library::ALL {
        exchange(writer, Codec::None, &Library::ALL, &peculiar()).await;
    }
    rdkafka.works();
    rskafka.works();
}

#[tokio::test]
async fn null_and_repeated_headers_pass_unchanged() {
    let row = Row::new(
        Client::Rdkafka,
        "headers that are null or have one name twice: from and to rdkafka and klamm::client",
    );
    let libraries = [Library::Rdkafka, Library::Klamm];
    for writer in libraries {
        exchange(writer, Codec::None, &libraries, &with_peculiar_headers()).await;
    }
    row.works();
}

#[tokio::test]
async fn each_acks_delivers() {
    let row = Row::new(Client::Rdkafka, "acks 0, 1 and all");
    let broker = Broker::start();
    for acks in ["0", "1", "all"] {
        let topic = format!("acks-{acks}");
        create_topic(&broker, &topic, 1).await;
        let producer: FutureProducer = rdkafka(&broker, &[("acks", acks)]);
        let sent = many();
        let deliveries = sent.iter().map(|entry| send(&producer, &topic, 0, entry));
        let deliveries: Vec<_> = deliveries.collect();
        for (delivery, offset) in deliveries.into_iter().zip(0..) {
            let delivery = delivery.await.unwrap().unwrap();
            assert!(acks == "0" || delivery.offset == offset, "{delivery:?}");
        }
        let consumer = consumer_at(&broker, &topic, 0, Offset::Offset(0), &[]);
        for entry in sent {
            assert_eq!(next(&consumer), entry, "acks={acks}");
        }
    }
    row.works();
}

#[tokio::test]
async fn a_key_goes_to_the_same_partition_whoever_writes_it() {
    let row = Row::new(
        Client::Rdkafka,
        "partitioner murmur2 puts each key where klamm::client does; a consumer of all partitions gets all",
    );
    const PARTITIONS: i32 = 5;
    let broker = Broker::start();
    create_topic(&broker, "keys", PARTITIONS).await;
    let settings = [("partitioner", "murmur2_random")];
    let producer: FutureProducer = rdkafka(&broker, &settings);
    let keys: Vec<String> = (0..50).map(|n| format!("key {n}")).collect();
    for key in &keys {
        let record = FutureRecord::to("keys").key(key).payload("by rdkafka");
        let delivery = producer.send(record, WAIT).await.unwrap();
        let expected = partition_of_key(key.as_bytes(), PARTITIONS);
        assert_eq!(delivery.partition, expected, "{key}");
    }
    let client = klamm(&broker).await;
    let producer = client.producer(ProducerConfig::default());
    for key in &keys {
        let record = ProducerRecord::to("keys")
            .key(key.as_bytes())
            .value(b"by klamm");
        producer.send(record).await.unwrap();
    }
    producer.close().await;

    let consumer = consumer_at(&broker, "keys", 0, Offset::Offset(0), &[]);
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset("keys", partition, Offset::Offset(0))
            .unwrap();
    }
    consumer.assign(&all).unwrap();
    let mut places: HashMap<Vec<u8>, Vec<i32>> = HashMap::new();
    for _ in 0..2 * keys.len() {
        let message = next_message(&consumer);
        let key = message.key().unwrap().to_vec();
        places.entry(key).or_default().push(message.partition());
    }
    assert_eq!(places.len(), keys.len());
    assert!(places
        .values()
        .all(|of_key| of_key.len() == 2 && of_key[0] == of_key[1]));
    row.works();
}

#[tokio::test]
async fn the_broker_gives_the_time_where_the_topic_says_so() {
    let row = Row::new(
        Client::Rdkafka,
        "with message.timestamp.type=LogAppendTime, producer and consumer see the broker's time",
    );
    let broker = Broker::start();
    let topics = [NewTopic::new("t", 1, TopicReplication::Fixed(1))
        .set("message.timestamp.type", "LogAppendTime")];
    let admin = admin(&broker);
    let created = admin.create_topics(&topics, &AdminOptions::new()).await;
    assert_eq!(created.unwrap(), [Ok("t".to_owned())]);
    let producer: FutureProducer = rdkafka(&broker, &[]);
    let delivery = send(&producer, "t", 0, &many()[0]).await;
    let given = delivery.unwrap().unwrap().timestamp;
    assert!(
        matches!(given, Timestamp::LogAppendTime(time) if time > TIME),
        "{given:?}"
    );
    let consumer = consumer_at(&broker, "t", 0, Offset::Offset(0), &[]);
    assert_eq!(next_message(&consumer).timestamp(), given);
    row.works();
}
