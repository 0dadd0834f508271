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
use crate::engine::controller::{Balance, Presence, Sessions};
use crate::engine::metadata::change::{Change, Decided, Intent};
use crate::model::{BrokerId, Timestamp};
use crate::raft::{Leadership, Raft};

/// After which a change that was refused is asked for again.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

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
        let mut balance = Balance::new(Timestamp::now());
        let mut sessions = Sessions::new(node, session_ms, Timestamp::now());
        while *leadership.borrow_and_update() == term {
            let now = Timestamp::now();
            for peer in all_peers() {
                sessions.note(peer.node(), presence(*peer.control().borrow()), now);
            }
            let image = images.borrow_and_update().clone();
            let due = sessions.due(&image, now);
            let elections = match due.is_empty() {
                true => balance.due(&image, now),
                false => None,
            };
            let mut refused = false;
            for change in due {
                log::info!("the controller decides: {change:?}");
                refused |= decide(&controller, change).await.is_none();
            }
            if let Some(change) = elections {
                log::info!("{} partitions go back to preferred leaders", change.parts());
                if let Some(decided) = decide(&controller, change).await {
                    balance.decided(&decided, Timestamp::now());
                }
            }
            let next = sessions.next_deadline(&image);
            let next = next.map_or(balance.next_due(), |next| next.min(balance.next_due()));
            let rest = match refused {
                true => RETRY_INTERVAL,
                false => Duration::from_millis(u64::try_from(next - now).unwrap_or(0)),
            };
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return },
                changed = images.changed() => if changed.is_err() { return },
                () = news.notified() => {}
                () = sleep(rest.max(Duration::from_millis(1))) => {}
            }
        }
    }
}

/// `None` if nothing is decided.
async fn decide(controller: &ControllerHandle, change: Change) -> Option<Vec<Decided>> {
    match controller.change_here(change, Intent::Apply).await {
        Ok(decided) => Some(decided),
        Err(Failed::NotActive) => None,
        Err(Failed::Refused(refusal)) => {
            log::warn!("the controller won't: {refusal}");
            None
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
