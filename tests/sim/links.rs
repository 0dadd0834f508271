//! The links between the nodes: in order, until they are cut; and a network that isn't so good.

use std::collections::{BTreeMap, VecDeque};

use klamm::engine::replica::{Ack, Mismatch, Push};

use crate::log::Record;
use crate::random::Random;

#[derive(Clone, Debug)]
pub enum Message {
    /// With the offset where its records begin.
    Push(Push, Vec<Record>),
    Ack(Ack),
    Mismatch(Mismatch),
}

/// From one node to another.
type Way = (usize, usize);

#[derive(Default)]
pub struct Links {
    ways: BTreeMap<Way, VecDeque<Message>>,
    /// Ways that let nothing through for now.
    held: Vec<Way>,
}

impl Links {
    pub fn send(&mut self, from: usize, to: usize, message: Message) {
        self.ways.entry((from, to)).or_default().push_back(message);
    }

    /// What was on its way is lost.
    pub fn cut(&mut self, a: usize, b: usize) {
        for way in [(a, b), (b, a)] {
            self.ways.remove(&way);
            self.held.retain(|held| *held != way);
        }
    }

    pub fn hold(&mut self, from: usize, to: usize) {
        self.held.push((from, to));
    }

    pub fn release_all(&mut self) {
        self.held.clear();
    }

    /// A way on which something can come.
    pub fn some_way(&self, random: &mut Random) -> Option<Way> {
        let is_open = |(way, messages): &(&Way, &VecDeque<Message>)| {
            !messages.is_empty() && !self.held.contains(way)
        };
        let ways: Vec<Way> = self
            .ways
            .iter()
            .filter(is_open)
            .map(|(way, _)| *way)
            .collect();
        random.pick(&ways)
    }

    pub fn receive(&mut self, (from, to): Way) -> Option<Message> {
        self.ways.get_mut(&(from, to))?.pop_front()
    }

    /// The next message comes twice, or after the one behind it. Neither happens on a connection of ours, and
    /// the replicas bear it all the same.
    pub fn disturb(&mut self, way: Way, random: &mut Random) {
        let Some(messages) = self.ways.get_mut(&way) else {
            return;
        };
        match (random.one_in(2), messages.len()) {
            (true, 1..) => {
                let again = messages[0].clone();
                let at = 1 + random.below(messages.len());
                messages.insert(at, again);
            }
            (false, 2..) => messages.swap(0, 1),
            _ => {}
        }
    }
}
