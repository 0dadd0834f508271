//! Random histories: members come, go, die, lose answers and come back, topics change, writes fail, the
//! coordinator is replaced. No two members that are alive ever own the same partition, and when it is quiet
//! again everything is owned as it is assigned.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;
use uuid::Uuid;

use super::super::*;
use crate::engine::coordinator::{Core, Effect, EffectOf};
use crate::engine::group::{
    Answer, ConsumerGroupState, GroupRecord, GroupSettings, GroupShard, Purpose, Request,
};
use crate::engine::metadata::{MetadataCommand, MetadataImage};
use crate::model::{BrokerId, ErrorCode, Timestamp, TopicId};

type Shard = GroupShard<usize>;

const CLIENTS: usize = 5;
const TOPICS: [&str; 3] = ["t", "u", "v"];
/// Who is alive is heard from well within the session.
const STEP_MS: i64 = 1_000;

#[derive(Clone, Debug)]
enum Event {
    /// It joins, or its heartbeat is due; whether the answer reaches it.
    Beat {
        client: usize,
        is_answered: bool,
    },
    Leave(usize),
    /// A static member leaves for a while; it comes back under another id.
    LeaveForAWhile(usize),
    /// It is never heard from again; another one may come in its place.
    Die(usize),
    Subscribe {
        client: usize,
        topics: BTreeSet<usize>,
    },
    /// It says so by an expression.
    SubscribeToAll(usize),
    /// More partitions, or the topic is created.
    Grow(usize),
    Drop(usize),
    /// Those writes that are on their way are committed, or fail.
    Settle {
        is_written: bool,
    },
    /// The next coordinator begins, with what is committed.
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    let client = 0..CLIENTS;
    let topics = proptest::collection::btree_set(0..TOPICS.len(), 0..=TOPICS.len());
    let beat = (client.clone(), 0..10u8).prop_map(|(client, luck)| Event::Beat {
        client,
        is_answered: luck > 0,
    });
    prop_oneof![
        20 => beat,
        2 => client.clone().prop_map(Event::Leave),
        2 => client.clone().prop_map(Event::LeaveForAWhile),
        2 => client.clone().prop_map(Event::Die),
        2 => (client.clone(), topics)
            .prop_map(|(client, topics)| Event::Subscribe { client, topics }),
        1 => client.prop_map(Event::SubscribeToAll),
        2 => (0..TOPICS.len()).prop_map(Event::Grow),
        1 => (0..TOPICS.len()).prop_map(Event::Drop),
        8 => any::<bool>().prop_map(|is_written| Event::Settle { is_written }),
        1 => Just(Event::Restart),
    ]
}

#[derive(Clone, Debug, Default)]
struct Client {
    life: usize,
    /// `None`: it is no member.
    epoch: Option<i32>,
    owned: Partitions,
    topics: BTreeSet<usize>,
    by_expression: bool,
    /// It says all at its next heartbeat: it joins, or an answer was lost, or something has changed.
    says_all: bool,
    /// The request whose answer it waits for.
    waits: Option<usize>,
}

struct World {
    shard: Shard,
    now: Timestamp,
    image: Arc<MetadataImage>,
    topics_created: u128,
    clients: Vec<Client>,
    requests: usize,
    log: Vec<GroupRecord>,
    writes: VecDeque<(Vec<GroupRecord>, Purpose<usize>)>,
}

fn shard() -> Shard {
    Shard::new(GroupSettings {
        min_session_timeout_ms: 6_000,
        max_session_timeout_ms: 60_000,
        max_size: 100,
        initial_rebalance_delay_ms: 0,
        offset_metadata_max_bytes: 100,
        offsets_retention_ms: i64::MAX,
        offsets_retention_check_interval_ms: 1_000_000,
        consumer: ConsumerSettings::default(),
    })
}

impl World {
    fn new() -> World {
        let mut shard = shard();
        shard.loaded(Timestamp(0));
        let client = |number: usize| Client {
            topics: [number % TOPICS.len(), 0].into(),
            says_all: true,
            ..Client::default()
        };
        World {
            shard,
            now: Timestamp(0),
            image: Arc::default(),
            topics_created: 0,
            clients: (0..CLIENTS).map(client).collect(),
            requests: 0,
            log: Vec::new(),
            writes: VecDeque::new(),
        }
    }

    fn play(&mut self, event: Event) {
        match event {
            Event::Beat {
                client,
                is_answered,
            } => self.beat(client, is_answered),
            Event::Leave(client) => self.leave(client, LEAVE_EPOCH),
            Event::LeaveForAWhile(client) => self.leave(client, LEFT_FOR_A_WHILE),
            Event::Die(client) => {
                // Others may have its partitions once its session is over.
                self.die(client);
                self.advance(50_000);
            }
            Event::Subscribe { client, topics } => {
                let client = &mut self.clients[client];
                (client.topics, client.by_expression) = (topics, false);
                client.says_all = true;
            }
            Event::SubscribeToAll(client) => {
                self.clients[client].by_expression = true;
                self.clients[client].says_all = true;
            }
            Event::Grow(topic) => self.grow(topic),
            Event::Drop(topic) => {
                if let Some(topic) = self.image.topic_by_name(TOPICS[topic]) {
                    let command = MetadataCommand::DeleteTopic { id: topic.id };
                    Arc::make_mut(&mut self.image).replay(&command);
                }
            }
            Event::Settle { is_written } => self.settle(match is_written {
                true => Ok(()),
                false => Err(ErrorCode::NotEnoughReplicas),
            }),
            Event::Restart => self.restart(),
        }
        self.assert_one_owner();
    }

    fn grow(&mut self, number: usize) {
        let partitions = vec![vec![BrokerId(1)]; 2];
        let command = match self.image.topic_by_name(TOPICS[number]) {
            Some(topic) if topic.partitions.len() < 8 => MetadataCommand::AddPartitions {
                id: topic.id,
                first: topic.partitions.len() as i32,
                partitions,
            },
            Some(_) => return,
            None => {
                self.topics_created += 1;
                MetadataCommand::CreateTopic {
                    name: TOPICS[number].parse().unwrap(),
                    id: TopicId(Uuid::from_u128(self.topics_created)),
                    partitions,
                    configs: BTreeMap::new(),
                }
            }
        };
        Arc::make_mut(&mut self.image).replay(&command);
    }

    /// Every second client is a static member.
    fn request(&self, number: usize, epoch: i32) -> ConsumerHeartbeatRequest {
        let client = &self.clients[number];
        let names = client.topics.iter().map(|topic| TOPICS[*topic].into());
        let all = client.says_all || epoch == JOIN_EPOCH;
        ConsumerHeartbeatRequest {
            group: "g".into(),
            member: format!("{number}-{}", client.life).into(),
            epoch,
            instance: number
                .is_multiple_of(2)
                .then(|| format!("i{number}").into()),
            rebalance_timeout_ms: match all {
                true => 60_000,
                false => -1,
            },
            topic_names: all.then(|| match client.by_expression {
                true => Vec::new(),
                false => names.collect(),
            }),
            topic_regex: all.then(|| match client.by_expression {
                true => "[tuv]".into(),
                false => "".into(),
            }),
            owned: Some(client.owned.clone()),
            image: self.image.clone(),
            ..ConsumerHeartbeatRequest::default()
        }
    }

    fn beat(&mut self, number: usize, is_answered: bool) {
        if self.clients[number].waits.is_some() {
            return;
        }
        let epoch = self.clients[number].epoch.unwrap_or(JOIN_EPOCH);
        self.ask(number, self.request(number, epoch), is_answered);
        self.advance(STEP_MS);
    }

    fn leave(&mut self, number: usize, epoch: i32) {
        let client = &self.clients[number];
        let is_static = number.is_multiple_of(2);
        let can = client.epoch.is_some() && client.waits.is_none();
        if !can || (epoch == LEFT_FOR_A_WHILE && !is_static) {
            return;
        }
        let request = self.request(number, epoch);
        // It gives up everything before it says so.
        self.die(number);
        self.ask(number, request, false);
    }

    /// Begins another life, which is no member yet.
    fn die(&mut self, number: usize) {
        let client = &mut self.clients[number];
        client.life += 1;
        client.epoch = None;
        client.owned = Partitions::default();
        client.says_all = true;
        client.waits = None;
    }

    fn ask(&mut self, number: usize, request: ConsumerHeartbeatRequest, is_answered: bool) {
        self.requests += 1;
        let client = &mut self.clients[number];
        client.waits = is_answered.then_some(self.requests);
        client.says_all = !is_answered;
        let request = Request::ConsumerHeartbeat(request);
        let effects = self.shard.handle(self.now, request, self.requests);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<EffectOf<Shard>>) {
        for effect in effects {
            match effect {
                Effect::Answer { to, answer } => self.answered(to, answer),
                Effect::Write { records, purpose } => self.writes.push_back((records, purpose)),
            }
        }
    }

    fn answered(&mut self, ticket: usize, answer: Answer) {
        let mut clients = self.clients.iter_mut();
        let Some(client) = clients.find(|client| client.waits == Some(ticket)) else {
            return;
        };
        client.waits = None;
        let Answer::ConsumerHeartbeat(answer) = answer else {
            panic!("another answer");
        };
        match answer {
            Ok(answer) => {
                client.epoch = Some(answer.epoch);
                if let Some(assigned) = answer.assignment {
                    client.owned = assigned;
                }
            }
            Err(refusal) => {
                client.says_all = true;
                let is_fenced = matches!(
                    refusal.code,
                    ErrorCode::FencedMemberEpoch
                        | ErrorCode::UnknownMemberId
                        | ErrorCode::GroupIdNotFound
                        | ErrorCode::FencedInstanceId
                );
                if is_fenced {
                    client.epoch = None;
                    client.owned = Partitions::default();
                }
            }
        }
    }

    fn settle(&mut self, written: Result<(), ErrorCode>) {
        for _ in 0..self.writes.len() {
            let Some((records, purpose)) = self.writes.pop_front() else {
                return;
            };
            if written.is_ok() {
                records.iter().for_each(|record| self.shard.replay(record));
                self.log.extend(records);
            }
            let effects = self.shard.written(self.now, purpose, written);
            self.carry_out(effects);
        }
    }

    fn advance(&mut self, ms: i64) {
        let end = Timestamp(self.now.0 + ms);
        while self.now < end {
            self.now = Timestamp(self.now.0 + STEP_MS.min(ms));
            if self.shard.next_tick().is_some_and(|at| at <= self.now) {
                let effects = self.shard.tick(self.now);
                self.carry_out(effects);
            }
            // Who lives is heard from in time, whatever happens.
            if self.now.0 / STEP_MS % 10 == 0 {
                self.all_beat();
            }
        }
    }

    fn all_beat(&mut self) {
        for number in 0..CLIENTS {
            let client = &self.clients[number];
            if let (Some(epoch), None) = (client.epoch, client.waits) {
                self.ask(number, self.request(number, epoch), true);
            }
        }
        while !self.writes.is_empty() {
            self.settle(Ok(()));
        }
    }

    fn restart(&mut self) {
        self.writes.clear();
        for client in &mut self.clients {
            if client.waits.take().is_some() {
                client.says_all = true;
            }
        }
        self.shard = shard();
        for record in &self.log {
            self.shard.replay(record);
        }
        let effects = self.shard.loaded(self.now);
        self.carry_out(effects);
    }

    fn assert_one_owner(&self) {
        let mut owners: BTreeMap<(TopicId, i32), usize> = BTreeMap::new();
        for (number, client) in self.clients.iter().enumerate() {
            for partition in client.owned.iter() {
                let other = owners.insert(partition, number);
                assert_eq!(other, None, "{partition:?} is owned by {number} too");
            }
        }
    }

    /// It is quiet, and everyone is heard from until there is nothing to do any more.
    fn converge(&mut self) {
        for _ in 0..3 * CLIENTS {
            for number in 0..CLIENTS {
                let client = &self.clients[number];
                let epoch = client.epoch.unwrap_or(JOIN_EPOCH);
                if client.waits.is_none() {
                    self.ask(number, self.request(number, epoch), true);
                }
                while !self.writes.is_empty() {
                    self.settle(Ok(()));
                }
                self.assert_one_owner();
            }
            // A static member that nobody knows to have left is in its next life's way for a session.
            self.advance(5_000);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn each_partition_has_one_owner_and_all_are_owned_in_the_end(
        events in proptest::collection::vec(event(), 0..120),
    ) {
        let mut world = World::new();
        world.grow(0);
        for event in events {
            world.play(event);
        }
        world.converge();
        let state = &world.shard.consumers["g"].state;
        prop_assert_eq!(state.state(), ConsumerGroupState::Stable);
        let mut owned = Partitions::default();
        for (number, client) in world.clients.iter().enumerate() {
            let id = format!("{number}-{}", client.life);
            prop_assert_eq!(&client.owned, &*state.target(&id), "{} has what it shall", id);
            owned.extend(client.owned.iter());
        }
        let wanted = world.clients.iter().flat_map(|client| match client.by_expression {
            true => (0..TOPICS.len()).collect(),
            false => client.topics.clone(),
        });
        let wanted: BTreeSet<usize> = wanted.collect();
        let topics = wanted.iter().filter_map(|t| world.image.topic_by_name(TOPICS[*t]));
        let all: Partitions = topics
            .flat_map(|topic| (0..topic.partitions.len() as i32).map(|p| (topic.id, p)))
            .collect();
        prop_assert_eq!(owned, all);
    }
}
