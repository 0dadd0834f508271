//! What holds for every API alike: messages come back as they went, zero-copy, and no bytes
//! whatever make a decoder panic.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::api::{for_each_api, ForEachApi};
use super::arbitrary::message;
use super::*;
use crate::model::ErrorCode;

fn header(api: ApiKey) -> RequestHeader {
    RequestHeader {
        api_key: api as i16,
        api_version: *api.versions().end(),
        correlation_id: 7,
        client_id: Some("tester".into()),
    }
}

/// What lies in the one frame that these segments are.
fn frame(segments: Segments) -> Bytes {
    let mut stream = BytesMut::from(&segments.to_bytes()[..]);
    let frame = split_frame(&mut stream, FRAME_BYTES_MAX).unwrap().unwrap();
    assert!(stream.is_empty());
    frame
}

/// Sends a random request and a random response of one API through its frames.
fn roundtrip<A: Api>(seed: u64) {
    let request: A::Request = message(seed);
    let sent = frame(encode_request::<A>(&header(A::KEY), &request).unwrap());
    let (got_header, got) = decode_request(&sent).unwrap();
    assert_eq!(got_header, header(A::KEY));
    assert_eq!(format!("{got:?}"), format!("{:?}", request.clone().into()));
    assert_eq!(got.key(), A::KEY);
    let again = frame(encode_request::<A>(&header(A::KEY), &request).unwrap());
    assert_eq!(sent, again);

    let response: A::Response = message(seed);
    let sent = frame(encode_response(9, &response.clone().into()).unwrap());
    assert_eq!(response_correlation_id(&sent), Ok(9));
    assert_eq!(decode_response::<A>(&sent), Ok((9, Ok(response))));
}

/// Sends random frames of one API with some bytes changed; any result but a panic will do.
fn mutate<A: Api>(seed: u64, changes: &[(usize, u8)]) {
    let request: A::Request = message(seed);
    let response: A::Response = message(seed);
    let request = frame(encode_request::<A>(&header(A::KEY), &request).unwrap());
    let response = frame(encode_response(9, &response.into()).unwrap());
    for frame in [request, response] {
        let mut bytes = frame.to_vec();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = *byte;
        }
        let bytes = Bytes::from(bytes);
        let _ = decode_request(&bytes);
        let _ = decode_response::<A>(&bytes);
        let _ = decode_request(&bytes.slice(..bytes.len() / 2));
    }
}

struct Roundtrip(u64);

impl ForEachApi for Roundtrip {
    fn visit<A: Api>(&mut self) {
        roundtrip::<A>(self.0);
    }
}

struct Mutate<'a>(u64, &'a [(usize, u8)]);

impl ForEachApi for Mutate<'_> {
    fn visit<A: Api>(&mut self) {
        mutate::<A>(self.0, self.1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_api_comes_back_as_it_went(seed: u64) {
        for_each_api(&mut Roundtrip(seed));
    }

    #[test]
    fn changed_bytes_never_panic(
        seed: u64,
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..8),
    ) {
        for_each_api(&mut Mutate(seed, &changes));
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let frame = Bytes::from(bytes);
        let _ = decode_request(&frame);
        let _ = decode_response::<fetch::Api>(&frame);
        let _ = decode_response::<metadata::Api>(&frame);
        let mut stream = BytesMut::from(&frame[..]);
        let _ = split_frame(&mut stream, FRAME_BYTES_MAX);
    }

    /// A body of random values behind a header that is right.
    #[test]
    fn random_bodies_never_panic(
        key in 0i16..70,
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = Vec::new();
        rmp::encode::write_array_len(&mut bytes, 5).unwrap();
        for number in [key as i64, 0, 7] {
            rmp::encode::write_sint(&mut bytes, number).unwrap();
        }
        bytes.push(0xc0);
        bytes.extend(body);
        let _ = decode_request(&Bytes::from(bytes));
    }
}

fn produce_request(records: Bytes) -> produce::Request {
    produce::Request {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![produce::TopicProduceData {
            name: "t".into(),
            partition_data: vec![produce::PartitionProduceData {
                index: 0,
                records: Records(records),
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[test]
fn a_payload_is_never_copied() {
    let records = Bytes::from(vec![7u8; 100_000]);
    let request = produce_request(records.clone());
    let segments = encode_request::<produce::Api>(&header(ApiKey::Produce), &request).unwrap();
    let own = segments
        .pieces()
        .iter()
        .find(|piece| piece.len() == records.len());
    assert_eq!(
        own.unwrap().as_ptr(),
        records.as_ptr(),
        "encoding hands it out"
    );

    let frame = frame(segments);
    let (_, Request::Produce(request)) = decode_request(&frame).unwrap() else {
        panic!("another API");
    };
    let decoded = &request.topic_data[0].partition_data[0].records.0;
    assert!(
        frame.as_ptr_range().contains(&decoded.as_ptr()),
        "decoding slices"
    );
    assert_eq!(*decoded, records);
}

#[test]
fn small_payloads_stay_in_one_piece_with_their_message() {
    let request = produce_request(Bytes::from(vec![7u8; 100]));
    let segments = encode_request::<produce::Api>(&header(ApiKey::Produce), &request).unwrap();
    assert_eq!(segments.pieces().len(), 1);
}

/// A request whose header is right, and whose body is these bytes.
fn request_with_body(api: ApiKey, body: &[u8]) -> Bytes {
    let mut bytes = vec![0x95, api as u8, 0, 7, 0xc0];
    bytes.extend_from_slice(body);
    bytes.into()
}

#[test]
fn a_malformed_body_is_answered_with_api_and_field() {
    // nil, acks, timeout, [["t", no id, [[0, 5]]]]: a number where the records should be.
    let topic = [&[0x93, 0xa1, b't', 0xc4, 16][..], &[0; 16]].concat();
    let body = [&[0x94, 0xc0, 1, 5, 0x91][..], &topic, &[0x91, 0x92, 0, 5]].concat();
    let error = decode_request(&request_with_body(ApiKey::Produce, &body)).unwrap_err();
    assert_eq!(error.correlation_id, Some(7));
    assert_eq!(error.code, ErrorCode::InvalidRequest);
    for part in [
        "Produce",
        "topic_data[0].partition_data[0].records",
        "record batches",
    ] {
        assert!(error.message.contains(part), "{part}: {}", error.message);
    }

    // A field is missing; one is too many.
    for body in [&[0x93, 0xc0, 1, 5][..], &[0x95, 0xc0, 1, 5, 0x90, 0]] {
        let error = decode_request(&request_with_body(ApiKey::Produce, body)).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidRequest, "{error}");
    }
}

#[test]
fn unknown_apis_and_versions_are_answered_with_their_correlation_id() {
    let unknown = Bytes::from_static(&[0x95, 0x7f, 0, 7, 0xc0, 0x90]);
    let error = decode_request(&unknown).unwrap_err();
    assert_eq!(
        (error.correlation_id, error.code),
        (Some(7), ErrorCode::UnsupportedVersion)
    );
    let answer = frame(error.encode().unwrap());
    let (7, Err(error)) = decode_response::<metadata::Api>(&answer).unwrap() else {
        panic!("an error with the id 7 is expected");
    };
    assert_eq!(error.code, ErrorCode::UnsupportedVersion);
    assert!(error.message.contains("127"), "{error}");
}

#[test]
fn a_greeting_from_the_future_learns_which_versions_there_are() {
    // A body that no version of today has.
    let future = Bytes::from_static(&[0x95, 18, 99, 7, 0xc0, 0x91, 0x91, 0x91, 0xc3]);
    let error = decode_request(&future).unwrap_err();
    assert_eq!(error.code, ErrorCode::UnsupportedVersion);
    let answer = frame(error.encode().unwrap());
    type Wire = (i32, i16, Option<String>, api_versions::Response);
    let (id, code, _, body): Wire = rmp_serde::from_slice(&answer).unwrap();
    assert_eq!((id, code), (7, ErrorCode::UnsupportedVersion.code()));
    assert_eq!(body.api_keys.len(), ApiKey::ALL.len());
    assert!(body.api_keys.is_sorted_by_key(|api| api.api_key));
}

#[test]
fn a_header_that_cannot_be_read_has_no_answer() {
    for bytes in [
        &b"\x93\x01\x02\x03"[..],
        b"\xc0",
        b"hello",
        b"\x95\xc3",
        b"\x95\x00\x00\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xc0\x90",
    ] {
        let error = decode_request(&Bytes::copy_from_slice(bytes)).unwrap_err();
        assert_eq!(error.correlation_id, None, "{error}");
        assert!(error.encode().is_none());
    }
    let mut long = vec![0x95, 3, 0, 7, 0xda, 1, 0];
    long.extend([b'x'; 256]);
    long.extend([0x92, 0xc0, 0xc2]);
    let error = decode_request(&long.into()).unwrap_err();
    assert_eq!(
        error.correlation_id,
        Some(7),
        "a client id that is too long is answered"
    );
}
