//! The commands of a group's script. Words with `=` are optional, in any order.
//!
//! | command | |
//! |---|---|
//! | `set max_size=2 consumer_max_size=2 assignors=range,uniform migration=upgrade …` | settings; before anything else |
//! | `topic t=3 racks=a,b` | a topic, more partitions for it, or with `t=0` none any more |
//! | `beat MEMBER epoch= names=t,u regex= owns=t:0,1 instance= rack= assignor= rebalance= member=` | ConsumerGroupHeartbeat; see [`crate::consumer_words`] |
//! | `join NAME member= instance= type= protocols=range:x,sticky session= rebalance= at-once can-skip` | |
//! | `sync NAME member= instance= generation= protocol= assign=a-1:x,b-2:y` | |
//! | `heartbeat member= instance= generation=` | |
//! | `leave member,member instance=` | |
//! | `commit member= instance= generation= t:0=5 t:1=7/metadata old-client` | of the topics that are there now |
//! | `fetch member= epoch= t:0,1 …`, or without any | |
//! | `describe`, `consumers`, `list`, `delete`, `delete-offsets t:0 …`, `topics` | |
//! | `forget t …` | what was committed for former topics of these names |
//! | `advance MS` | time goes on, and each timer fires when it is due |
//! | `hold`; `release`; `fail CODE` | writes wait; are committed; fail |
//! | `restart` | the next coordinator, which knows the records |
//!
//! `NAME` is a client, and names whom an answer is for. All have `group=`, which is `g` without it.
//! Writes are committed at once unless they are held. A new member's id is its client's or instance's name
//! and the number of its client's joins so far.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::consumer_words::{assignment, subscription, Topics};
use crate::group_words::{show, show_record};
use klamm::engine::coordinator::{Core, Effect, EffectOf, Record};
use klamm::engine::group::*;
use klamm::model::{ErrorCode, LeaderEpoch, Offset, Timestamp, TopicId};

type Shard = GroupShard<String>;
type Held = (Vec<GroupRecord>, Purpose<String>);

pub struct World {
    shard: Shard,
    settings: GroupSettings,
    topics: Topics,
    now: Timestamp,
    /// By client.
    joins: BTreeMap<String, usize>,
    held: Option<VecDeque<Held>>,
    /// Keys and values that are committed.
    log: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    told: Vec<String>,
}

fn settings() -> GroupSettings {
    GroupSettings {
        min_session_timeout_ms: 6_000,
        max_session_timeout_ms: 1_800_000,
        max_size: 1_000,
        initial_rebalance_delay_ms: 3_000,
        offset_metadata_max_bytes: 16,
        offsets_retention_ms: 100_000,
        offsets_retention_check_interval_ms: 10_000,
        consumer: ConsumerSettings::default(),
    }
}

impl Default for World {
    fn default() -> World {
        let mut shard = Shard::new(settings());
        let started = shard.loaded(Timestamp(0));
        assert!(started.is_empty());
        World {
            shard,
            settings: settings(),
            topics: Topics::default(),
            now: Timestamp(0),
            joins: BTreeMap::new(),
            held: None,
            log: Vec::new(),
            told: Vec::new(),
        }
    }
}

/// The words behind the command's name.
struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    fn named(&self, name: &str) -> Option<&'a str> {
        let words = self.0.iter().filter_map(|word| word.split_once('='));
        let mut values = words
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value);
        values.next()
    }

    fn number(&self, name: &str, default: i32) -> i32 {
        self.named(name).map_or(default, |n| n.parse().unwrap())
    }

    fn has(&self, word: &str) -> bool {
        self.0.contains(&word)
    }

    fn name(&self) -> String {
        self.0.first().copied().unwrap_or_default().to_owned()
    }

    fn group(&self) -> GroupId {
        self.named("group").unwrap_or("g").into()
    }

    fn member(&self) -> MemberId {
        self.named("member").unwrap_or_default().into()
    }

    fn instance(&self) -> Option<Arc<str>> {
        self.named("instance").map(Into::into)
    }

    /// `t:0 t:1`
    fn places(&self) -> Vec<(Arc<str>, i32)> {
        let words = self.0.iter().filter_map(|word| word.split_once(':'));
        words.map(|(t, p)| (t.into(), p.parse().unwrap())).collect()
    }
}

/// `a:x,b:y`, or with what begins with `@`, `a:@t:0,1;b:@t:2`
fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let between = match text.contains('@') {
        true => ';',
        false => ',',
    };
    let pairs = text.split(between).filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once(':').unwrap_or((pair, "")))
}

impl World {
    /// What comes of a command, line by line.
    pub fn command(&mut self, command: &str) -> Vec<String> {
        let mut words = command.split_whitespace();
        let verb = words.next().unwrap();
        let words = Words(words.collect());
        match verb {
            "set" => self.set(&words),
            "topic" => {
                let (name, count) = words.0[0].split_once('=').unwrap();
                let racks = words.named("racks");
                self.topics.set(name, count.parse().unwrap(), racks);
            }
            "advance" => self.advance(words.0[0].parse().unwrap()),
            "hold" => self.held = Some(VecDeque::new()),
            "release" => self.settle(Ok(())),
            "fail" => {
                let code = ErrorCode::ALL.iter().find(|c| c.name() == words.0[0]);
                self.settle(Err(*code.unwrap()));
            }
            "restart" => self.restart(),
            _ => {
                let (request, to) = self.request(verb, &words);
                let effects = self.shard.handle(self.now, request, to);
                self.carry_out(effects);
            }
        }
        std::mem::take(&mut self.told)
    }

    fn set(&mut self, words: &Words<'_>) {
        let settings = &mut self.settings;
        settings.max_size = words.number("max_size", 1_000) as usize;
        let delay = words.number("initial_rebalance_delay_ms", 3_000);
        settings.initial_rebalance_delay_ms = delay.into();
        let consumer = &mut settings.consumer;
        consumer.max_size = words.number("consumer_max_size", 1_000) as usize;
        if let Some(names) = words.named("assignors") {
            let assignors = names.split(',').map(Assignor::from_name);
            consumer.assignors = assignors.collect::<Option<_>>().unwrap();
        }
        consumer.migration = match words.named("migration") {
            None => MigrationPolicy::default(),
            Some("bidirectional") => MigrationPolicy::Bidirectional,
            Some("upgrade") => MigrationPolicy::Upgrade,
            Some("downgrade") => MigrationPolicy::Downgrade,
            Some("disabled") => MigrationPolicy::Disabled,
            Some(other) => panic!("no such policy: {other}"),
        };
        self.shard = Shard::new(settings.clone());
        let started = self.shard.loaded(self.now);
        assert!(started.is_empty());
    }

    fn request(&mut self, verb: &str, words: &Words<'_>) -> (Request, String) {
        let group = words.group();
        let named = |request| (request, words.name());
        let plain = |request| (request, String::new());
        match verb {
            "join" => named(Request::Join(self.join(words))),
            "sync" => named(Request::Sync(self.sync(words))),
            "beat" => named(Request::ConsumerHeartbeat(self.beat(words))),
            "consumers" => plain(Request::DescribeConsumers(group)),
            "heartbeat" => plain(Request::Heartbeat(HeartbeatRequest {
                group,
                generation: words.number("generation", -1),
                member: words.member(),
                instance: words.instance(),
            })),
            "leave" => plain(Request::Leave(leave(words))),
            "commit" => plain(Request::Commit(self.commit(words))),
            "fetch" => plain(Request::Fetch(self.fetch(words))),
            "describe" => plain(Request::Describe(group)),
            "list" => plain(Request::List),
            "delete" => plain(Request::Delete(group)),
            "delete-offsets" => plain(Request::DeleteOffsets(OffsetDeletion {
                group,
                partitions: words.places(),
            })),
            "forget" => {
                let former = words.0.iter().flat_map(|name| self.topics.former(name));
                plain(Request::ForgetTopics(former.collect()))
            }
            "topics" => plain(Request::Topics),
            other => panic!("no such command: {other}"),
        }
    }

    fn join(&mut self, words: &Words<'_>) -> JoinRequest {
        let joins = self.joins.entry(words.name()).or_default();
        *joins += 1;
        let nonce = joins.to_string();
        let protocols = pairs(words.named("protocols").unwrap_or("range:x"));
        JoinRequest {
            group: words.group(),
            member: words.member(),
            instance: words.instance(),
            client_id: words.name().into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: words.number("session", 10_000),
            rebalance_timeout_ms: words.number("rebalance", 60_000),
            protocol_type: words.named("type").unwrap_or("consumer").into(),
            protocols: protocols
                .map(|(name, said)| (name.into(), subscription(said)))
                .collect(),
            nonce,
            new_members: match words.has("at-once") {
                true => NewMembers::JoinAtOnce,
                false => NewMembers::AreToldTheirId,
            },
            leaders: match words.has("can-skip") {
                true => Leaders::CanSkip,
                false => Leaders::AssignAlways,
            },
            image: self.topics.image.clone(),
        }
    }

    fn sync(&self, words: &Words<'_>) -> SyncRequest {
        let assignments = pairs(words.named("assign").unwrap_or_default());
        SyncRequest {
            group: words.group(),
            generation: words.number("generation", -1),
            member: words.member(),
            instance: words.instance(),
            protocol_type: words.named("type").map(Into::into),
            protocol: words.named("protocol").map(Into::into),
            assignments: assignments
                .map(|(id, assigned)| (id.into(), assignment(assigned)))
                .collect(),
            image: self.topics.image.clone(),
        }
    }

    /// Who joins says all, though it needn't be written.
    fn beat(&self, words: &Words<'_>) -> ConsumerHeartbeatRequest {
        let epoch = words.number("epoch", 0);
        let member = words.named("member").map_or(words.name(), Into::into);
        let (rebalance, owns) = match epoch {
            0 => (60_000, Some("")),
            _ => (-1, None),
        };
        let names = words.named("names").map(|names| {
            let names = names.split(',').filter(|name| !name.is_empty());
            names.map(Into::into).collect()
        });
        ConsumerHeartbeatRequest {
            group: words.group(),
            member: member.into(),
            epoch,
            instance: words.instance(),
            rack: words.named("rack").map(Into::into),
            rebalance_timeout_ms: words.number("rebalance", rebalance),
            topic_names: names,
            topic_regex: words.named("regex").map(Into::into),
            assignor: words.named("assignor").map(Into::into),
            owned: (words.named("owns").or(owns)).map(|owns| self.topics.partitions(owns)),
            client_id: words.name().into(),
            client_host: "/127.0.0.1".into(),
            image: self.topics.image.clone(),
        }
    }

    fn commit(&self, words: &Words<'_>) -> CommitRequest {
        let offsets = words.0.iter().filter_map(|word| {
            let (topic, rest) = word.split_once(':')?;
            let (partition, offset) = rest.split_once('=')?;
            let (offset, metadata) = offset.split_once('/').unwrap_or((offset, ""));
            let known = self.topics.image.topic_by_name(topic);
            Some(NewOffset {
                topic: topic.into(),
                topic_id: known.map_or(TopicId::NONE, |topic| topic.id),
                partition: partition.parse().unwrap(),
                offset: Offset(offset.parse().unwrap()),
                leader_epoch: LeaderEpoch(1),
                metadata: metadata.into(),
            })
        });
        CommitRequest {
            group: words.group(),
            generation: words.number("generation", -1),
            member: words.member(),
            instance: words.instance(),
            predates_member_epochs: words.has("old-client"),
            offsets: offsets.collect(),
        }
    }

    fn fetch(&self, words: &Words<'_>) -> FetchRequest {
        let asked = words.0.iter().filter_map(|word| word.split_once(':'));
        let asked = asked.map(|(topic, partitions)| {
            let partitions = partitions.split(',').map(|p| p.parse().unwrap());
            (topic.into(), partitions.collect())
        });
        let asked: TopicPartitions = asked.collect();
        FetchRequest {
            group: words.group(),
            member: words.named("member").map(Into::into),
            epoch: words.number("epoch", -1),
            partitions: (!asked.is_empty()).then_some(asked),
            image: self.topics.image.clone(),
        }
    }

    fn advance(&mut self, ms: i64) {
        let end = Timestamp(self.now.0 + ms);
        while let Some(at) = self.shard.next_tick().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            let before = self.told.len();
            let effects = self.shard.tick(self.now);
            self.carry_out(effects);
            if self.told.len() > before {
                self.told.insert(before, format!("at {}:", self.now));
            }
        }
        self.now = end;
    }

    fn restart(&mut self) {
        self.shard = Shard::new(self.settings.clone());
        for (key, value) in &self.log {
            let record = GroupRecord::decode(key, value.as_deref()).unwrap();
            self.shard.replay(&record.unwrap());
        }
        let effects = self.shard.loaded(self.now);
        self.carry_out(effects);
    }

    fn settle(&mut self, written: Result<(), ErrorCode>) {
        for write in self.held.take().into_iter().flatten() {
            self.write(write, written);
        }
    }

    fn carry_out(&mut self, effects: Vec<EffectOf<Shard>>) {
        for effect in effects {
            match effect {
                Effect::Answer { to, answer } => self.tell(&to, &answer),
                Effect::Write { records, purpose } => {
                    for record in &records {
                        let shown = show_record(record, &self.topics);
                        self.told.push(format!("write {shown}"));
                    }
                    match &mut self.held {
                        Some(held) => held.push_back((records, purpose)),
                        None => self.write((records, purpose), Ok(())),
                    }
                }
            }
        }
    }

    fn write(&mut self, (records, purpose): Held, written: Result<(), ErrorCode>) {
        if written.is_ok() {
            for record in &records {
                self.log.push((record.key(), record.value()));
                self.shard.replay(record);
            }
        }
        let effects = self.shard.written(self.now, purpose, written);
        self.carry_out(effects);
    }

    fn tell(&mut self, to: &str, answer: &Answer) {
        let to = match to {
            "" => String::new(),
            to => format!("{to}: "),
        };
        self.told
            .push(format!("{to}{}", show(answer, &self.topics)));
    }
}

fn leave(words: &Words<'_>) -> LeaveRequest {
    let instance = words.instance();
    let members = match words.0.first().filter(|word| !word.contains('=')) {
        Some(members) => members.split(',').collect(),
        None => vec![""],
    };
    let members = members.into_iter().map(|member| LeavingMember {
        member: member.into(),
        instance: instance.clone(),
    });
    LeaveRequest {
        group: words.group(),
        members: members.collect(),
    }
}
