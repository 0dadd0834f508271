//! The simulator: leaders and followers of one partition in one thread, under a seed: messages are late and lost,
//! nodes crash and lose what they haven't synced, the metadata come late, leaders are deposed.
//!
//! Held after each step: what was once committed at an offset is never another record, on whichever
//! leader; what was acknowledged is committed. In the end, when all is well again, all logs are equal and
//! hold every acknowledged record.
//!
//! A rule that is broken on purpose turns it red: see [`Broken`]. `KLAMM_SEEDS` says how many seeds,
//! and `KLAMM_SEED` which is the first.
#![cfg(feature = "broker")]

use std::collections::{BTreeMap, VecDeque};

use klamm::engine::replica::{
    Ack, Acks, Commit, CommitRule, Epochs, FollowerReplica, LeaderReplica, LeaderStart, Membership,
    Mismatch, Patience, Push, Pushed, Taken,
};
use klamm::model::{BrokerId, LeaderEpoch, Offset, Timestamp};

const NODES: usize = 3;
const STEPS: usize = 4_000;
const LAG_MAX_MS: i64 = 50;

/// A rule of replication that isn't kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// A follower says that it is on disk when it is written.
    AckBeforeSync,
    /// A follower doesn't look whether the push continues its log.
    AnyPushFits,
    /// The controller elects whoever is there.
    UncleanElection,
    /// The leader goes by itself alone.
    AloneInSync,
}

struct Random(u64);

impl Random {
    fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// A record in each batch.
#[derive(Clone, Default)]
struct Log {
    records: Vec<(LeaderEpoch, u64)>,
    synced: usize,
}

impl Epochs for Log {
    fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        let at = usize::try_from(offset.0).ok()?;
        self.records.get(at).map(|(epoch, _)| *epoch)
    }

    fn end_of(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let latest = self.records.last()?.0;
        if epoch > latest {
            return None;
        }
        let end = self.records.partition_point(|(e, _)| *e <= epoch);
        let found = end.checked_sub(1).map_or(epoch, |at| self.records[at].0);
        Some((found, Offset(end as i64)))
    }

    fn latest(&self) -> Option<LeaderEpoch> {
        self.records.last().map(|(epoch, _)| *epoch)
    }

    fn start_offset(&self) -> Offset {
        Offset(0)
    }

    fn end_offset(&self) -> Offset {
        Offset(self.records.len() as i64)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Assigned {
    leader: BrokerId,
    epoch: LeaderEpoch,
    membership: Membership,
}

enum Message {
    Push(Push, Vec<(LeaderEpoch, u64)>),
    Ack(Ack),
    Mismatch(Mismatch),
}

struct Reader;

impl Patience for Reader {
    fn is_gone(&self) -> bool {
        false
    }
}

enum Role {
    Down,
    Leader(Box<LeaderReplica<(u64, usize), Reader>>),
    Follower(FollowerReplica),
}

struct Node {
    log: Log,
    high_watermark: Offset,
    role: Role,
    /// Which of the metadata it knows.
    known: usize,
}

struct World {
    random: Random,
    broken: Broken,
    now: Timestamp,
    nodes: Vec<Node>,
    alive: [bool; NODES],
    /// All metadata, the latest last.
    metadata: Vec<Assigned>,
    links: BTreeMap<(usize, usize), VecDeque<Message>>,
    committed: Vec<u64>,
    acknowledged: Vec<(u64, usize)>,
    next_value: u64,
}

type Checked = Result<(), String>;

fn id(node: usize) -> BrokerId {
    BrokerId(node as i32)
}

impl World {
    fn new(seed: u64, broken: Broken) -> World {
        let membership = Membership {
            replicas: (0..NODES).map(id).collect(),
            in_sync: (0..NODES).map(id).collect(),
            partition_epoch: 0,
            min_in_sync: 2,
            has_eligible_leaders: false,
        };
        let node = |_| Node {
            log: Log::default(),
            high_watermark: Offset(0),
            role: Role::Down,
            known: 0,
        };
        let mut world = World {
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            broken,
            now: Timestamp(0),
            nodes: (0..NODES).map(node).collect(),
            alive: [true; NODES],
            metadata: vec![Assigned {
                leader: id(0),
                epoch: LeaderEpoch(0),
                membership,
            }],
            links: BTreeMap::new(),
            committed: Vec::new(),
            acknowledged: Vec::new(),
            next_value: 0,
        };
        (0..NODES).for_each(|n| world.take_role(n, None));
        world
    }

    fn latest(&self) -> &Assigned {
        self.metadata.last().unwrap()
    }

    /// What the metadata that the node knows make of it.
    fn take_role(&mut self, n: usize, before: Option<LeaderEpoch>) {
        let now = self.now;
        let assigned = self.metadata[self.nodes[n].known].clone();
        let broken = self.broken;
        let node = &mut self.nodes[n];
        if assigned.leader == id(n) {
            if before == Some(assigned.epoch) {
                if let Role::Leader(leader) = &mut node.role {
                    leader.assign(membership(&assigned, broken), now);
                    return;
                }
            }
            let start = LeaderStart {
                node: id(n),
                epoch: assigned.epoch,
                rule: CommitRule::Synced,
                log_end: node.log.end_offset(),
                synced: Offset(node.log.synced as i64),
                high_watermark: node.high_watermark,
            };
            let leader = LeaderReplica::new(start, membership(&assigned, broken), now);
            node.role = Role::Leader(Box::new(leader));
        } else if let Role::Follower(follower) = &mut node.role {
            follower.assign(assigned.epoch);
        } else {
            let follower = FollowerReplica::new(assigned.epoch, node.high_watermark);
            node.role = Role::Follower(follower);
        }
    }

    fn learn(&mut self, n: usize) {
        if !self.alive[n] || self.nodes[n].known + 1 == self.metadata.len() {
            return;
        }
        let before = self.metadata[self.nodes[n].known].epoch;
        self.nodes[n].known = self.metadata.len() - 1;
        self.take_role(n, Some(before));
    }

    fn produce(&mut self, n: usize) -> Checked {
        let now = self.now;
        let node = &mut self.nodes[n];
        let Role::Leader(leader) = &mut node.role else {
            return Ok(());
        };
        if leader.admit(Acks::All).is_err() {
            return Ok(());
        }
        self.next_value += 1;
        let value = self.next_value;
        let at = node.log.records.len();
        node.log.records.push((leader.epoch(), value));
        let end = node.log.end_offset();
        let released = leader.appended(end, now);
        let commit = leader.wait_for_commit(end, Timestamp(i64::MAX), (value, at));
        let mut committed = released.committed;
        if let Commit::Done(ticket) = commit {
            committed.push(ticket);
        }
        self.note(n, committed)
    }

    fn sync(&mut self, n: usize) -> Checked {
        let node = &mut self.nodes[n];
        node.log.synced = node.log.records.len();
        let (end, synced) = (node.log.end_offset(), Offset(node.log.synced as i64));
        match &mut node.role {
            Role::Leader(leader) => {
                let committed = leader.synced(synced).committed;
                self.note(n, committed)
            }
            Role::Follower(follower) => {
                let ack = follower.synced(end, synced);
                self.send_to_leader(n, ack.map(Message::Ack));
                Ok(())
            }
            Role::Down => Ok(()),
        }
    }

    fn send_to_leader(&mut self, n: usize, message: Option<Message>) {
        let leader = self.metadata[self.nodes[n].known].leader;
        if let (Some(message), true) = (message, leader != BrokerId::NONE) {
            let link = (n, leader.0 as usize);
            self.links.entry(link).or_default().push_back(message);
        }
    }

    fn push(&mut self, n: usize) {
        let now = self.now;
        let to = self.random.below(NODES);
        let node = &mut self.nodes[n];
        let Role::Leader(leader) = &mut node.role else {
            return;
        };
        leader.tick(now);
        let Some(plan) = leader.next_push(id(to), &node.log, now) else {
            return;
        };
        let from = plan.push.offset.0 as usize;
        let upper = match plan.with_records {
            true => node.log.records.len().min(from + 1 + to),
            false => from,
        };
        let records = node.log.records[from..upper].to_vec();
        leader.sent(id(to), Offset(upper as i64), records.len(), now);
        let message = Message::Push(plan.push, records);
        self.links.entry((n, to)).or_default().push_back(message);
    }

    fn deliver(&mut self, from: usize, to: usize) -> Checked {
        let now = self.now;
        let link = self.links.entry((from, to)).or_default();
        let Some(message) = link.pop_front() else {
            return Ok(());
        };
        let broken = self.broken;
        let node = &mut self.nodes[to];
        match (message, &mut node.role) {
            (Message::Push(mut push, records), Role::Follower(follower)) => {
                let batches: Vec<Pushed> = (push.offset.0..)
                    .zip(&records)
                    .map(|(at, (epoch, _))| Pushed {
                        base_offset: Offset(at),
                        next_offset: Offset(at + 1),
                        leader_epoch: *epoch,
                    })
                    .collect();
                if broken == Broken::AnyPushFits && push.offset <= node.log.end_offset() {
                    let before = push.offset + -1;
                    push.previous_epoch = node.log.epoch_of(before).unwrap_or(LeaderEpoch::NONE);
                }
                let answer = match follower.take(&push, &batches, &node.log) {
                    Taken::Append {
                        anew, cut, from, ..
                    } => {
                        assert_eq!(anew, None);
                        if let Some(cut) = cut {
                            node.log.records.truncate(cut.0 as usize);
                            node.log.synced = node.log.synced.min(cut.0 as usize);
                        }
                        node.log.records.extend_from_slice(&records[from..]);
                        if broken == Broken::AckBeforeSync {
                            let end = node.log.end_offset();
                            follower.ack(end, end).map(Message::Ack)
                        } else {
                            let synced = Offset(node.log.synced as i64);
                            follower
                                .ack(node.log.end_offset(), synced)
                                .map(Message::Ack)
                        }
                    }
                    Taken::Mismatched(found) => Some(Message::Mismatch(found)),
                    Taken::Stale | Taken::TooEarly => None,
                    Taken::Broken => return Err("a push is broken".into()),
                };
                node.high_watermark = follower.high_watermark();
                if let Some(answer) = answer {
                    self.links.entry((to, from)).or_default().push_back(answer);
                }
                Ok(())
            }
            (Message::Ack(ack), Role::Leader(leader)) => {
                let committed = leader.acked(id(from), ack, now).committed;
                self.note(to, committed)
            }
            (Message::Mismatch(found), Role::Leader(leader)) => {
                leader.mismatched(id(from), &found, &node.log);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A message of any link that has one.
    fn deliver_some(&mut self) -> Checked {
        let full = self
            .links
            .iter()
            .filter(|(_, messages)| !messages.is_empty());
        let full: Vec<(usize, usize)> = full.map(|(link, _)| *link).collect();
        if full.is_empty() {
            return Ok(());
        }
        let (from, to) = full[self.random.below(full.len())];
        self.deliver(from, to)
    }

    /// The leader on this node has answered these, and may have committed more.
    fn note(&mut self, n: usize, answered: Vec<(u64, usize)>) -> Checked {
        let node = &mut self.nodes[n];
        if let Role::Leader(leader) = &node.role {
            node.high_watermark = node.high_watermark.max(leader.high_watermark());
            let to = leader.high_watermark().0 as usize;
            let Some(below) = node.log.records.get(..to) else {
                return Err("the high watermark is beyond the log".into());
            };
            for (at, (_, value)) in below.iter().enumerate() {
                match self.committed.get(at) {
                    None => self.committed.push(*value),
                    Some(before) if before != value => {
                        return Err(format!("{before} was committed at {at}, and now {value}"));
                    }
                    Some(_) => {}
                }
            }
        }
        for (value, at) in answered {
            if self.committed.get(at) != Some(&value) {
                return Err(format!(
                    "{value} is acknowledged at {at}, and not committed"
                ));
            }
            self.acknowledged.push((value, at));
        }
        Ok(())
    }

    fn cut_link(&mut self, a: usize, b: usize) {
        let now = self.now;
        for (from, to) in [(a, b), (b, a)] {
            self.links.remove(&(from, to));
            if let Role::Leader(leader) = &mut self.nodes[from].role {
                leader.link_lost(id(to), now);
            }
        }
    }

    /// What isn't synced may be lost, and what is known too.
    fn crash(&mut self, n: usize) {
        if !self.alive[n] {
            return;
        }
        self.alive[n] = false;
        (0..NODES)
            .filter(|other| *other != n)
            .for_each(|other| self.cut_link(n, other));
        let node = &mut self.nodes[n];
        let unsynced = node.log.records.len() - node.log.synced;
        let kept = node.log.synced + self.random.below(unsynced + 1);
        node.log.records.truncate(kept);
        node.role = Role::Down;
        node.high_watermark = node.high_watermark.min(node.log.end_offset());
        self.change(|assigned| {
            if assigned.membership.in_sync.len() > 1 {
                assigned
                    .membership
                    .in_sync
                    .retain(|member| *member != id(n));
            }
        });
        self.elect();
    }

    fn restart(&mut self, n: usize) {
        if self.alive[n] {
            return;
        }
        self.alive[n] = true;
        let node = &mut self.nodes[n];
        // What recovery has found is on disk.
        node.log.synced = node.log.records.len();
        node.known = self.metadata.len() - 1;
        self.take_role(n, None);
        self.elect();
    }

    fn change(&mut self, change: impl FnOnce(&mut Assigned)) {
        let mut next = self.latest().clone();
        change(&mut next);
        next.membership.partition_epoch += 1;
        if next.leader != self.latest().leader {
            next.epoch = next.epoch.next();
        }
        self.metadata.push(next);
    }

    /// A leader that is down is followed by one that is in sync and there.
    fn elect(&mut self) {
        let alive = self.alive;
        let is_there =
            move |member: &BrokerId| *member != BrokerId::NONE && alive[member.0 as usize];
        if is_there(&self.latest().leader) {
            return;
        }
        let membership = &self.latest().membership;
        let candidates = match self.broken {
            Broken::UncleanElection => &membership.replicas,
            _ => &membership.in_sync,
        };
        let leader = candidates.iter().copied().find(is_there);
        let leader = leader.unwrap_or(BrokerId::NONE);
        let unclean = self.broken == Broken::UncleanElection;
        if leader == self.latest().leader {
            return;
        }
        self.change(|assigned| {
            assigned.leader = leader;
            if unclean && leader != BrokerId::NONE {
                assigned.membership.in_sync = vec![leader];
            }
        });
    }

    /// A leader that restarted before anybody noticed leads in a new epoch.
    fn propose_isr(&mut self, n: usize) -> Checked {
        let now = self.now;
        let Role::Leader(leader) = &mut self.nodes[n].role else {
            return Ok(());
        };
        let proposal = leader
            .propose_isr(LAG_MAX_MS, now, |_| true)
            .or_else(|| leader.proposed().cloned());
        let Some(proposal) = proposal else {
            return Ok(());
        };
        let latest = self.latest();
        let is_current = latest.leader == id(n)
            && latest.epoch == proposal.leader_epoch
            && latest.membership.partition_epoch == proposal.partition_epoch;
        let are_there = proposal
            .isr
            .iter()
            .all(|member| self.alive[member.0 as usize]);
        if is_current && are_there {
            self.change(|assigned| assigned.membership.in_sync = proposal.isr);
        } else if is_current {
            let committed = match &mut self.nodes[n].role {
                Role::Leader(leader) => leader.isr_refused().committed,
                _ => Vec::new(),
            };
            return self.note(n, committed);
        }
        Ok(())
    }

    fn step(&mut self) -> Checked {
        self.now = Timestamp(self.now.0 + self.random.below(20) as i64);
        let leader = usize::try_from(self.latest().leader.0).ok();
        let n = match leader.filter(|_| self.random.one_in(2)) {
            Some(leader) => leader,
            None => self.random.below(NODES),
        };
        let m = self.random.below(NODES);
        match self.random.below(60) {
            0 if self.random.one_in(6) => self.crash(n),
            1 | 2 => self.restart(n),
            3 if self.random.one_in(4) => self.cut_link(n, m),
            4 if self.random.one_in(8) => {
                // Another leader, because somebody wants it.
                let is_fit = self.alive[n] && self.latest().membership.in_sync.contains(&id(n));
                if is_fit {
                    self.change(|assigned| assigned.leader = id(n));
                }
            }
            5..=8 => return self.propose_isr(n),
            9..=13 => self.learn(n),
            14..=19 => return self.produce(n),
            20..=24 => return self.sync(n),
            25..=31 => self.push(n),
            _ => return self.deliver_some(),
        }
        Ok(())
    }

    /// All is well from now on.
    fn heal(&mut self) -> Checked {
        (0..NODES).for_each(|n| self.restart(n));
        for _ in 0..4_000 {
            self.now = Timestamp(self.now.0 + 10);
            for n in 0..NODES {
                self.learn(n);
                self.propose_isr(n)?;
                self.push(n);
                self.sync(n)?;
                for m in 0..NODES {
                    self.deliver(n, m)?;
                }
            }
            let all_in_sync = self.latest().membership.in_sync.len() == NODES;
            let first = &self.nodes[0].log.records;
            let all_equal = self.nodes.iter().all(|node| node.log.records == *first);
            if all_in_sync && all_equal && self.committed.len() == first.len() {
                let is_kept = |(value, at): &(u64, usize)| first[*at].1 == *value;
                return match self.acknowledged.iter().all(is_kept) {
                    true => Ok(()),
                    false => Err("an acknowledged record is lost".into()),
                };
            }
        }
        let logs: Vec<_> = self
            .nodes
            .iter()
            .map(|node| node.log.records.len())
            .collect();
        Err(format!(
            "it doesn't heal: logs {logs:?}, {:?}",
            self.latest()
        ))
    }

    fn run(seed: u64, broken: Broken) -> Result<usize, String> {
        let mut world = World::new(seed, broken);
        for step in 0..STEPS {
            world
                .step()
                .map_err(|error| format!("seed {seed}, step {step}: {error}"))?;
        }
        world
            .heal()
            .map_err(|error| format!("seed {seed}: {error}"))?;
        Ok(world.acknowledged.len())
    }
}

fn membership(assigned: &Assigned, broken: Broken) -> Membership {
    let mut membership = assigned.membership.clone();
    if broken == Broken::AloneInSync {
        membership.in_sync = vec![assigned.leader];
        membership.min_in_sync = 1;
    }
    membership
}

#[test]
fn what_is_acknowledged_is_kept_and_all_logs_agree_under_any_seed() {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().unwrap())
    };
    let (first, seeds) = (number("KLAMM_SEED", 1), number("KLAMM_SEEDS", 3_000));
    let mut acknowledged = 0;
    for seed in first..first + seeds {
        match World::run(seed, Broken::Nothing) {
            Ok(count) => acknowledged += count,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(
        acknowledged as u64 > 10 * seeds,
        "{acknowledged} in {seeds} seeds"
    );
}

#[test]
fn each_broken_rule_is_found() {
    for broken in [
        Broken::AckBeforeSync,
        Broken::AnyPushFits,
        Broken::UncleanElection,
        Broken::AloneInSync,
    ] {
        let found = (1..2_000).find(|seed| World::run(*seed, broken).is_err());
        assert!(found.is_some(), "{broken:?} isn't found");
    }
}
