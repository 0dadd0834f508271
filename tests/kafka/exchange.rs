//! What one library writes, each of them reads: the same keys, values, headers and timestamps, for
//! each codec, and compressed in the broker's files if the producer compressed it.

use klamm::record::Codec;

use crate::broker_process::Broker;
use crate::entry::{many, peculiar, with_peculiar_headers, Entry};
use crate::library::{admin, consumer_at, next, rdkafka, send, Library, CODECS};
use crate::log_files::batches;
use crate::report::{Client, Row};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::producer::FutureProducer;
use rdkafka::Offset;

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
    for codec in CODECS {
        exchange(Library::Rdkafka, codec, &Library::ALL, &many()).await;
    }
    row.works();
}

#[tokio::test]
async fn what_rskafka_writes_with_each_codec_is_read_by_all() {
    let row = Row::new(Client::Rskafka, "produces with none, gzip, snappy, lz4 and zstd: compressed in the log's files, and the same for rdkafka, rskafka and klamm::client");
    for codec in CODECS {
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
    for codec in CODECS {
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
