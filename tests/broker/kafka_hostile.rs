//! Those of the forty hostile inputs that are about frames and peers, on the Kafka listener: what
//! reads and writes there is the same code as on the native one, told another encoding.

use std::io::Write;

use klamm::protocol::{api_versions, describe_cluster, fetch, metadata, ApiKey};

use crate::batches::noise;
use crate::calls::fetch_request;
use crate::harness::Home;
use crate::hostile_frames::Bystander;
use crate::hostile_load::{pour, trickle};
use crate::wire::{framed, kafka_frame, Heard};

/// The version that the helpers speak of APIs with topics by name.
const FETCH: i16 = 12;
const METADATA: i16 = 12;

#[test]
fn what_can_not_be_a_frame_closes_the_connection() {
    let broker = Home::new().start();
    let mut bystander = Bystander::of(&broker);
    let length = |length: i32| length.to_be_bytes().to_vec();
    for (what, bytes) in [
        ("1: length -1", length(-1)),
        ("2: length 2^31-1", length(i32::MAX)),
        ("3: length 0", length(0)),
        ("4: more than the limit", length(16 * 1024 * 1024 + 1)),
        (
            "5: HTTP",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        ),
        ("5: TLS", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
        (
            "5: MessagePack",
            framed(&[0x95, 18, 0, 7, 0xc0, 0x92, 0xa0, 0xa0]),
        ),
        ("40: a depth bomb", framed(&[0x91; 100_000])),
    ] {
        let mut wire = broker.connect_kafka();
        wire.call::<metadata::Api>(&metadata::Request::default());
        wire.send_bytes(&bytes).unwrap();
        wire.expect_close(what);
        let mut stranger = broker.connect_kafka();
        stranger.send_bytes(&bytes).unwrap();
        stranger.expect_close(what);
        bystander.is_served_after(what);
    }
    let mut stranger = broker.connect_kafka();
    stranger
        .send_bytes(&(512 * 1024u32 + 1).to_be_bytes())
        .unwrap();
    stranger.expect_close("4: a large frame before any request");
}

#[test]
fn tagged_fields_and_elements_without_end_close_the_connection() {
    let broker = Home::new().start();
    let mut bystander = Bystander::of(&broker);
    let header = |key: ApiKey, version: i16| {
        let mut bytes = [key as i16, version, 0, 7, -1]
            .map(i16::to_be_bytes)
            .concat();
        bytes.extend(key.is_flexible(version).then_some(0));
        bytes
    };
    // 5 million tagged fields of no bytes: each a tag of up to four bytes and a length.
    let mut tagged = header(ApiKey::Metadata, 12);
    tagged.extend([1, 0, 0, 0xc0, 0x96, 0xb1, 0x02]);
    for tag in 0..3_000_000u32 {
        let bytes = [tag | 0x80, tag >> 7 | 0x80, tag >> 14 | 0x80, tag >> 21];
        tagged.extend(bytes.map(|byte| byte as u8));
        tagged.push(0);
    }
    let mut elements = header(ApiKey::Metadata, 1);
    elements.extend(5_000_000u32.to_be_bytes());
    elements.extend(vec![0; 10_000_000]);
    for (what, bytes) in [("14: tagged fields", tagged), ("15: elements", elements)] {
        let mut wire = broker.connect_kafka();
        wire.call::<metadata::Api>(&metadata::Request::default());
        wire.send_bytes(&framed(&bytes)).unwrap();
        wire.expect_close(what);
        bystander.is_served_after(what);
    }
}

#[test]
fn who_says_nothing_or_too_slowly_is_closed() {
    let home = Home::new()
        .with("listeners.kafka.greeting_timeout_ms", 300)
        .with("listeners.kafka.frame_timeout_ms", 300);
    let broker = home.start();
    broker.connect_kafka().expect_close("7: nothing");

    let mut slow = broker.connect_kafka();
    slow.call::<metadata::Api>(&metadata::Request::default());
    let greeting = kafka_frame::<api_versions::Api>(3, 1, &Default::default());
    trickle(slow, greeting);
}

#[test]
fn ten_thousand_requests_at_once_are_answered_in_their_order() {
    let broker = Home::new().start();
    let mut bystander = Bystander::of(&broker);
    let mut wire = broker.connect_kafka();
    let mut socket = wire.writer();
    let pouring = std::thread::spawn(move || {
        for n in 0..10_000 {
            let request = describe_cluster::Request::default();
            let bytes = kafka_frame::<describe_cluster::Api>(2, n, &request);
            socket.write_all(&bytes).unwrap();
        }
    });
    let answered = wire.correlation_ids(10_000);
    pouring.join().unwrap();
    assert!(answered.into_iter().eq(0..10_000));
    // The same correlation id twice is the client's affair.
    for _ in 0..2 {
        let request = metadata::Request::default();
        wire.send_bytes(&kafka_frame::<metadata::Api>(METADATA, 20, &request))
            .unwrap();
    }
    assert_eq!(wire.correlation_ids(2), [20, 20]);
    bystander.is_served_after("10: 10,000 requests");
}

#[test]
fn who_never_reads_is_read_from_no_more() {
    let broker = Home::new().start();
    let mut bystander = Bystander::of(&broker);
    let mut native = broker.connect();
    native.create_topic("orders", 1, &[]);
    for _ in 0..16 {
        native.append("orders", &[noise(1_000_000)]);
    }
    let wire = broker.connect_kafka();
    let fetches: Vec<u8> = (0..20_000)
        .flat_map(|n| kafka_frame::<fetch::Api>(FETCH, n, &fetch_request("orders", 0, 0)))
        .collect();
    pour(&wire, &fetches);
    bystander.is_served_during("9: 20,000 fetches of 16 MB, and none is read");
    drop(wire);
    bystander.is_served_after("9: and then it leaves");
}

#[test]
fn a_connection_that_is_refused_has_seen_the_answers_before() {
    let broker = Home::new().start();
    let mut wire = broker.connect_kafka();
    let good = kafka_frame::<metadata::Api>(METADATA, 1, &metadata::Request::default());
    let bad = framed(&[0xff; 20]);
    wire.send_bytes(&[&good[..], &bad].concat()).unwrap();
    match wire.hear().unwrap() {
        Heard::Frame(frame) => assert_eq!(frame[..4], 1i32.to_be_bytes()),
        Heard::Closed => panic!("closed without the answer to a good request"),
    }
    wire.expect_close("an unknown API");
}
