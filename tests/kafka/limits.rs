//! Large records, and those that are larger than the broker takes.

use klamm::record::Codec;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::FutureProducer;
use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::partition::Compression;

use crate::broker_process::Broker;
use crate::entry::Entry;
use crate::exchange::create_topic;
use crate::library::{rdkafka, rskafka, rskafka_record, send, Library};
use crate::report::{Client, Row};

const LARGE: usize = 900 * 1024;
/// Above the broker's default of max.message.bytes, and below what a frame may have.
const TOO_LARGE: usize = 2 * 1024 * 1024;

/// Bytes that no codec makes smaller.
fn of_size(size: usize) -> Entry {
    let mut state = 1_u64;
    let bytes = (0..size).map(|_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    });
    Entry {
        value: Some(bytes.collect()),
        ..Entry::value("")
    }
}

#[tokio::test]
async fn records_of_900_kib_pass() {
    let rdkafka = Row::new(
        Client::Rdkafka,
        "records of 900 KiB: from and to rdkafka, rskafka and klamm::client",
    );
    let rskafka = Row::new(
        Client::Rskafka,
        "records of 900 KiB: from and to rdkafka, rskafka and klamm::client",
    );
    let broker = Broker::start();
    let entries = [of_size(LARGE), of_size(LARGE + 1)];
    for writer in Library::ALL {
        let topic = format!("large-{writer:?}");
        create_topic(&broker, &topic, 1).await;
        for entry in &entries {
            let entry = std::slice::from_ref(entry);
            writer.write(&broker, &topic, Codec::None, entry).await;
        }
        for reader in Library::ALL {
            let read = reader.read(&broker, &topic, entries.len()).await;
            assert!(read == entries, "{writer:?} to {reader:?}");
        }
    }
    rdkafka.works();
    rskafka.works();
}

#[tokio::test]
async fn rdkafka_is_told_that_a_record_is_too_large() {
    let row = Row::new(
        Client::Rdkafka,
        "a record above max.message.bytes fails with MSG_SIZE_TOO_LARGE, and the next one is taken",
    );
    let broker = Broker::start();
    create_topic(&broker, "small", 1).await;
    // Else the client itself refuses it.
    let producer: FutureProducer = rdkafka(&broker, &[("message.max.bytes", "10000000")]);
    let refused = send(&producer, "small", 0, &of_size(TOO_LARGE)).await;
    let (error, _) = refused.unwrap().unwrap_err();
    let expected = KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge);
    assert_eq!(error, expected);
    let taken = send(&producer, "small", 0, &of_size(LARGE)).await;
    assert_eq!(taken.unwrap().unwrap().offset, 0);
    row.works();
}

#[tokio::test]
async fn rskafka_is_told_that_a_record_is_too_large() {
    let row = Row::new(
        Client::Rskafka,
        "a record above max.message.bytes fails with MESSAGE_TOO_LARGE, and the next one is taken",
    );
    let broker = Broker::start();
    create_topic(&broker, "small", 1).await;
    let partition = rskafka(&broker, "small", 0).await;
    let produce = |size| {
        partition.produce(
            vec![rskafka_record(&of_size(size))],
            Compression::NoCompression,
        )
    };
    let error = produce(TOO_LARGE).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::ServerError {
                protocol_error: ProtocolError::MessageTooLarge,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(produce(LARGE).await.unwrap(), [0]);
    row.works();
}
