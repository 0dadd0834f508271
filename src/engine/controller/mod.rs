//! What the active controller makes of the brokers' being there or not.
//!
//! A broker is there as long as the link to it is up: it is heard on it several times in a session. One
//! whose process has ended refuses to be dialed, and is fenced at once; one that hangs or is cut off is
//! silent, and is fenced when its session is over, which the link counts: it is down once nothing was heard
//! for that long. A broker that is there and registered is unfenced.
//!
//! A controller that has just become active gives a broker whose link isn't up a whole session before it fences
//! it: it may not have dialed it yet. One that was heard before and is silent by now gets a quarter of it:
//! perhaps it was this node that hung, and their links are about to come up again.

mod balance;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::metadata::change::Change;
use super::metadata::{Broker, BrokerState, MetadataImage};
use crate::model::{BrokerId, Incarnation, Timestamp};

pub use balance::Balance;

/// Which part of a session a new controller waits for somebody who was silent for a whole one.
const GRACE_OF_A_SESSION: i64 = 4;

/// What is known of a broker now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is heard, in this life.
    Here(Incarnation),
    /// Nobody listens where it was, or it has said that it goes.
    Gone,
    /// Nothing was heard of it for a whole session.
    Silent,
    /// It isn't linked, and wasn't silent for a whole session yet: the link was lost in another way, or it
    /// wasn't reached yet.
    Unlinked,
}

/// Who is there, as the active controller sees it.
#[derive(Debug)]
pub struct Sessions {
    node: BrokerId,
    session_ms: i64,
    /// Since when somebody is looked after, and what is known of it since.
    brokers: BTreeMap<BrokerId, Session>,
    active_since: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    presence: Presence,
    since: Timestamp,
}

impl Sessions {
    /// `node` is the controller's own broker, which is there.
    pub fn new(node: BrokerId, session_ms: i64, now: Timestamp) -> Sessions {
        Sessions {
            node,
            session_ms,
            brokers: BTreeMap::new(),
            active_since: now,
        }
    }

    /// What is known of a broker by now.
    pub fn note(&mut self, broker: BrokerId, presence: Presence, now: Timestamp) {
        let session = self.brokers.entry(broker).or_insert(Session {
            presence,
            since: now,
        });
        if session.presence != presence {
            *session = Session {
                presence,
                since: now,
            };
        }
    }

    /// Whom to fence and whom to unfence, as the metadata are.
    pub fn due(&self, image: &MetadataImage, now: Timestamp) -> Vec<Change> {
        let change = |broker: &Broker| {
            let (id, epoch) = (broker.id, broker.epoch);
            match (self.verdict(broker, now)?, broker.state) {
                (Verdict::There, BrokerState::Fenced) => {
                    Some(Change::UnfenceBroker { broker: id, epoch })
                }
                (Verdict::Gone, BrokerState::Unfenced | BrokerState::ShuttingDown) => {
                    Some(Change::FenceBroker { broker: id, epoch })
                }
                _ => None,
            }
        };
        image
            .brokers()
            .filter_map(|broker| change(broker))
            .collect()
    }

    /// When somebody's silence has lasted for long enough, if nothing else happens.
    pub fn next_deadline(&self, image: &MetadataImage) -> Option<Timestamp> {
        let waits = |broker: &&std::sync::Arc<Broker>| {
            broker.id != self.node && broker.state != BrokerState::Fenced
        };
        let deadlines =
            image
                .brokers()
                .filter(waits)
                .filter_map(|broker| match self.brokers.get(&broker.id) {
                    Some(session) => self.silent_until(session),
                    None => Some(self.unheard_until(self.active_since)),
                });
        deadlines.min()
    }

    fn verdict(&self, broker: &Broker, now: Timestamp) -> Option<Verdict> {
        if broker.id == self.node {
            return Some(Verdict::There);
        }
        let gone_at = match self.brokers.get(&broker.id) {
            Some(session) => match session.presence {
                Presence::Here(incarnation) if incarnation == broker.incarnation => {
                    return Some(Verdict::There)
                }
                // Another life is there, and will register; this one is over.
                Presence::Here(_) | Presence::Gone => return Some(Verdict::Gone),
                Presence::Silent | Presence::Unlinked => self.silent_until(session)?,
            },
            None => self.unheard_until(self.active_since),
        };
        (now >= gone_at).then_some(Verdict::Gone)
    }

    /// When somebody is gone who isn't heard.
    fn silent_until(&self, session: &Session) -> Option<Timestamp> {
        match session.presence {
            Presence::Silent => {
                let grace_ms = self.session_ms / GRACE_OF_A_SESSION;
                Some(session.since.max(Timestamp(self.active_since.0 + grace_ms)))
            }
            Presence::Unlinked => Some(self.unheard_until(session.since)),
            Presence::Here(_) | Presence::Gone => None,
        }
    }

    fn unheard_until(&self, since: Timestamp) -> Timestamp {
        Timestamp(since.max(self.active_since).0 + self.session_ms)
    }
}

enum Verdict {
    There,
    Gone,
}
