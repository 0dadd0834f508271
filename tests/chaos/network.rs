//! What lies between the nodes: a proxy on each way from one to another.

use std::collections::HashMap;

use klamm::model::BrokerId;

use crate::nodes::NODES;
use crate::proxy::{Proxy, Way};

/// By who dials, and whom.
#[derive(Default)]
pub struct Network(HashMap<(BrokerId, BrokerId), Proxy>);

/// In which directions bytes between two nodes don't pass.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// What the node says isn't heard.
    Mute,
    /// It hears nothing.
    Deaf,
    Both,
}

impl Network {
    /// A way from one node to another, which listens at this address; returns where the first one dials.
    pub fn lay(&mut self, from: BrokerId, to: BrokerId, address: &str) -> String {
        let proxy = Proxy::start(address.parse().expect("it is an address"));
        let dialled = proxy.address().to_string();
        self.0.insert((from, to), proxy);
        dialled
    }

    /// Between two nodes, whichever of them has dialled.
    pub fn cut(&self, of: BrokerId, to: BrokerId, cut: Cut) {
        let (ours, theirs) = (&self.0[&(of, to)], &self.0[&(to, of)]);
        if matches!(cut, Cut::Mute | Cut::Both) {
            ours.cut(Way::There);
            theirs.cut(Way::Back);
        }
        if matches!(cut, Cut::Deaf | Cut::Both) {
            ours.cut(Way::Back);
            theirs.cut(Way::There);
        }
    }

    pub fn heal(&self) {
        self.0.values().for_each(Proxy::heal);
    }

    pub fn on_each_link(&self, node: BrokerId, does: impl Fn(&Proxy)) {
        for other in others(node) {
            does(&self.0[&(node, other)]);
            does(&self.0[&(other, node)]);
        }
    }
}

pub fn others(node: BrokerId) -> Vec<BrokerId> {
    NODES.into_iter().filter(|other| *other != node).collect()
}
