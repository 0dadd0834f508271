//! Who isn't let in, and what both sides learn of it.

use klamm::actors::peer::{Down, LinkState, PeerSettings};
use klamm::model::{BrokerId, ClusterId, Incarnation};
use klamm::protocol::peer::{PeerSecret, RefusalCode};

use crate::harness::*;

/// Node 1 dials node 2: what comes of it at node 1.
async fn dialed(one: PeerSettings, two: PeerSettings, two_knows: &[BrokerId]) -> LinkState {
    let to = if two.node == one.node { TWO } else { two.node };
    let one = TestNode::start(one);
    let two = TestNode::start(two);
    for node in two_knows {
        two.knows(*node, one.address);
    }
    one.knows(to, two.address);
    let state = until(one.peer(to).control(), |state| {
        !matches!(state, LinkState::Down { why: Down::New, .. })
    })
    .await;
    one.end();
    two.end();
    state
}

async fn is_rejected(one: PeerSettings, two: PeerSettings, knows: &[BrokerId], code: RefusalCode) {
    match dialed(one, two, knows).await {
        LinkState::Down { why, .. } => assert_eq!(why, Down::Rejected(code)),
        state => panic!("{state:?}"),
    }
}

#[test]
fn a_wrong_secret_is_refused_whichever_side_has_it() {
    run(async {
        let wrong = PeerSettings {
            secret: PeerSecret::new(b"another secret, as long as the first"),
            ..settings(ONE)
        };
        is_rejected(wrong, settings(TWO), &[ONE], RefusalCode::WrongSecret).await;
    });
}

#[test]
fn a_foreign_cluster_is_refused_and_a_node_without_one_is_not() {
    run(async {
        let foreign = PeerSettings {
            cluster_id: Some(ClusterId("theirs".into())),
            ..settings(ONE)
        };
        is_rejected(foreign, settings(TWO), &[ONE], RefusalCode::ForeignCluster).await;
        let without = || PeerSettings {
            cluster_id: None,
            ..settings(ONE)
        };
        let state = dialed(without(), settings(TWO), &[ONE]).await;
        assert!(matches!(state, LinkState::Up { .. }), "{state:?}");
        let two_without = PeerSettings {
            cluster_id: None,
            ..settings(TWO)
        };
        let state = dialed(settings(ONE), two_without, &[ONE]).await;
        assert!(matches!(state, LinkState::Up { .. }), "{state:?}");
    });
}

#[test]
fn a_node_that_was_not_introduced_is_refused() {
    run(async {
        let three = [BrokerId(3)];
        is_rejected(
            settings(ONE),
            settings(TWO),
            &three,
            RefusalCode::UnknownNode,
        )
        .await;
    });
}

#[test]
fn an_address_that_leads_to_another_node_is_refused() {
    run(async {
        let one = TestNode::start(settings(ONE));
        let three = TestNode::start(settings(BrokerId(3)));
        three.knows(ONE, one.address);
        one.knows(TWO, three.address);
        let wrong = Down::Rejected(RefusalCode::WrongNode);
        down(one.peer(TWO).control(), wrong).await;
        // Its own address is another node's too.
        let one = TestNode::start(settings(ONE));
        one.knows(TWO, one.address);
        down(one.peer(TWO).control(), wrong).await;
    });
}

#[test]
fn versions_are_agreed_upon_if_they_overlap() {
    run(async {
        for (ours, theirs, agreed) in [
            (1..=1, 1..=1, Some(1)),
            (1..=2, 1..=1, Some(1)),
            (1..=2, 2..=3, Some(2)),
            (1..=1, 2..=3, None),
            (4..=5, 1..=3, None),
        ] {
            let one = PeerSettings {
                versions: ours,
                ..settings(ONE)
            };
            let two = PeerSettings {
                versions: theirs,
                ..settings(TWO)
            };
            let state = dialed(one, two, &[ONE]).await;
            match (state, agreed) {
                (LinkState::Up { version, .. }, Some(agreed)) => assert_eq!(version, agreed),
                (LinkState::Down { why, .. }, None) => {
                    assert_eq!(why, Down::Rejected(RefusalCode::UnsupportedVersion));
                }
                (state, agreed) => panic!("{state:?}, expected {agreed:?}"),
            }
        }
    });
}

#[test]
fn an_older_life_of_a_node_is_refused_while_the_later_one_is_there() {
    run(async {
        let two = TestNode::start(settings(TWO));
        let life = |incarnation| PeerSettings {
            incarnation,
            ..settings(ONE)
        };
        let [first, second] = [Incarnation::random(), Incarnation::random()];
        let older = TestNode::start(life(first));
        two.knows(ONE, older.address);
        older.knows(TWO, two.address);
        up(&older.peer(TWO)).await;
        // Both processes live: somebody has started a copy.
        let later = TestNode::start(life(second));
        later.knows(TWO, two.address);
        up(&later.peer(TWO)).await;
        let superseded = Down::Rejected(RefusalCode::Superseded);
        down(older.peer(TWO).control(), superseded).await;
        down(older.peer(TWO).data(), superseded).await;
        // It dials again, isn't let in, and doesn't disturb the later one.
        let link = older.registry.find("peer_link", "2-control").unwrap();
        while !link
            .detail()
            .contains("the peer refuses: another process is node 1")
        {
            tokio::task::yield_now().await;
        }
        let link = later.registry.find("peer_link", "2-control").unwrap();
        assert!(link.detail().contains("connects 1"), "{}", link.detail());
        let answer = later.peer(TWO).call(ECHO, segments(b"x"), PATIENCE).await;
        assert!(answer.is_ok());
        let LinkState::Up { incarnation, .. } = *later.peer(TWO).control().borrow() else {
            panic!("the later one has to stay");
        };
        assert_ne!(incarnation, second, "that is node 2's");
        later.kill();
        up(&older.peer(TWO)).await;
    });
}

#[test]
fn one_connection_more_than_there_may_be_is_turned_away() {
    run(async {
        let two = TestNode::start(PeerSettings {
            connections_max: 1,
            ..settings(TWO)
        });
        let one = TestNode::start(settings(ONE));
        two.knows(ONE, one.address);
        one.knows(TWO, two.address);
        let is_full = Down::Rejected(RefusalCode::TooManyConnections);
        let [control, data] = [one.peer(TWO).control(), one.peer(TWO).data()];
        tokio::join!(
            async {
                tokio::select! {
                    () = down(control, is_full) => {}
                    () = down(data, is_full) => {}
                }
            },
            async {
                let up = |state: &LinkState| matches!(state, LinkState::Up { .. });
                let peer = one.peer(TWO);
                tokio::select! {
                    _ = until(peer.control(), up) => {}
                    _ = until(peer.data(), up) => {}
                }
            }
        );
    });
}
