//! Topics that come, grow and go while clients use them.

use rdkafka::admin::{AdminOptions, NewPartitions};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, Producer};
use rdkafka::Offset;
use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::partition::{Compression, UnknownTopicHandling};

use crate::broker_process::Broker;
use crate::entry::Entry;
use crate::exchange::create_topic;
use crate::library::{
    admin, consumer_at, next, next_event, rdkafka, rskafka, rskafka_client, rskafka_record, send,
    WAIT,
};
use crate::report::{Client, Row};

fn no_auto_creation() -> Broker {
    Broker::start_with(&[("KLAMM__TOPICS__AUTO_CREATE_TOPICS_ENABLE", "false")])
}

fn is_unknown_topic(error: &Error) -> bool {
    let unknown = ProtocolError::UnknownTopicOrPartition;
    matches!(error, Error::ServerError { protocol_error, .. } if *protocol_error == unknown)
}

/// Which of them it is depends on what librdkafka hears first: the answer to its request, or that
/// the metadata has no such topic any more.
fn says_unknown(error: &KafkaError) -> bool {
    let expected = [
        RDKafkaErrorCode::UnknownTopicOrPartition,
        RDKafkaErrorCode::UnknownTopic,
        RDKafkaErrorCode::UnknownPartition,
    ];
    let code = error.rdkafka_error_code();
    code.is_some_and(|code| expected.contains(&code))
}

#[tokio::test]
async fn rdkafka_creates_a_topic_by_producing_to_it() {
    let row = Row::new(
        Client::Rdkafka,
        "producing to an unknown topic creates it; a consumer's question doesn't",
    );
    let broker = Broker::start();
    let asking: BaseConsumer = rdkafka(&broker, &[("group.id", "none")]);
    let asked = asking.fetch_metadata(Some("new"), WAIT).unwrap();
    let error = asked.topics()[0].error().map(RDKafkaErrorCode::from);
    assert_eq!(error, Some(RDKafkaErrorCode::UnknownTopicOrPartition));
    let producer: FutureProducer = rdkafka(&broker, &[]);
    let sent = send(&producer, "new", 0, &Entry::value("first")).await;
    assert_eq!(sent.unwrap().unwrap().offset, 0);
    let asked = asking.fetch_metadata(Some("new"), WAIT).unwrap();
    assert_eq!(asked.topics()[0].partitions().len(), 1);
    row.works();
}

#[tokio::test]
async fn rskafka_creates_a_topic_by_asking_for_it() {
    let row = Row::new(Client::Rskafka, "asking for an unknown topic creates it");
    let broker = Broker::start();
    let partition = rskafka(&broker, "new", 0).await;
    let record = rskafka_record(&Entry::value("first"));
    let produced = partition.produce(vec![record], Compression::NoCompression);
    assert_eq!(produced.await.unwrap(), [0]);
    row.works();
}

#[tokio::test]
async fn rdkafka_finds_partitions_that_were_added() {
    let row = Row::new(Client::Rdkafka, "partitions that are added while producer and consumer run are used after the next metadata");
    let broker = Broker::start();
    create_topic(&broker, "grows", 1).await;
    let producer: FutureProducer = rdkafka(&broker, &[]);
    let first = send(&producer, "grows", 0, &Entry::value("in the first")).await;
    assert_eq!(first.unwrap().unwrap().offset, 0);
    let new = [NewPartitions::new("grows", 3)];
    let admin = admin(&broker);
    let grown = admin.create_partitions(&new, &AdminOptions::new()).await;
    assert_eq!(grown.unwrap(), [Ok("grows".to_owned())]);

    let asked = producer.client().fetch_metadata(Some("grows"), WAIT);
    assert_eq!(asked.unwrap().topics()[0].partitions().len(), 3);
    let entry = Entry::value("in the third");
    let last = send(&producer, "grows", 2, &entry).await.unwrap().unwrap();
    assert_eq!((last.partition, last.offset), (2, 0));
    let consumer = consumer_at(&broker, "grows", 2, Offset::Offset(0), &[]);
    assert_eq!(next(&consumer), entry);
    row.works();
}

#[tokio::test]
async fn rskafka_finds_partitions_that_were_added() {
    let row = Row::new(
        Client::Rskafka,
        "partitions that are added while the client runs are used after the next metadata",
    );
    let broker = Broker::start();
    create_topic(&broker, "grows", 1).await;
    let client = rskafka_client(&broker).await;
    let third = || client.partition_client("grows", 2, UnknownTopicHandling::Error);
    let error = third().await.unwrap_err().to_string();
    assert!(error.contains("partition 2 in topic \"grows\""), "{error}");
    let new = [NewPartitions::new("grows", 3)];
    let admin = admin(&broker);
    let grown = admin.create_partitions(&new, &AdminOptions::new()).await;
    assert_eq!(grown.unwrap(), [Ok("grows".to_owned())]);

    // What it knows of a topic it asks for anew only when it is made to.
    client.list_topics().await.unwrap();
    let partition = third().await.unwrap();
    let record = rskafka_record(&Entry::value("in the third"));
    let produced = partition.produce(vec![record], Compression::NoCompression);
    assert_eq!(produced.await.unwrap(), [0]);
    row.works();
}

#[tokio::test]
async fn rdkafka_is_told_that_its_topic_is_deleted() {
    let row = Row::new(Client::Rdkafka, "producer and consumer of a topic that is deleted are told that it is unknown, and the others are served");
    let broker = no_auto_creation();
    for topic in ["goes", "stays"] {
        create_topic(&broker, topic, 1).await;
    }
    // How long the client hopes that the topic is only late.
    let hope = ("topic.metadata.propagation.max.ms", "100");
    let refresh = ("topic.metadata.refresh.interval.ms", "100");
    let producer: FutureProducer = rdkafka(&broker, &[hope, refresh]);
    let entry = Entry::value("before");
    let sent = send(&producer, "goes", 0, &entry).await;
    sent.unwrap().unwrap();
    let consumer = consumer_at(&broker, "goes", 0, Offset::Offset(0), &[hope, refresh]);
    assert_eq!(next(&consumer), entry);

    let admin = admin(&broker);
    let deleted = admin.delete_topics(&["goes"], &AdminOptions::new()).await;
    assert_eq!(deleted.unwrap(), [Ok("goes".to_owned())]);
    let refused = send(&producer, "goes", 0, &entry).await;
    let (error, _) = refused.unwrap().unwrap_err();
    assert!(says_unknown(&error), "{error}");
    let error = next_event(&consumer).unwrap_err();
    assert!(says_unknown(&error), "{error}");

    let sent = send(&producer, "stays", 0, &entry).await;
    assert_eq!(sent.unwrap().unwrap().offset, 0);
    row.works();
}

#[tokio::test]
async fn rskafka_is_told_that_its_topic_is_deleted() {
    let row = Row::new(Client::Rskafka, "producer and consumer of a topic that is deleted are told that it is unknown, and the others are served");
    let broker = no_auto_creation();
    for topic in ["goes", "stays"] {
        create_topic(&broker, topic, 1).await;
    }
    let client = rskafka_client(&broker).await;
    let goes = rskafka(&broker, "goes", 0).await;
    let record = || vec![rskafka_record(&Entry::value("before"))];
    let produced = goes.produce(record(), Compression::NoCompression);
    assert_eq!(produced.await.unwrap(), [0]);

    // Its consumer waits at the end while the topic is deleted.
    let (waited, deleted) = tokio::join!(
        biased;
        goes.fetch_records(1, 1..1_000_000, 30_000),
        async { client.controller_client().unwrap().delete_topic("goes", 5_000).await },
    );
    deleted.unwrap();
    let produced = goes.produce(record(), Compression::NoCompression).await;
    for error in [waited.unwrap_err(), produced.unwrap_err()] {
        assert!(is_unknown_topic(&error), "{error}");
    }
    let stays = rskafka(&broker, "stays", 0).await;
    let produced = stays.produce(record(), Compression::NoCompression);
    assert_eq!(produced.await.unwrap(), [0]);
    row.works();
}
