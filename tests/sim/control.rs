//! What nodes know of the metadata, and what they ask the controller for.

use klamm::engine::metadata::alter_partition::{InSync, IsrProposal as Asked};
use klamm::engine::metadata::change::Change;
use klamm::engine::metadata::MetadataImage;
use klamm::engine::replica::{IsrProposal, Membership};
use klamm::model::{BrokerId, ErrorCode, PartitionEpoch};

use crate::metadata::{id, incarnation, PARTITION};
use crate::node::{Node, Ticket, Work};
use crate::rules::Broken;
use crate::truth::Checked;
use crate::world::World;

/// An ISR that a leader has asked for, on its way to the controller.
pub struct Request {
    pub node: usize,
    life: u64,
    pub proposal: IsrProposal,
    change: Change,
}

impl World {
    pub(crate) fn learn(&mut self, n: usize) -> Checked {
        let newest = self.metadata.newest();
        let node = &mut self.nodes[n];
        if !node.is_alive || node.known == newest {
            return Ok(());
        }
        node.known += 1 + self.random.below(newest - node.known);
        self.know(n)
    }

    pub(crate) fn know(&mut self, n: usize) -> Checked {
        let node = &mut self.nodes[n];
        let image = self.metadata.image(node.known).clone();
        let now = node.now(self.now);
        let answered = node.reconcile(&image, now);
        self.verify(n, answered)
    }

    pub(crate) fn propose_isr(&mut self, n: usize) -> Checked {
        let image = self.metadata.image(self.nodes[n].known).clone();
        let node = &mut self.nodes[n];
        let now = node.now(self.now);
        if let (Some(seen), true) = (node.raise.take(), node.is_alive) {
            let change = Change::ChangeLeader {
                partition: PARTITION,
                leader: id(n),
                seen,
            };
            if self.metadata.decide(&change).is_err() {
                self.nodes[n].epoch_refused(seen, now);
            }
            return Ok(());
        }
        if node.asked.is_some() {
            return Ok(());
        }
        let is_new = matches!(&node.work, Work::Leader(leader) if leader.proposed().is_none());
        if is_new {
            node.change = None;
        }
        let Some(proposal) = node.wanted_isr(self.lag_max_ms, &image, now) else {
            return Ok(());
        };
        let mut answered = Vec::new();
        if self.broken == Broken::LeavesBeforeCommitted {
            if let Work::Leader(leader) = &mut node.work {
                let membership = Membership {
                    in_sync: proposal.isr.clone(),
                    ..leader.membership().clone()
                };
                answered.extend(leader.assign(membership, now).committed);
            }
        }
        let node = &self.nodes[n];
        let again = node
            .change
            .clone()
            .filter(|(asked, _)| *asked == proposal && self.broken != Broken::RetryInAnotherLife);
        let change = match again {
            Some((_, change)) => Some(change),
            None => change_to(node, &proposal, &image, self.broken),
        };
        match change {
            Some(change) => {
                self.nodes[n].asked = Some(proposal.clone());
                self.nodes[n].change = Some((proposal.clone(), change.clone()));
                self.requests.push_back(Request {
                    node: n,
                    life: self.nodes[n].life,
                    proposal,
                    change,
                });
            }
            None => answered.extend(self.isr_refused(n)),
        }
        self.verify(n, answered)
    }

    fn isr_refused(&mut self, n: usize) -> Vec<Ticket> {
        match &mut self.nodes[n].work {
            Work::Leader(leader) => leader.isr_refused().committed,
            _ => Vec::new(),
        }
    }

    /// The controller decides, or an answer comes; requests and answers may be lost.
    pub(crate) fn control(&mut self) -> Checked {
        if self.random.one_in(2) {
            let some = self.random.below(self.requests.len().max(1));
            if let Some(request) = self.requests.remove(some) {
                match self.has_no_controller || self.random.one_in(10) {
                    true => self.nodes[request.node].asked = None,
                    false => {
                        let decided = self.metadata.decide(&request.change);
                        self.answers.push_back((request, decided));
                    }
                }
            }
            return Ok(());
        }
        let Some((request, decided)) = self.answers.pop_front() else {
            return Ok(());
        };
        let n = request.node;
        let node = &mut self.nodes[n];
        if node.asked.as_ref() != Some(&request.proposal) || node.life != request.life {
            return Ok(());
        }
        node.asked = None;
        let Work::Leader(leader) = &node.work else {
            return Ok(());
        };
        if self.random.one_in(10) || leader.proposed() != Some(&request.proposal) {
            return Ok(());
        }
        // As the leader's actor takes it.
        let is_refused = match decided {
            Ok(commands) => commands.is_empty(),
            Err(refusal) => matches!(
                refusal.code,
                ErrorCode::IneligibleReplica | ErrorCode::InvalidRequest
            ),
        };
        let answered = match is_refused {
            true => self.isr_refused(n),
            false => Vec::new(),
        };
        self.verify(n, answered)
    }
}

/// With the broker epoch of each member (KIP-903), as the leader's actor asks for it.
fn change_to(
    node: &Node,
    proposal: &IsrProposal,
    image: &MetadataImage,
    broken: Broken,
) -> Option<Change> {
    let member = |member: &BrokerId| {
        let broker = image.broker(*member)?;
        let life = node.lives.get(&(member.0 as usize)).copied();
        let is_known = *member == id(node.n)
            || life.map(incarnation) == Some(broker.incarnation)
            || matches!(broken, Broken::JoinsBehind | Broken::ProposalOfAnyLife);
        is_known.then_some(InSync {
            broker: *member,
            epoch: broker.epoch,
        })
    };
    Some(Change::AlterPartition {
        leader: id(node.n),
        broker_epoch: image.broker(id(node.n))?.epoch,
        proposal: Asked {
            partition: PARTITION,
            leader_epoch: proposal.leader_epoch,
            partition_epoch: PartitionEpoch(proposal.partition_epoch),
            isr: proposal.isr.iter().map(member).collect::<Option<_>>()?,
        },
    })
}
