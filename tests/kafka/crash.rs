//! Clients whose broker is killed while they write, and started again.

use std::collections::VecDeque;

use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryFuture, FutureProducer};
use rdkafka::Offset;
use rskafka::client::partition::Compression;

use crate::broker_process::Broker;
use crate::entry::Entry;
use crate::exchange::create_topic;
use crate::library::{
    consumer_at, entry, next_event, rdkafka, rskafka, rskafka_record, send, Library,
};
use crate::log_files::batches;
use crate::report::{Client, Row};

const RECORDS: usize = 4_000;
/// How many records are written from one kill to the next.
const LIFE: usize = 1_000;
/// How many of them are not yet acknowledged when the broker is killed.
const LATE: usize = 400;

fn numbered(count: usize) -> Vec<Entry> {
    let numbers = 0..count;
    numbers.map(|n| Entry::value(&n.to_string())).collect()
}

/// Waits for what was sent first, until only `left` deliveries are open.
async fn acknowledge(open: &mut VecDeque<DeliveryFuture>, left: usize, next: &mut i64) {
    while open.len() > left {
        let delivery = open.pop_front().unwrap().await.unwrap().unwrap();
        assert_eq!(delivery.offset, *next);
        *next += 1;
    }
}

/// The next records of a consumer that loses its broker again and again.
fn read(consumer: &BaseConsumer, count: usize) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(count);
    while entries.len() < count {
        match next_event(consumer) {
            Ok(message) => entries.push(entry(&message)),
            Err(error) => assert!(is_of_the_connection(&error), "{error}"),
        }
    }
    entries
}

fn is_of_the_connection(error: &KafkaError) -> bool {
    let expected = [
        RDKafkaErrorCode::BrokerTransportFailure,
        RDKafkaErrorCode::AllBrokersDown,
    ];
    let code = error.rdkafka_error_code();
    code.is_some_and(|code| expected.contains(&code))
}

#[tokio::test]
async fn idempotent_records_are_there_once_and_in_order_although_the_broker_is_killed() {
    let row = Row::new(
        Client::Rdkafka,
        "idempotent producer over kill -9 and restart of the broker: each record once and in order, for a consumer that was there all the time too",
    );
    let mut broker = Broker::start();
    create_topic(&broker, "killed", 1).await;
    let settings = [
        ("enable.idempotence", "true"),
        // Many small batches, five of them on their way.
        ("batch.num.messages", "10"),
        ("reconnect.backoff.max.ms", "100"),
    ];
    let producer: FutureProducer = rdkafka(&broker, &settings);
    let reconnect = &settings[2..];
    let consumer = consumer_at(&broker, "killed", 0, Offset::Offset(0), reconnect);
    let written = numbered(RECORDS);
    let (mut open, mut next) = (VecDeque::new(), 0);
    for (number, entry) in written.iter().enumerate() {
        open.push_back(send(&producer, "killed", 0, entry));
        if (number + 1) % LIFE == 0 {
            acknowledge(&mut open, LATE, &mut next).await;
            broker.kill_and_restart();
        }
    }
    acknowledge(&mut open, 0, &mut next).await;
    assert!(read(&consumer, RECORDS) == written);
    let last = batches(&broker).pop().unwrap();
    assert_eq!(
        last.next_offset().0,
        RECORDS as i64,
        "nothing else is there"
    );
    assert!(last.producer_id >= 0);
    row.works();
}

#[tokio::test]
async fn rskafka_goes_on_after_the_broker_was_killed() {
    let row = Row::new(Client::Rskafka, "one client over kill -9 and restart of the broker: what was acknowledged is there, the next is taken");
    let mut broker = Broker::start();
    create_topic(&broker, "killed", 1).await;
    let partition = rskafka(&broker, "killed", 0).await;
    let written = numbered(4);
    for (entry, offset) in written.iter().zip(0..) {
        let record = vec![rskafka_record(entry)];
        let produced = partition.produce(record, Compression::Zstd).await;
        assert_eq!(produced.unwrap(), [offset]);
        broker.kill_and_restart();
    }
    let read = Library::Rskafka.read(&broker, "killed", 4).await;
    assert_eq!(read, written);
    row.works();
}
