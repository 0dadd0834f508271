//! The active controller's eye on the brokers: it fences those that have gone, and unfences those that
//! are there.
//!
//! What is known of a broker is the state of this node's control link to it, on which it is heard many
//! times in a session.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::handle::{ControllerHandle, Failed};
use crate::actors::peer::{Down, LinkState, Peers};
use crate::engine::controller::{Presence, Sessions};
use crate::engine::metadata::change::{Change, Intent};
use crate::engine::metadata::elect_leaders::{not_led_by_preferred, ElectionType};
use crate::model::{BrokerId, Timestamp};
use crate::raft::{Leadership, Raft};

/// After which a change that was refused is asked for again.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);
const FOREVER: Duration = Duration::from_secs(3600);
/// How often leadership goes back to preferred replicas, and for how many partitions at once. Kafka's
/// `leader.imbalance.check.interval.seconds` is 300; here it costs a few milliseconds.
const BALANCE_INTERVAL: Duration = Duration::from_secs(15);
const BALANCE_INTERVAL_MS: i64 = BALANCE_INTERVAL.as_millis() as i64;
const BALANCE_AT_ONCE_MAX: usize = 100;

/// Looks after the brokers whenever this node's controller is the active one. Ends with Raft.
pub async fn keep_sessions(
    node: BrokerId,
    session: Duration,
    raft: Raft,
    controller: ControllerHandle,
    peers: Option<Peers>,
) {
    let all_peers = || peers.iter().flat_map(Peers::all).collect::<Vec<_>>();
    let news = Arc::new(Notify::new());
    for peer in all_peers() {
        let (mut state, news) = (peer.control(), news.clone());
        actix_rt::spawn(async move {
            while state.changed().await.is_ok() {
                news.notify_one();
            }
        });
    }
    let (mut leadership, mut images) = (raft.leadership(), raft.image());
    let session_ms = i64::try_from(session.as_millis()).unwrap_or(i64::MAX);
    loop {
        let leads = |now: &Leadership| matches!(now, Leadership::Leader { .. });
        let Ok(term) = leadership.wait_for(leads).await.map(|now| *now) else {
            return;
        };
        let mut balanced = Timestamp::now();
        let mut sessions = Sessions::new(node, session_ms, Timestamp::now());
        while *leadership.borrow_and_update() == term {
            let now = Timestamp::now();
            for peer in all_peers() {
                sessions.note(peer.node(), presence(*peer.control().borrow()), now);
            }
            let image = images.borrow_and_update().clone();
            let due = sessions.due(&image, now);
            let mut rest = match sessions.next_deadline(&image) {
                Some(deadline) => Duration::from_millis(u64::try_from(deadline - now).unwrap_or(0)),
                None => FOREVER,
            };
            let mut due = due;
            if due.is_empty() && now - balanced >= BALANCE_INTERVAL_MS {
                balanced = now;
                let misled = not_led_by_preferred(&image).take(BALANCE_AT_ONCE_MAX);
                let partitions: Vec<_> = misled.collect();
                if !partitions.is_empty() {
                    due.push(Change::ElectLeaders {
                        election: ElectionType::Preferred,
                        partitions,
                    });
                }
            }
            for change in due {
                log::info!("the controller decides: {change:?}");
                match controller.change_here(change, Intent::Apply).await {
                    Ok(_) => {}
                    Err(Failed::NotActive) => rest = RETRY_INTERVAL,
                    Err(Failed::Refused(refusal)) => {
                        log::warn!("the controller won't: {refusal}");
                        rest = RETRY_INTERVAL;
                    }
                }
            }
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return },
                changed = images.changed() => if changed.is_err() { return },
                () = news.notified() => {}
                () = sleep(rest.clamp(Duration::from_millis(1), BALANCE_INTERVAL)) => {}
            }
        }
    }
}

fn presence(state: LinkState) -> Presence {
    match state {
        LinkState::Up { incarnation, .. } => Presence::Here(incarnation),
        LinkState::Down {
            why: Down::Refused, ..
        }
        | LinkState::Down {
            lost: Down::Left, ..
        } => Presence::Gone,
        LinkState::Down {
            lost: Down::Silent, ..
        } => Presence::Silent,
        LinkState::Down { .. } => Presence::Unlinked,
    }
}
