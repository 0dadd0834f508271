//! Which nodes belong to the cluster, where they are, and in which life each is here.
//!
//! A node that was restarted is another life of it, an incarnation, and what the former one had open
//! is closed as soon as the new one comes. Lives have no order of their own: the later one is the one
//! that was seen later. The former one isn't let in again as long as the later one is here; when that
//! has gone, it may: a roster that has taken the wrong one for the later heals by itself.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::session::Session;
use crate::model::{BrokerId, Incarnation};
use crate::protocol::peer::{Lane, Refusal, RefusalCode};

/// How many former lives of a node are remembered.
const FORMER_MAX: usize = 8;

/// Which of the two ends of a connection this node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Dialer,
    Acceptor,
}

/// All that is known of the nodes.
#[derive(Default)]
pub struct Roster {
    nodes: BTreeMap<BrokerId, Node>,
}

struct Node {
    /// `host:port`.
    address: String,
    incarnation: Option<Incarnation>,
    former: VecDeque<Incarnation>,
    sessions: Vec<(Side, Arc<Session>)>,
}

impl Roster {
    /// The node belongs to the cluster, and is reached there.
    pub fn introduce(&mut self, node: BrokerId, address: String) {
        match self.nodes.get_mut(&node) {
            Some(known) => known.address = address,
            None => {
                let known = Node {
                    address,
                    incarnation: None,
                    former: VecDeque::new(),
                    sessions: Vec::new(),
                };
                self.nodes.insert(node, known);
            }
        }
    }

    pub fn address(&self, node: BrokerId) -> Option<&str> {
        self.nodes.get(&node).map(|node| node.address.as_str())
    }

    /// Whether this life of this node would be let in now.
    pub fn check(&self, node: BrokerId, incarnation: Incarnation) -> Result<(), Refusal> {
        let Some(known) = self.nodes.get(&node) else {
            return Err(Refusal::new(
                RefusalCode::UnknownNode,
                format!("node {node} isn't one of this cluster's nodes"),
            ));
        };
        let is_here = known.sessions.iter().any(|(_, there)| there.is_open());
        match known.incarnation {
            Some(present) if is_here && known.former.contains(&incarnation) => Err(Refusal::new(
                RefusalCode::Superseded,
                format!("another process is node {node} now: incarnation {present}, and not {incarnation}"),
            )),
            _ => Ok(()),
        }
    }

    /// Lets it in; what it takes the place of is to be closed.
    pub fn enter(
        &mut self,
        side: Side,
        session: &Arc<Session>,
    ) -> Result<Vec<Arc<Session>>, Refusal> {
        let peer = session.peer();
        self.check(peer.node, peer.incarnation)?;
        let Some(known) = self.nodes.get_mut(&peer.node) else {
            return Ok(Vec::new());
        };
        let mut replaced = Vec::new();
        let is_another = known.incarnation != Some(peer.incarnation);
        if is_another {
            known.former.extend(known.incarnation);
            known.former.retain(|former| *former != peer.incarnation);
            if known.former.len() > FORMER_MAX {
                known.former.pop_front();
            }
            known.incarnation = Some(peer.incarnation);
        }
        let same_place = |at: Side, lane: Lane| at == side && lane == session.lane();
        known.sessions.retain(|(at, there)| {
            let stays = !is_another && !same_place(*at, there.lane());
            if !stays {
                replaced.push(there.clone());
            }
            stays
        });
        known.sessions.push((side, session.clone()));
        Ok(replaced)
    }

    pub fn leave(&mut self, session: &Arc<Session>) {
        if let Some(known) = self.nodes.get_mut(&session.peer().node) {
            known
                .sessions
                .retain(|(_, there)| !Arc::ptr_eq(there, session));
        }
    }

    /// All connections.
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        let nodes = self.nodes.values();
        let sessions = nodes.flat_map(|node| &node.sessions);
        sessions.map(|(_, session)| session.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::peer::session::SessionLimits;
    use crate::actors::peer::PeerIdentity;

    const NODE: BrokerId = BrokerId(2);

    fn roster() -> Roster {
        let mut roster = Roster::default();
        roster.introduce(NODE, "127.0.0.1:1".into());
        roster
    }

    fn session(incarnation: Incarnation, lane: Lane) -> Arc<Session> {
        let peer = PeerIdentity {
            node: NODE,
            incarnation,
            version: 1,
        };
        let limits = SessionLimits {
            frame_bytes_max: 1024,
            in_flight_bytes_max: 1024,
        };
        Session::new(peer, lane, limits, Arc::default())
    }

    fn code(result: Result<(), Refusal>) -> Option<RefusalCode> {
        result.err().map(|refusal| refusal.code)
    }

    #[test]
    fn who_was_not_introduced_is_unknown() {
        let stranger = roster().check(BrokerId(9), Incarnation::random());
        assert_eq!(code(stranger), Some(RefusalCode::UnknownNode));
    }

    #[test]
    fn a_new_life_closes_all_that_the_former_one_had() {
        let mut roster = roster();
        let [first, second] = [Incarnation::random(), Incarnation::random()];
        let dialed = session(first, Lane::Control);
        let accepted = session(first, Lane::Data);
        assert!(roster.enter(Side::Dialer, &dialed).unwrap().is_empty());
        assert!(roster.enter(Side::Acceptor, &accepted).unwrap().is_empty());
        let replaced = roster.enter(Side::Acceptor, &session(second, Lane::Control));
        assert_eq!(replaced.unwrap().len(), 2);
        let again = roster.check(NODE, first);
        assert_eq!(code(again), Some(RefusalCode::Superseded));
    }

    #[test]
    fn a_second_connection_of_one_life_takes_the_place_of_the_first() {
        let mut roster = roster();
        let life = Incarnation::random();
        let first = session(life, Lane::Data);
        roster.enter(Side::Acceptor, &first).unwrap();
        let control = session(life, Lane::Control);
        assert!(roster.enter(Side::Acceptor, &control).unwrap().is_empty());
        let replaced = roster.enter(Side::Acceptor, &session(life, Lane::Data));
        let replaced = replaced.unwrap();
        assert!(Arc::ptr_eq(&replaced[0], &first) && replaced.len() == 1);
    }

    #[test]
    fn a_former_life_is_let_in_when_the_later_one_has_gone() {
        let mut roster = roster();
        let [first, second] = [Incarnation::random(), Incarnation::random()];
        roster
            .enter(Side::Acceptor, &session(first, Lane::Control))
            .unwrap();
        let later = session(second, Lane::Control);
        roster.enter(Side::Acceptor, &later).unwrap();
        assert!(roster.check(NODE, first).is_err());
        later.closed();
        assert!(roster.check(NODE, first).is_ok());
        roster.leave(&later);
        roster
            .enter(Side::Acceptor, &session(first, Lane::Control))
            .unwrap();
        assert!(roster.check(NODE, second).is_err());
    }
}
