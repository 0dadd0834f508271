//! The client's promises, against a broker that breaks connections and answers.

use std::sync::Arc;
use std::time::Duration;

use super::fake_broker::{FakeBroker, Fault, TOPIC};
use super::*;
use crate::model::{ErrorCode, Offset};
use crate::record::Codec;

/// A client that tries again soon.
pub(super) async fn client(broker: &FakeBroker) -> Client {
    let config = ClientConfig {
        retry_backoff: Duration::from_millis(2),
        retry_backoff_max: Duration::from_millis(20),
        ..ClientConfig::from(broker.address.as_str())
    };
    Client::connect(config).await.unwrap()
}

/// Small batches, so that many are in flight.
fn small_batches() -> ProducerConfig {
    ProducerConfig {
        batch_bytes: 300,
        linger: Duration::from_millis(1),
        ..ProducerConfig::default()
    }
}

/// splitmix64, as a die.
struct Die(u64);

impl Die {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % end
    }

    /// Mostly nothing, and of each fault that a retry helps some.
    fn fault(&mut self) -> Fault {
        match self.below(21) {
            0 => Fault::DropBefore,
            1 => Fault::DropAfter,
            2 => Fault::Error(ErrorCode::NotLeaderOrFollower),
            3 => Fault::Error(ErrorCode::NotEnoughReplicas),
            4 => Fault::ErrorAfter(ErrorCode::RequestTimedOut),
            5 => Fault::ErrorAfter(ErrorCode::NotEnoughReplicasAfterAppend),
            6 => Fault::Garbage,
            7 => Fault::ErrorAfter(ErrorCode::UnknownServerError),
            _ => Fault::None,
        }
    }
}

/// Sends numbered records through faults, and answers the deliveries.
async fn send_through_faults(
    broker: &FakeBroker,
    config: ProducerConfig,
    records: usize,
    seed: u64,
) -> Vec<Delivery> {
    let mut die = Die(seed);
    broker.script(move |_| die.fault());
    let producer = client(broker).await.producer(config);
    let mut futures = Vec::new();
    for i in 0..records {
        let value = i.to_string();
        let record = ProducerRecord::to(TOPIC).value(value.as_bytes());
        futures.push(producer.send(record).await.unwrap());
    }
    producer.flush().await;
    let mut deliveries = Vec::new();
    for future in futures {
        deliveries.push(future.await.unwrap());
    }
    let stats = producer.stats();
    assert_eq!((stats.acknowledged, stats.failed), (records as u64, 0));
    assert!(stats.retries > 0, "the faults were met");
    deliveries
}

#[tokio::test]
async fn through_any_faults_each_record_is_there_once_in_order_where_it_was_acknowledged() {
    for seed in 0..20 {
        let broker = FakeBroker::start(2).await;
        let deliveries = send_through_faults(&broker, small_batches(), 500, seed).await;
        let logs = [broker.values(0), broker.values(1)];
        assert_eq!(logs[0].len() + logs[1].len(), 500, "seed {seed}: each once");
        for log in &logs {
            let numbers: Vec<usize> = log.iter().map(|value| value.parse().unwrap()).collect();
            assert!(numbers.is_sorted(), "seed {seed}: in order");
        }
        for (i, delivery) in deliveries.iter().enumerate() {
            let log = &logs[delivery.partition as usize];
            assert_eq!(
                log[delivery.offset.0 as usize],
                i.to_string(),
                "seed {seed}"
            );
        }
    }
}

#[tokio::test]
async fn without_idempotence_a_retry_may_double_but_never_reorders_or_loses() {
    for seed in 0..10 {
        let broker = FakeBroker::start(1).await;
        let config = ProducerConfig {
            acks: Acks::Leader,
            ..small_batches()
        };
        send_through_faults(&broker, config, 300, seed).await;
        let mut seen = 0;
        for value in broker.values(0) {
            let number: usize = value.parse().unwrap();
            assert!(number <= seen, "seed {seed}: {number} came before {seen}");
            seen = seen.max(number + 1);
        }
        assert_eq!(seen, 300, "seed {seed}: all are there");
    }
}

#[tokio::test]
async fn records_with_a_key_go_where_kafka_sends_them() {
    let broker = FakeBroker::start(7).await;
    let producer = client(&broker).await.producer(ProducerConfig::default());
    for key in ["a", "b", "21", "foobar"] {
        let record = ProducerRecord::to(TOPIC).key(key.as_bytes()).value(b"");
        let delivery = producer.send(record).await.unwrap().await.unwrap();
        assert_eq!(delivery.partition, partition_of_key(key.as_bytes(), 7));
    }
    let record = ProducerRecord::to(TOPIC).partition(6).value(b"x");
    let delivery = producer.send(record).await.unwrap().await.unwrap();
    assert_eq!(delivery.partition, 6);
    let error = producer
        .send(ProducerRecord::to(TOPIC).partition(7))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("t-7"), "{error}");
}

#[tokio::test]
async fn records_without_a_key_are_spread_over_all_partitions_in_full_batches() {
    let broker = FakeBroker::start(4).await;
    let config = ProducerConfig {
        batch_bytes: 2000,
        linger: Duration::from_secs(60),
        ..ProducerConfig::default()
    };
    let producer = client(&broker).await.producer(config);
    for _ in 0..4000 {
        producer
            .send(ProducerRecord::to(TOPIC).value(&[b'x'; 100]))
            .await
            .unwrap();
    }
    producer.flush().await;
    for partition in 0..4 {
        let len = broker.values(partition).len();
        assert!(
            (800..=1200).contains(&len),
            "{len} records in one of 4 partitions"
        );
    }
    let requests = broker.state().produce_requests;
    assert!(
        requests < 300,
        "{requests} requests for 4000 records, of which 17 fit into one"
    );
}

#[tokio::test]
async fn a_producer_learns_of_new_partitions() {
    let broker = FakeBroker::start(1).await;
    let config = ClientConfig {
        metadata_age_max: Duration::ZERO,
        ..ClientConfig::from(broker.address.as_str())
    };
    let client = Client::connect(config).await.unwrap();
    let producer = client.producer(ProducerConfig {
        batch_bytes: 1,
        ..ProducerConfig::default()
    });
    let record = ProducerRecord::to(TOPIC).value(b"x");
    producer.send(record).await.unwrap().await.unwrap();
    broker.state().logs.push(Default::default());
    let mut sent = 0;
    while producer
        .send(record)
        .await
        .unwrap()
        .await
        .unwrap()
        .partition
        == 0
    {
        sent += 1;
        assert!(sent < 10_000, "partition 1 is never used");
    }
}

#[tokio::test]
async fn sending_waits_while_the_buffer_is_full() {
    let broker = FakeBroker::start(1).await;
    broker.state().held = true;
    let config = ProducerConfig {
        buffer_bytes: 10_000,
        ..small_batches()
    };
    let producer = client(&broker).await.producer(config);
    let mut taken = 0;
    let record = ProducerRecord::to(TOPIC).value(&[b'x'; 100]);
    while let Ok(sent) =
        tokio::time::timeout(Duration::from_millis(200), producer.send(record)).await
    {
        sent.unwrap();
        taken += 100;
        assert!(taken <= 10_000, "the buffer has no bound");
    }
    assert!(
        (5_000..=10_000).contains(&taken),
        "{taken} bytes of values were taken"
    );
    broker.release();
    producer.send(record).await.unwrap();
    producer.flush().await;
    assert_eq!(broker.values(0).len(), taken / 100 + 1);
}

#[tokio::test]
async fn a_record_that_cannot_fit_is_refused_at_once() {
    let broker = FakeBroker::start(1).await;
    let config = ProducerConfig {
        buffer_bytes: 1000,
        ..ProducerConfig::default()
    };
    let producer = client(&broker).await.producer(config);
    let error = producer
        .send(ProducerRecord::to(TOPIC).value(&[0; 2000]))
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        ProduceError::RecordTooLarge { size_max: 1000, .. }
    ));
}

#[tokio::test]
async fn retries_stop_at_the_delivery_timeout_and_later_records_go_on() {
    for fault in [
        Fault::Error(ErrorCode::NotEnoughReplicas),
        Fault::Silence,
        Fault::DropBefore,
    ] {
        let broker = FakeBroker::start(1).await;
        broker.script(move |_| fault);
        let config = ProducerConfig {
            delivery_timeout: Duration::from_millis(100),
            ..small_batches()
        };
        let producer = client(&broker).await.producer(config);
        let record = ProducerRecord::to(TOPIC).value(b"lost");
        let error = producer.send(record).await.unwrap().await.unwrap_err();
        assert!(
            matches!(error, ProduceError::DeliveryTimeout { .. }),
            "{error}"
        );
        assert!(error.is_retriable() && error.to_string().contains("t-0"));

        broker.script(|_| Fault::None);
        let record = ProducerRecord::to(TOPIC).value(b"good");
        producer.send(record).await.unwrap().await.unwrap();
        // The last attempt may have been on its way when time was up: that isn't known.
        let values = broker.values(0);
        assert_eq!(
            values.iter().filter(|value| *value == "good").count(),
            1,
            "{values:?}"
        );
        assert_eq!(producer.stats().failed, 1);
        assert_eq!(producer.first_error(), Some(error));
    }
}

#[tokio::test]
async fn a_refused_batch_fails_alone_and_those_behind_it_keep_their_order() {
    let broker = FakeBroker::start(1).await;
    broker.script(|data| {
        let poison = data.records.0.windows(6).any(|bytes| bytes == b"poison");
        match poison {
            true => Fault::Error(ErrorCode::InvalidTimestamp),
            false => Fault::None,
        }
    });
    let config = ProducerConfig {
        batch_bytes: 1,
        ..small_batches()
    };
    let producer = client(&broker).await.producer(config);
    let mut futures = Vec::new();
    for i in 0..100 {
        let value = match i % 10 {
            5 => format!("poison {i}"),
            _ => i.to_string(),
        };
        let record = ProducerRecord::to(TOPIC).value(value.as_bytes());
        futures.push(producer.send(record).await.unwrap());
    }
    for (i, future) in futures.into_iter().enumerate() {
        let outcome = future.await;
        match outcome {
            Err(ProduceError::Refused { code, .. }) => {
                assert_eq!((i % 10, code), (5, ErrorCode::InvalidTimestamp));
            }
            outcome => assert!(outcome.is_ok() && i % 10 != 5, "{i}: {outcome:?}"),
        }
    }
    let expected: Vec<String> = (0..100)
        .filter(|i| i % 10 != 5)
        .map(|i| i.to_string())
        .collect();
    assert_eq!(broker.values(0), expected);
}

#[tokio::test]
async fn a_partition_that_lost_records_ends_the_producer_there() {
    let broker = FakeBroker::start(2).await;
    let producer = client(&broker).await.producer(small_batches());
    let record = ProducerRecord::to(TOPIC).partition(0).value(b"x");
    producer.send(record).await.unwrap().await.unwrap();
    broker.script(|_| Fault::Error(ErrorCode::OutOfOrderSequenceNumber));
    let error = producer.send(record).await.unwrap().await.unwrap_err();
    assert!(matches!(error, ProduceError::Fatal { .. }) && !error.is_retriable());
    assert_eq!(producer.send(record).await.unwrap_err(), error);
    broker.script(|_| Fault::None);
    producer
        .send(record.partition(1))
        .await
        .unwrap()
        .await
        .unwrap();
}

/// Sends numbered records, one a batch, and answers the deliveries.
async fn send_numbers(producer: &Producer, numbers: std::ops::Range<usize>) -> Vec<DeliveryFuture> {
    let mut futures = Vec::new();
    for number in numbers {
        let value = number.to_string();
        let record = ProducerRecord::to(TOPIC).value(value.as_bytes());
        futures.push(producer.send(record).await.unwrap());
    }
    futures
}

fn one_record_a_batch() -> ProducerConfig {
    ProducerConfig {
        batch_bytes: 1,
        ..small_batches()
    }
}

#[tokio::test]
async fn a_producer_that_the_broker_has_forgotten_goes_on_under_a_new_identity() {
    let broker = FakeBroker::start(1).await;
    let producer = client(&broker).await.producer(one_record_a_batch());
    for round in 0..3 {
        let futures = send_numbers(&producer, round * 10..(round + 1) * 10).await;
        for (i, future) in futures.into_iter().enumerate() {
            assert_eq!(future.await.unwrap().offset.0, (round * 10 + i) as i64);
        }
        broker.state().logs[0].forget_producers();
    }
    let expected: Vec<String> = (0..30).map(|number| number.to_string()).collect();
    assert_eq!(broker.values(0), expected);
}

#[tokio::test]
async fn a_first_window_whose_first_batch_fails_is_sent_again_in_order() {
    for fault in [
        Fault::Error(ErrorCode::NotLeaderOrFollower),
        Fault::Error(ErrorCode::UnknownProducerId),
    ] {
        let broker = FakeBroker::start(1).await;
        let mut requests = 0;
        broker.script(move |_| {
            requests += 1;
            // The second fault stands for what the broker says behind the first.
            match requests {
                1 => Fault::Error(ErrorCode::NotLeaderOrFollower),
                2 => fault,
                _ => Fault::None,
            }
        });
        let producer = client(&broker).await.producer(one_record_a_batch());
        for future in send_numbers(&producer, 0..5).await {
            future.await.unwrap();
        }
        assert_eq!(broker.values(0), ["0", "1", "2", "3", "4"]);
    }
}

#[tokio::test]
async fn a_batch_that_may_be_there_is_not_sent_under_another_identity() {
    let broker = FakeBroker::start(1).await;
    let producer = client(&broker).await.producer(one_record_a_batch());
    for future in send_numbers(&producer, 0..1).await {
        future.await.unwrap();
    }
    let mut requests = 0;
    broker.script(move |_| {
        requests += 1;
        match requests {
            1 => Fault::DropAfter,
            _ => Fault::Error(ErrorCode::UnknownProducerId),
        }
    });
    for future in send_numbers(&producer, 1..2).await {
        let error = future.await.unwrap_err();
        assert!(matches!(error, ProduceError::Fatal { .. }), "{error}");
    }
    assert_eq!(broker.values(0), ["0", "1"]);
}

#[tokio::test]
async fn without_acks_nothing_is_waited_for() {
    let broker = FakeBroker::start(1).await;
    let config = ProducerConfig {
        acks: Acks::None,
        ..small_batches()
    };
    let producer = client(&broker).await.producer(config);
    let record = ProducerRecord::to(TOPIC).value(b"x");
    let delivery = producer.send(record).await.unwrap().await.unwrap();
    assert_eq!(delivery.offset, Offset::NONE);
    producer.close().await;
    assert_eq!(
        producer.send(record).await.unwrap_err(),
        ProduceError::Closed
    );
}

#[tokio::test]
async fn without_acks_sending_waits_for_a_broker_that_does_not_read() {
    let broker = FakeBroker::start(1).await;
    broker.state().held = true;
    let config = ProducerConfig {
        acks: Acks::None,
        buffer_bytes: 1 << 20,
        ..ProducerConfig::default()
    };
    let producer = client(&broker).await.producer(config);
    let value = vec![b'x'; 100_000];
    let record = ProducerRecord::to(TOPIC).value(&value);
    let mut sent = 0;
    while let Ok(taken) =
        tokio::time::timeout(Duration::from_millis(500), producer.send(record)).await
    {
        taken.unwrap();
        sent += 1;
        assert!(sent < 1000, "100 MB are sent to a broker that doesn't read");
    }
    broker.release();
    producer.close().await;
    assert_eq!(broker.values(0).len(), sent);
}

#[tokio::test]
async fn without_acks_a_flush_ends_when_the_broker_has_everything() {
    let broker = FakeBroker::start(3).await;
    let config = ProducerConfig {
        acks: Acks::None,
        ..one_record_a_batch()
    };
    let producer = client(&broker).await.producer(config);
    for round in 1..=3 {
        send_numbers(&producer, 0..200).await;
        producer.flush().await;
        let there: usize = (0..3).map(|partition| broker.values(partition).len()).sum();
        assert_eq!(there, round * 200);
    }
}

#[tokio::test]
async fn outcomes_become_known_in_order_also_of_what_is_never_sent() {
    const TIMEOUT: Duration = Duration::from_millis(100);
    let broker = FakeBroker::start(1).await;
    let mut requests = 0;
    broker.script(move |_| {
        requests += 1;
        match requests {
            1 => Fault::None,
            _ => Fault::Silence,
        }
    });
    let (outcomes, known) = std::sync::mpsc::channel();
    let config = ProducerConfig {
        in_flight_max: 2,
        delivery_timeout: TIMEOUT,
        delivery_listener: Some(Arc::new(move |outcome| {
            if outcome.result.is_ok() {
                // Holds the sender up until the time of all that wait is over.
                std::thread::sleep(TIMEOUT);
            }
            let error = outcome.result.as_ref().map_err(ToString::to_string);
            outcomes.send(error.err()).unwrap();
        })),
        ..one_record_a_batch()
    };
    let producer = client(&broker).await.producer(config);
    send_numbers(&producer, 0..3).await;
    producer.flush().await;
    let known: Vec<String> = known.try_iter().flatten().collect();
    assert_eq!(known.len(), 2);
    assert!(known[0].ends_with("no answer has come"), "{known:?}");
    assert!(known[1].ends_with("its turn never came"), "{known:?}");
}

#[tokio::test]
async fn an_error_that_no_retry_helps_is_told_at_once() {
    let broker = FakeBroker::start(1).await;
    let producer = client(&broker).await.producer(one_record_a_batch());
    broker.state().cluster_id = "another";
    for future in send_numbers(&producer, 0..3).await {
        let error = tokio::time::timeout(Duration::from_secs(20), future)
            .await
            .expect("long before the delivery timeout")
            .unwrap_err();
        assert!(error.to_string().contains("cluster another"), "{error}");
    }
}

#[tokio::test]
async fn a_delivery_timeout_holds_also_while_the_answer_to_a_later_batch_is_missing() {
    let broker = FakeBroker::start(1).await;
    let mut requests = 0;
    broker.script(move |_| {
        requests += 1;
        match requests {
            1 => Fault::Error(ErrorCode::NotEnoughReplicas),
            _ => Fault::Silence,
        }
    });
    let config = ProducerConfig {
        delivery_timeout: Duration::from_millis(100),
        ..one_record_a_batch()
    };
    let producer = client(&broker).await.producer(config);
    send_numbers(&producer, 0..3).await;
    tokio::time::timeout(Duration::from_secs(10), producer.flush())
        .await
        .expect("no longer than the delivery timeout");
    assert_eq!(producer.stats().failed, 3);
}

/// Nobody waits for a broker that hangs while another one leads.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_leader_that_hangs_before_it_greets_is_left_when_another_one_leads() {
    let broker = FakeBroker::start(1).await;
    let config = ClientConfig {
        connect_timeout: 10 * SOON,
        ..ClientConfig::from(broker.address.as_str())
    };
    let client = Client::connect(config).await.unwrap();
    let hung = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    broker.state().led_at = Some(hung.local_addr().unwrap().port());
    let producer = client.producer(one_record_a_batch());
    let delivery = send_numbers(&producer, 0..1).await.remove(0);
    let _connection = hung.accept().await.unwrap();
    broker.state().led_at = None;
    let delivered = tokio::time::timeout(SOON, delivery).await;
    delivered.expect("it goes to the new leader").unwrap();
    assert_eq!(broker.values(0), ["0"]);
}

#[tokio::test]
async fn what_a_hung_leader_was_asked_behind_a_failure_is_asked_of_the_new_one() {
    let (old, new) = (FakeBroker::start(1).await, FakeBroker::start(1).await);
    let mut requests = 0;
    old.script(move |_| {
        requests += 1;
        match requests {
            1 => Fault::Error(ErrorCode::NotEnoughReplicas),
            _ => Fault::Silence,
        }
    });
    old.state().held = true;
    let producer = client(&old).await.producer(one_record_a_batch());
    let deliveries = send_numbers(&producer, 0..3).await;
    while old.state().held_requests == 0 {
        tokio::task::yield_now().await;
    }
    let port = new.address.rsplit(':').next().unwrap().parse().unwrap();
    old.state().led_at = Some(port);
    old.release();
    for delivery in deliveries {
        let delivered = tokio::time::timeout(SOON, delivery).await;
        delivered.expect("it goes to the new leader").unwrap();
    }
    assert_eq!(new.values(0), ["0", "1", "2"]);
}

#[tokio::test]
async fn closing_and_dropping_deliver_what_was_sent() {
    let broker = FakeBroker::start(1).await;
    let lingering = ProducerConfig {
        linger: Duration::from_secs(60),
        ..ProducerConfig::default()
    };
    let client = client(&broker).await;
    let producer = client.producer(lingering.clone());
    for _ in 0..10 {
        producer
            .send(ProducerRecord::to(TOPIC).value(b"x"))
            .await
            .unwrap();
    }
    producer.close().await;
    assert_eq!(broker.values(0).len(), 10);

    let producer = client.producer(lingering);
    let last = producer
        .send(ProducerRecord::to(TOPIC).value(b"y"))
        .await
        .unwrap();
    drop(producer);
    last.await.unwrap();
    assert_eq!(broker.values(0).len(), 11);
}

#[tokio::test]
async fn an_unknown_topic_or_broker_is_named() {
    let broker = FakeBroker::start(1).await;
    let client = client(&broker).await;
    let producer = client.producer(ProducerConfig::default());
    let error = producer.send(ProducerRecord::to("nope")).await.unwrap_err();
    assert_eq!(error.to_string(), "topic nope: UNKNOWN_TOPIC_OR_PARTITION");

    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    let error = Client::connect(address.as_str()).await.unwrap_err();
    assert!(
        error.to_string().contains(&address) && error.is_retriable(),
        "{error}"
    );
}

/// Reads until so many records are there.
pub(super) async fn read(consumer: &mut Consumer, records: usize) -> Vec<(i32, i64, String)> {
    let mut read = Vec::new();
    while read.len() < records {
        for batch in &consumer.poll(Duration::from_secs(10)).await.unwrap() {
            for record in batch.records() {
                let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                read.push((batch.partition(), record.offset.0, value));
            }
        }
    }
    read
}

pub(super) async fn fill(client: &Client, records: usize, codec: Codec) {
    let config = ProducerConfig {
        codec,
        ..small_batches()
    };
    let producer = client.producer(config);
    for i in 0..records {
        let value = i.to_string();
        producer
            .send(ProducerRecord::to(TOPIC).value(value.as_bytes()))
            .await
            .unwrap();
    }
    producer.flush().await;
}

#[tokio::test]
async fn what_is_produced_with_any_codec_is_consumed() {
    for codec in Codec::ALL {
        let broker = FakeBroker::start(3).await;
        let client = client(&broker).await;
        fill(&client, 1000, codec).await;
        let config = ConsumerConfig {
            partition_bytes_max: 1000,
            buffer_bytes: 5000,
            ..ConsumerConfig::default()
        };
        let mut consumer = client.consumer(config);
        let partitions = consumer
            .assign_topic(TOPIC, StartAt::Beginning)
            .await
            .unwrap();
        assert_eq!(partitions, [0, 1, 2]);
        let mut values: Vec<usize> = Vec::new();
        let mut next = [0; 3];
        for (partition, offset, value) in read(&mut consumer, 1000).await {
            assert_eq!(offset, next[partition as usize], "no gap, no step back");
            next[partition as usize] += 1;
            values.push(value.parse().unwrap());
        }
        values.sort();
        assert_eq!(values, (0..1000).collect::<Vec<_>>(), "{codec:?}");
        for partition in 0..3 {
            let end = consumer.high_watermark(TOPIC, partition);
            assert_eq!(end, consumer.position(TOPIC, partition));
        }
    }
}

#[tokio::test]
async fn a_seek_forgets_what_was_fetched_ahead() {
    let broker = FakeBroker::start(1).await;
    let client = client(&broker).await;
    fill(&client, 200, Codec::None).await;
    let mut consumer = client.consumer(ConsumerConfig::default());
    consumer.assign(TOPIC, 0, StartAt::Beginning).await.unwrap();
    read(&mut consumer, 1).await;
    // In the midst of a batch.
    for wanted in [100, 3, 199] {
        consumer
            .seek(TOPIC, 0, StartAt::Offset(Offset(wanted)))
            .await
            .unwrap();
        assert_eq!(read(&mut consumer, 1).await[0].1, wanted);
    }
    consumer.seek(TOPIC, 0, StartAt::End).await.unwrap();
    assert!(consumer
        .poll(Duration::from_millis(50))
        .await
        .unwrap()
        .is_empty());
    fill(&client, 1, Codec::None).await;
    assert_eq!(
        read(&mut consumer, 1).await[0].1,
        200,
        "a long poll is woken"
    );
    // Now another long poll waits at the end; what it brings is no longer wanted there.
    assert!(consumer
        .poll(Duration::from_millis(50))
        .await
        .unwrap()
        .is_empty());
    consumer
        .seek(TOPIC, 0, StartAt::Offset(Offset(150)))
        .await
        .unwrap();
    let offsets = |read: Vec<(i32, i64, String)>| read.into_iter().map(|record| record.1);
    let read_again = read(&mut consumer, 51).await;
    assert!(offsets(read_again).eq(150..=200));
    for next in 201..205 {
        fill(&client, 1, Codec::None).await;
        assert!(
            offsets(read(&mut consumer, 1).await).eq([next]),
            "each once"
        );
    }
}

#[tokio::test]
async fn an_offset_that_is_not_there_follows_the_policy() {
    let broker = FakeBroker::start(1).await;
    let client = client(&broker).await;
    fill(&client, 50, Codec::None).await;
    broker.state().logs[0].start = 20;
    for (policy, first) in [(OffsetReset::Earliest, 20), (OffsetReset::Latest, 50)] {
        let mut consumer = client.consumer(ConsumerConfig {
            offset_reset: policy,
            ..ConsumerConfig::default()
        });
        consumer
            .assign(TOPIC, 0, StartAt::Offset(Offset(5)))
            .await
            .unwrap();
        if policy == OffsetReset::Latest {
            assert!(consumer
                .poll(Duration::from_millis(100))
                .await
                .unwrap()
                .is_empty());
            assert_eq!(consumer.position(TOPIC, 0), Some(Offset(first)));
        } else {
            assert_eq!(read(&mut consumer, 1).await[0].1, first);
        }
    }
    let mut consumer = client.consumer(ConsumerConfig::default());
    consumer
        .assign(TOPIC, 0, StartAt::Offset(Offset(5)))
        .await
        .unwrap();
    let error = consumer.poll(Duration::from_secs(10)).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::OffsetOutOfRange));
    consumer.seek(TOPIC, 0, StartAt::Beginning).await.unwrap();
    assert_eq!(read(&mut consumer, 1).await[0].1, 20, "a seek begins anew");
}

#[tokio::test]
async fn fetching_goes_on_after_errors_and_stops_at_corruption() {
    let broker = FakeBroker::start(1).await;
    let client = client(&broker).await;
    fill(&client, 50, Codec::None).await;
    broker.state().fetch_error = Some(ErrorCode::NotLeaderOrFollower);
    let mut consumer = client.consumer(ConsumerConfig::default());
    consumer.assign(TOPIC, 0, StartAt::Beginning).await.unwrap();
    assert!(consumer
        .poll(Duration::from_millis(50))
        .await
        .unwrap()
        .is_empty());
    broker.state().fetch_error = None;
    assert_eq!(read(&mut consumer, 50).await.len(), 50);

    {
        let mut state = broker.state();
        let batch = &state.logs[0].batches[0];
        let mut bytes = batch.bytes().to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        // Parses as long as the checksum isn't looked at: a batch that rotted after the append.
        let rotten = crate::record::Batch::rotten(bytes.into(), *batch.header());
        state.logs[0].batches[0] = rotten;
    }
    consumer.seek(TOPIC, 0, StartAt::Beginning).await.unwrap();
    let error = consumer.poll(Duration::from_secs(10)).await.unwrap_err();
    assert!(matches!(error, ClientError::Corrupt { .. }), "{error}");
    assert!(!error.is_retriable());
}

#[tokio::test]
async fn responses_find_their_requests_in_any_order() {
    let broker = FakeBroker::start(1).await;
    let client = client(&broker).await;
    fill(&client, 10, Codec::None).await;
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.admin().describe_topic(TOPIC).await })
        })
        .collect();
    for call in calls {
        assert_eq!(&*call.await.unwrap().unwrap().name, TOPIC);
    }
}

#[tokio::test]
async fn those_who_wait_for_a_connection_share_its_failure() {
    let broker = FakeBroker::start(1).await;
    let config = ClientConfig {
        connect_timeout: Duration::from_millis(100),
        ..ClientConfig::from(broker.address.as_str())
    };
    let client = Client::connect(config).await.unwrap();
    // From now on, whoever connects is never greeted.
    broker.state().greets = false;
    let broker_id = crate::model::BrokerId(1);
    let attempts: Vec<_> = (0..50)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let connection = client.broker(broker_id, connection::Purpose::Fetch);
                connection.await.map(drop)
            })
        })
        .collect();
    for attempt in attempts {
        let error = attempt.await.unwrap().unwrap_err();
        assert!(error.is_retriable(), "{error}");
    }
    let connections = broker.state().connections;
    assert!(connections <= 3, "{connections} for one that never came");
}
