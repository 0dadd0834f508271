//! Records, from the producer to the followers' disks, and what these say of them.

use klamm::engine::replica::{Acks, Commit, CommitRule, Epochs, Push, Taken};
use klamm::model::{LeaderEpoch, Offset, Timestamp};

use crate::links::Message;
use crate::log::{headers, Log, Record};
use crate::metadata::id;
use crate::node::{Follower, Work};
use crate::rules::Broken;
use crate::truth::Checked;
use crate::world::World;

impl World {
    pub(crate) fn produce(&mut self, n: usize) -> Checked {
        let node = &mut self.nodes[n];
        let now = node.now(self.now);
        let Work::Leader(leader) = &mut node.work else {
            return Ok(());
        };
        if leader.admit(Acks::All).is_err() {
            return Ok(());
        }
        let base = node.log.end();
        let epoch = leader.epoch();
        let mut records = Vec::new();
        for _ in 0..1 + self.random.below(3) {
            self.next_value += 1;
            records.push(Record {
                epoch,
                value: self.next_value,
                batch: base,
            });
        }
        node.log.append(&records);
        let end = Offset(node.log.end());
        let mut answered = leader.appended(end, now).committed;
        for (at, record) in (base..).zip(&records) {
            let ticket = (record.value, at);
            if let Commit::Done(ticket) = leader.wait_for_commit(end, Timestamp(i64::MAX), ticket) {
                answered.push(ticket);
            }
        }
        self.verify(n, answered)
    }

    pub(crate) fn sync(&mut self, n: usize) -> Checked {
        let node = &mut self.nodes[n];
        if let Work::None = node.work {
            return Ok(());
        }
        let Some(sync) = node.sync.take() else {
            node.sync = node.log.begin_sync();
            return Ok(());
        };
        if node.has_slow_disk && !self.random.one_in(10) {
            node.sync = Some(sync);
            return Ok(());
        }
        node.log.complete_sync(sync);
        let ends = node.log.ends();
        match &mut node.work {
            Work::Leader(leader) => {
                let answered = leader.synced(ends.synced).committed;
                self.verify(n, answered)
            }
            Work::Follower(follower) => {
                let ack = follower.replica.synced(ends);
                if let (Some(leader), Some(ack)) = (follower.leader, ack) {
                    self.links.send(n, leader, Message::Ack(ack));
                }
                Ok(())
            }
            Work::None => Ok(()),
        }
    }

    pub(crate) fn push(&mut self, n: usize, to: usize) {
        let len = 1 + self.random.below(8);
        let node = &mut self.nodes[n];
        let now = node.now(self.now);
        let Work::Leader(leader) = &mut node.work else {
            return;
        };
        leader.tick(now);
        let Some(plan) = leader.next_push(id(to), &node.log, now) else {
            return;
        };
        let mut push = plan.push;
        let mut records = Vec::new();
        if plan.with_records {
            let (base, read) = node.log.batches(push.offset.0, len);
            push.offset = push.offset.min(Offset(base));
            records = read;
        }
        let end = Offset(push.offset.0 + records.len() as i64);
        leader.sent(id(to), end.max(plan.push.offset), records.len(), now);
        // What can't be sent is lost, and asked for again.
        if self.nodes[to].is_alive {
            self.links.send(n, to, Message::Push(push, records));
        }
    }

    pub(crate) fn deliver(&mut self, from: usize, to: usize) -> Checked {
        let Some(message) = self.links.receive((from, to)) else {
            return Ok(());
        };
        let life = self.nodes[from].life;
        let node = &mut self.nodes[to];
        let now = node.now(self.now);
        match (message, &mut node.work) {
            (Message::Push(push, records), Work::Follower(_)) => {
                self.take(from, to, push, &records)
            }
            (Message::Ack(mut ack), Work::Leader(leader)) => {
                if self.broken == Broken::StaleAckTaken {
                    ack.leader_epoch = leader.epoch();
                }
                node.lives.insert(from, life);
                let answered = leader.acked(id(from), ack, now).committed;
                self.verify(to, answered)
            }
            (Message::Mismatch(found), Work::Leader(leader)) => {
                leader.mismatched(id(from), &found, &node.log);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn take(&mut self, from: usize, to: usize, push: Push, records: &[Record]) -> Checked {
        let node = &mut self.nodes[to];
        let Work::Follower(follower) = &mut node.work else {
            return Ok(());
        };
        if push.leader_epoch >= follower.replica.epoch() {
            follower.leader = Some(from);
        }
        let told_epoch = push.leader_epoch;
        let push = mistaken(push, self.broken, follower, &node.log);
        let batches = headers(push.offset.0, records);
        let answer = match follower.replica.take(&push, &batches, &node.log) {
            Taken::Append {
                anew,
                cut,
                from: first,
                start,
            } => {
                if let Some(at) = anew {
                    node.log.begin_anew(at.0);
                    node.checked = 0;
                }
                if let Some(at) = cut {
                    node.log.truncate(at.0);
                    node.checked = node.checked.min(at.0);
                }
                let new = &batches[first..];
                if let Some(begin) = new.first().map(|batch| batch.base_offset) {
                    if begin.0 != node.log.end() {
                        let end = node.log.end();
                        return Err(format!("a batch at {begin} is appended to a log to {end}"));
                    }
                    node.log
                        .append(&records[(begin.0 - push.offset.0) as usize..]);
                }
                node.high_watermark = match self.broken {
                    Broken::HighWatermarkAboveEnd => push.high_watermark.0,
                    _ => follower.replica.high_watermark().0,
                };
                node.log.delete_below(start.0);
                let mut ends = node.log.ends();
                if self.broken == Broken::AckBeforeSync {
                    ends.synced = ends.end;
                }
                let waits = !new.is_empty()
                    && self.rule == CommitRule::Synced
                    && self.broken != Broken::AckBeforeSync;
                let ack = (!waits).then(|| follower.replica.ack(ends)).flatten();
                ack.map(|mut ack| {
                    ack.leader_epoch = told_epoch;
                    Message::Ack(ack)
                })
            }
            Taken::Mismatched(mut found) => {
                found.leader_epoch = told_epoch;
                follower.has_answered = true;
                Some(Message::Mismatch(found))
            }
            Taken::Stale | Taken::TooEarly => None,
            Taken::Broken => return Err("a push is broken".into()),
        };
        if let Some(answer) = answer {
            self.links.send(to, from, answer);
        }
        self.verify(to, Vec::new())
    }
}

/// The push as a follower takes it that doesn't keep a rule.
fn mistaken(mut push: Push, broken: Broken, follower: &Follower, log: &Log) -> Push {
    let is_in_log = push.offset > log.start_offset() && push.offset <= log.end_offset();
    let fits = match broken {
        Broken::AnyPushFits => true,
        Broken::OneLookUp => follower.has_answered,
        Broken::StartFitsAnything => push.offset <= push.log_start,
        _ => false,
    };
    if fits && is_in_log {
        let before = log.epoch_of(push.offset + -1);
        push.previous_epoch = before.unwrap_or(LeaderEpoch::NONE);
    }
    if broken == Broken::StalePushTaken {
        push.leader_epoch = push.leader_epoch.max(follower.replica.epoch());
    }
    push
}
