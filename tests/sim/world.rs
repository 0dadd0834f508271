//! Three nodes, the links between them, the controller, and all that can befall them.

use std::collections::VecDeque;

use klamm::engine::metadata::change::Decided;
use klamm::engine::replica::CommitRule;
use klamm::model::{BrokerId, Timestamp};

use crate::control::Request;
use crate::links::Links;
use crate::log::Log;
use crate::metadata::Metadata;
use crate::node::{End, Node, Ticket, Work};
use crate::random::Random;
use crate::rules::Broken;
use crate::truth::{Checked, Truth};
use crate::NODES;

/// Who lacks something for longer isn't in sync; which of them holds in a world is chance.
const LAG_MAX_MS: [i64; 3] = [50, 500, 5_000];
/// How long the weather lasts: in fair weather faults are seldom, and there is time to commit something.
const WEATHER_STEPS: usize = 250;
const FAIR_WEATHER: usize = 12;
const FOUL_WEATHER: usize = 1;
/// Steps in which all must be well again.
const HEALING_STEPS_MAX: usize = 4_000;

pub struct World {
    pub(crate) random: Random,
    pub(crate) broken: Broken,
    pub(crate) rule: CommitRule,
    pub(crate) lag_max_ms: i64,
    /// Of so many faults one happens.
    pub(crate) weather: usize,
    pub(crate) now: i64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) metadata: Metadata,
    pub(crate) links: Links,
    /// Whatever it is asked for comes to nothing.
    pub(crate) has_no_controller: bool,
    pub(crate) requests: VecDeque<Request>,
    pub(crate) answers: VecDeque<(Request, Decided)>,
    pub(crate) truth: Truth,
    pub(crate) next_value: u64,
    pub(crate) next_life: u64,
}

impl World {
    /// In half of all worlds nothing is synced before it is acknowledged.
    pub fn new(seed: u64, broken: Broken) -> World {
        let rule = match seed % 2 {
            0 => CommitRule::Written,
            _ => CommitRule::Synced,
        };
        let metadata = Metadata::new(broken);
        let node = |n| Node::new(n, broken, rule, metadata.defaults());
        let mut random = Random::new(seed);
        let mut world = World {
            lag_max_ms: LAG_MAX_MS[random.below(LAG_MAX_MS.len())],
            random,
            broken,
            rule,
            weather: FAIR_WEATHER,
            now: 0,
            nodes: (0..NODES).map(node).collect(),
            metadata,
            links: Links::default(),
            has_no_controller: false,
            requests: VecDeque::new(),
            answers: VecDeque::new(),
            truth: Truth::default(),
            next_value: 0,
            next_life: NODES as u64,
        };
        for n in 0..NODES {
            let number = world.metadata.newest();
            let image = world.metadata.latest().clone();
            world.nodes[n].registered(&image, number);
            world.nodes[n].reconcile(&image, Timestamp(0));
        }
        world
    }

    pub fn acknowledged(&self) -> usize {
        self.truth.acknowledged()
    }

    pub fn run(&mut self, steps: usize) -> Checked {
        for step in 0..steps {
            if step % WEATHER_STEPS == 0 {
                self.weather = match self.random.one_in(2) {
                    true => FAIR_WEATHER,
                    false => FOUL_WEATHER,
                };
            }
            self.step()
                .and_then(|()| self.check_in_sync())
                .map_err(|error| format!("step {step}: {error}"))?;
        }
        self.heal()
    }

    fn step(&mut self) -> Checked {
        self.now += self.random.below(20) as i64;
        let leader = usize::try_from(self.metadata.partition().leader.0).ok();
        let n = match leader.filter(|_| self.random.one_in(2)) {
            Some(leader) => leader,
            None => self.random.below(NODES),
        };
        let m = self.random.below(NODES);
        match self.random.below(80) {
            0 if self.random.one_in(4 * self.weather) => self.fail(n),
            1 | 2 => self.restart(n),
            3 if self.random.one_in(4 * self.weather) => self.cut_link(n, m),
            4 if self.random.one_in(4 * self.weather) => self.suspect(n),
            5 | 6 => return self.look_after_brokers(),
            7 if self.random.one_in(self.weather) => return self.disturb(n, m),
            8 if self.random.one_in(4) => return self.delete(n),
            9 if self.random.one_in(8 * self.weather) => return self.die(n),
            10..=14 => return self.propose_isr(n),
            15..=18 => return self.control(),
            19..=25 => return self.learn(n),
            26..=32 => return self.produce(n),
            33..=39 => return self.sync(n),
            40..=47 => self.push(n, m),
            _ => {
                for _ in 0..2 {
                    if let Some((from, to)) = self.links.some_way(&mut self.random) {
                        self.deliver(from, to)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether this node may go: somebody else is there who has what it has, on whom the metadata count, also when
    /// an ISR that was asked for is granted meanwhile. If nobody has lost anything all may go at once. But
    /// who goes last, after others that have lost something and aren't missed yet, is no longer counted on when
    /// it is missed, and they are.
    fn may_go(&self, n: usize, loses: bool) -> bool {
        let is_covered = |counted: &[BrokerId]| {
            let counted = || counted.iter().map(|member| member.0 as usize);
            let has_it = |node: &Node| node.is_alive && node.is_whole;
            let has_another = counted().any(|other| other != n && has_it(&self.nodes[other]));
            has_another || !loses && counted().all(|member| self.nodes[member].is_whole)
        };
        let partition = self.metadata.partition();
        let counted = [&partition.isr[..], &partition.eligible_leaders[..]].concat();
        let mut asked = self.requests.iter().map(|request| &request.proposal.isr);
        is_covered(&counted) && asked.all(|isr| is_covered(isr))
    }

    fn fail(&mut self, n: usize) {
        if !self.nodes[n].is_alive {
            return;
        }
        let ends = [
            End::Clean,
            End::Killed,
            End::Killed,
            End::LosesLog,
            End::LosesDisk,
        ];
        let end = ends[self.random.below(ends.len())];
        let loses = match end {
            End::Clean => false,
            End::Killed => self.rule == CommitRule::Written,
            End::LosesLog | End::LosesDisk => true,
        };
        if !self.may_go(n, loses) {
            return;
        }
        let kept = self.random.below(self.nodes[n].log.unsynced() + 1);
        self.nodes[n].end(end, kept);
        (0..NODES)
            .filter(|other| *other != n)
            .for_each(|other| self.cut_link(n, other));
        if self.random.one_in(3) {
            // Before anybody has noticed.
            self.restart(n);
        }
    }

    fn restart(&mut self, n: usize) {
        if self.nodes[n].is_alive {
            return;
        }
        let life = self.next_life;
        self.next_life += 1;
        let (past, lost) = self.nodes[n].begin_life(life, self.metadata.defaults());
        self.metadata.register(n, life, past, lost);
        let (image, number) = (self.metadata.latest().clone(), self.metadata.newest());
        let node = &mut self.nodes[n];
        node.registered(&image, number);
        // It has nobody to answer yet.
        node.reconcile(&image, node.now(self.now));
    }

    fn cut_link(&mut self, a: usize, b: usize) {
        self.links.cut(a, b);
        for (n, other) in [(a, b), (b, a)] {
            let node = &mut self.nodes[n];
            node.link_lost(other, node.now(self.now));
        }
    }

    /// The controller doesn't hear a broker for a while. Not the last of several in sync that has anything: who
    /// loses all copies but one, and then takes that one for lost, has nobody left to elect.
    fn suspect(&mut self, n: usize) {
        let in_sync = self.metadata.partition().isr.iter();
        let mut others = in_sync
            .map(|id| id.0 as usize)
            .filter(|other| *other != n)
            .peekable();
        if others.peek().is_some() && !others.any(|other| self.nodes[other].is_whole) {
            return;
        }
        self.metadata.set_there(n, false);
    }

    fn look_after_brokers(&mut self) -> Checked {
        for n in 0..NODES {
            let node = &self.nodes[n];
            let is_there = node.is_alive && self.metadata.knows(n, node.life);
            self.metadata.set_there(n, is_there);
        }
        Ok(())
    }

    /// Clocks step, disks are slow or quick again, there is no active controller for a while, links hold back what they have, or bring it twice.
    fn disturb(&mut self, n: usize, m: usize) -> Checked {
        match self.random.below(8) {
            0 => self.nodes[n].clock_ms += self.random.below(20_000) as i64 - 10_000,
            1 => self.nodes[n].has_slow_disk = !self.nodes[n].has_slow_disk,
            2 => self.links.hold(n, m),
            3 | 4 => self.links.release_all(),
            5 => self.has_no_controller = !self.has_no_controller,
            _ => self.links.disturb((n, m), &mut self.random),
        }
        Ok(())
    }

    /// Retention, or an admin who deletes records.
    fn delete(&mut self, n: usize) -> Checked {
        let node = &mut self.nodes[n];
        let is_at_work = !matches!(node.work, Work::None);
        let span = node.high_watermark - node.log.start();
        if is_at_work && span > 0 {
            let to = node.log.start() + 1 + self.random.below(span as usize) as i64;
            self.truth.deleted(to);
            node.log.delete_below(to);
        }
        Ok(())
    }

    fn die(&mut self, n: usize) -> Checked {
        let now = self.nodes[n].now(self.now);
        let answered = self.nodes[n].die(now);
        self.verify(n, answered)
    }

    /// A node has answered these producers, and may have committed more.
    pub(crate) fn verify(&mut self, n: usize, answered: Vec<Ticket>) -> Checked {
        let node = &mut self.nodes[n];
        if let Work::Leader(leader) = &node.work {
            node.high_watermark = leader.high_watermark().0.max(node.log.start());
            let to = node.high_watermark;
            self.truth.commits(&node.log, node.checked, to)?;
        }
        if let Some(to) = node.last_commit.take() {
            self.truth.commits(&node.log, node.checked, to)?;
        }
        let to = node.high_watermark;
        self.truth.reads(&node.log, node.checked, to)?;
        node.checked = to;
        for (value, at) in answered {
            let has = |node: &&Node| {
                let is_there = node.log.get(at).is_some_and(|record| record.value == value);
                is_there && (self.rule == CommitRule::Written || node.log.synced().0 > at)
            };
            let copies = self.nodes.iter().filter(has).count();
            self.truth.acknowledges(value, at, copies)?;
        }
        Ok(())
    }

    /// Whoever is in sync and there has all that is committed.
    fn check_in_sync(&self) -> Checked {
        for member in &self.metadata.partition().isr {
            let node = &self.nodes[member.0 as usize];
            let (end, committed) = (node.log.end(), self.truth.committed());
            if node.is_alive && node.has_log && end < committed {
                let n = node.n;
                return Err(format!("{n} is in sync with {end} of {committed} records"));
            }
        }
        Ok(())
    }

    /// All is well from now on.
    fn heal(&mut self) -> Checked {
        self.links.release_all();
        self.has_no_controller = false;
        for n in 0..NODES {
            self.nodes[n].has_slow_disk = false;
            self.restart(n);
        }
        for _ in 0..HEALING_STEPS_MAX {
            self.now += 10;
            self.look_after_brokers()?;
            self.control()?;
            for n in 0..NODES {
                self.nodes[n].known = self.metadata.newest();
                self.know(n)?;
                self.propose_isr(n)?;
                self.sync(n)?;
                for m in 0..NODES {
                    self.push(n, m);
                    self.deliver(n, m)?;
                }
            }
            if self.is_healed() {
                let mut nodes = self.nodes.iter();
                return nodes.try_for_each(|node| self.truth.is_kept_by(&node.log));
            }
        }
        let logs = self
            .nodes
            .iter()
            .map(|node| (node.log.start(), node.log.end()));
        let logs: Vec<(i64, i64)> = logs.collect();
        let partition = self.metadata.partition();
        Err(format!("it doesn't heal: logs {logs:?}, {partition:?}"))
    }

    /// All replicas are in sync, and agree on all that is there.
    fn is_healed(&self) -> bool {
        let first = &self.nodes[0].log;
        let start = self.nodes.iter().map(|node| node.log.start()).max();
        let is_equal = |node: &Node| {
            let from = |log: &Log| {
                let records = log.records().map(|(at, record)| (at, record.value));
                records
                    .filter(|(at, _)| Some(*at) >= start)
                    .collect::<Vec<_>>()
            };
            node.log.end() == first.end()
                && node.high_watermark == first.end()
                && from(&node.log) == from(first)
        };
        self.metadata.partition().isr.len() == NODES
            && self.truth.committed() == first.end()
            && self.nodes.iter().all(is_equal)
    }
}
