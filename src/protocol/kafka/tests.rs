//! What holds for every API and version: an independent codec reads what ours writes and writes
//! what ours reads, and no bytes whatever make a decoder panic.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey as OracleKey, RequestKind, ResponseKind};
use proptest::prelude::*;

use super::*;
use crate::model::{LeaderEpoch, Offset, TopicId};
use crate::protocol::api::{for_each_api, Api, ApiKey, ForEachApi};
use crate::protocol::arbitrary::message;
use crate::protocol::{offset_commit, offset_fetch, produce, Records, Request, FRAME_BYTES_MAX};

/// The bytes of a body, without header.
fn encode_body<M: Field>(api: ApiKey, version: i16, body: &M) -> Bytes {
    let mut out = Encoder::new();
    out.set_version(version, api.is_flexible(version));
    body.encode(&mut out);
    out.finish().unwrap().to_bytes().slice(4..)
}

fn decode_body<M: Field>(api: ApiKey, version: i16, body: &Bytes) -> Result<M, DecodeError> {
    let mut input = Decoder::new(body);
    input.set_version(version, api.is_flexible(version));
    let decoded = M::decode(&mut input)?;
    input.finish()?;
    Ok(decoded)
}

/// Does something for each API and version that the Kafka listener has.
fn for_each_version(mut run: impl FnMut(ApiKey, i16)) {
    for api in ApiKey::ALL {
        for version in api.kafka_versions().into_iter().flatten() {
            run(*api, version);
        }
    }
}

fn oracle_key(api: ApiKey) -> OracleKey {
    OracleKey::try_from(api as i16).expect("the oracle knows each API of Kafka")
}

/// Requests that Kafka has, and the oracle doesn't: it was made from Kafka 4.1, where they were not
/// yet final.
const ORACLE_LACKS: [(ApiKey, i16); 2] = [(ApiKey::OffsetCommit, 10), (ApiKey::OffsetFetch, 10)];

/// What the oracle makes of a body: it must take all of it, and writes it anew.
macro_rules! through_oracle {
    ($kind:ident, $api:expr, $version:expr, $body:expr) => {{
        let (api, version): (ApiKey, i16) = ($api, $version);
        let mut left: Bytes = $body.clone();
        let decoded = $kind::decode(oracle_key(api), &mut left, version)
            .unwrap_or_else(|error| panic!("{} {version}: {error:#}", api.name()));
        let left = left.len();
        assert_eq!(left, 0, "{} {version}: so many bytes are left", api.name());
        let mut again = BytesMut::new();
        decoded.encode(&mut again, version).unwrap();
        again.freeze()
    }};
}

/// Random messages of every version go through the oracle and come back.
struct ThroughOracle(u64);

impl ForEachApi for ThroughOracle {
    fn visit<A: Api>(&mut self) {
        for version in A::KEY.kafka_versions().into_iter().flatten() {
            self.request::<A>(version);
            self.response::<A>(version);
        }
    }
}

impl ThroughOracle {
    fn request<A: Api>(&self, version: i16) {
        let request: A::Request = message(self.0);
        let ours = encode_body(A::KEY, version, &request);
        let theirs = match ORACLE_LACKS.contains(&(A::KEY, version)) {
            true => ours.clone(),
            false => through_oracle!(RequestKind, A::KEY, version, ours),
        };
        assert_eq!(
            ours,
            theirs,
            "{} request {version}: {request:?}",
            A::KEY.name()
        );
        let back: A::Request = decode_body(A::KEY, version, &theirs)
            .unwrap_or_else(|error| panic!("{} {version}: {error}", A::KEY.name()));
        assert_eq!(encode_body(A::KEY, version, &back), ours);
    }

    fn response<A: Api>(&self, version: i16) {
        let response: A::Response = message(self.0);
        let ours = encode_body(A::KEY, version, &response);
        let theirs = through_oracle!(ResponseKind, A::KEY, version, ours);
        assert_eq!(
            ours,
            theirs,
            "{} response {version}: {response:?}",
            A::KEY.name()
        );
        let back: A::Response = decode_body(A::KEY, version, &theirs)
            .unwrap_or_else(|error| panic!("{} {version}: {error}", A::KEY.name()));
        assert_eq!(encode_body(A::KEY, version, &back), ours);
    }
}

/// Random frames with some bytes changed; any result but a panic will do.
struct Mutate<'a>(u64, &'a [(usize, u8)]);

impl ForEachApi for Mutate<'_> {
    fn visit<A: Api>(&mut self) {
        for version in A::KEY.kafka_versions().into_iter().flatten() {
            let request: A::Request = message(self.0);
            let mut bytes = request_frame(A::KEY, version, &encode_body(A::KEY, version, &request));
            for (at, byte) in self.1 {
                let at = at % bytes.len();
                bytes[at] = *byte;
            }
            let bytes = Bytes::from(bytes);
            let _ = decode_request(&bytes);
            let _ = decode_request(&bytes.slice(..bytes.len() / 2));
        }
    }
}

/// A frame, without its length, that has this body.
fn request_frame(api: ApiKey, version: i16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((api as i16).to_be_bytes());
    bytes.extend(version.to_be_bytes());
    bytes.extend(7i32.to_be_bytes());
    bytes.extend(b"\0\x02me");
    if api.is_flexible(version) {
        bytes.push(0);
    }
    bytes.extend(body);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_independent_codec_agrees_on_every_version(seed: u64) {
        for_each_api(&mut ThroughOracle(seed));
    }

    #[test]
    fn changed_bytes_never_panic(
        seed: u64,
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..8),
    ) {
        for_each_api(&mut Mutate(seed, &changes));
    }

    /// Random bodies behind headers that are right.
    #[test]
    fn random_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        for_each_version(|api, version| {
            let _ = decode_request(&request_frame(api, version, &body).into());
        });
    }

    #[test]
    fn random_frames_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = decode_request(&Bytes::from(bytes));
    }
}

/// Field by field, as Kafka's `OffsetCommitRequest.json` and `OffsetFetchRequest.json` have them.
#[test]
fn requests_that_the_oracle_lacks_are_kafkas() {
    let topic_id = TopicId(uuid::Uuid::from_bytes(*b"0123456789abcdef"));
    let commit = offset_commit::Request {
        group_id: "g".into(),
        generation_id_or_member_epoch: 7,
        member_id: "m".into(),
        topics: vec![offset_commit::OffsetCommitRequestTopic {
            name: "not sent".into(),
            topic_id,
            partitions: vec![offset_commit::OffsetCommitRequestPartition {
                partition_index: 1,
                committed_offset: Offset(5),
                committed_leader_epoch: LeaderEpoch(2),
                committed_metadata: None,
            }],
        }],
        ..Default::default()
    };
    let expected = [
        &b"\x02g\0\0\0\x07\x02m\0\x020123456789abcdef\x02\0\0\0\x01"[..],
        b"\0\0\0\0\0\0\0\x05\0\0\0\x02\0\0\0\0",
    ];
    let body = encode_body(ApiKey::OffsetCommit, 10, &commit);
    assert_eq!(body, expected.concat());

    let fetch = offset_fetch::Request {
        groups: vec![offset_fetch::OffsetFetchRequestGroup {
            group_id: "g".into(),
            member_id: None,
            member_epoch: -1,
            topics: Some(vec![offset_fetch::OffsetFetchRequestTopic {
                name: "not sent".into(),
                topic_id,
                partition_indexes: vec![3],
            }]),
        }],
        require_stable: true,
        ..Default::default()
    };
    let expected = [
        &b"\x02\x02g\0\xff\xff\xff\xff\x020123456789abcdef"[..],
        b"\x02\0\0\0\x03\0\0\x01\0",
    ];
    let body = encode_body(ApiKey::OffsetFetch, 10, &fetch);
    assert_eq!(body, expected.concat());
}

#[test]
fn the_header_is_read_in_all_its_forms() {
    // ApiVersions 3: a flexible header with a tagged field that isn't known, a null client id.
    let frame = b"\0\x12\0\x03\0\0\0\x09\xff\xff\x01\x05\x02ab\x03me\x041.0\0";
    let (header, request) = decode_request(&Bytes::from_static(frame)).unwrap();
    let expected = KafkaHeader {
        api: ApiKey::ApiVersions,
        version: 3,
        correlation_id: 9,
        client_id: None,
    };
    assert_eq!(header, expected);
    let Request::ApiVersions(request) = request else {
        panic!("another API: {request:?}");
    };
    assert_eq!(request.client_software_name, "me");
    assert_eq!(request.client_software_version, "1.0");

    // Metadata 0: nothing but the client id, and an empty list, which asks for all.
    let frame = b"\0\x03\0\0\0\0\0\x09\0\x04rust\0\0\0\0";
    let (header, request) = decode_request(&Bytes::from_static(frame)).unwrap();
    assert_eq!(header.client_id.as_deref(), Some("rust"));
    let Request::Metadata(request) = request else {
        panic!("another API: {request:?}");
    };
    assert_eq!(request.topics, None);
    assert!(request.allow_auto_topic_creation, "as before version 4");
}

#[test]
fn errors_name_api_version_and_field() {
    let body = b"\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x07\0\0\0\xff";
    let frame = request_frame(
        ApiKey::Produce,
        3,
        &[&b"\xff\xff\0\x01\0\0\0\x05"[..], body].concat(),
    );
    let error = decode_request(&frame.into()).unwrap_err().to_string();
    for part in [
        "Produce",
        "version 3",
        "topic_data[0].partition_data[0].records",
        "255",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_body_is_used_up_and_what_follows_it_is_passed_over() {
    for_each_version(|api, version| {
        let mut frame = request_frame(api, version, &[]);
        frame.truncate(frame.len() - 1);
        assert!(
            decode_request(&frame.into()).is_err(),
            "{} {version}",
            api.name()
        );
    });
    // As librdkafka 2.12 asks for all topics: null, and three bytes of an array's fixed length.
    let frame = request_frame(ApiKey::Metadata, 13, b"\0\0\0\0\x01\0\0");
    let (_, Request::Metadata(request)) = decode_request(&frame.into()).unwrap() else {
        panic!("it is another API's");
    };
    assert_eq!(request.topics, None);
}

#[test]
fn lengths_and_varints_that_cannot_be_are_refused() {
    let refused = |version, body: &[u8]| {
        let frame = request_frame(ApiKey::Metadata, version, body);
        decode_request(&frame.into()).unwrap_err().to_string()
    };
    // i32::MAX topics, -2 topics.
    assert!(refused(8, b"\x7f\xff\xff\xff\0").contains("bytes are left"));
    assert!(refused(8, b"\xff\xff\xff\xfe\0").contains("-2"));
    // A name of -3 bytes, one that isn't UTF-8, one that is null.
    assert!(refused(8, b"\0\0\0\x01\xff\xfd\0\0\0").contains("-3"));
    assert!(refused(8, b"\0\0\0\x01\0\x01\xff\0\0\0").contains("UTF-8"));
    assert!(refused(8, b"\0\0\0\x01\xff\xff\0\0\0").contains("null"));
    // A compact name of 32,768 bytes.
    let long = [&b"\x02\x81\x80\x02"[..], &[b'a'; 0x8000], b"\0\0\0\0\0"].concat();
    assert!(refused(9, &long).contains("32767"), "{}", refused(9, &long));
    // Varints of six bytes, and above 32 bits.
    assert!(refused(9, b"\xff\xff\xff\xff\xff\x01").contains("5 bytes"));
    assert!(refused(9, b"\xff\xff\xff\xff\x1f\x01").contains("2³²"));
    // Tagged fields out of order, and one that is longer than what is there.
    assert!(refused(9, b"\x01\0\0\0\x02\x05\0\x05\0").contains("comes after"));
    assert!(refused(9, b"\x01\0\0\0\x01\x05\x7f").contains("127 bytes"));
}

fn varint(value: u32) -> Vec<u8> {
    let mut out = Encoder::new();
    out.put_unsigned_varint(value);
    out.finish().unwrap().to_bytes()[4..].to_vec()
}

#[test]
fn what_a_message_becomes_is_charged() {
    // Null names in version 10 are 18 bytes each, and more than twice of that when decoded.
    let count = 300_000u32;
    let mut body = varint(count + 1);
    body.extend([0; 18].repeat(count as usize));
    body.extend([0, 0, 0]);
    let frame = request_frame(ApiKey::Metadata, 10, &body);
    let error = decode_request(&frame.into()).unwrap_err().to_string();
    assert!(error.contains("when decoded"), "{error}");
    // And a million tagged fields that nobody knows.
    let mut body = vec![1, 0, 0, 0, 0xc0, 0x84, 0x3d];
    for tag in 0..1_000_000u32 {
        body.extend(varint(tag));
        body.push(0);
    }
    let frame = request_frame(ApiKey::Metadata, 9, &body);
    let error = decode_request(&frame.into()).unwrap_err().to_string();
    assert!(error.contains("tagged fields that aren't known"), "{error}");
}

#[test]
fn a_payload_is_never_copied() {
    let records = Bytes::from(vec![7u8; 100_000]);
    let request = produce::Request {
        acks: -1,
        topic_data: vec![produce::TopicProduceData {
            name: "t".into(),
            partition_data: vec![produce::PartitionProduceData {
                index: 0,
                records: Records(records.clone()),
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut out = Encoder::new();
    out.set_version(9, true);
    request.encode(&mut out);
    let segments = out.finish().unwrap();
    assert!(segments.len() < FRAME_BYTES_MAX);
    let mut pieces = segments.pieces().iter();
    let own = pieces.find(|piece| piece.len() == records.len());
    assert_eq!(
        own.unwrap().as_ptr(),
        records.as_ptr(),
        "encoding hands it out"
    );

    let body = segments.to_bytes().slice(4..);
    let frame = Bytes::from(request_frame(ApiKey::Produce, 9, &body));
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
fn a_greeting_from_the_future_is_answered_in_version_0() {
    let frame = request_frame(ApiKey::ApiVersions, 99, b"\x05whatever");
    let error = decode_request(&frame.into()).unwrap_err();
    let answer = error.encode().unwrap().to_bytes();
    let body = answer.slice(8..);
    assert_eq!(
        &answer[4..8],
        7i32.to_be_bytes(),
        "the correlation id, and no tagged fields"
    );
    let response: crate::protocol::api_versions::Response =
        decode_body(ApiKey::ApiVersions, 0, &body).unwrap();
    assert_eq!(
        response.error_code,
        crate::model::ErrorCode::UnsupportedVersion
    );
    assert!(response.api_keys.iter().any(|api| api.api_key == 18));
    let produce = &response.api_keys[0];
    assert_eq!(
        (produce.api_key, produce.min_version),
        (0, 0),
        "see the list of APIs"
    );

    let other = request_frame(ApiKey::Metadata, 99, &[]);
    assert!(decode_request(&other.into())
        .unwrap_err()
        .encode()
        .is_none());
}
