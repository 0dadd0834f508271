//! Bytes that are no request. The sender gets a named error or is closed; everybody else is served,
//! and the broker's memory does not grow with what a length pretends.
//!
//! The numbers are those of the forty hostile inputs in the project's notes on reliability.

use std::io::Read;
use std::time::{Duration, Instant};

use klamm::model::ErrorCode;
use klamm::protocol::codec::decode_response;
use klamm::protocol::{api_versions, describe_cluster, metadata, ApiKey, Request};

use crate::harness::{Broker, Home};
use crate::wire::{frame, framed, greeting, of_version, Heard, Wire};

/// What a broker may hold after all that these tests send: what it may hold under load too.
pub const RESIDENT_BYTES_MAX: u64 = 150 * 1024 * 1024;

/// How long the broker is watched under an attack that goes on.
const ATTACK: Duration = Duration::from_secs(2);

/// Somebody who has nothing to do with the attack.
pub struct Bystander<'a> {
    broker: &'a Broker,
    wire: Wire,
}

impl Bystander<'_> {
    pub fn of(broker: &Broker) -> Bystander<'_> {
        Bystander {
            broker,
            wire: broker.connect(),
        }
    }

    /// It is served all the time, while what an attack has begun may go on for a while.
    pub fn is_served_during(&mut self, what: &str) {
        let end = Instant::now() + ATTACK;
        while Instant::now() < end {
            self.is_served_after(what);
        }
    }

    /// It is served, so is a newcomer, and the broker's memory is bounded.
    pub fn is_served_after(&mut self, what: &str) {
        for wire in [&mut self.wire, &mut self.broker.connect()] {
            let served = wire.ask::<describe_cluster::Api>(&describe_cluster::Request::default());
            served.unwrap_or_else(|error| panic!("after {what}: {error}"));
        }
        let resident = self.broker.resident_bytes();
        assert!(
            resident < RESIDENT_BYTES_MAX,
            "after {what} the broker holds {resident} bytes"
        );
    }
}

/// MessagePack markers.
const NIL: u8 = 0xc0;
const BIN32: u8 = 0xc6;
const STR32: u8 = 0xdb;
const ARRAY32: u8 = 0xdd;
const MAP32: u8 = 0xdf;
const ARRAY_1: u8 = 0x91;

/// A whole request with this body.
fn request(api: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0x95, 0xd1];
    message.extend(api.to_be_bytes());
    message.push(0xd1);
    message.extend(version.to_be_bytes());
    message.extend([7, NIL]);
    message.extend_from_slice(body);
    framed(&message)
}

fn metadata_request(body: &[u8]) -> Vec<u8> {
    request(ApiKey::Metadata as i16, 0, body)
}

/// A marker with a 32-bit length.
fn long(marker: u8, length: u32) -> Vec<u8> {
    let mut bytes = vec![marker];
    bytes.extend(length.to_be_bytes());
    bytes
}

#[test]
fn what_can_not_be_a_frame_closes_the_connection() {
    let broker = Home::new().start();
    let mut bystander = Bystander::of(&broker);
    let length = |length: i32| length.to_be_bytes().to_vec();
    for (what, bytes) in [
        ("1: length -1", length(-1)),
        ("2: length 2^31-1", length(i32::MAX)),
        ("2: length -2^31", length(i32::MIN)),
        ("3: length 0", length(0)),
        ("4: more than the limit", length(16 * 1024 * 1024 + 1)),
        (
            "5: HTTP",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        ),
        ("5: TLS", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
        ("no MessagePack", framed(b"hello")),
        ("an array of another length", framed(&[0x93, 1, 2, 3])),
        ("40: a depth bomb", framed(&[ARRAY_1; 100_000])),
        ("a map", framed(&long(MAP32, u32::MAX))),
        ("no ids", framed(&[0x95, 0xa1, b'x', 0, 0, NIL, NIL])),
        (
            "a correlation id of 64 bits",
            framed(&[0x95, 3, 0, 0xcf, 1, 2, 3, 4, 5, 6, 7, 8, NIL, NIL]),
        ),
    ] {
        let mut greeted = broker.connect();
        greeted.send_bytes(&bytes).unwrap();
        greeted.expect_close(what);
        let mut stranger = Wire::silent(broker.address).unwrap();
        stranger.send_bytes(&bytes).unwrap();
        stranger.expect_close(what);
        bystander.is_served_after(what);
    }
}

#[test]
fn strangers_get_smaller_frames_than_those_who_have_greeted() {
    let broker = Home::new().start();
    let large = (512 * 1024u32 + 1).to_be_bytes();
    let mut stranger = Wire::silent(broker.address).unwrap();
    stranger.send_bytes(&large).unwrap();
    stranger.expect_close("4: a large frame without a greeting");
    let mut greeted = broker.connect();
    let name = "a".repeat(512 * 1024);
    greeted.call::<api_versions::Api>(&api_versions::Request {
        client_software_name: name,
        client_software_version: String::new(),
    });
}

#[test]
fn what_can_not_be_a_body_is_an_invalid_request() {
    let broker = Home::new().start();
    let mut bystander = Bystander::of(&broker);
    // Metadata's body is [topics, allow_auto_topic_creation, include_topic_authorized_operations],
    // a topic is [id, name].
    let topic_named = |name: &[u8]| {
        let mut body = vec![0x93, ARRAY_1, 0x92, 0xc4, 16];
        body.extend([0; 16]);
        body.extend_from_slice(name);
        body.extend([0xc2, 0xc2]);
        body
    };
    let nested = |inner: Vec<u8>| [&[0x93][..], &inner, &[0xc2, 0xc2]].concat();
    let many = [long(ARRAY32, 300_000), vec![NIL; 300_000]].concat();
    let bodies = [
        (
            "13: an array of 2^31-1",
            nested(long(ARRAY32, i32::MAX as u32)),
        ),
        ("13: bytes of 2^31-1", nested(long(BIN32, i32::MAX as u32))),
        ("14: 20 million fields", nested(long(MAP32, 20_000_000))),
        ("15: elements that amplify", nested(many)),
        (
            "16: an integer that is too long for its field",
            topic_named(&[0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ),
        ("17: invalid UTF-8", topic_named(&[0xa2, 0xc3, 0x28])),
        (
            "18: trailing bytes",
            [&nested(vec![NIL])[..], b"more"].concat(),
        ),
        (
            "19: a string of length -1",
            topic_named(&long(STR32, u32::MAX)),
        ),
        ("40: a depth bomb", vec![ARRAY_1; 100_000]),
        ("nothing", Vec::new()),
        ("nil", vec![NIL]),
        (
            "bytes for a list of numbers",
            nested([&[BIN32, 0, 0, 1, 0][..], &[0; 256]].concat()),
        ),
    ];
    for (what, body) in bodies {
        let mut wire = broker.connect();
        wire.send_bytes(&metadata_request(&body)).unwrap();
        let (id, answer) = wire.receive::<metadata::Api>().unwrap();
        let error = answer.expect_err(what);
        assert_eq!((id, error.code), (7, ErrorCode::InvalidRequest), "{what}");
        assert!(error.message.len() <= 1024, "{what}: {}", error.message);
        // The connection goes on.
        wire.call::<describe_cluster::Api>(&describe_cluster::Request::default());
        bystander.is_served_after(what);
    }
}

#[test]
fn the_last_answer_arrives_although_its_peer_goes_on_sending() {
    let broker = Home::new().start();
    let mut wire = broker.connect();
    let refused = metadata_request(&[NIL]);
    let no_frame = vec![0; 4 * 1024 * 1024];
    wire.send_bytes(&[refused, no_frame].concat())
        .expect("the broker listens to all of it");
    let mut heard = Vec::new();
    wire.writer()
        .read_to_end(&mut heard)
        .expect("an end in good order");
    let answer = klamm::protocol::split_frame(&mut heard[..].into(), heard.len());
    let (id, answer) = decode_response::<metadata::Api>(&answer.unwrap().unwrap()).unwrap();
    assert_eq!(
        (id, answer.unwrap_err().code),
        (7, ErrorCode::InvalidRequest)
    );
}

#[test]
fn unknown_apis_and_versions_are_unsupported() {
    let broker = Home::new().start();
    let mut wire = broker.connect();
    for (what, bytes) in [
        ("11: an unknown API", request(9_999, 0, &[NIL])),
        ("11: a negative API", request(-1, 0, &[NIL])),
        (
            "12: version 99",
            request(ApiKey::Metadata as i16, 99, &[NIL]),
        ),
        (
            "12: version -1",
            request(ApiKey::Metadata as i16, -1, &[NIL]),
        ),
    ] {
        wire.send_bytes(&bytes).unwrap();
        let (id, answer) = wire.receive::<metadata::Api>().unwrap();
        let code = answer.expect_err(what).code;
        assert_eq!((id, code), (7, ErrorCode::UnsupportedVersion), "{what}");
    }
}

#[test]
fn a_greeting_from_the_future_is_told_which_versions_there_are() {
    let broker = Home::new().start();
    let mut wire = Wire::silent(broker.address).unwrap();
    wire.send_bytes(&of_version(&Request::from(greeting()), 9))
        .unwrap();
    let Heard::Frame(answer) = wire.hear().unwrap() else {
        panic!("12: closed");
    };
    let (_, error) = decode_response::<api_versions::Api>(&answer).unwrap();
    assert_eq!(error.unwrap_err().code, ErrorCode::UnsupportedVersion);
    let (_, code, _, body): (i32, i16, Option<String>, api_versions::Response) =
        rmp_serde::from_slice(&answer).unwrap();
    assert_eq!(code, ErrorCode::UnsupportedVersion.code());
    assert_eq!(body.api_keys.len(), ApiKey::ALL.len());
    // And may then greet in one of them.
    wire.call::<api_versions::Api>(&greeting());
}

#[test]
fn a_correlation_id_that_is_used_twice_is_echoed_twice() {
    let broker = Home::new().start();
    let mut wire = broker.connect();
    let bytes = frame::<describe_cluster::Api>(42, &describe_cluster::Request::default());
    wire.send_bytes(&[&bytes[..], &bytes].concat()).unwrap();
    assert_eq!(wire.correlation_ids(2), [42, 42]);
}

#[test]
fn a_request_byte_by_byte_is_a_request() {
    let broker = Home::new().start();
    let mut wire = broker.connect();
    let bytes = frame::<describe_cluster::Api>(42, &describe_cluster::Request::default());
    for byte in &bytes[..] {
        wire.send_bytes(&[*byte]).unwrap();
    }
    assert_eq!(wire.correlation_ids(1), [42]);
}

#[test]
fn a_peer_that_leaves_in_the_middle_of_a_frame_harms_nobody() {
    let broker = Home::new().start();
    let mut bystander = Bystander::of(&broker);
    let bytes = frame::<describe_cluster::Api>(42, &describe_cluster::Request::default());
    for cut in 0..bytes.len() {
        let mut wire = broker.connect();
        wire.send_bytes(&bytes[..cut]).unwrap();
        wire.half_close();
        wire.expect_close("a frame that was cut");
    }
    bystander.is_served_after("frames that were cut");
}
