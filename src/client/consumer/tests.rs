//! What the consumer promises while partitions, brokers and batches are in the way.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use super::*;
use crate::client::fake_broker::{FakeBroker, TOPIC};
use crate::client::tests::{client, fill, read};
use crate::client::{Batches, ProducerConfig, ProducerRecord};
use crate::model::Timestamp;
use crate::record::{Batch, BatchBuilder, Codec, ProducerStamp};

/// Long enough for anything that happens at all.
const PATIENCE: Duration = Duration::from_secs(10);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, what).await;
    done.expect("it takes too long")
}

/// Waits until it is so.
async fn until(mut is_so: impl FnMut() -> bool) {
    soon(async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A batch whose records have these values.
fn batch(base_offset: i64, values: &[&[u8]], codec: Codec) -> Batch {
    let mut builder = BatchBuilder::default();
    for value in values {
        builder.append(Timestamp(1), None, Some(value), &[]);
    }
    let mut bytes = builder.build(codec, ProducerStamp::NONE).unwrap().to_vec();
    bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
    Batch::parse(bytes.into()).unwrap()
}

/// Fills a partition with batches of one record, whose value is its offset.
fn put(broker: &FakeBroker, partition: usize, records: i64) {
    let log = &mut broker.state().logs[partition];
    for offset in log.end..log.end + records {
        let value = offset.to_string();
        log.batches
            .push(batch(offset, &[value.as_bytes()], Codec::None));
    }
    log.end += records;
}

/// Changes a batch's bytes after the broker has checked them.
fn spoil(broker: &FakeBroker, at: usize, change: impl FnOnce(&mut Vec<u8>)) {
    let batch = &mut broker.state().logs[0].batches[at];
    let mut bytes = batch.bytes().to_vec();
    change(&mut bytes);
    *batch = Batch::rotten(bytes.into(), *batch.header());
}

fn offsets(batches: &Batches) -> Vec<i64> {
    let records = batches.iter().flat_map(|batch| batch.records());
    records.map(|record| record.offset.0).collect()
}

async fn poll(consumer: &mut Consumer) -> Result<Batches, ClientError> {
    soon(consumer.poll(2 * PATIENCE)).await
}

/// Whether the newest fetches ask for this offset of each partition of one.
fn asks_for(broker: &FakeBroker, offset: i64) -> bool {
    let state = broker.state();
    let asked = |fetch: &crate::protocol::fetch::Request| {
        let topics = fetch.topics.iter();
        let mut partitions = topics.flat_map(|topic| &topic.partitions);
        partitions.all(|partition| partition.fetch_offset == Offset(offset))
    };
    state.fetches.last().is_some_and(asked)
}

#[tokio::test]
async fn a_poll_is_bounded_by_what_decompression_gives() {
    const RECORD_BYTES: usize = 256 * 1024;
    let broker = FakeBroker::start(1).await;
    let zeros = vec![0; RECORD_BYTES];
    {
        let log = &mut broker.state().logs[0];
        log.batches
            .extend((0..40).map(|offset| batch(offset, &[&zeros], Codec::Zstd)));
        log.end = 40;
    }
    let client = client(&broker).await;
    for (poll_bytes_max, batches_max) in [(4 * RECORD_BYTES, 3), (RECORD_BYTES / 2, 1)] {
        let config = ConsumerConfig {
            buffer_bytes: 4000,
            poll_bytes_max,
            ..ConsumerConfig::default()
        };
        let mut consumer = client.consumer(config);
        consumer.assign(TOPIC, 0, StartAt::Beginning).await.unwrap();
        let mut next = 0;
        while next < 40 {
            let polled = offsets(&poll(&mut consumer).await.unwrap());
            assert!(polled.len() <= batches_max, "{polled:?}");
            assert_eq!(polled[0], next);
            next += polled.len() as i64;
            assert!(consumer.shared.room.taken() <= 4000);
        }
    }
}

#[tokio::test]
async fn what_waits_and_what_is_on_its_way_never_takes_more_than_the_buffer() {
    let broker = FakeBroker::start(3).await;
    for partition in 0..3 {
        put(&broker, partition, 100);
    }
    let client = client(&broker).await;
    let config = ConsumerConfig {
        buffer_bytes: 1000,
        poll_bytes_max: 1,
        ..ConsumerConfig::default()
    };
    let mut consumer = client.consumer(config);
    consumer
        .assign_topic(TOPIC, StartAt::Beginning)
        .await
        .unwrap();
    for _ in 0..300 {
        assert!(consumer.shared.room.taken() <= 1000);
        assert_eq!(poll(&mut consumer).await.unwrap().records_len(), 1);
    }
    consumer.unassign(TOPIC, 0);
    drop(consumer);
}

#[tokio::test]
async fn one_fetch_waits_for_all_partitions_of_a_broker() {
    let broker = FakeBroker::start(10).await;
    let client = client(&broker).await;
    let config = ConsumerConfig {
        max_wait: Duration::from_millis(20),
        ..ConsumerConfig::default()
    };
    let mut consumer = client.consumer(config);
    for partition in 0..10 {
        let beginning = StartAt::Beginning;
        consumer.assign(TOPIC, partition, beginning).await.unwrap();
    }
    until(|| {
        let state = broker.state();
        let last = state.fetches.last().unwrap();
        let partitions: usize = last.topics.iter().map(|topic| topic.partitions.len()).sum();
        last.max_wait_ms > 0 && partitions == 10
    })
    .await;
}

#[tokio::test]
async fn what_a_seek_asks_for_does_not_wait_behind_a_long_poll() {
    let broker = FakeBroker::start(2).await;
    put(&broker, 1, 5);
    let client = client(&broker).await;
    let config = ConsumerConfig {
        max_wait: 10 * PATIENCE,
        ..ConsumerConfig::default()
    };
    let mut consumer = client.consumer(config);
    consumer.assign(TOPIC, 0, StartAt::Beginning).await.unwrap();
    until(|| broker.state().fetches.len() == 1).await;
    for _ in 0..3 {
        consumer.assign(TOPIC, 1, StartAt::Beginning).await.unwrap();
        assert_eq!(
            offsets(&poll(&mut consumer).await.unwrap()),
            [0, 1, 2, 3, 4]
        );
    }
}

#[tokio::test]
async fn partitions_take_turns_in_fetches() {
    let broker = FakeBroker::start(4).await;
    for partition in 0..4 {
        put(&broker, partition, 50);
    }
    let client = client(&broker).await;
    let config = ConsumerConfig {
        fetch_bytes_max: 1,
        buffer_bytes: 1,
        ..ConsumerConfig::default()
    };
    let mut consumer = client.consumer(config);
    consumer
        .assign_topic(TOPIC, StartAt::Beginning)
        .await
        .unwrap();
    let mut read_of = [0; 4];
    for (partition, _, _) in soon(read(&mut consumer, 40)).await {
        read_of[partition as usize] += 1;
    }
    assert_eq!(read_of, [10; 4]);
}

#[tokio::test]
async fn partitions_take_turns_in_polls() {
    let broker = FakeBroker::start(3).await;
    for partition in 0..3 {
        put(&broker, partition, 50);
    }
    let client = client(&broker).await;
    let config = ConsumerConfig {
        poll_bytes_max: 1,
        ..ConsumerConfig::default()
    };
    let mut consumer = client.consumer(config);
    consumer
        .assign_topic(TOPIC, StartAt::Beginning)
        .await
        .unwrap();
    let mut read_of = [0; 3];
    for (partition, _, _) in soon(read(&mut consumer, 30)).await {
        read_of[partition as usize] += 1;
    }
    assert_eq!(read_of, [10; 3]);
}

#[tokio::test]
async fn a_slow_metadata_refresh_stalls_no_other_partition() {
    let broker = FakeBroker::start(2).await;
    put(&broker, 0, 100);
    broker.state().logs[1].leaderless = true;
    let client = client(&broker).await;
    let config = ConsumerConfig {
        partition_bytes_max: 1,
        ..ConsumerConfig::default()
    };
    let mut consumer = client.consumer(config);
    consumer.assign(TOPIC, 0, StartAt::Beginning).await.unwrap();
    broker.state().metadata_held = true;
    let zero = StartAt::Offset(Offset::ZERO);
    consumer.assign(TOPIC, 1, zero).await.unwrap();
    assert_eq!(soon(read(&mut consumer, 100)).await.len(), 100);
}

#[tokio::test]
async fn a_topic_that_was_deleted_is_told_and_read_again_when_it_is_back() {
    let broker = FakeBroker::start(1).await;
    put(&broker, 0, 3);
    let client = client(&broker).await;
    let config = ConsumerConfig {
        max_wait: Duration::from_millis(20),
        unknown_topic_timeout: Duration::from_millis(50),
        ..ConsumerConfig::default()
    };
    let mut consumer = client.consumer(config);
    consumer.assign(TOPIC, 0, StartAt::Beginning).await.unwrap();
    assert_eq!(read(&mut consumer, 3).await.len(), 3);
    broker.state().deleted = true;
    for _ in 0..2 {
        let error = poll(&mut consumer).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));
        assert!(error.is_retriable(), "{error}");
    }
    broker.state().deleted = false;
    put(&broker, 0, 1);
    // The last error may have been noticed before.
    let polled = match poll(&mut consumer).await {
        Ok(polled) => polled,
        Err(_) => poll(&mut consumer).await.unwrap(),
    };
    assert_eq!(offsets(&polled), [3]);
}

#[tokio::test]
async fn a_partition_that_the_topic_does_not_have_is_told() {
    let broker = FakeBroker::start(1).await;
    let client = client(&broker).await;
    let config = ConsumerConfig {
        unknown_topic_timeout: Duration::from_millis(50),
        ..ConsumerConfig::default()
    };
    let mut consumer = client.consumer(config);
    let zero = StartAt::Offset(Offset::ZERO);
    consumer.assign(TOPIC, 7, zero).await.unwrap();
    let error = poll(&mut consumer).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "partition t-7: UNKNOWN_TOPIC_OR_PARTITION"
    );
}

#[tokio::test]
async fn a_broker_that_is_not_reached_is_told_and_read_again_when_it_is_back() {
    let mut broker = FakeBroker::start(1).await;
    put(&broker, 0, 1);
    let client = client(&broker).await;
    let config = ConsumerConfig {
        max_wait: Duration::from_millis(20),
        retry_timeout: Duration::from_millis(50),
        ..ConsumerConfig::default()
    };
    let mut consumer = client.consumer(config);
    consumer.assign(TOPIC, 0, StartAt::Beginning).await.unwrap();
    assert_eq!(read(&mut consumer, 1).await.len(), 1);
    broker.stop().await;
    for _ in 0..2 {
        let error = poll(&mut consumer).await.unwrap_err();
        assert!(error.is_retriable() && error.to_string().contains(&broker.address));
    }
    put(&broker, 0, 1);
    broker.restart().await;
    let polled = match poll(&mut consumer).await {
        Ok(polled) => polled,
        Err(_) => poll(&mut consumer).await.unwrap(),
    };
    assert_eq!(offsets(&polled), [1]);
}

#[tokio::test]
async fn a_reset_keeps_what_was_fetched_before() {
    let broker = FakeBroker::start(1).await;
    put(&broker, 0, 5);
    let client = client(&broker).await;
    let config = ConsumerConfig {
        offset_reset: OffsetReset::Earliest,
        max_wait: Duration::from_millis(20),
        ..ConsumerConfig::default()
    };
    let mut consumer = client.consumer(config);
    consumer.assign(TOPIC, 0, StartAt::Beginning).await.unwrap();
    until(|| asks_for(&broker, 5)).await;
    {
        let log = &mut broker.state().logs[0];
        (log.start, log.end) = (30, 30);
    }
    put(&broker, 0, 2);
    until(|| asks_for(&broker, 32)).await;
    assert_eq!(
        offsets(&poll(&mut consumer).await.unwrap()),
        [0, 1, 2, 3, 4, 30, 31]
    );
    assert_eq!(consumer.position(TOPIC, 0), Some(Offset(32)));
}

#[tokio::test]
async fn an_offset_that_is_gone_is_told_after_what_was_fetched_before() {
    let broker = FakeBroker::start(1).await;
    put(&broker, 0, 5);
    let client = client(&broker).await;
    let config = ConsumerConfig {
        max_wait: Duration::from_millis(20),
        ..ConsumerConfig::default()
    };
    let mut consumer = client.consumer(config);
    consumer.assign(TOPIC, 0, StartAt::Beginning).await.unwrap();
    until(|| asks_for(&broker, 5)).await;
    {
        let log = &mut broker.state().logs[0];
        (log.start, log.end) = (30, 30);
    }
    assert_eq!(
        offsets(&poll(&mut consumer).await.unwrap()),
        [0, 1, 2, 3, 4]
    );
    let error = poll(&mut consumer).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::OffsetOutOfRange));
}

#[tokio::test]
async fn a_seek_drops_only_what_its_partition_has_fetched() {
    let broker = FakeBroker::start(2).await;
    put(&broker, 0, 10);
    put(&broker, 1, 10);
    let client = client(&broker).await;
    let mut consumer = client.consumer(ConsumerConfig::default());
    consumer
        .assign_topic(TOPIC, StartAt::Beginning)
        .await
        .unwrap();
    until(|| asks_for(&broker, 10)).await;
    consumer
        .seek(TOPIC, 0, StartAt::Offset(Offset(7)))
        .await
        .unwrap();
    let mut seen: Vec<_> = soon(read(&mut consumer, 13)).await;
    seen.sort();
    let seen: Vec<_> = seen.iter().map(|(p, offset, _)| (*p, *offset)).collect();
    let expected = (7..10).map(|offset| (0, offset));
    let expected = expected.chain((0..10).map(|offset| (1, offset)));
    assert_eq!(seen, expected.collect::<Vec<_>>());
    let state = broker.state();
    let topics = state.fetches.iter().flat_map(|fetch| &fetch.topics);
    let again = topics
        .flat_map(|topic| &topic.partitions)
        .filter(|asked| asked.partition == 1 && asked.fetch_offset == Offset::ZERO);
    assert_eq!(again.count(), 1, "nothing is fetched twice");
}

#[tokio::test]
async fn good_batches_before_a_bad_one_are_handed_out_and_a_seek_goes_past_it() {
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change); 3] = [
        ("CRC-32C", |bytes| *bytes.last_mut().unwrap() ^= 1),
        ("magic 7", |bytes| bytes[16] = 7),
        ("go on for -1", |bytes| bytes[23..27].fill(0xff)),
    ];
    for (reason, change) in changes {
        let broker = FakeBroker::start(1).await;
        put(&broker, 0, 5);
        spoil(&broker, 2, change);
        let client = client(&broker).await;
        let mut consumer = client.consumer(ConsumerConfig::default());
        consumer.assign(TOPIC, 0, StartAt::Beginning).await.unwrap();
        assert_eq!(offsets(&poll(&mut consumer).await.unwrap()), [0, 1]);
        let error = poll(&mut consumer).await.unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert!(error.to_string().contains("t-0 is corrupt at"), "{error}");
        let ClientError::Corrupt {
            offset,
            next_offset,
            ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((offset, next_offset), (Offset(2), Offset(3)));
        assert_eq!(consumer.position(TOPIC, 0), Some(Offset(2)));
        let past = StartAt::Offset(next_offset);
        consumer.seek(TOPIC, 0, past).await.unwrap();
        assert_eq!(offsets(&poll(&mut consumer).await.unwrap()), [3, 4]);
    }
}

#[tokio::test]
async fn a_batch_that_grows_too_large_is_told_with_its_offsets() {
    let broker = FakeBroker::start(1).await;
    put(&broker, 0, 1);
    let zeros = vec![0; 100_000];
    {
        let log = &mut broker.state().logs[0];
        log.batches.push(batch(1, &[&zeros, b"x"], Codec::Gzip));
        log.end = 3;
    }
    put(&broker, 0, 1);
    let client = client(&broker).await;
    let config = ConsumerConfig {
        records_bytes_max: 50_000,
        ..ConsumerConfig::default()
    };
    let mut consumer = client.consumer(config);
    consumer.assign(TOPIC, 0, StartAt::Beginning).await.unwrap();
    assert_eq!(offsets(&poll(&mut consumer).await.unwrap()), [0]);
    let error = poll(&mut consumer).await.unwrap_err();
    let ClientError::Corrupt {
        offset: Offset(1),
        next_offset,
        ..
    } = error
    else {
        panic!("{error}");
    };
    let past = StartAt::Offset(next_offset);
    consumer.seek(TOPIC, 0, past).await.unwrap();
    assert_eq!(offsets(&poll(&mut consumer).await.unwrap()), [3]);
}

#[tokio::test]
async fn offsets_go_up_to_the_last_one_and_not_beyond() {
    let broker = FakeBroker::start(1).await;
    {
        let log = &mut broker.state().logs[0];
        log.batches
            .push(batch(i64::MAX - 2, &[b"a", b"b"], Codec::None));
        log.end = i64::MAX;
    }
    let client = client(&broker).await;
    let mut consumer = client.consumer(ConsumerConfig::default());
    let last = StartAt::Offset(Offset(i64::MAX - 1));
    consumer.assign(TOPIC, 0, last).await.unwrap();
    assert_eq!(offsets(&poll(&mut consumer).await.unwrap()), [i64::MAX - 1]);
    assert_eq!(consumer.position(TOPIC, 0), Some(Offset(i64::MAX)));
    spoil(&broker, 0, |bytes| {
        bytes[..8].copy_from_slice(&(i64::MAX - 1).to_be_bytes())
    });
    consumer.seek(TOPIC, 0, last).await.unwrap();
    let error = poll(&mut consumer).await.unwrap_err();
    assert!(matches!(error, ClientError::Corrupt { .. }), "{error}");
    let end = StartAt::Offset(Offset(i64::MAX));
    consumer.seek(TOPIC, 0, end).await.unwrap();
    let error = consumer
        .seek(TOPIC, 0, StartAt::Offset(Offset(i64::MIN)))
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Invalid(_)), "{error}");
}

#[tokio::test]
async fn listed_offsets_that_cannot_be_are_refused() {
    let broker = FakeBroker::start(1).await;
    let client = client(&broker).await;
    let mut consumer = client.consumer(ConsumerConfig::default());
    for wrong in [i64::MIN, -2, -1] {
        broker.state().listed_offset = Some(wrong);
        for from in [
            StartAt::Beginning,
            StartAt::End,
            StartAt::Time(Timestamp(5)),
        ] {
            let error = consumer.assign(TOPIC, 0, from).await.unwrap_err();
            assert!(matches!(error, ClientError::Garbled { .. }), "{error}");
        }
    }
}

#[tokio::test]
async fn batches_below_the_offset_are_an_error_and_not_asked_for_for_ever() {
    let broker = FakeBroker::start(1).await;
    put(&broker, 0, 3);
    spoil(&broker, 2, |bytes| bytes[..8].fill(0));
    let client = client(&broker).await;
    let mut consumer = client.consumer(ConsumerConfig::default());
    let two = StartAt::Offset(Offset(2));
    consumer.assign(TOPIC, 0, two).await.unwrap();
    let error = poll(&mut consumer).await.unwrap_err();
    assert!(error.to_string().contains("below offset 2"), "{error}");
    assert!(broker.state().fetches.len() < 3);
}

#[tokio::test]
async fn an_answer_that_comes_twice_counts_once() {
    let broker = FakeBroker::start(2).await;
    put(&broker, 0, 3);
    put(&broker, 1, 3);
    broker.state().answers_twice = true;
    let client = client(&broker).await;
    let mut consumer = client.consumer(ConsumerConfig::default());
    consumer
        .assign_topic(TOPIC, StartAt::Beginning)
        .await
        .unwrap();
    let read = soon(read(&mut consumer, 6)).await;
    let different: BTreeSet<_> = read.iter().map(|(p, offset, _)| (p, offset)).collect();
    assert_eq!((read.len(), different.len()), (6, 6));
}

#[tokio::test]
async fn the_longest_duration_is_no_overflow() {
    let broker = FakeBroker::start(1).await;
    let config = crate::client::ClientConfig {
        request_timeout: Duration::MAX,
        connect_timeout: Duration::MAX,
        in_flight_max: usize::MAX,
        ..crate::client::ClientConfig::from(broker.address.as_str())
    };
    let client = Client::connect(config).await.unwrap();
    let producer = client.producer(ProducerConfig {
        linger: Duration::MAX,
        delivery_timeout: Duration::MAX,
        replication_timeout: Duration::MAX,
        ..ProducerConfig::default()
    });
    let record = ProducerRecord::to(TOPIC).value(b"x");
    soon(soon(producer.send(record)).await.unwrap())
        .await
        .unwrap();
    let mut consumer = client.consumer(ConsumerConfig {
        unknown_topic_timeout: Duration::MAX,
        retry_timeout: Duration::MAX,
        ..ConsumerConfig::default()
    });
    consumer.assign(TOPIC, 0, StartAt::Beginning).await.unwrap();
    let polled = soon(consumer.poll(Duration::MAX)).await.unwrap();
    assert_eq!(offsets(&polled), [0]);
}

#[tokio::test]
async fn a_consumer_reads_what_a_producer_writes_meanwhile() {
    let broker = FakeBroker::start(3).await;
    let client = client(&broker).await;
    let mut consumer = client.consumer(ConsumerConfig::default());
    consumer
        .assign_topic(TOPIC, StartAt::Beginning)
        .await
        .unwrap();
    let writer = client.clone();
    let writing = tokio::spawn(async move { fill(&writer, 500, Codec::Lz4).await });
    assert_eq!(soon(read(&mut consumer, 500)).await.len(), 500);
    writing.await.unwrap();
}
