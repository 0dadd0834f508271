//! The leader and its followers on other nodes: what it pushes, and what they say.
//!
//! Whenever something has changed, each follower gets what the replica says is due to it: read out of
//! the page cache and left with the [`Replicator`]. What isn't cached is read off the arbiter. While a
//! follower hasn't everything, the leader looks again from time to time.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;

use super::{PartitionLeader, PlannedRead};
use crate::actors::epochs::LogEpochs;
use crate::actors::replication::{Left, LinkNews, PushMessage, Replicator, Said, Turn, YourTurn};
use crate::engine::guardian::Assignment;
use crate::engine::metadata::TopicConfig;
use crate::engine::replica::{Epochs, Pace, Push, PushPlan, Throttled};
use crate::model::{BrokerId, Incarnation, LeaderEpoch, Offset, PartitionId, Timestamp};
use crate::protocol::Records;
use crate::record::BatchHeader;
use crate::storage::log::FirstBatch;

/// The most that one push carries, unless a single batch is larger.
const PUSH_BYTES_MAX: usize = 1024 * 1024;
/// How often a leader looks at followers who haven't everything.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What a leader needs to push.
pub(super) struct Pushing {
    pub partition: PartitionId,
    pub replicator: Replicator,
    /// Followers for whom something is being read off the arbiter.
    reading: HashSet<BrokerId>,
    /// Of followers that catch up.
    turns: HashMap<BrokerId, Turns>,
    node: BrokerId,
    /// The topic's, which say whose copies are throttled.
    config: Arc<TopicConfig>,
    looks_again: bool,
}

impl Pushing {
    pub fn new(partition: PartitionId, replicator: Replicator, assignment: &Assignment) -> Pushing {
        Pushing {
            partition,
            replicator,
            reading: HashSet::new(),
            turns: HashMap::new(),
            node: assignment.partition.leader,
            config: assignment.config.clone(),
            looks_again: false,
        }
    }

    /// The topic's configs have changed. Whoever waits by those of before asks again.
    pub fn configure(&mut self, config: &Arc<TopicConfig>) {
        if self.config != *config {
            self.config = config.clone();
            self.turns.values_mut().for_each(Turns::ask_again);
        }
    }

    /// By which rates pushes to a follower that catches up are held, if by any.
    fn throttled(&self, to: BrokerId) -> Option<Throttled> {
        let (number, config) = (self.partition.partition, &self.config);
        let by_leader = config.leader_throttled.contains(number, self.node);
        let by_follower = config.follower_throttled.contains(number, to);
        (by_leader || by_follower).then_some(Throttled {
            to,
            by_leader,
            by_follower,
        })
    }
}

/// The turns of pushes to one follower.
#[derive(Default)]
struct Turns {
    /// Of the pushes that are on their way.
    used: Vec<Turn>,
    /// Of the next one.
    next: Option<Turn>,
    /// Whether one was asked for.
    waits: bool,
}

impl Turns {
    /// Those of pushes that are acknowledged, or lost.
    fn give_back(&mut self, in_use: usize) {
        self.used.truncate(in_use);
    }

    fn ask_again(&mut self) {
        self.next = None;
        self.waits = false;
    }

    fn use_next(&mut self, bytes: usize) {
        if let Some(mut turn) = self.next.take() {
            turn.used(bytes);
            self.used.push(turn);
        }
    }
}

/// A follower says what it has.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FollowerSays {
    pub from: BrokerId,
    pub life: Incarnation,
    pub said: Said,
}

impl PartitionLeader {
    /// Sends each follower what is due to it.
    pub(super) fn push_all(&mut self, context: &mut Context<Self>) {
        let followers: Vec<BrokerId> = self.replica.followers().collect();
        self.pushing.turns.retain(|id, _| followers.contains(id));
        for to in followers {
            self.push_to(to, context);
        }
        self.look_again_later(context);
    }

    fn push_to(&mut self, to: BrokerId, context: &mut Context<Self>) {
        while !self.pushing.reading.contains(&to) {
            let now = Timestamp::now();
            let epochs = LogEpochs(&self.keeper.log);
            let Some(plan) = self.replica.next_push(to, &epochs, now) else {
                self.give_back_turns(to);
                return;
            };
            if plan.pace == Pace::CatchUp && plan.with_records && !self.has_turn(to, context) {
                return;
            }
            let records = match plan.with_records {
                true => self.read_for(to, &plan, context),
                false => Some(Bytes::new()),
            };
            let Some(records) = records else {
                return;
            };
            if self.send(to, plan, records, context) == Left::Later {
                return;
            }
        }
    }

    /// Nothing is due: turns are given back when their pushes are acknowledged, or lost.
    fn give_back_turns(&mut self, to: BrokerId) {
        let in_use = self.replica.turns_in_use(to);
        if let Some(turns) = self.pushing.turns.get_mut(&to) {
            turns.give_back(in_use);
            turns.next = None;
        }
    }

    /// Whether one more push to a follower that catches up may be left; else the leader is told when. Each
    /// push has a turn of its own, so that others with much to send get theirs in between.
    fn has_turn(&mut self, to: BrokerId, context: &mut Context<Self>) -> bool {
        let in_use = self.replica.turns_in_use(to);
        let throttled = self.pushing.throttled(to);
        let turns = self.pushing.turns.entry(to).or_default();
        turns.give_back(in_use);
        if turns.next.is_none() && !turns.waits {
            let me = context.address().recipient();
            turns.next = self.pushing.replicator.catch_up.turn(to, throttled, &me);
            turns.waits = turns.next.is_none();
        }
        turns.next.is_some()
    }

    /// How much the next push to a follower carries, unless a single batch is larger.
    fn push_bytes_max(&self, to: BrokerId, pace: Pace) -> usize {
        let turns = self.pushing.turns.get(&to);
        match (pace, turns.and_then(|turns| turns.next.as_ref())) {
            (Pace::CatchUp, Some(turn)) => turn.bytes_max(),
            _ => PUSH_BYTES_MAX,
        }
    }

    /// Records that are cached; others are read elsewhere, and come back as a message.
    fn read_for(
        &mut self,
        to: BrokerId,
        plan: &PushPlan,
        context: &mut Context<Self>,
    ) -> Option<Bytes> {
        let log = &self.keeper.log;
        let (from, upper) = (plan.push.offset, log.end_offset());
        let bytes_max = self.push_bytes_max(to, plan.pace);
        let read = match log.plan_read(from, upper, bytes_max, FirstBatch::Always) {
            Ok(read) => read,
            Err(error) => {
                self.refusal("read for a follower", &error);
                return None;
            }
        };
        match read.read_cached() {
            Ok(Some(records)) => return Some(records),
            Ok(None) => {}
            Err(error) => {
                self.refusal("read for a follower", &error);
                return None;
            }
        }
        self.pushing.reading.insert(to);
        let plan = *plan;
        let read = PlannedRead::new(read, &self.alarm).carry_out(bytes_max, FirstBatch::Always);
        context.spawn(read.into_actor(self).map(move |records, leader, context| {
            leader.pushing.reading.remove(&to);
            // What is due may be something else by now: an epoch, or another place.
            let epochs = LogEpochs(&leader.keeper.log);
            let due = leader.replica.next_push(to, &epochs, Timestamp::now());
            if let (Ok(records), Some(due)) = (records, due) {
                if due.push.offset == plan.push.offset && due.with_records {
                    leader.send(to, due, records, context);
                }
            }
            leader.push_to(to, context);
        }));
        None
    }

    fn send(
        &mut self,
        to: BrokerId,
        plan: PushPlan,
        records: Bytes,
        context: &mut Context<Self>,
    ) -> Left {
        let mut push = plan.push;
        let bytes = records.len();
        let end = match ends(&records) {
            Some((begin, end)) => {
                begin_at(&mut push, begin, &LogEpochs(&self.keeper.log));
                end
            }
            None => push.offset,
        };
        let message = PushMessage {
            partition: self.pushing.partition,
            push,
            records: Records(records),
        };
        let me = context.address().recipient();
        let left = self.pushing.replicator.push(to, &message, me);
        if left == Left::OnItsWay {
            self.replica.sent(to, end, bytes, Timestamp::now());
            let turns = self.pushing.turns.get_mut(&to);
            if let Some(turns) = turns.filter(|_| plan.pace == Pace::CatchUp && bytes > 0) {
                turns.use_next(bytes);
            }
        }
        left
    }

    /// As long as a follower hasn't everything, or isn't in sync: it may not have known this epoch yet, or lost
    /// something, or the metadata may not have let it in yet.
    fn look_again_later(&mut self, context: &mut Context<Self>) {
        if self.pushing.looks_again || self.replica.is_at_rest() {
            return;
        }
        self.pushing.looks_again = true;
        context.run_later(LOOK_AGAIN, |leader, context| {
            leader.pushing.looks_again = false;
            leader.replica.tick(Timestamp::now());
            leader.propose_isr(context);
            leader.push_all(context);
        });
    }
}

/// Makes a push begin where its records do. The batch that holds the log's start may begin before that, and one
/// that compaction has put in the place of several before what the follower lacks of these.
fn begin_at(push: &mut Push, begin: Offset, epochs: &impl Epochs) {
    if begin < push.offset && begin > push.log_start {
        let epoch = epochs.epoch_of(begin + -1);
        push.previous_epoch = epoch.unwrap_or(LeaderEpoch::NONE);
    }
    push.offset = push.offset.min(begin);
}

/// Where the first batch begins, and the last one ends.
fn ends(records: &Bytes) -> Option<(Offset, Offset)> {
    let mut at = 0;
    let mut ends: Option<(Offset, Offset)> = None;
    while let Ok(header) = BatchHeader::decode(records.get(at..)?) {
        let begin = ends.map_or(header.base_offset, |(begin, _)| begin);
        ends = Some((begin, header.next_offset()));
        at += header.size();
    }
    ends
}

impl Handler<FollowerSays> for PartitionLeader {
    type Result = ();

    fn handle(&mut self, says: FollowerSays, context: &mut Self::Context) {
        self.vitals.message_handled();
        let FollowerSays { from, life, said } = says;
        match said {
            Said::Ack(ack) => {
                self.isr.lives.insert(from, life);
                let released = self.replica.acked(from, ack, Timestamp::now());
                self.release(released);
                self.propose_isr(context);
            }
            Said::Mismatch(found) => {
                let epochs = LogEpochs(&self.keeper.log);
                self.replica.mismatched(from, &found, &epochs);
            }
        }
        // The high watermark is news for all.
        self.push_all(context);
    }
}

impl Handler<YourTurn> for PartitionLeader {
    type Result = ();

    fn handle(&mut self, YourTurn(turn): YourTurn, context: &mut Self::Context) {
        self.vitals.message_handled();
        let to = turn.node();
        let turns = self.pushing.turns.entry(to).or_default();
        turns.waits = false;
        turns.next = Some(turn);
        self.push_to(to, context);
    }
}

impl Handler<LinkNews> for PartitionLeader {
    type Result = ();

    fn handle(&mut self, news: LinkNews, context: &mut Self::Context) {
        self.vitals.message_handled();
        if let LinkNews::Up(node) | LinkNews::Lost(node) = news {
            self.replica.link_lost(node, Timestamp::now());
        }
        self.push_all(context);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::engine::replica::{FollowerReplica, Pushed, Taken};
    use crate::record::{Batch, BatchBuilder, Codec, ProducerStamp};
    use crate::storage::fs::{create_dir_durably, FaultyFs};
    use crate::storage::lease::Lease;
    use crate::storage::log::{Cleanup, CompactionConfig, Log, LogConfig, Shutdown};
    use crate::storage::witness::LogHome;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn open(fs: &FaultyFs, name: &str) -> Log {
        create_dir_durably(fs, Path::new("/data")).unwrap();
        let compaction = CompactionConfig {
            dirty_millionths_min: 0,
            ..CompactionConfig::default()
        };
        let config = LogConfig {
            segment_bytes: 2_000,
            cleanup: Cleanup::Compact(compaction),
            ..LogConfig::default()
        };
        let home = LogHome::unwitnessed(&Path::new("/data").join(name));
        let fs = Arc::new(fs.clone());
        Log::open(fs, &home, config, Shutdown::Unclean, NOW, Lease::none()).unwrap()
    }

    fn append(log: &mut Log, key: u8, epoch: i32) {
        let mut builder = BatchBuilder::with_capacity(500);
        builder.append(NOW, Some(&[key]), Some(&[key; 300]), &[]);
        let batch = builder.build(Codec::None, ProducerStamp::NONE).unwrap();
        let batch = Batch::parse(batch).unwrap();
        log.append(&[batch], LeaderEpoch(epoch), NOW).unwrap()[0]
            .as_ref()
            .unwrap();
    }

    fn batches(log: &Log, from: Offset) -> Vec<Batch> {
        let plan = log.plan_read(from, log.end_offset(), 1 << 20, FirstBatch::Always);
        let mut bytes = plan.unwrap().read().unwrap();
        let mut batches = Vec::new();
        while !bytes.is_empty() {
            let size = BatchHeader::decode(&bytes).unwrap().size();
            batches.push(Batch::parse(bytes.split_to(size)).unwrap());
        }
        batches
    }

    /// The leader has compacted what a follower has a part of: an epoch's first records are one empty batch,
    /// which begins before the follower's end.
    #[test]
    fn a_follower_that_has_a_part_of_what_was_compacted_goes_on_from_before_it() {
        let fs = FaultyFs::new(1);
        let (mut leader, mut follower) = (open(&fs, "leader"), open(&fs, "follower"));
        for offset in 0..30 {
            let (key, epoch) = match offset {
                0..5 => (offset, 0),
                _ => (100, 1),
            };
            append(&mut leader, key, epoch);
            if offset < 8 {
                append(&mut follower, key, epoch);
            }
        }
        let job = leader.begin_sync().unwrap();
        job.run().unwrap();
        leader.complete_sync(job.covers());
        leader.set_high_watermark(leader.end_offset());
        let plan = leader.plan_compaction(NOW, 1 << 16).unwrap().unwrap();
        plan.run(|replacement| leader.replace(replacement)).unwrap();

        let records = batches(&leader, follower.end_offset());
        let begin = records[0].header().base_offset;
        assert_eq!((begin, follower.end_offset()), (Offset(5), Offset(8)));
        let mut push = Push {
            leader_epoch: LeaderEpoch(1),
            offset: follower.end_offset(),
            previous_epoch: LeaderEpoch(1),
            high_watermark: leader.high_watermark(),
            log_start: leader.start_offset(),
            log_end: leader.end_offset(),
        };
        begin_at(&mut push, begin, &LogEpochs(&leader));
        let pushed: Vec<Pushed> = records
            .iter()
            .map(|batch| Pushed {
                base_offset: batch.header().base_offset,
                next_offset: batch.header().next_offset(),
                leader_epoch: batch.header().leader_epoch,
            })
            .collect();
        let mut replica = FollowerReplica::new(LeaderEpoch(1), Offset(0));
        let taken = replica.take(&push, &pushed, &LogEpochs(&follower));
        let Taken::Append { cut, from, .. } = taken else {
            panic!("{taken:?}");
        };
        if let Some(cut) = cut {
            follower.truncate_to(cut).unwrap();
        }
        follower.append_replicated(&records[from..], NOW).unwrap();
        assert_eq!(follower.epoch_of(Offset(4)), Some(LeaderEpoch(0)));
        assert_eq!(follower.epoch_of(Offset(5)), Some(LeaderEpoch(1)));
        let same = batches(&follower, Offset(5));
        assert_eq!(same[0].bytes(), records[0].bytes());
    }
}
