//! Requests that are well formed and ask for what can't be: each is refused by name, and nothing of
//! it is kept.

use bytes::Bytes;
use klamm::model::{ErrorCode, LeaderEpoch, Offset, Timestamp, TopicId};
use klamm::protocol::describe_configs::{DescribeConfigsResource, RESOURCE_BROKER};
use klamm::protocol::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use klamm::protocol::{
    describe_configs, fetch, init_producer_id, list_offsets, metadata, produce, Records,
};
use klamm::record::{BatchHeader, Codec};

use crate::batches::{
    batch, forged, noise, split, timed, zeros, ATTRIBUTES_AT, BATCH_LENGTH_AT,
    LAST_OFFSET_DELTA_AT, RECORD_COUNT_AT,
};
use crate::calls::{fetch_request, only_partition, produce_request, ACKS_ALL};
use crate::harness::{Home, BOTH};
use crate::hostile_frames::{Bystander, RESIDENT_BYTES_MAX};

const CONTROL: i16 = 1 << 5;
const TRANSACTIONAL: i16 = 1 << 4;
const UNKNOWN_CODEC: i16 = 7;

#[test]
fn batches_that_lie_are_refused_and_nothing_of_them_is_appended() {
    for encoding in BOTH {
        let broker = Home::new().start();
        let mut bystander = Bystander::of(&broker);
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 1, &[]);
        let good = batch(&["a", "b"]);
        let unsealed = |at: usize| {
            let mut bytes = good.to_vec();
            bytes[at] ^= 0xff;
            Bytes::from(bytes)
        };
        let number = |at, number: i32| forged(&good, at, &number.to_be_bytes());
        let flagged = |bits: i16| forged(&good, ATTRIBUTES_AT, &bits.to_be_bytes());
        let overlong = forged(&good, BatchHeader::LEN, &[0xff; 11]);
        let late = Timestamp::now().0 + 365 * 24 * 3_600_000;
        let cut = good.slice(..good.len() - 1);
        let two = [&good[..], &good[..]].concat();
        for (what, records, code) in [
            (
                "21: bad CRC",
                unsealed(good.len() - 1),
                ErrorCode::CorruptMessage,
            ),
            (
                "21: bad CRC field",
                unsealed(BatchHeader::CRC_AT),
                ErrorCode::CorruptMessage,
            ),
            (
                "22: length too large",
                number(BATCH_LENGTH_AT, i32::MAX),
                ErrorCode::CorruptMessage,
            ),
            (
                "22: length too small",
                number(BATCH_LENGTH_AT, 60),
                ErrorCode::CorruptMessage,
            ),
            (
                "22: negative length",
                number(BATCH_LENGTH_AT, -1),
                ErrorCode::CorruptMessage,
            ),
            ("22: cut", cut, ErrorCode::CorruptMessage),
            ("22: two batches", two.into(), ErrorCode::CorruptMessage),
            ("nothing", Bytes::new(), ErrorCode::CorruptMessage),
            (
                "23: too many records",
                number(RECORD_COUNT_AT, i32::MAX),
                ErrorCode::InvalidRecord,
            ),
            (
                "23: no records",
                number(RECORD_COUNT_AT, 0),
                ErrorCode::InvalidRecord,
            ),
            (
                "23: negative count",
                number(RECORD_COUNT_AT, -1),
                ErrorCode::InvalidRecord,
            ),
            (
                "24: last offset delta",
                number(LAST_OFFSET_DELTA_AT, 1_000),
                ErrorCode::InvalidRecord,
            ),
            (
                "24: negative delta",
                number(LAST_OFFSET_DELTA_AT, -1),
                ErrorCode::InvalidRecord,
            ),
            ("16: an overlong varint", overlong, ErrorCode::InvalidRecord),
            (
                "26: a control batch",
                flagged(CONTROL),
                ErrorCode::InvalidRecord,
            ),
            (
                "27: transactional",
                flagged(TRANSACTIONAL),
                ErrorCode::InvalidTxnState,
            ),
            (
                "unknown codec",
                flagged(UNKNOWN_CODEC),
                ErrorCode::UnsupportedCompressionType,
            ),
            (
                "not compressed as it says",
                flagged(4),
                ErrorCode::InvalidRecord,
            ),
            (
                "30: the future",
                timed(&[(late, "a")]),
                ErrorCode::InvalidTimestamp,
            ),
            (
                "30: the last time",
                timed(&[(i64::MAX, "a")]),
                ErrorCode::InvalidTimestamp,
            ),
            (
                "30: the first time",
                timed(&[(i64::MIN, "a")]),
                ErrorCode::InvalidTimestamp,
            ),
            (
                "too large",
                batch(&[noise(1_100_000)]),
                ErrorCode::MessageTooLarge,
            ),
        ] {
            let refused = wire.produce("orders", 0, ACKS_ALL, records);
            assert_eq!(refused.error_code, code, "{what}: {refused:?}");
            assert_eq!(refused.base_offset, Offset::NONE, "{what}");
            bystander.is_served_after(what);
        }
        assert_eq!(wire.append("orders", &["good"]), 0);
    }
}

#[test]
fn a_zip_bomb_is_refused_at_its_limit() {
    for encoding in BOTH {
        let home = Home::new().with("log.message_max_bytes", 64 * 1024);
        let broker = home.start();
        let mut bystander = Bystander::of(&broker);
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 1, &[]);
        for codec in [Codec::Gzip, Codec::Zstd] {
            let bomb = zeros(48 * 1024 * 1024, codec);
            assert!(
                bomb.len() < 64 * 1024,
                "{codec:?} makes {} of it",
                bomb.len()
            );
            let refused = wire.produce("orders", 0, ACKS_ALL, bomb);
            assert_eq!(
                refused.error_code,
                ErrorCode::InvalidRecord,
                "25: {codec:?}"
            );
            bystander.is_served_after("25: a zip bomb");
        }
    }
}

#[test]
fn names_that_are_no_topics_are_refused() {
    for encoding in BOTH {
        let broker = Home::new().start();
        let mut wire = broker.connect_as(encoding);
        let long = "a".repeat(250);
        for name in ["../x", "..", ".", "", "a\0b", "a/b", "größe", &long] {
            let refused = wire.try_create_topic(name, 1, &[]);
            assert_eq!(
                refused.error_code,
                ErrorCode::InvalidTopicException,
                "31: {name:?}"
            );
        }
        wire.create_topic(&"a".repeat(249), 1, &[]);
    }
}

#[test]
fn numbers_of_partitions_that_can_not_be_are_refused() {
    for encoding in BOTH {
        let broker = Home::new().start();
        let mut bystander = Bystander::of(&broker);
        let mut wire = broker.connect_as(encoding);
        for partitions in [1_000_000, i32::MAX, 5_000, 0, -2] {
            let code = wire.try_create_topic("orders", partitions, &[]).error_code;
            assert!(
                [ErrorCode::PolicyViolation, ErrorCode::InvalidPartitions].contains(&code),
                "32: {partitions}: {code}"
            );
            bystander.is_served_after("32: a million partitions");
        }
        assert_eq!(
            wire.topic("orders").error_code,
            ErrorCode::UnknownTopicOrPartition
        );
    }
}

#[test]
fn a_fetch_of_two_billion_bytes_gets_what_a_frame_holds() {
    for encoding in BOTH {
        let frame_bytes_max = 128 * 1024;
        let home = Home::new()
            .with("log.message_max_bytes", 64 * 1024)
            .with("listeners.native.frame_bytes_max", frame_bytes_max)
            .with("listeners.native.in_flight_bytes_max", frame_bytes_max)
            .with("listeners.kafka.frame_bytes_max", frame_bytes_max)
            .with("listeners.kafka.in_flight_bytes_max", frame_bytes_max);
        let broker = home.start();
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 1, &[]);
        for _ in 0..40 {
            wire.append("orders", &[noise(10_000)]);
        }
        let mut request = fetch_request("orders", 0, 0);
        request.max_bytes = i32::MAX;
        request.topics[0].partitions[0].partition_max_bytes = i32::MAX;
        let data = only_partition(wire.call::<fetch::Api>(&request));
        let read = data.records.0.len();
        assert!(
            read > frame_bytes_max / 2 && read <= frame_bytes_max,
            "34: {read}"
        );
        // The same partition a thousand times over shares it.
        let asked = request.topics[0].partitions[0].clone();
        request.topics[0].partitions = vec![asked; 1_000];
        let response = wire.call::<fetch::Api>(&request);
        let partitions = &response.responses[0].partitions;
        let read: usize = partitions.iter().map(|p| p.records.0.len()).sum();
        assert_eq!(partitions.len(), 1_000);
        assert!(read <= frame_bytes_max, "34: {read}");
        assert!(!split(&partitions[0].records.0).is_empty());
    }
}

#[test]
fn numbers_below_zero_are_no_sizes() {
    for encoding in BOTH {
        let broker = Home::new().start();
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 1, &[]);
        wire.append("orders", &["a"]);
        let request = fetch::Request {
            max_wait_ms: i32::MIN,
            min_bytes: i32::MIN,
            max_bytes: i32::MIN,
            ..fetch_request("orders", 0, 0)
        };
        let data = only_partition(wire.call::<fetch::Api>(&request));
        assert_eq!(data.error_code, ErrorCode::None);
        for partition in [-1, 1, i32::MIN, i32::MAX] {
            let code = wire.fetch("orders", partition, 0).error_code;
            assert_eq!(code, ErrorCode::UnknownTopicOrPartition, "{partition}");
            let code = wire
                .produce("orders", partition, 1, batch(&["a"]))
                .error_code;
            assert_eq!(code, ErrorCode::UnknownTopicOrPartition, "{partition}");
        }
        for timestamp in [-6, i64::MIN] {
            let code = wire.offset_at("orders", Timestamp(timestamp)).error_code;
            assert_eq!(code, ErrorCode::UnsupportedVersion, "{timestamp}");
        }
    }
}

#[test]
fn transactions_are_refused_since_there_are_none() {
    let broker = Home::new().start();
    let response = broker
        .connect()
        .call::<init_producer_id::Api>(&init_producer_id::Request {
            transactional_id: Some("t".into()),
            transaction_timeout_ms: 1_000,
            ..Default::default()
        });
    assert_eq!(response.error_code, ErrorCode::InvalidRequest);
}

/// 15: what is asked for again and again in one request, each time in a few bytes, must not be
/// answered with far more bytes each time.
#[test]
fn a_request_that_repeats_itself_is_not_answered_a_thousandfold() {
    for encoding in BOTH {
        let broker = Home::new().start();
        let mut bystander = Bystander::of(&broker);
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 1_000, &[]);

        let topic = metadata::MetadataRequestTopic {
            topic_id: TopicId::NONE,
            name: Some("orders".into()),
        };
        wire.call::<metadata::Api>(&metadata::Request {
            topics: Some(vec![topic; 10_000]),
            allow_auto_topic_creation: false,
            ..Default::default()
        });
        bystander.is_served_after("15: one topic 10,000 times");

        let broker_configs = DescribeConfigsResource {
            resource_type: RESOURCE_BROKER,
            resource_name: "1".into(),
            configuration_keys: None,
        };
        wire.call::<describe_configs::Api>(&describe_configs::Request {
            resources: vec![broker_configs; 50_000],
            include_synonyms: true,
            include_documentation: true,
        });
        bystander.is_served_after("15: one resource 50,000 times");
    }
}

#[test]
fn a_long_name_is_not_repeated_for_each_partition() {
    let broker = Home::new().start();
    let mut bystander = Bystander::of(&broker);
    let mut wire = broker.connect();
    let name = "a".repeat(1_000_000);
    let mut request = produce_request(&name, 0, 1, Bytes::new());
    let partition = produce::PartitionProduceData {
        index: 0,
        records: Records(Bytes::new()),
    };
    request.topic_data[0].partition_data = vec![partition; 2_000];
    let response = wire.call::<produce::Api>(&request);
    let result = &response.responses[0].partition_responses[1_999];
    assert!(
        [
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::InvalidTopicException
        ]
        .contains(&result.error_code),
        "{result:?}"
    );
    bystander.is_served_after("15: a name of a megabyte for 2,000 partitions");

    let asked = ListOffsetsPartition {
        partition_index: 0,
        current_leader_epoch: LeaderEpoch::NONE,
        timestamp: Timestamp(-1),
    };
    wire.call::<list_offsets::Api>(&list_offsets::Request {
        topics: vec![ListOffsetsTopic {
            name: name.clone(),
            partitions: vec![asked; 40_000],
        }],
        ..Default::default()
    });
    bystander.is_served_after("15: the same for ListOffsets");

    // In a session and outside of one; it is told at once.
    for session_epoch in [-1, 0] {
        let mut request = fetch_request(&name, 0, 0);
        request.max_wait_ms = 60_000;
        request.min_bytes = 1;
        request.session_epoch = session_epoch;
        let asked = request.topics[0].partitions[0].clone();
        request.topics[0].partitions = vec![asked; 500];
        let partitions = request.topics[0].partitions.iter_mut().zip(0..);
        partitions.for_each(|(asked, index)| asked.partition = index);
        let response = wire.call::<fetch::Api>(&request);
        let partitions = &response.responses[0].partitions;
        assert_eq!(partitions.len(), 500);
        let code = partitions[499].error_code;
        assert_eq!(code, ErrorCode::InvalidTopicException);
        bystander.is_served_after("15: the same for Fetch");
    }
    let most = broker.resident_bytes_at_most();
    assert!(most < RESIDENT_BYTES_MAX, "15: {most} bytes");
}
