//! The Kafka listener, down to the bytes: the same topics as on the native one, and what Kafka's
//! clients rely on.

use bytes::Bytes;
use klamm::model::ErrorCode;
use klamm::protocol::{api_versions, fetch, metadata, produce, ApiKey};

use crate::batches::batch;
use crate::calls::{fetch_request, produce_request, ACKS_ALL};
use crate::harness::Home;
use crate::wire::{framed, kafka_frame, kafka_response, Heard, Wire};

fn heard(wire: &mut Wire) -> Bytes {
    match wire.hear().unwrap() {
        Heard::Frame(frame) => frame,
        Heard::Closed => panic!("the broker closed the connection"),
    }
}

#[test]
fn what_one_listener_takes_the_other_gives_byte_for_byte() {
    let broker = Home::new().start();
    let (mut native, mut kafka) = (broker.connect(), broker.connect_kafka());
    native.create_topic("both", 1, &[]);
    let sent = batch(&["through Kafka's"]);
    let result = kafka.produce("both", 0, ACKS_ALL, sent.clone());
    assert_eq!(
        (result.error_code, result.base_offset.0),
        (ErrorCode::None, 0)
    );

    let read = |wire: &mut Wire| wire.fetch("both", 0, 0).records.0;
    let (from_native, from_kafka) = (read(&mut native), read(&mut kafka));
    assert_eq!(from_native, from_kafka);
    // Offset and leader epoch are the leader's to stamp; everything else is as it was sent.
    assert_eq!(from_native[16..], sent[16..]);
}

#[test]
fn answers_come_in_the_order_of_the_requests() {
    let broker = Home::new().start();
    let mut wire = broker.connect_kafka();
    broker.connect().create_topic("t", 1, &[]);
    // The fetch waits for the produce behind it, and everybody else waits for the fetch.
    let wait = fetch::Request {
        max_wait_ms: 60_000,
        min_bytes: 1,
        ..fetch_request("t", 0, 0)
    };
    let fetched = wire.send::<fetch::Api>(&wait).unwrap();
    let asked = wire
        .send::<metadata::Api>(&metadata::Request::default())
        .unwrap();
    let request = produce_request("t", 0, ACKS_ALL, batch(&["a"]));
    let produced = wire.send::<produce::Api>(&request).unwrap();
    // acks=0 has no answer, and holds up nobody.
    wire.send::<produce::Api>(&produce_request("t", 0, 0, batch(&["b"])))
        .unwrap();
    let last = wire
        .send::<metadata::Api>(&metadata::Request::default())
        .unwrap();
    assert_eq!(wire.correlation_ids(4), [fetched, asked, produced, last]);
}

#[test]
fn each_version_of_api_versions_and_metadata_is_answered() {
    let broker = Home::new().start();
    let mut wire = broker.connect_kafka();
    broker.connect().create_topic("t", 3, &[]);
    for version in 0..=4 {
        let request = api_versions::Request {
            client_software_name: "tests".into(),
            client_software_version: "1".into(),
        };
        wire.send_bytes(&kafka_frame::<api_versions::Api>(version, 5, &request))
            .unwrap();
        let frame = heard(&mut wire);
        let (id, response) = kafka_response::<api_versions::Api>(version, &frame).unwrap();
        assert_eq!((id, response.error_code), (5, ErrorCode::None));
        let keys: Vec<i16> = response.api_keys.iter().map(|api| api.api_key).collect();
        assert!(
            keys.is_sorted() && keys.contains(&(ApiKey::Produce as i16)),
            "{keys:?}"
        );
        assert!(
            keys.iter().all(|key| *key < 1000),
            "our own APIs are not Kafka's: {keys:?}"
        );
    }
    for version in 0..=13 {
        let request = metadata::Request {
            topics: None,
            ..Default::default()
        };
        wire.send_bytes(&kafka_frame::<metadata::Api>(version, 6, &request))
            .unwrap();
        let frame = heard(&mut wire);
        let (_, response) = kafka_response::<metadata::Api>(version, &frame).unwrap();
        assert_eq!(
            response.topics.len(),
            1,
            "version {version} asks for all topics"
        );
        assert_eq!(response.topics[0].partitions.len(), 3);
        assert_eq!(response.brokers[0].port, i32::from(broker.kafka.port()));
    }
}

#[test]
fn what_is_no_request_ends_the_connection_but_for_a_greeting_from_the_future() {
    let broker = Home::new().start();
    let header = |key: i16, version: i16| {
        let mut bytes = [key, version].map(i16::to_be_bytes).concat();
        bytes.extend(b"\0\0\0\x07\0\x05tests");
        bytes
    };
    let mut wire = broker.connect_kafka();
    wire.send_bytes(&framed(
        &[header(ApiKey::ApiVersions as i16, 99), vec![1, 2, 3]].concat(),
    ))
    .unwrap();
    let frame = heard(&mut wire);
    let (id, response) = kafka_response::<api_versions::Api>(0, &frame).unwrap();
    assert_eq!(
        (id, response.error_code),
        (7, ErrorCode::UnsupportedVersion)
    );
    // The client greets again, on the same connection.
    wire.call::<api_versions::Api>(&api_versions::Request::default());

    for (what, bytes) in [
        ("11: an unknown API", header(9999, 0)),
        (
            "11: an API of our own",
            header(ApiKey::DescribeActors as i16, 0),
        ),
        (
            "12: an unknown version",
            header(ApiKey::Metadata as i16, 99),
        ),
        (
            "12: a version that is only advertised",
            header(ApiKey::Produce as i16, 0),
        ),
        (
            "13: an array of 2^31-1",
            [header(3, 1), vec![0x7f, 0xff, 0xff, 0xff]].concat(),
        ),
        (
            "16: an overlong varint",
            [header(3, 9), vec![0, 0xff, 0xff, 0xff, 0xff, 0xff, 1]].concat(),
        ),
        (
            "17: invalid UTF-8",
            [header(3, 1), b"\0\0\0\x01\0\x01\xff".to_vec()].concat(),
        ),
        (
            "19: a negative length",
            [header(3, 1), b"\0\0\0\x01\xff\xfd".to_vec()].concat(),
        ),
        ("an empty body", header(0, 7)),
        ("half a header", b"\0\x03\0".to_vec()),
    ] {
        let mut wire = broker.connect_kafka();
        wire.send_bytes(&framed(&bytes)).unwrap();
        wire.expect_close(what);
    }
    broker
        .connect_kafka()
        .call::<metadata::Api>(&metadata::Request::default());
}

/// A fetch in a session.
fn in_session(id: i32, epoch: i32, request: fetch::Request) -> fetch::Request {
    fetch::Request {
        session_id: id,
        session_epoch: epoch,
        ..request
    }
}

#[test]
fn a_fetch_session_tells_only_what_is_new() {
    let broker = Home::new().start();
    let mut wire = broker.connect_kafka();
    wire.create_topic("t", 3, &[]);
    let mut all = fetch_request("t", 0, 0);
    let first = all.topics[0].partitions[0].clone();
    for partition in 1..3 {
        let mut next = first.clone();
        next.partition = partition;
        all.topics[0].partitions.push(next);
    }
    let opened = wire.call::<fetch::Api>(&in_session(0, 0, all));
    let id = opened.session_id;
    assert!(id > 0, "a session is given");
    assert_eq!(
        opened.responses[0].partitions.len(),
        3,
        "the first answer is full"
    );

    let nothing = fetch::Request {
        topics: Vec::new(),
        ..fetch_request("t", 0, 0)
    };
    let quiet = wire.call::<fetch::Api>(&in_session(id, 1, nothing.clone()));
    assert_eq!(
        (quiet.session_id, quiet.responses.len()),
        (id, 0),
        "nothing is new"
    );

    wire.produce("t", 1, ACKS_ALL, batch(&["a"]));
    let news = wire.call::<fetch::Api>(&in_session(id, 2, nothing.clone()));
    let partitions = &news.responses[0].partitions;
    assert_eq!((partitions.len(), partitions[0].partition_index), (1, 1));

    let stale = wire.call::<fetch::Api>(&in_session(id, 2, nothing.clone()));
    assert_eq!(stale.error_code, ErrorCode::InvalidFetchSessionEpoch);
    // A session ends with its connection.
    let mut other = broker.connect_kafka();
    let unknown = other.call::<fetch::Api>(&in_session(id, 3, nothing));
    assert_eq!(unknown.error_code, ErrorCode::FetchSessionIdNotFound);
}

#[test]
fn a_fetch_of_no_partition_is_answered_at_once() {
    let broker = Home::new().start();
    let mut wire = broker.connect_kafka();
    wire.create_topic("t", 1, &[]);
    let opened = wire.call::<fetch::Api>(&in_session(0, 0, fetch_request("t", 0, 0)));
    // With the last epoch the Java client ends its session when it closes, and waits for the answer.
    for (id, epoch) in [(0, -1), (opened.session_id, -1)] {
        let nothing = fetch::Request {
            max_wait_ms: 60_000,
            min_bytes: 1,
            topics: Vec::new(),
            ..fetch_request("t", 0, 0)
        };
        // There is nothing that could come, so the answer is there before the time is over.
        let answer = wire.call::<fetch::Api>(&in_session(id, epoch, nothing));
        assert_eq!(answer.error_code, ErrorCode::None);
    }
}

#[test]
fn nobody_fetches_as_a_follower() {
    let broker = Home::new().start();
    let mut wire = broker.connect_kafka();
    wire.create_topic("t", 1, &[]);
    let forged = fetch::Request {
        replica_id: klamm::model::BrokerId(1),
        ..fetch_request("t", 0, 0)
    };
    let response = wire.call::<fetch::Api>(&forged);
    assert_eq!(
        response.error_code,
        ErrorCode::ClusterAuthorizationFailed,
        "35"
    );
    let partition = &response.responses[0].partitions[0];
    assert_eq!(
        partition.error_code,
        ErrorCode::ClusterAuthorizationFailed,
        "for versions without an error of the whole"
    );
    let foreign = fetch::Request {
        cluster_id: Some("another".into()),
        ..fetch_request("t", 0, 0)
    };
    let response = wire.call::<fetch::Api>(&foreign);
    assert_eq!(response.error_code, ErrorCode::InconsistentClusterId);
}
