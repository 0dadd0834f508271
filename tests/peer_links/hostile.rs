//! Raw bytes to a node's port for peers: hostile inputs 1–7 and 40 of the project's list, and what one
//! could try who knows the secret. None costs the others anything: after each, the node's own link
//! works as before.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use klamm::actors::peer::{Down, PeerHandle};
use klamm::model::{BrokerId, ClusterId, Incarnation};
use klamm::protocol::peer::{
    decode_welcome, ready, split_handshake_frame, welcome, CallErrorCode, Challenge, FrameReader,
    FrameWriter, Hello, Kind, Lane, Message, Outgoing, PeerSecret, Proof, Refusal, RefusalCode,
    Said, Unexpected,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::*;

/// An id that node 2 knows, and that no node of the test has.
const RAW: BrokerId = BrokerId(9);

/// Nodes 1 and 2 linked, and node 9 known.
async fn victim() -> (TestNode, TestNode) {
    let (one, two) = two().await;
    two.knows(RAW, "127.0.0.1:1".parse().unwrap());
    (one, two)
}

async fn still_serves(to: &PeerHandle) {
    let answer = to.call(ECHO, segments(b"x"), PATIENCE).await;
    assert_eq!(answer.unwrap(), &b"1: x"[..]);
    to.push(Kind::PUSH, segments(b"y")).unwrap();
}

/// A socket that says what it wants.
struct Stranger {
    socket: TcpStream,
    buffer: BytesMut,
}

impl Stranger {
    async fn new(node: &TestNode) -> Stranger {
        Stranger {
            socket: TcpStream::connect(node.address).await.unwrap(),
            buffer: BytesMut::new(),
        }
    }

    async fn say(&mut self, bytes: &[u8]) {
        // It may be closed already.
        let _ = self.socket.write_all(bytes).await;
    }

    async fn frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = split_handshake_frame(&mut self.buffer).unwrap() {
                return Some(frame);
            }
            let read = self.socket.read_buf(&mut self.buffer);
            match tokio::time::timeout(PATIENCE, read).await.unwrap() {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The reason why the connection is closed, if one is given.
    async fn ends(mut self) -> Option<Refusal> {
        let mut last = None;
        while let Some(frame) = self.frame().await {
            last = Some(frame);
        }
        match last.map(|frame| decode_welcome(&frame)) {
            Some(Err(Unexpected::Refused(refusal))) => Some(refusal),
            _ => None,
        }
    }

    async fn ends_refused(self, code: RefusalCode) {
        let refusal = self.ends().await.expect("it should say why");
        assert_eq!(refusal.code, code, "{refusal}");
    }
}

fn hello() -> Hello {
    Hello {
        versions: 1..=1,
        cluster_id: Some(ClusterId("ours".into())),
        node: RAW,
        incarnation: Incarnation::random(),
        to: TWO,
        lane: Lane::Control,
        nonce: [1; 16],
    }
}

/// Whoever knows the secret, up to the point where a node takes its messages.
struct Insider {
    stranger: Stranger,
    writer: FrameWriter,
    reader: FrameReader,
}

impl Insider {
    async fn enter(node: &TestNode, hello: Hello) -> Insider {
        let mut stranger = Stranger::new(node).await;
        let (said, _) = converse(&mut stranger, &hello, SECRET).await;
        stranger.say(&said.proof().encode()).await;
        decode_welcome(&stranger.frame().await.unwrap()).unwrap();
        stranger.say(&ready()).await;
        let keys = said.session_keys();
        Insider {
            stranger,
            writer: FrameWriter::new(keys.of_dialer),
            reader: FrameReader::new(keys.of_acceptor, 1 << 20),
        }
    }

    fn encode(&mut self, message: Outgoing) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.writer.put(message);
        self.writer.pieces().take_into(&mut bytes);
        bytes
    }

    async fn say(&mut self, message: Outgoing) {
        let bytes = self.encode(message);
        self.stranger.say(&bytes).await;
    }

    /// What is said but "alive"; `None` at the end.
    async fn hear(&mut self) -> Option<Message> {
        loop {
            match self.reader.next(&mut self.stranger.buffer).unwrap() {
                Some(Message::Alive) => continue,
                Some(message) => return Some(message),
                None => {}
            }
            let read = self.stranger.socket.read_buf(&mut self.stranger.buffer);
            match tokio::time::timeout(PATIENCE, read).await.unwrap() {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}

/// Up to the challenge, which comes out too.
async fn converse(stranger: &mut Stranger, hello: &Hello, secret: &[u8]) -> (Said, bool) {
    let greeting = hello.encode();
    stranger.say(&greeting).await;
    let mut said = Said::hello(&PeerSecret::new(secret), &greeting[4..]);
    let challenge = stranger.frame().await.unwrap();
    let (_, is_proved) = said.challenged(&challenge).unwrap();
    (said, is_proved)
}

#[test]
fn what_is_no_greeting_is_told_so_and_closed() {
    run(async {
        let (one, two) = victim().await;
        for bytes in [
            // Inputs 1 to 5.
            &b"\xff\xff\xff\xff"[..],
            b"\x7f\xff\xff\xff",
            b"\0\0\0\0",
            b"\0\x08\0\0",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            // A native client's greeting, a depth bomb, lengths that aren't there.
            b"\0\0\0\x06\x95\x12\0\x07\xc0\x90",
            &[&[0, 0, 0x0f, 0xff][..], &[0x91; 0xfff]].concat(),
            b"\0\0\0\x05\xdd\xff\xff\xff\xff",
        ] {
            let mut stranger = Stranger::new(&two).await;
            stranger.say(bytes).await;
            stranger.ends_refused(RefusalCode::Malformed).await;
        }
        still_serves(&one.peer(TWO)).await;
    });
}

#[test]
fn who_says_nothing_or_little_is_closed_in_time() {
    run(async {
        let (one, two) = victim().await;
        let patience = settings(TWO).handshake_timeout;
        let silent = Stranger::new(&two).await;
        let begun = Instant::now();
        assert_eq!(silent.ends().await, None);
        let mut slow = Stranger::new(&two).await;
        let slow_begun = Instant::now();
        for byte in hello().encode() {
            slow.say(&[byte]).await;
            tokio::time::sleep(patience / 20).await;
        }
        assert_eq!(slow.ends().await, None);
        assert!(begun.elapsed() >= patience);
        // A byte at a time doesn't prolong it: the whole hello would have taken three times as long.
        assert!(slow_begun.elapsed() < patience / 20 * 70 + patience);
        // Nor does half a handshake.
        let mut half = Stranger::new(&two).await;
        converse(&mut half, &hello(), SECRET).await;
        assert_eq!(half.ends().await, None);
        still_serves(&one.peer(TWO)).await;
    });
}

#[test]
fn a_crowd_of_strangers_keeps_no_peer_out() {
    run(async {
        let (one, two) = victim().await;
        let mut crowd = Vec::new();
        for _ in 0..300 {
            crowd.push(Stranger::new(&two).await);
        }
        let mut insider = Insider::enter(&two, hello()).await;
        insider
            .say(Outgoing::Request {
                id: 1,
                kind: ECHO,
                body: segments(b"here"),
            })
            .await;
        assert!(matches!(
            insider.hear().await,
            Some(Message::Answer {
                id: 1,
                outcome: Ok(_)
            })
        ));
        still_serves(&one.peer(TWO)).await;
    });
}

#[test]
fn who_does_not_know_the_secret_gets_nowhere() {
    run(async {
        let (one, two) = victim().await;
        // It can't tell whether the node knows it either.
        let mut stranger = Stranger::new(&two).await;
        let (said, is_proved) = converse(&mut stranger, &hello(), b"a guess").await;
        assert!(!is_proved);
        stranger.say(&said.proof().encode()).await;
        stranger.ends_refused(RefusalCode::WrongSecret).await;

        // A proof that was heard on another connection.
        let mut first = Stranger::new(&two).await;
        let (said, _) = converse(&mut first, &hello(), SECRET).await;
        let overheard = said.proof().encode();
        let mut second = Stranger::new(&two).await;
        converse(&mut second, &hello(), b"unknown").await;
        second.say(&overheard).await;
        second.ends_refused(RefusalCode::WrongSecret).await;

        // The node's own proof, sent back.
        let mut mirror = Stranger::new(&two).await;
        mirror.say(&hello().encode()).await;
        let challenge = mirror.frame().await.unwrap();
        let own = &challenge[challenge.len() - 32..];
        let proof = [&[0, 0, 0, 36, 0x92, 2, 0xc4, 32][..], own].concat();
        assert!(Proof::decode(&proof[4..]).is_ok());
        mirror.say(&proof).await;
        mirror.ends_refused(RefusalCode::WrongSecret).await;

        // Messages without any proof, or instead of it.
        let mut writer = FrameWriter::new(0);
        writer.put(Outgoing::OneWay {
            kind: Kind::PUSH,
            body: segments(b"forged"),
        });
        let mut forged = Vec::new();
        writer.pieces().take_into(&mut forged);
        let mut bold = Stranger::new(&two).await;
        bold.say(&forged).await;
        bold.ends_refused(RefusalCode::Malformed).await;
        let mut bold = Stranger::new(&two).await;
        converse(&mut bold, &hello(), SECRET).await;
        bold.say(&ready()).await;
        bold.say(&forged).await;
        assert_eq!(bold.ends().await, None);

        let mut two = two;
        still_serves(&one.peer(TWO)).await;
        let (from, message) = two.received.recv().await.unwrap();
        assert_eq!((from.peer().node, &message.body[..]), (ONE, &b"y"[..]));
    });
}

#[test]
fn an_impostor_at_a_nodes_address_learns_no_proof_and_gets_no_messages() {
    run(async {
        let one = TestNode::start(settings(ONE));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        one.knows(TWO, listener.local_addr().unwrap());
        let (socket, _) = listener.accept().await.unwrap();
        let mut impostor = Stranger {
            socket,
            buffer: BytesMut::new(),
        };
        let greeting = impostor.frame().await.unwrap();
        let mut said = Said::hello(&PeerSecret::new(b"a guess"), &greeting);
        let challenge = Challenge {
            version: 1,
            cluster_id: None,
            node: TWO,
            incarnation: Incarnation::random(),
            nonce: [2; 16],
        };
        impostor.say(&said.challenge(&challenge)).await;
        impostor.say(&welcome()).await;
        impostor.ends_refused(RefusalCode::WrongSecret).await;
        let why = Down::Rejected(RefusalCode::WrongSecret);
        let [control, data] = [one.peer(TWO).control(), one.peer(TWO).data()];
        tokio::select! {
            () = down(control, why) => {}
            () = down(data, why) => {}
        }
    });
}

#[test]
fn who_claims_what_is_not_is_told_so_before_any_proof() {
    run(async {
        let (one, two) = victim().await;
        let claims = [
            (
                Hello {
                    node: BrokerId(77),
                    ..hello()
                },
                RefusalCode::UnknownNode,
            ),
            (
                Hello {
                    node: TWO,
                    ..hello()
                },
                RefusalCode::UnknownNode,
            ),
            (
                Hello {
                    node: BrokerId(-1),
                    ..hello()
                },
                RefusalCode::UnknownNode,
            ),
            (Hello { to: ONE, ..hello() }, RefusalCode::WrongNode),
            (
                Hello {
                    cluster_id: Some(ClusterId("theirs".into())),
                    ..hello()
                },
                RefusalCode::ForeignCluster,
            ),
            (
                Hello {
                    versions: 7..=9,
                    ..hello()
                },
                RefusalCode::UnsupportedVersion,
            ),
        ];
        for (claim, code) in claims {
            let mut stranger = Stranger::new(&two).await;
            stranger.say(&claim.encode()).await;
            stranger.ends_refused(code).await;
        }
        still_serves(&one.peer(TWO)).await;
    });
}

#[test]
fn an_id_that_comes_twice_is_answered_twice_and_an_answer_to_nobody_is_passed_over() {
    run(async {
        let (one, two) = victim().await;
        let mut insider = Insider::enter(&two, hello()).await;
        for body in [b"a", b"b"] {
            insider
                .say(Outgoing::Answer {
                    id: 12345,
                    outcome: Ok(segments(body)),
                })
                .await;
            insider
                .say(Outgoing::Request {
                    id: 5,
                    kind: ECHO,
                    body: segments(body),
                })
                .await;
        }
        let mut bodies = Vec::new();
        for _ in 0..2 {
            let Some(Message::Answer {
                id: 5,
                outcome: Ok(body),
            }) = insider.hear().await
            else {
                panic!()
            };
            bodies.push(body);
        }
        bodies.sort();
        assert_eq!(bodies, [&b"9: a"[..], b"9: b"]);
        still_serves(&one.peer(TWO)).await;
    });
}

#[test]
fn what_an_insider_garbles_ends_its_connection_only() {
    run(async {
        let (one, two) = victim().await;
        let good = Outgoing::Request {
            id: 1,
            kind: ECHO,
            body: segments(b"x"),
        };
        let garbles: [fn(&mut Vec<u8>); 5] = [
            |bytes| *bytes.last_mut().unwrap() ^= 1,
            |bytes| bytes[5] = 0x94,
            |bytes| *bytes = bytes.repeat(2),
            // Larger than a frame may be, and without the bytes.
            |bytes| bytes[..4].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff]),
            |bytes| *bytes = vec![0; 4],
        ];
        for garble in garbles {
            let mut insider = Insider::enter(&two, hello()).await;
            let mut bytes = insider.encode(good.clone());
            garble(&mut bytes);
            insider.stranger.say(&bytes).await;
            // One that was right may be answered before the other ends it.
            while insider.hear().await.is_some() {}
        }
        still_serves(&one.peer(TWO)).await;
    });
}

#[test]
fn an_insider_that_floods_and_never_reads_is_not_read_from() {
    run(async {
        let (one, two) = victim().await;
        let mut insider = Insider::enter(&two, hello()).await;
        let request = |id| Outgoing::Request {
            id,
            kind: Kind(77),
            body: segments(&[0; 10]),
        };
        let mut id = 0;
        let mut sent = 0usize;
        loop {
            let mut bytes = Vec::new();
            for _ in 0..1000 {
                id += 1;
                bytes.extend(insider.encode(request(id)));
            }
            let writing = insider.stranger.socket.write_all(&bytes);
            match tokio::time::timeout(Duration::from_millis(500), writing).await {
                Ok(written) => written.unwrap(),
                Err(_) => break,
            }
            sent += bytes.len();
            // The system's buffers, at both ends and both ways, and what a node bears of one peer.
            assert!(sent < 64 * 1024 * 1024, "nothing stops it");
        }
        still_serves(&one.peer(TWO)).await;
        let connection = two.registry.find("peer_connection", "9-control").unwrap();
        println!("{}", connection.detail());
        // It is served again when it reads.
        let Some(Message::Answer {
            id: 1,
            outcome: Err(error),
        }) = insider.hear().await
        else {
            panic!()
        };
        assert_eq!(error.code, CallErrorCode::NotServed);
    });
}
