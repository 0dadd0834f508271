//! What links carry, and how they break and heal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use klamm::actors::peer::{
    Down, LinkState, PeerError, PeerIdentity, PeerService, PushError, Received, Session,
};
use klamm::protocol::peer::{CallError, CallErrorCode, Kind};
use klamm::protocol::Segments;
use tokio::sync::Semaphore;

use crate::harness::*;
use crate::proxy::{Mischief, Proxy, Way, BOTH};

#[test]
fn requests_are_answered_and_messages_arrive_in_order_and_are_acknowledged() {
    run(async {
        let (one, mut two) = two().await;
        let to_two = one.peer(TWO);
        let answer = to_two.call(ECHO, segments(b"hello"), PATIENCE).await;
        assert_eq!(answer.unwrap(), &b"1: hello"[..]);
        for number in 0..1000u32 {
            let body = vec![number as u8; 1 + number as usize * 7];
            while to_two.push(Kind::PUSH, segments(&body)) == Err(PushError::Full) {
                to_two.room().await;
            }
        }
        let mut received = one.received;
        for number in 0..1000u32 {
            let (from, message) = two.received.recv().await.unwrap();
            assert_eq!((from.peer().node, message.kind), (ONE, Kind::PUSH));
            assert_eq!(message.body.len(), 1 + number as usize * 7);
            assert!(message.body.iter().all(|byte| *byte == number as u8));
            from.push(Kind::ACK, segments(&number.to_be_bytes()))
                .unwrap();
        }
        for number in 0..1000u32 {
            let (from, message) = received.recv().await.unwrap();
            assert_eq!((from.peer().node, message.kind), (TWO, Kind::ACK));
            assert_eq!(message.body, &number.to_be_bytes()[..]);
        }
    });
}

#[test]
fn what_is_not_served_is_said_and_closes_nothing() {
    run(async {
        let (one, _two) = two().await;
        let answer = one.peer(TWO).call(Kind(77), segments(b""), PATIENCE).await;
        let Err(PeerError::Refused(error)) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(error.code, CallErrorCode::NotServed);
        let answer = one.peer(TWO).call(ECHO, segments(b"still"), PATIENCE).await;
        assert_eq!(answer.unwrap(), &b"1: still"[..]);
    });
}

#[test]
fn a_process_that_has_ended_is_known_to_be_within_a_moment() {
    run(async {
        let (one, two) = two().await;
        let begun = Instant::now();
        two.kill();
        let killed = begun.elapsed();
        let state = until(one.peer(TWO).control(), |state| {
            matches!(
                state,
                LinkState::Down {
                    lost: Down::Reset,
                    why: Down::Refused,
                    ..
                }
            )
        });
        state.await;
        let known = begun.elapsed();
        println!("killed within {killed:?}, known within {known:?}");
        assert!(known < killed + Duration::from_millis(200), "{known:?}");
        down(one.peer(TWO).data(), Down::Refused).await;
        assert_eq!(
            one.peer(TWO).push(Kind::PUSH, segments(b"")),
            Err(PushError::Down)
        );
    });
}

#[test]
fn a_process_that_is_back_is_linked_within_a_moment_as_another_incarnation() {
    run(async {
        let (one, two) = two().await;
        let address = two.address;
        let before = until(one.peer(TWO).control(), |state| {
            matches!(state, LinkState::Up { .. })
        });
        let LinkState::Up { incarnation, .. } = before.await else {
            unreachable!()
        };
        two.kill();
        down(one.peer(TWO).control(), Down::Refused).await;
        let begun = Instant::now();
        let two = TestNode::start_at(settings(TWO), address);
        two.knows(ONE, one.address);
        until(
            one.peer(TWO).control(),
            |state| matches!(state, LinkState::Up { incarnation: now, .. } if *now != incarnation),
        )
        .await;
        let back = begun.elapsed();
        println!("back within {back:?}");
        assert!(back < Duration::from_millis(300), "{back:?}");
        up(&two.peer(ONE)).await;
        up(&one.peer(TWO)).await;
    });
}

#[test]
fn a_node_that_stops_says_so() {
    run(async {
        let (one, two) = two().await;
        two.peers.close().await;
        let state = until(one.peer(TWO).control(), |state| {
            matches!(state, LinkState::Down { .. })
        });
        let LinkState::Down { lost, .. } = state.await else {
            unreachable!()
        };
        assert_eq!(lost, Down::Left);
    });
}

/// Node 1 dials node 2 through the proxy.
async fn through_a_proxy() -> (TestNode, TestNode, Proxy) {
    let one = TestNode::start(settings(ONE));
    let two = TestNode::start(settings(TWO));
    two.peers.introduce(ONE, one.address.to_string());
    let proxy = Proxy::start(two.address);
    one.knows(TWO, proxy.address());
    up(&one.peer(TWO)).await;
    (one, two, proxy)
}

#[test]
fn a_silent_peer_is_noticed_whichever_way_is_cut_and_healed_links_are_back() {
    run(async {
        for ways in [&BOTH[..], &[Way::There], &[Way::Back]] {
            let (one, _two, proxy) = through_a_proxy().await;
            let begun = Instant::now();
            match ways {
                [way] => proxy.cut(*way),
                _ => proxy.cut_both(),
            }
            let silent_after = settings(ONE).timing.silent_after;
            let state = until(one.peer(TWO).control(), |state| {
                matches!(state, LinkState::Down { .. })
            });
            state.await;
            let known = begun.elapsed();
            println!("{ways:?}: known within {known:?}");
            // It last said something up to an interval before the cut.
            let alive_interval = settings(ONE).timing.alive_interval;
            assert!(known + 2 * alive_interval >= silent_after, "{known:?}");
            assert!(known < 4 * silent_after, "{known:?}");
            down(one.peer(TWO).control(), Down::Silent).await;
            proxy.heal();
            up(&one.peer(TWO)).await;
            let answer = one.peer(TWO).call(ECHO, segments(b"x"), PATIENCE).await;
            assert_eq!(answer.unwrap(), &b"1: x"[..]);
        }
    });
}

#[test]
fn an_idle_link_stays() {
    run(async {
        let (one, _two, _proxy) = through_a_proxy().await;
        let mut control = one.peer(TWO).control();
        control.borrow_and_update();
        let several = 3 * settings(ONE).timing.data_silent_after;
        let change = tokio::time::timeout(several, control.changed()).await;
        assert!(change.is_err(), "{:?}", *control.borrow());
    });
}

#[test]
fn a_reset_is_dialed_at_once_and_a_refusal_until_somebody_listens() {
    run(async {
        let (one, _two, proxy) = through_a_proxy().await;
        proxy.kill();
        down(one.peer(TWO).control(), Down::Refused).await;
        down(one.peer(TWO).data(), Down::Refused).await;
        let begun = Instant::now();
        proxy.listen();
        up(&one.peer(TWO)).await;
        let back = begun.elapsed();
        println!("back within {back:?}");
        assert!(back < Duration::from_millis(500), "{back:?}");
    });
}

#[test]
fn bytes_that_were_changed_lost_or_repeated_are_never_taken_for_a_message() {
    run(async {
        let (one, mut two, proxy) = through_a_proxy().await;
        let whole = |number: u32| {
            let mut body = number.to_be_bytes().to_vec();
            body.resize(4 + 50 + number as usize % 3000, number as u8);
            body
        };
        let mut number = 0;
        for mischief in [Mischief::Flip, Mischief::Lose, Mischief::Repeat] {
            let connects = |node: &TestNode| {
                let vitals = node.registry.find("peer_link", "2-data").unwrap();
                let detail = vitals.detail();
                let (_, connects) = detail.split_once("connects ").unwrap();
                let digits = connects.find(|c: char| !c.is_ascii_digit());
                let digits = digits.unwrap_or(connects.len());
                connects[..digits].parse::<u32>().unwrap()
            };
            let before = connects(&one);
            proxy.mischief(Way::There, mischief);
            // Goes on until the link has broken, and is back.
            while connects(&one) == before {
                number += 1;
                let _ = one.peer(TWO).push(Kind::PUSH, segments(&whole(number)));
                tokio::task::yield_now().await;
                while let Ok((_, message)) = two.received.try_recv() {
                    let number = u32::from_be_bytes(message.body[..4].try_into().unwrap());
                    assert_eq!(message.body, &whole(number)[..]);
                }
            }
            up(&one.peer(TWO)).await;
        }
    });
}

#[test]
fn whoever_pushes_too_much_is_told_so_and_when_there_is_room_again() {
    run(async {
        let (one, mut two) = two().await;
        let to_two = one.peer(TWO);
        let body = vec![7; 10_000];
        let mut taken = 0;
        // Nobody drops what was received, so all of it stays in flight, at both ends and between.
        let mut held: Vec<(Arc<Session>, Received)> = Vec::new();
        let mut full_since = None;
        loop {
            while let Ok(message) = two.received.try_recv() {
                held.push(message);
                full_since = None;
            }
            match to_two.push(Kind::PUSH, segments(&body)) {
                Ok(()) => {
                    taken += 1;
                    full_since = None;
                    // Both ends' bounds, and the system's buffers.
                    assert!(taken * body.len() < 64 * 1024 * 1024, "nothing stops it");
                }
                Err(PushError::Full) => {
                    let since = *full_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > Duration::from_millis(300) {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
        let limit = settings(ONE).in_flight_bytes_max;
        let held_bytes = held.len() * body.len();
        assert!(held_bytes <= limit + 512 * 1024, "{held_bytes}");
        assert!(to_two.in_flight_bytes() <= limit);
        // The link lives although nobody reads from it for longer than silence is borne.
        let several = 3 * settings(ONE).timing.data_silent_after;
        let room = tokio::time::timeout(several, to_two.room()).await;
        assert!(room.is_err(), "there is no room yet");
        let mut seen = held.len();
        held.clear();
        let pushing = async {
            to_two.room().await;
            to_two.push(Kind::PUSH, segments(b"last")).unwrap();
        };
        let taking = async {
            loop {
                let (_, message) = two.received.recv().await.unwrap();
                if &message.body[..] == b"last" {
                    break;
                }
                seen += 1;
            }
        };
        tokio::join!(pushing, taking);
        assert_eq!(seen, taken, "each once");
    });
}

#[test]
fn a_message_larger_than_a_frame_is_refused_where_it_is_made() {
    run(async {
        let (one, _two) = two().await;
        let too_large = vec![0; settings(ONE).frame_bytes_max];
        let pushed = one.peer(TWO).push(Kind::PUSH, segments(&too_large));
        assert_eq!(pushed, Err(PushError::TooLarge));
        let largest = vec![0; settings(ONE).frame_bytes_max - 100];
        one.peer(TWO).push(Kind::PUSH, segments(&largest)).unwrap();
        let mut two = _two;
        let (_, message) = two.received.recv().await.unwrap();
        assert_eq!(message.body.len(), largest.len());
    });
}

/// Answers when it is allowed to.
struct Slow(Arc<Semaphore>);

#[async_trait]
impl PeerService for Slow {
    async fn call(&self, _: PeerIdentity, body: Bytes) -> Result<Segments, CallError> {
        self.0.acquire().await.unwrap().forget();
        Ok(body.into())
    }
}

struct Panics;

#[async_trait]
impl PeerService for Panics {
    async fn call(&self, _: PeerIdentity, _: Bytes) -> Result<Segments, CallError> {
        panic!("as it was told to")
    }
}

const SLOW: Kind = Kind(101);
const PANICS: Kind = Kind(102);

#[test]
fn slow_requests_hold_up_no_others_and_too_many_are_turned_away() {
    run(async {
        let (one, two) = two().await;
        let allowed = Arc::new(Semaphore::new(0));
        two.services.serve(SLOW, Arc::new(Slow(allowed.clone())));
        let to_two = one.peer(TWO);
        let calls: Vec<_> = (0..64u8)
            .map(|number| {
                let to_two = to_two.clone();
                actix_rt::spawn(
                    async move { to_two.call(SLOW, segments(&[number]), PATIENCE).await },
                )
            })
            .collect();
        let one_more = loop {
            let answer = to_two
                .call(SLOW, segments(b"more"), Duration::from_millis(50))
                .await;
            match answer {
                Err(PeerError::Refused(error)) => break error,
                // Some of the others haven't come yet, so this one waits too.
                Err(PeerError::TimedOut(_)) => allowed.add_permits(1),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(one_more.code, CallErrorCode::Overloaded);
        let answer = to_two.call(ECHO, segments(b"quick"), PATIENCE).await;
        assert_eq!(answer.unwrap(), &b"1: quick"[..]);
        allowed.add_permits(100);
        let mut answered = 0;
        for call in calls {
            answered += usize::from(call.await.unwrap().is_ok());
        }
        assert!(answered >= 60, "{answered}");
    });
}

#[test]
fn a_request_whose_service_panics_is_lost_and_nothing_else() {
    run(async {
        let (one, two) = two().await;
        two.services.serve(PANICS, Arc::new(Panics));
        let answer = one.peer(TWO).call(PANICS, segments(b""), PATIENCE).await;
        let Err(PeerError::Refused(error)) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(error.code, CallErrorCode::Lost);
        let answer = one.peer(TWO).call(ECHO, segments(b"still"), PATIENCE).await;
        assert!(answer.is_ok());
    });
}

#[test]
fn a_request_on_its_way_is_lost_with_its_connection_and_one_without_an_answer_times_out() {
    run(async {
        let (one, two, proxy) = through_a_proxy().await;
        let never = Arc::new(Semaphore::new(0));
        two.services.serve(SLOW, Arc::new(Slow(never)));
        let soon = Duration::from_millis(50);
        let answer = one.peer(TWO).call(SLOW, segments(b""), soon).await;
        assert_eq!(answer, Err(PeerError::TimedOut(soon)));
        let to_two = one.peer(TWO);
        let call = async { to_two.call(SLOW, segments(b""), PATIENCE).await };
        let reset = async {
            let asked = to_two.call(ECHO, segments(b""), PATIENCE).await;
            asked.unwrap();
            proxy.reset();
        };
        let (answer, ()) = tokio::join!(call, reset);
        assert_eq!(answer, Err(PeerError::Lost));
    });
}

#[test]
fn links_and_connections_can_be_seen() {
    run(async {
        let (one, two) = two().await;
        one.peer(TWO)
            .call(ECHO, segments(b"x"), PATIENCE)
            .await
            .unwrap();
        let link = one.registry.find("peer_link", "2-control").unwrap();
        let detail = link.detail();
        for part in [
            "up ",
            "incarnation",
            "in flight 0 bytes 0 calls",
            "connects 1",
        ] {
            assert!(detail.contains(part), "{detail}");
        }
        let connection = two.registry.find("peer_connection", "1-control").unwrap();
        assert!(
            connection.detail().contains("received"),
            "{}",
            connection.detail()
        );
        two.kill();
        down(one.peer(TWO).control(), Down::Refused).await;
        let detail = link.detail();
        assert!(
            detail.contains("down ") && detail.contains("refused"),
            "{detail}"
        );
    });
}
