//! The peers' frames, byte for byte and under mutation. The golden bytes were made by another
//! program, which knows only what the documentation here says.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::*;
use crate::model::{BrokerId, ClusterId, Incarnation};
use crate::protocol::{Records, Segments};

const SECRET: &[u8] = b"a secret for tests, and long enough";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hello() -> Hello {
    Hello {
        versions: 1..=3,
        cluster_id: Some(ClusterId("ours".into())),
        node: BrokerId(1),
        incarnation: incarnation(0x10),
        to: BrokerId(2),
        lane: Lane::Data,
        nonce: [0x11; 16],
    }
}

fn challenge() -> Challenge {
    Challenge {
        version: 1,
        cluster_id: None,
        node: BrokerId(2),
        incarnation: incarnation(0x20),
        nonce: [0x22; 16],
    }
}

fn incarnation(first: u8) -> Incarnation {
    Incarnation(Uuid::from_bytes(std::array::from_fn(|at| first + at as u8)))
}

/// A frame as it comes out of the stream.
fn inner(frame: &[u8]) -> &[u8] {
    assert_eq!(frame[..4], (frame.len() as u32 - 4).to_be_bytes());
    &frame[4..]
}

#[test]
fn the_handshake_is_these_bytes() {
    let secret = PeerSecret::new(SECRET);
    let greeting = hello().encode();
    assert_eq!(
        hex(&greeting),
        "0000003a99aa6b6c616d6d20706565720103a46f75727301c410101112131415161718191a1b1c1d1e1f0201\
         c41011111111111111111111111111111111"
    );
    assert_eq!(Hello::decode(inner(&greeting)), Ok(hello()));

    let mut acceptor = Said::hello(&secret, inner(&greeting));
    let answer = acceptor.challenge(&challenge());
    assert_eq!(
        hex(&answer),
        "0000004b970101c002c410202122232425262728292a2b2c2d2e2fc41022222222222222222222222222222222\
         c420d17d511e29bb9b0e137790e0390c08285572aff024b3c2d30a1df673daf73022"
    );
    let mut dialer = Said::hello(&secret, inner(&greeting));
    assert_eq!(dialer.challenged(inner(&answer)), Ok((challenge(), true)));

    let proof = dialer.proof().encode();
    assert_eq!(
        hex(&proof),
        "000000249202c420810d0bb1498c405bc866c64c8fd913e578a2f69c53cda73f467116db8a050438"
    );
    let proof = Proof::decode(inner(&proof)).unwrap();
    assert!(acceptor.is_proved_by(&proof));
    assert_eq!(acceptor.session_keys(), dialer.session_keys());
    let SessionKeys {
        of_dialer,
        of_acceptor,
    } = dialer.session_keys();
    assert_eq!((of_dialer, of_acceptor), (0xb61c_27d5, 0x7591_f78b));

    assert_eq!(hex(&welcome()), "000000029103");
    assert_eq!(hex(&ready()), "000000029104");
    assert_eq!(decode_welcome(inner(&welcome())), Ok(()));
    assert_eq!(decode_ready(inner(&ready())), Ok(()));
}

#[test]
fn the_messages_are_these_bytes() {
    let mut written = FrameWriter::new(0xffff_fffe);
    written.put(Outgoing::Request {
        id: 300,
        kind: Kind::RAFT,
        body: Bytes::from_static(b"abc").into(),
    });
    written.put(Outgoing::Answer {
        id: 300,
        outcome: Ok(Segments::default()),
    });
    written.put(Outgoing::Answer {
        id: 7,
        outcome: Err(CallError::new(CallErrorCode::Overloaded, "busy")),
    });
    written.put(Outgoing::OneWay {
        kind: Kind::PUSH,
        body: Bytes::from_static(b"push").into(),
    });
    written.put(Outgoing::Alive);
    written.put(Outgoing::Goodbye(Refusal::new(
        RefusalCode::Stopping,
        "bye",
    )));
    let bytes = bytes_of(&mut written);
    assert_eq!(
        hex(&bytes),
        "0000001095ce2ca0e76700cd012c01c403616263\
         0000000c94ce84df67cb01cd012cc400\
         0000000e95ce611a2d24020702a462757379\
         0000000e94ce5aedaa590310c40470757368\
         0000000792ce74dcb4b904\
         0000000c94ce2814fa780509a3627965"
    );
}

#[test]
fn a_hello_of_a_later_version_may_say_more() {
    let mut greeting = hello().encode().to_vec();
    greeting[4] = 0x9b;
    greeting.extend([0x07, 0xa1, b'x']);
    assert_eq!(Hello::decode(&greeting[4..]), Ok(hello()));
}

#[test]
fn versions_are_agreed_upon_where_they_overlap() {
    let version = |theirs, ours| {
        let hello = Hello {
            versions: theirs,
            ..hello()
        };
        hello.version(&ours).map_err(|refusal| refusal.code)
    };
    assert_eq!(version(1..=3, 2..=5), Ok(3));
    assert_eq!(version(2..=5, 1..=3), Ok(3));
    assert_eq!(version(1..=1, 1..=1), Ok(1));
    let unsupported = Err(RefusalCode::UnsupportedVersion);
    assert_eq!(version(1..=2, 3..=4), unsupported);
    assert_eq!(version(3..=4, 1..=2), unsupported);
    // A range that is none.
    assert_eq!(
        version(std::ops::RangeInclusive::new(3, 1), 1..=3),
        unsupported
    );
}

#[test]
fn a_refusal_is_understood_instead_of_any_frame() {
    let refusal = Refusal::new(RefusalCode::ForeignCluster, "another\ncluster");
    let frame = refusal.encode();
    let heard = Refusal::new(RefusalCode::ForeignCluster, "another cluster");
    let heard = Unexpected::Refused(heard);
    assert_eq!(decode_welcome(inner(&frame)), Err(heard.clone()));
    assert_eq!(Proof::decode(inner(&frame)), Err(heard.clone()));
    let mut said = Said::hello(&PeerSecret::new(SECRET), b"x");
    assert_eq!(said.challenged(inner(&frame)), Err(heard));
    // One from a later version is still one.
    let mut later = frame.to_vec();
    later[6] = 99;
    let Err(Unexpected::Refused(refusal)) = decode_ready(inner(&later)) else {
        panic!()
    };
    assert_eq!(refusal.code, RefusalCode::Other);
}

#[test]
fn a_proof_is_worth_nothing_elsewhere() {
    let secret = PeerSecret::new(SECRET);
    let greeting = hello().encode();
    let mut first = Said::hello(&secret, inner(&greeting));
    let answer = first.challenge(&challenge());
    let proof = first.proof();
    // On another connection, whose acceptor has drawn another nonce.
    let mut second = Said::hello(&secret, inner(&greeting));
    second.challenge(&Challenge {
        nonce: [0x23; 16],
        ..challenge()
    });
    assert!(!second.is_proved_by(&proof));
    // One's own proof, sent back.
    let its_own = Proof::decode(&[&[0x92, 2, 0xc4, 32], &answer[answer.len() - 32..]].concat());
    assert!(!first.is_proved_by(&its_own.unwrap()));
    // Of another secret.
    let mut other = Said::hello(&PeerSecret::new(b"another"), inner(&greeting));
    let (_, is_proved) = other.challenged(inner(&answer)).unwrap();
    assert!(!is_proved);
}

#[test]
fn secrets_are_not_shown() {
    let secret = PeerSecret::new(SECRET);
    let said = Said::hello(&secret, b"x");
    assert!(!format!("{secret:?} {said:?}").contains("long enough"));
}

#[test]
fn other_protocols_are_refused_as_such() {
    for start in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01",
        b"\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff",
        b"\0\0\0\0",
        b"\0\0\x10\x01",
    ] {
        let mut stream = BytesMut::from(start);
        let error = split_handshake_frame(&mut stream);
        assert!(matches!(error, Err(PeerFrameError::Frame(_))), "{error:?}");
    }
    // A request of a native client.
    let error = Hello::decode(&[0x95, 18, 0, 7, 0xc0, 0x90]);
    assert_eq!(
        error,
        Err(PeerFrameError::Malformed(
            "it doesn't begin as Klamm's peers do"
        ))
    );
    // A depth bomb, and lengths without bytes.
    for frame in [
        vec![0x91; 4000],
        vec![0xdd, 0xff, 0xff, 0xff, 0xff],
        vec![0x99, 0xdb, 0xff, 0xff, 0xff, 0xff],
        vec![0x99, 0xc6, 0x7f, 0xff, 0xff, 0xff],
    ] {
        assert!(Hello::decode(&frame).is_err());
        assert!(Proof::decode(&frame).is_err());
    }
}

/// A body as its owners see it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Body {
    number: i64,
    records: Records,
    name: String,
}

fn body(records: usize) -> Body {
    Body {
        number: -5,
        records: Records(vec![7; records].into()),
        name: "last".into(),
    }
}

#[test]
fn records_are_not_copied_on_their_way_out_or_in() {
    let sent = body(100_000);
    let encoded = encode_body(&sent).unwrap();
    let is_shared = |bytes: &Bytes| bytes.as_ptr() == sent.records.0.as_ptr();
    assert_eq!(encoded.pieces().iter().filter(|b| is_shared(b)).count(), 1);
    let mut writer = FrameWriter::new(1);
    writer.put(Outgoing::OneWay {
        kind: Kind::PUSH,
        body: encoded,
    });
    let pieces = writer.pieces().bytes();
    assert_eq!(pieces.iter().filter(|b| is_shared(b)).count(), 1);
    assert_eq!(
        pieces.len(),
        3,
        "what is before, the records, what is behind"
    );

    let mut stream = BytesMut::from(&pieces.concat()[..]);
    let there = stream.as_ptr_range();
    let mut reader = FrameReader::new(1, 1 << 20);
    let Ok(Some(Message::OneWay { body: received, .. })) = reader.next(&mut stream) else {
        panic!()
    };
    let decoded: Body = decode_body(&received).unwrap();
    assert_eq!(decoded, sent);
    assert!(there.contains(&decoded.records.0.as_ptr()));
}

#[test]
fn many_small_messages_are_one_piece() {
    let mut writer = FrameWriter::new(1);
    for _ in 0..100 {
        writer.put(Outgoing::OneWay {
            kind: Kind::PUSH,
            body: encode_body(&body(100)).unwrap(),
        });
    }
    assert_eq!(writer.pieces().bytes().len(), 1);
}

#[test]
fn a_body_is_read_within_bounds() {
    for bytes in [
        vec![],
        vec![0x93],
        vec![0x91; 100],
        vec![0x93, 1, 0xc6, 0xff, 0xff, 0xff, 0xff],
        vec![0x93, 1, 0xc4, 0, 0xa0, 1],
        vec![0xdd, 0x7f, 0xff, 0xff, 0xff],
        vec![0x80],
    ] {
        let decoded = decode_body::<Body>(&bytes.clone().into());
        assert!(decoded.is_err(), "{bytes:?}");
    }
    // A field of a later build: hence the version of the connection.
    let more = decode_body::<Body>(&vec![0x94, 1, 0xc4, 0, 0xa1, b'x', 7].into());
    assert!(more.is_err());
    let error = decode_body::<Body>(&vec![0x93, 1, 0xc4, 0, 2].into());
    assert!(error.unwrap_err().to_string().contains("name"));
}

fn bytes_of(writer: &mut FrameWriter) -> Vec<u8> {
    writer.pieces().bytes().concat()
}

fn any_body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..50),
        (0..20_000usize, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
    ]
}

fn any_message() -> impl Strategy<Value = Message> {
    let id = 0..u64::MAX / 2;
    let error = (0..5u8, ".{0,20}").prop_map(|(code, message)| CallError {
        code: [
            CallErrorCode::Failed,
            CallErrorCode::NotServed,
            CallErrorCode::Overloaded,
            CallErrorCode::Malformed,
            CallErrorCode::Lost,
        ][code as usize],
        message,
    });
    prop_oneof![
        (id.clone(), any::<u8>(), any_body()).prop_map(|(id, kind, body)| Message::Request {
            id,
            kind: Kind(kind),
            body: body.into()
        }),
        (id.clone(), any_body()).prop_map(|(id, body)| Message::Answer {
            id,
            outcome: Ok(body.into())
        }),
        (id, error).prop_map(|(id, error)| Message::Answer {
            id,
            outcome: Err(error)
        }),
        (any::<u8>(), any_body()).prop_map(|(kind, body)| Message::OneWay {
            kind: Kind(kind),
            body: body.into()
        }),
        Just(Message::Alive),
        ".{0,20}".prop_map(|text| Message::Goodbye(Refusal::new(RefusalCode::Superseded, text))),
    ]
}

/// In two pieces, so that pieces are joined somewhere.
fn outgoing(message: &Message) -> Outgoing {
    let split = |body: &Bytes| {
        let (one, two) = body.split_at(body.len() / 3);
        let mut segments = Segments::from(Bytes::copy_from_slice(one));
        segments.push(Bytes::copy_from_slice(two));
        segments
    };
    match message.clone() {
        Message::Request { id, kind, body } => Outgoing::Request {
            id,
            kind,
            body: split(&body),
        },
        Message::Answer { id, outcome } => Outgoing::Answer {
            id,
            outcome: outcome.map(|body| split(&body)),
        },
        Message::OneWay { kind, body } => Outgoing::OneWay {
            kind,
            body: split(&body),
        },
        Message::Alive => Outgoing::Alive,
        Message::Goodbye(refusal) => Outgoing::Goodbye(refusal),
    }
}

/// Each message's bytes.
fn frames(key: u32, messages: &[Message]) -> Vec<Vec<u8>> {
    let mut writer = FrameWriter::new(key);
    let each = messages.iter().map(|message| {
        writer.put(outgoing(message));
        let bytes = bytes_of(&mut writer);
        *writer.pieces() = Default::default();
        bytes
    });
    each.collect()
}

/// All that can be read, up to the first error.
fn read(key: u32, stream: &[u8], chunk: usize) -> (Vec<Message>, Option<PeerFrameError>) {
    let mut reader = FrameReader::new(key, 1 << 20);
    let mut buffer = BytesMut::new();
    let mut messages = Vec::new();
    for chunk in stream.chunks(chunk) {
        buffer.extend_from_slice(chunk);
        loop {
            match reader.next(&mut buffer) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn messages_come_as_they_went_however_they_are_cut(
        key in any::<u32>(),
        messages in prop::collection::vec(any_message(), 1..8),
        chunk in 1..5000usize,
    ) {
        let stream = frames(key, &messages).concat();
        prop_assert_eq!(read(key, &stream, chunk), (messages, None));
    }

    #[test]
    fn a_changed_bit_is_never_taken_for_a_message(
        messages in prop::collection::vec(any_message(), 1..6),
        at in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let mut stream = frames(9, &messages).concat();
        let at = at.index(stream.len());
        stream[at] ^= 1 << bit;
        let (read, _) = read(9, &stream, 4096);
        prop_assert!(read.len() < messages.len());
        prop_assert_eq!(&read[..], &messages[..read.len()]);
    }

    #[test]
    fn a_frame_that_is_missing_repeated_or_moved_is_found(
        messages in prop::collection::vec(any_message(), 3..6),
        at in any::<prop::sample::Index>(),
        mischief in 0..4,
    ) {
        let whole = frames(9, &messages);
        let at = at.index(messages.len() - 1);
        let mut changed = whole.clone();
        match mischief {
            0 => drop(changed.remove(at)),
            1 => changed.insert(at, whole[at].clone()),
            2 => changed.swap(at, at + 1),
            // Of another connection.
            _ => changed[at] = frames(10, &messages)[at].clone(),
        }
        prop_assume!(changed != whole);
        let (read, error) = read(9, &changed.concat(), 4096);
        prop_assert_eq!(error, Some(PeerFrameError::Checksum));
        prop_assert!(read.len() <= at + 1);
        prop_assert_eq!(&read[..], &messages[..read.len()]);
    }

    #[test]
    fn no_bytes_make_the_handshake_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Hello::decode(&bytes);
        let _ = Proof::decode(&bytes);
        let _ = decode_welcome(&bytes);
        let _ = Said::hello(&PeerSecret::new(SECRET), &bytes).challenged(&bytes);
        let _ = split_handshake_frame(&mut BytesMut::from(&bytes[..]));
        let _ = read(0, &bytes, 7);
    }

    #[test]
    fn a_changed_handshake_proves_nothing(
        at in any::<prop::sample::Index>(),
        bit in 0..8u8,
        place in 0..3,
    ) {
        let secret = PeerSecret::new(SECRET);
        let change = |bytes: Bytes, here: i32| {
            let mut bytes = inner(&bytes).to_vec();
            if here == place {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            bytes
        };
        let sent = hello().encode();
        let heard = change(sent.clone(), 0);
        let mut acceptor = Said::hello(&secret, &heard);
        let answer = change(acceptor.challenge(&challenge()), 1);
        let mut dialer = Said::hello(&secret, inner(&sent));
        match dialer.challenged(&answer) {
            Ok((_, is_proved)) if place < 2 => prop_assert!(!is_proved),
            Ok((_, is_proved)) => {
                prop_assert!(is_proved);
                let proof = Proof::decode(&change(dialer.proof().encode(), 2));
                prop_assert!(proof.map_or(true, |proof| !acceptor.is_proved_by(&proof)));
            }
            Err(_) => prop_assert!(place < 2),
        }
    }
}
