//! Where a partition begins and ends, where a time lies in it, and waiting at its end.

use std::time::{Duration, Instant};

use klamm::record::Codec;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::FutureProducer;
use rdkafka::{Offset, TopicPartitionList};
use rskafka::chrono::DateTime;
use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::partition::{Compression, OffsetAt};

use crate::broker_process::Broker;
use crate::entry::{Entry, TIME};
use crate::exchange::create_topic;
use crate::library::{
    consumer_at, next, next_event, next_message, rdkafka, rskafka, rskafka_record, send, Library,
    WAIT,
};
use crate::report::{Client, Row};

/// How long a fetch may wait in the broker: far longer than a test that is told at once.
const LONG_POLL: Duration = Duration::from_secs(60);
const AT_ONCE: Duration = Duration::from_secs(10);

/// Ten records, a second between one and the next.
async fn seconds(broker: &Broker) {
    create_topic(broker, "seconds", 1).await;
    let entries = (0..10).map(|n| Entry::value(&n.to_string()).at(TIME + n * 1_000));
    let entries: Vec<Entry> = entries.collect();
    // One by one, so that they lie in batches of their own.
    for entry in &entries {
        let entry = std::slice::from_ref(entry);
        Library::Rskafka
            .write(broker, "seconds", Codec::None, entry)
            .await;
    }
}

/// Times, and the offsets that they lie at; none is after the last record.
const WANTED: [(i64, Option<i64>); 5] = [
    (0, Some(0)),
    (TIME, Some(0)),
    (TIME + 4_000, Some(4)),
    (TIME + 4_001, Some(5)),
    (TIME + 9_001, None),
];

fn offset_of_time(consumer: &BaseConsumer, time: i64) -> Offset {
    let mut asked = TopicPartitionList::new();
    asked
        .add_partition_offset("seconds", 0, Offset::Offset(time))
        .unwrap();
    let found = consumer.offsets_for_times(asked, WAIT).unwrap();
    found.elements()[0].offset()
}

#[tokio::test]
async fn rdkafka_finds_watermarks_and_times() {
    let row = Row::new(
        Client::Rdkafka,
        "watermarks, offsets of times, seeks to them",
    );
    let broker = Broker::start();
    seconds(&broker).await;
    let consumer = consumer_at(&broker, "seconds", 0, Offset::Beginning, &[]);
    assert_eq!(consumer.fetch_watermarks("seconds", 0, WAIT), Ok((0, 10)));
    assert_eq!(next_message(&consumer).offset(), 0);
    for (time, offset) in WANTED {
        let wanted = offset.map_or(Offset::End, Offset::Offset);
        let found = offset_of_time(&consumer, time);
        assert_eq!(found, wanted, "{time}");
        if let Some(offset) = offset {
            consumer.seek("seconds", 0, found, WAIT).unwrap();
            assert_eq!(next_message(&consumer).offset(), offset);
        }
    }
    row.works();
}

#[tokio::test]
async fn rskafka_finds_watermarks_and_times() {
    let row = Row::new(
        Client::Rskafka,
        "watermarks, offsets of times, reads from them",
    );
    let broker = Broker::start();
    seconds(&broker).await;
    let partition = rskafka(&broker, "seconds", 0).await;
    let ends = [(OffsetAt::Earliest, 0), (OffsetAt::Latest, 10)];
    for (at, offset) in ends {
        assert_eq!(partition.get_offset(at).await.unwrap(), offset);
    }
    for (time, offset) in WANTED {
        let at = OffsetAt::Timestamp(DateTime::from_timestamp_millis(time).unwrap());
        let found = partition.get_offset(at).await.unwrap();
        assert_eq!(found, offset.unwrap_or(-1), "{time}");
        if let Some(offset) = offset {
            let fetched = partition.fetch_records(found, 1..1_000_000, 1_000).await;
            let (records, high_watermark) = fetched.unwrap();
            assert_eq!((records[0].offset, high_watermark), (offset, 10));
        }
    }
    row.works();
}

#[tokio::test]
async fn an_offset_that_is_not_there_is_an_error_or_a_reset() {
    let rdkafka = Row::new(
        Client::Rdkafka,
        "an offset beyond the end is an error, or a reset, as auto.offset.reset says",
    );
    let rskafka = Row::new(
        Client::Rskafka,
        "an offset beyond the end is OFFSET_OUT_OF_RANGE",
    );
    let broker = Broker::start();
    seconds(&broker).await;
    let beyond = Offset::Offset(11);
    let strict = [("auto.offset.reset", "error")];
    let consumer = consumer_at(&broker, "seconds", 0, beyond, &strict);
    let error = next_event(&consumer).unwrap_err();
    let no_offset = KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset);
    assert_eq!(error, no_offset);
    let tolerant = [("auto.offset.reset", "earliest")];
    let consumer = consumer_at(&broker, "seconds", 0, beyond, &tolerant);
    assert_eq!(next_message(&consumer).offset(), 0);

    let partition = crate::library::rskafka(&broker, "seconds", 0).await;
    let error = partition
        .fetch_records(11, 1..1_000, 1_000)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::ServerError { protocol_error, .. }
            if protocol_error == ProtocolError::OffsetOutOfRange));
    rdkafka.works();
    rskafka.works();
}

#[tokio::test]
async fn rdkafka_is_woken_at_the_end_of_a_log() {
    let row = Row::new(
        Client::Rdkafka,
        "a long poll at the end of a log is answered when a record comes",
    );
    let broker = Broker::start();
    create_topic(&broker, "wait", 1).await;
    let wait = LONG_POLL.as_millis().to_string();
    let socket_timeout = (2 * LONG_POLL).as_millis().to_string();
    let settings = [
        ("fetch.wait.max.ms", &*wait),
        ("socket.timeout.ms", &*socket_timeout),
    ];
    let consumer = consumer_at(&broker, "wait", 0, Offset::Offset(0), &settings);
    let producer: FutureProducer = rdkafka(&broker, &[]);
    for number in 0..20 {
        // After the first, the consumer waits in the broker, or is about to.
        let entry = Entry::value(&number.to_string());
        let sent = Instant::now();
        let delivery = send(&producer, "wait", 0, &entry).await;
        delivery.unwrap().unwrap();
        assert_eq!(next(&consumer), entry);
        assert!(sent.elapsed() < AT_ONCE, "{:?}", sent.elapsed());
    }
    row.works();
}

#[tokio::test]
async fn rskafka_is_woken_at_the_end_of_a_log() {
    let row = Row::new(
        Client::Rskafka,
        "a long poll at the end of a log is answered when a record comes",
    );
    let broker = Broker::start();
    create_topic(&broker, "wait", 1).await;
    let reader = rskafka(&broker, "wait", 0).await;
    let writer = rskafka(&broker, "wait", 0).await;
    for number in 0..20 {
        let record = rskafka_record(&Entry::value(&number.to_string()));
        let sent = Instant::now();
        let wait = LONG_POLL.as_millis() as i32;
        // The fetch is polled first, and so sent first.
        let (fetched, produced) = tokio::join!(
            biased;
            reader.fetch_records(number, 1..1_000_000, wait),
            writer.produce(vec![record.clone()], Compression::NoCompression),
        );
        let (records, _) = fetched.unwrap();
        assert_eq!(produced.unwrap(), [number]);
        assert_eq!(records[0].record, record);
        assert!(sent.elapsed() < AT_ONCE, "{:?}", sent.elapsed());
    }
    row.works();
}
