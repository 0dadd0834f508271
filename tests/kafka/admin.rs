//! Topics and configs, administrated by librdkafka's AdminClient and by rskafka.

use klamm::record::Codec;
use rdkafka::admin::{
    AdminOptions, AlterConfig, ConfigResource, ConfigSource, NewPartitions, NewTopic,
    OwnedResourceSpecifier, ResourceSpecifier, TopicReplication,
};
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::partition::OffsetAt;

use crate::broker_process::Broker;
use crate::entry::many;
use crate::exchange::create_topic;
use crate::library::{admin, consumer_at, next_message, rskafka, rskafka_client, Library, WAIT};
use crate::report::{Client, Row};

const TOPIC: ResourceSpecifier = ResourceSpecifier::Topic("t");

fn one_replica(name: &str, partitions: i32) -> NewTopic<'_> {
    NewTopic::new(name, partitions, TopicReplication::Fixed(1))
}

async fn configs(broker: &Broker, of: ResourceSpecifier<'_>) -> ConfigResource {
    let admin = admin(broker);
    let described = admin.describe_configs(&[of], &AdminOptions::new()).await;
    described.unwrap().remove(0).unwrap()
}

/// Value and source of a config of topic `t`.
async fn config(broker: &Broker, name: &str) -> (String, ConfigSource) {
    let mut configs = configs(broker, TOPIC).await;
    let place = configs.entries.iter().position(|entry| entry.name == name);
    let entry = configs.entries.swap_remove(place.unwrap());
    (entry.value.unwrap(), entry.source)
}

#[tokio::test]
async fn rdkafka_creates_grows_and_deletes_topics() {
    let row = Row::new(Client::Rdkafka, "AdminClient: creates topics with configs, adds partitions, deletes topics; each refusal has Kafka's code");
    let broker = Broker::start();
    let admin = admin(&broker);
    let options = AdminOptions::new().operation_timeout(Some(WAIT));
    let topics = [
        one_replica("t", 2).set("retention.ms", "3600000"),
        one_replica("u", 1),
        one_replica("no/name", 1),
        one_replica("none", 0),
        one_replica("odd", 1).set("retention.ms", "long"),
        NewTopic::new("two", 1, TopicReplication::Fixed(2)),
    ];
    let created = admin.create_topics(&topics, &options).await.unwrap();
    let refused = |name: &str, code| Err((name.to_owned(), code));
    let expected = [
        Ok("t".to_owned()),
        Ok("u".to_owned()),
        refused("no/name", RDKafkaErrorCode::InvalidTopic),
        refused("none", RDKafkaErrorCode::InvalidPartitions),
        refused("odd", RDKafkaErrorCode::InvalidConfig),
        refused("two", RDKafkaErrorCode::InvalidReplicationFactor),
    ];
    assert_eq!(created, expected);
    let again = admin.create_topics(&topics[..1], &options).await.unwrap();
    assert_eq!(again, [refused("t", RDKafkaErrorCode::TopicAlreadyExists)]);

    let grown = [NewPartitions::new("t", 5), NewPartitions::new("u", 1)];
    let grown = admin.create_partitions(&grown, &options).await.unwrap();
    let refusal = refused("u", RDKafkaErrorCode::InvalidPartitions);
    assert_eq!(grown, [Ok("t".to_owned()), refusal]);
    let known = admin.inner().fetch_metadata(Some("t"), WAIT).unwrap();
    assert_eq!(known.topics()[0].partitions().len(), 5);

    let gone = admin.delete_topics(&["u", "v"], &options).await.unwrap();
    let refusal = refused("v", RDKafkaErrorCode::UnknownTopicOrPartition);
    assert_eq!(gone, [Ok("u".to_owned()), refusal]);
    let known = admin.inner().fetch_metadata(None, WAIT).unwrap();
    let names: Vec<&str> = known.topics().iter().map(|topic| topic.name()).collect();
    assert_eq!(names, ["t"]);
    row.works();
}

#[tokio::test]
async fn rdkafka_describes_and_alters_configs() {
    let row = Row::new(
        Client::Rdkafka,
        "AdminClient: describes configs of topics and brokers with their sources, alters a topic's",
    );
    let broker = Broker::start_with(&[("KLAMM__LOG__SEGMENT_BYTES", "2000000")]);
    let admin = admin(&broker);
    let options = AdminOptions::new();
    let topic = one_replica("t", 1).set("max.message.bytes", "1000");
    admin.create_topics(&[topic], &options).await.unwrap();
    let described = |value: &str, source| (value.to_owned(), source);
    for (name, expected) in [
        (
            "max.message.bytes",
            described("1000", ConfigSource::DynamicTopic),
        ),
        (
            "segment.bytes",
            described("2000000", ConfigSource::StaticBroker),
        ),
        (
            "index.interval.bytes",
            described("4096", ConfigSource::Default),
        ),
    ] {
        assert_eq!(config(&broker, name).await, expected, "{name}");
    }

    // What it doesn't name goes back to its default.
    let change = AlterConfig::new(TOPIC).set("retention.bytes", "5000");
    let altered = admin.alter_configs(&[change], &options).await.unwrap();
    assert_eq!(altered, [Ok(OwnedResourceSpecifier::Topic("t".into()))]);
    for (name, expected) in [
        (
            "max.message.bytes",
            described("1048588", ConfigSource::Default),
        ),
        (
            "retention.bytes",
            described("5000", ConfigSource::DynamicTopic),
        ),
    ] {
        assert_eq!(config(&broker, name).await, expected, "{name}");
    }
    // rdkafka itself tells nobody that this was refused.
    let change = AlterConfig::new(TOPIC).set("retention.bytes", "-2");
    let refused = admin.alter_configs(&[change], &options).await;
    assert!(refused.is_ok(), "{refused:?}");
    let kept = described("5000", ConfigSource::DynamicTopic);
    assert_eq!(config(&broker, "retention.bytes").await, kept);

    let of_broker = configs(&broker, ResourceSpecifier::Broker(1)).await;
    let segment_bytes = of_broker.get("log.segment.bytes").unwrap();
    assert_eq!(segment_bytes.value.as_deref(), Some("2000000"));
    assert_eq!(segment_bytes.source, ConfigSource::StaticBroker);
    row.works();
}

#[tokio::test]
async fn rdkafka_deletes_records() {
    let row = Row::new(
        Client::Rdkafka,
        "AdminClient: deletes records; consumers begin after them",
    );
    let broker = Broker::start();
    create_topic(&broker, "t", 1).await;
    let written = many();
    Library::Klamm
        .write(&broker, "t", Codec::None, &written)
        .await;
    let admin = admin(&broker);
    let mut before = TopicPartitionList::new();
    before
        .add_partition_offset("t", 0, Offset::Offset(50))
        .unwrap();
    let deleted = admin.delete_records(&before, &AdminOptions::new()).await;
    let deleted = deleted.unwrap();
    let partition = deleted.find_partition("t", 0).unwrap();
    assert_eq!(
        (partition.error(), partition.offset()),
        (Ok(()), Offset::Offset(50))
    );

    let reset = [("auto.offset.reset", "earliest")];
    let consumer = consumer_at(&broker, "t", 0, Offset::Offset(10), &reset);
    assert_eq!(next_message(&consumer).offset(), 50);
    let watermarks = consumer.fetch_watermarks("t", 0, WAIT);
    assert_eq!(watermarks, Ok((50, written.len() as i64)));
    row.works();
}

#[tokio::test]
async fn rskafka_administrates_topics() {
    let row = Row::new(
        Client::Rskafka,
        "creates, lists and deletes topics, deletes records",
    );
    let broker = Broker::start();
    let client = rskafka_client(&broker).await;
    let controller = client.controller_client().unwrap();
    controller.create_topic("t", 2, 1, 5_000).await.unwrap();
    controller.create_topic("u", 1, 1, 5_000).await.unwrap();
    let error = controller.create_topic("u", 1, 1, 5_000).await.unwrap_err();
    let exists = ProtocolError::TopicAlreadyExists;
    assert!(matches!(error, Error::ServerError { protocol_error, .. } if protocol_error == exists));
    controller.delete_topic("u", 5_000).await.unwrap();
    let topics = client.list_topics().await.unwrap();
    let partitions: Vec<i32> = topics[0].partitions.iter().copied().collect();
    assert_eq!((&*topics[0].name, topics.len()), ("t", 1));
    assert_eq!(partitions, [0, 1]);

    Library::Rskafka
        .write(&broker, "t", Codec::None, &many())
        .await;
    let partition = rskafka(&broker, "t", 0).await;
    partition.delete_records(50, 5_000).await.unwrap();
    assert_eq!(partition.get_offset(OffsetAt::Earliest).await.unwrap(), 50);
    row.works();
}
