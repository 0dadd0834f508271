//! Fetch, ListOffsets and DeleteRecords: what is read, from where, and who waits for what.

use klamm::model::{ErrorCode, LeaderEpoch, Offset, Timestamp, TopicId};
use klamm::protocol::delete_records::{self, DeleteRecordsPartition, DeleteRecordsTopic};
use klamm::protocol::fetch as api;
use klamm::protocol::list_offsets::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, MAX_TIMESTAMP};

use crate::batches::{batch, noise, records, split, timed};
use crate::calls::{fetch_request, only_partition, ACKS_ALL};
use crate::harness::{Home, BOTH, WAIT_MAX};
use crate::wire::Wire;

/// Longer than a test may take: whoever is answered was woken.
const LONG_POLL_MS: i32 = WAIT_MAX.as_millis() as i32;

/// Waits for more than there is.
fn long_poll(topic: &str, from: i64, min_bytes: i32) -> api::Request {
    api::Request {
        max_wait_ms: LONG_POLL_MS,
        min_bytes,
        ..fetch_request(topic, 0, from)
    }
}

/// Sends a fetch, and returns once the broker has taken it: a later request on the same connection
/// is answered.
fn send_and_see_it_wait(wire: &mut Wire, request: &api::Request) -> i32 {
    let waiting = wire.send::<api::Api>(request).unwrap();
    let asked = wire.send::<klamm::protocol::describe_cluster::Api>(
        &klamm::protocol::describe_cluster::Request::default(),
    );
    let answered = wire.correlation_ids(1);
    assert_eq!(
        answered,
        [asked.unwrap()],
        "the fetch {waiting} was answered first"
    );
    waiting
}

fn delete_before(wire: &mut Wire, topic: &str, offset: i64) -> (ErrorCode, Offset) {
    let request = delete_records::Request {
        topics: vec![DeleteRecordsTopic {
            name: topic.into(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: 0,
                offset: Offset(offset),
            }],
        }],
        timeout_ms: 1_000,
    };
    let response = wire.call::<delete_records::Api>(&request);
    let result = &response.topics[0].partitions[0];
    (result.error_code, result.low_watermark)
}

#[test]
fn an_offset_within_a_batch_is_answered_with_the_whole_batch() {
    for encoding in BOTH {
        let broker = Home::new().start();
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 1, &[]);
        wire.append("orders", &["a", "b"]);
        wire.append("orders", &["c", "d", "e"]);
        wire.append("orders", &["f"]);
        let data = wire.fetch("orders", 0, 3);
        let offsets: Vec<_> = records(&data.records.0).iter().map(|(at, _)| *at).collect();
        assert_eq!(offsets, [2, 3, 4, 5]);
    }
}

#[test]
fn sizes_are_kept_but_the_first_batch_comes_whole() {
    for encoding in BOTH {
        let broker = Home::new().start();
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 1, &[]);
        for _ in 0..3 {
            wire.append("orders", &[noise(10_000)]);
        }
        let size = batch(&[noise(10_000)]).len() as i32;
        for (max_bytes, partition_max_bytes, batches) in [
            (1, i32::MAX, 1),
            (i32::MAX, 1, 1),
            (0, 0, 1),
            (2 * size + 1, i32::MAX, 2),
            (i32::MAX, 2 * size + 1, 2),
            (i32::MAX, i32::MAX, 3),
        ] {
            let mut request = fetch_request("orders", 0, 0);
            request.max_bytes = max_bytes;
            request.topics[0].partitions[0].partition_max_bytes = partition_max_bytes;
            let data = only_partition(wire.call::<api::Api>(&request));
            let read = split(&data.records.0).len();
            assert_eq!(
                read, batches,
                "max_bytes {max_bytes}, {partition_max_bytes}"
            );
        }
    }
}

#[test]
fn the_bytes_of_a_fetch_are_shared_by_its_partitions() {
    for encoding in BOTH {
        let broker = Home::new().start();
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 2, &[]);
        for partition in 0..2 {
            let sent = batch(&[noise(10_000)]);
            wire.produce("orders", partition, ACKS_ALL, sent);
        }
        let mut request = fetch_request("orders", 0, 0);
        request.max_bytes = 15_000;
        let mut second = request.topics[0].partitions[0].clone();
        second.partition = 1;
        request.topics[0].partitions.push(second);
        let response = wire.call::<api::Api>(&request);
        let sizes = |p: &api::PartitionData| !p.records.0.is_empty();
        let full: Vec<_> = response.responses[0].partitions.iter().map(sizes).collect();
        assert_eq!(full, [true, false]);
    }
}

#[test]
fn a_long_poll_is_answered_by_the_append_that_it_waits_for() {
    let broker = Home::new().start();
    let (mut wire, mut other) = (broker.connect(), broker.connect());
    wire.create_topic("orders", 1, &[]);
    let waiting = send_and_see_it_wait(&mut wire, &long_poll("orders", 0, 1));
    other.append("orders", &["a"]);
    let (answered, answer) = wire.receive::<api::Api>().unwrap();
    assert_eq!(answered, waiting);
    let data = only_partition(answer.unwrap());
    assert_eq!(records(&data.records.0), [(0, b"a".to_vec())]);
}

#[test]
fn min_bytes_are_waited_for_over_several_appends() {
    let broker = Home::new().start();
    let (mut wire, mut other) = (broker.connect(), broker.connect());
    wire.create_topic("orders", 1, &[]);
    let size = batch(&["a"]).len() as i32;
    let waiting = send_and_see_it_wait(&mut wire, &long_poll("orders", 0, 3 * size));
    for n in 0..3 {
        other.append("orders", &["a"]);
        if n < 2 {
            // Still none of its business.
            send_and_see_it_wait(&mut wire, &long_poll("orders", n + 1, i32::MAX));
        }
    }
    let (answered, answer) = wire.receive::<api::Api>().unwrap();
    assert_eq!(answered, waiting);
    assert_eq!(split(&only_partition(answer.unwrap()).records.0).len(), 3);
}

#[test]
fn a_long_poll_ends_with_its_time() {
    for encoding in BOTH {
        let broker = Home::new().start();
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 1, &[]);
        let request = api::Request {
            max_wait_ms: 50,
            ..long_poll("orders", 0, 1)
        };
        let began = std::time::Instant::now();
        let data = only_partition(wire.call::<api::Api>(&request));
        assert!(began.elapsed().as_millis() >= 50);
        assert_eq!(data.error_code, ErrorCode::None);
        assert!(data.records.0.is_empty());
    }
}

#[test]
fn offsets_that_are_not_there_are_out_of_range() {
    for encoding in BOTH {
        let broker = Home::new().start();
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 1, &[]);
        wire.append("orders", &["a", "b", "c"]);
        for offset in [-5, -1, 4, i64::MAX, i64::MIN] {
            let data = wire.fetch("orders", 0, offset);
            assert_eq!(data.error_code, ErrorCode::OffsetOutOfRange, "{offset}");
            assert!(data.records.0.is_empty());
        }
        assert_eq!(wire.fetch("orders", 0, 3).error_code, ErrorCode::None);
    }
}

#[test]
fn start_end_times_and_the_largest_time_have_their_offsets() {
    for encoding in BOTH {
        let broker = Home::new().start();
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 1, &[]);
        for at in [LATEST_TIMESTAMP, EARLIEST_TIMESTAMP] {
            assert_eq!(wire.offset_at("orders", at).offset, Offset(0));
        }
        assert_eq!(wire.offset_at("orders", MAX_TIMESTAMP).offset, Offset::NONE);
        let now = Timestamp::now().0;
        let sent = timed(&[(now - 50, "a"), (now - 30, "b"), (now - 40, "c")]);
        wire.produce("orders", 0, ACKS_ALL, sent);
        let sent = timed(&[(now - 20, "d"), (now - 10, "e")]);
        wire.produce("orders", 0, ACKS_ALL, sent);
        for (at, offset, timestamp) in [
            (LATEST_TIMESTAMP.0, 5, -1),
            (EARLIEST_TIMESTAMP.0, 0, -1),
            (MAX_TIMESTAMP.0, 4, now - 10),
            (0, 0, now - 50),
            (now - 45, 1, now - 30),
            (now - 25, 3, now - 20),
            (now - 10, 4, now - 10),
            (now, -1, -1),
        ] {
            let found = wire.offset_at("orders", Timestamp(at));
            assert_eq!(found.error_code, ErrorCode::None);
            let found = (found.offset.0, found.timestamp.0);
            assert_eq!(found, (offset, timestamp), "at {}", at - now);
        }
    }
}

#[test]
fn deleted_records_are_gone_also_after_a_kill() {
    for encoding in BOTH {
        let home = Home::new();
        let broker = home.start();
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 1, &[]);
        wire.append("orders", &["a", "b"]);
        wire.append("orders", &["c", "d"]);
        assert_eq!(
            delete_before(&mut wire, "orders", 5).0,
            ErrorCode::OffsetOutOfRange
        );
        assert_eq!(
            delete_before(&mut wire, "orders", -2).0,
            ErrorCode::OffsetOutOfRange
        );
        assert_eq!(
            delete_before(&mut wire, "orders", 3),
            (ErrorCode::None, Offset(3))
        );
        assert_eq!(
            delete_before(&mut wire, "orders", 1),
            (ErrorCode::None, Offset(3))
        );
        broker.kill();
        let broker = home.start();
        let mut wire = broker.connect_as(encoding);
        let data = wire.fetch("orders", 0, 2);
        assert_eq!(data.error_code, ErrorCode::OffsetOutOfRange);
        assert_eq!(data.log_start_offset, Offset(3));
        assert_eq!(
            wire.offset_at("orders", EARLIEST_TIMESTAMP).offset,
            Offset(3)
        );
        assert_eq!(wire.fetch("orders", 0, 3).error_code, ErrorCode::None);
        assert_eq!(
            delete_before(&mut wire, "orders", -1),
            (ErrorCode::None, Offset(4))
        );
    }
}

#[test]
fn a_client_with_another_leader_epoch_is_told_so() {
    for encoding in BOTH {
        let broker = Home::new().start();
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 1, &[]);
        let epoch = wire.topic("orders").partitions[0].leader_epoch;
        for (believed, code) in [
            (epoch, ErrorCode::None),
            (epoch.next(), ErrorCode::UnknownLeaderEpoch),
        ] {
            let mut request = fetch_request("orders", 0, 0);
            request.topics[0].partitions[0].current_leader_epoch = believed;
            let data = only_partition(wire.call::<api::Api>(&request));
            assert_eq!(data.error_code, code, "{believed}");
        }
    }
}

#[test]
fn a_topic_is_found_by_its_id_and_another_id_is_unknown() {
    let broker = Home::new().start();
    let mut wire = broker.connect();
    wire.create_topic("orders", 1, &[]);
    wire.append("orders", &["a"]);
    let id = wire.topic("orders").topic_id;
    for (name, id, code) in [
        ("", id, ErrorCode::None),
        ("orders", id, ErrorCode::None),
        ("orders", TopicId::random(), ErrorCode::UnknownTopicId),
        ("others", TopicId::NONE, ErrorCode::UnknownTopicOrPartition),
    ] {
        let mut request = fetch_request(name, 0, 0);
        request.topics[0].topic_id = id;
        request.topics[0].partitions[0].current_leader_epoch = LeaderEpoch::NONE;
        let data = only_partition(wire.call::<api::Api>(&request));
        assert_eq!(data.error_code, code, "{name:?} {id}");
    }
}

#[test]
fn a_topic_that_is_deleted_while_it_is_in_use_is_unknown_to_those_who_wait() {
    let broker = Home::new().start();
    let (mut wire, mut other) = (broker.connect(), broker.connect());
    wire.create_topic("orders", 1, &[]);
    wire.append("orders", &["a"]);
    send_and_see_it_wait(&mut wire, &long_poll("orders", 1, 1));
    assert_eq!(other.delete_topic("orders"), ErrorCode::None);
    let (_, answer) = wire.receive::<api::Api>().unwrap();
    let code = only_partition(answer.unwrap()).error_code;
    assert!(
        [
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::NotLeaderOrFollower
        ]
        .contains(&code),
        "{code}"
    );
    // Under the old name there is a new, empty topic with another id.
    wire.create_topic("orders", 1, &[]);
    assert!(wire.read_all("orders", 0).is_empty());
    assert_eq!(wire.append("orders", &["b"]), 0);
}

#[test]
fn retention_by_bytes_drops_the_oldest_segments_and_keeps_offsets() {
    for encoding in BOTH {
        let home = Home::new().with("log.retention_check_interval_ms", 20);
        let broker = home.start();
        let mut wire = broker.connect_as(encoding);
        let configs = [("segment.bytes", "1048576"), ("retention.bytes", "2097152")];
        wire.create_topic("orders", 1, &configs);
        let value = noise(300_000);
        let mut start = Offset::ZERO;
        let mut appended = 0;
        while start == Offset::ZERO {
            assert!(appended < 100, "nothing is ever deleted");
            wire.append("orders", &[&value]);
            appended += 1;
            start = wire.offset_at("orders", EARLIEST_TIMESTAMP).offset;
        }
        assert_eq!(
            wire.fetch("orders", 0, 0).error_code,
            ErrorCode::OffsetOutOfRange
        );
        let left = wire.read_all("orders", 0);
        assert_eq!(left.last().unwrap().0, appended - 1);
        assert!(left.iter().all(|(_, read)| *read == value));
        assert!(
            left.len() * value.len() >= 2_097_152 - value.len(),
            "{}",
            left.len()
        );
    }
}
