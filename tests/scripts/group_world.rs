//! The commands of a group's script. Words with `=` are optional, in any order.
//!
//! | command | |
//! |---|---|
//! | `set max_size=2 …` | a setting; before anything else |
//! | `join NAME member= instance= type= protocols=range:x,sticky session= rebalance= at-once can-skip` | |
//! | `sync NAME member= instance= generation= protocol= assign=a-1:x,b-2:y` | |
//! | `heartbeat member= instance= generation=` | |
//! | `leave member,member instance=` | |
//! | `commit member= instance= generation= t:0=5 t:1=7/metadata` | |
//! | `fetch t:0,1 …`, or without any | |
//! | `describe`, `list`, `delete`, `delete-offsets t:0 …`, `forget t …`, `topics` | |
//! | `advance MS` | time goes on, and each timer fires when it is due |
//! | `hold`; `release`; `fail CODE` | writes wait; are committed; fail |
//! | `restart` | the next coordinator, which knows the records |
//!
//! `NAME` is a client, and names whom an answer is for. All have `group=`, which is `g` without it.
//! Writes are committed at once unless they are held. A new member's id is its client's or instance's name
//! and the number of its client's joins so far.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use klamm::engine::coordinator::{Core, Effect, EffectOf, Record};
use klamm::engine::group::*;
use klamm::model::{ErrorCode, LeaderEpoch, Offset, Timestamp};

type Shard = GroupShard<String>;
type Held = (Vec<GroupRecord>, Purpose<String>);

pub struct World {
    shard: Shard,
    settings: GroupSettings,
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

/// `a:x,b:y`
fn pairs(text: &str) -> impl Iterator<Item = (&str, bytes::Bytes)> {
    text.split(',').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once(':').unwrap_or((pair, ""));
        (name, bytes::Bytes::copy_from_slice(value.as_bytes()))
    })
}

impl World {
    /// What comes of a command, line by line.
    pub fn command(&mut self, command: &str) -> Vec<String> {
        let mut words = command.split_whitespace();
        let verb = words.next().unwrap();
        let words = Words(words.collect());
        match verb {
            "set" => self.set(&words),
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
            "sync" => named(Request::Sync(sync(words))),
            "heartbeat" => plain(Request::Heartbeat(HeartbeatRequest {
                group,
                generation: words.number("generation", -1),
                member: words.member(),
                instance: words.instance(),
            })),
            "leave" => plain(Request::Leave(leave(words))),
            "commit" => plain(Request::Commit(commit(words))),
            "fetch" => plain(Request::Fetch(fetch(words))),
            "describe" => plain(Request::Describe(group)),
            "list" => plain(Request::List),
            "delete" => plain(Request::Delete(group)),
            "delete-offsets" => plain(Request::DeleteOffsets(OffsetDeletion {
                group,
                partitions: words.places(),
            })),
            "forget" => {
                let topics = words.0.iter().map(|topic| (*topic).into());
                plain(Request::ForgetTopics(topics.collect()))
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
            protocols: protocols.map(|(name, data)| (name.into(), data)).collect(),
            nonce,
            new_members: match words.has("at-once") {
                true => NewMembers::JoinAtOnce,
                false => NewMembers::AreToldTheirId,
            },
            leaders: match words.has("can-skip") {
                true => Leaders::CanSkip,
                false => Leaders::AssignAlways,
            },
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
                        self.told.push(format!("write {}", show_record(record)));
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
        self.told.push(format!("{to}{}", show(answer)));
    }
}

fn sync(words: &Words<'_>) -> SyncRequest {
    let assignments = pairs(words.named("assign").unwrap_or_default());
    SyncRequest {
        group: words.group(),
        generation: words.number("generation", -1),
        member: words.member(),
        instance: words.instance(),
        protocol_type: words.named("type").map(Into::into),
        protocol: words.named("protocol").map(Into::into),
        assignments: assignments.map(|(id, data)| (id.into(), data)).collect(),
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

fn commit(words: &Words<'_>) -> CommitRequest {
    let offsets = words.0.iter().filter_map(|word| {
        let (topic, rest) = word.split_once(':')?;
        let (partition, offset) = rest.split_once('=')?;
        let (offset, metadata) = offset.split_once('/').unwrap_or((offset, ""));
        Some(NewOffset {
            topic: topic.into(),
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
        offsets: offsets.collect(),
    }
}

fn fetch(words: &Words<'_>) -> FetchRequest {
    let asked = words.0.iter().filter_map(|word| word.split_once(':'));
    let asked = asked.map(|(topic, partitions)| {
        let partitions = partitions.split(',').map(|p| p.parse().unwrap());
        (topic.into(), partitions.collect())
    });
    let asked: TopicPartitions = asked.collect();
    FetchRequest {
        group: words.group(),
        partitions: (!asked.is_empty()).then_some(asked),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn show(answer: &Answer) -> String {
    match answer {
        Answer::Join(join) if !join.error.is_ok() => format!("{} {}", join.error, join.member),
        Answer::Join(join) => show_join(join),
        Answer::Sync(sync) if !sync.error.is_ok() => sync.error.to_string(),
        Answer::Sync(sync) => format!("assigned {:?}", text(&sync.assignment)),
        Answer::Leave(leave) if !leave.error.is_ok() => leave.error.to_string(),
        Answer::Leave(leave) => format!("left {}", codes(&leave.members)),
        Answer::Commit(commit) => format!("offsets {}", codes(&commit.0)),
        Answer::Fetch(fetch) => show_fetched(fetch),
        Answer::Code(code) => code.to_string(),
        Answer::Described(Err(code)) => code.to_string(),
        Answer::Described(Ok(group)) => show_group(group),
        Answer::Topics(topics) => topics.join(" "),
        Answer::Listed(groups) => {
            let shown = groups
                .iter()
                .map(|g| format!("{} {:?} {}", g.group, g.protocol_type, g.state.name()));
            shown.collect::<Vec<_>>().join(", ")
        }
    }
}

fn codes(codes: &[ErrorCode]) -> String {
    let names = codes.iter().map(|code| code.name());
    names.collect::<Vec<_>>().join(" ")
}

fn show_join(join: &JoinAnswer) -> String {
    let members = join.members.iter().map(|member| {
        let instance = member.instance.as_ref().map(|i| format!("({i})"));
        let instance = instance.unwrap_or_default();
        format!("{}{instance}:{}", member.member, text(&member.metadata))
    });
    let skip = match join.skip_assignment {
        true => " skips",
        false => "",
    };
    format!(
        "generation {} of {} {} as {} led by {}{skip} [{}]",
        join.generation,
        join.protocol_type.as_deref().unwrap_or("-"),
        join.protocol.as_deref().unwrap_or("-"),
        join.member,
        join.leader,
        members.collect::<Vec<_>>().join(" ")
    )
}

fn show_fetched(fetch: &FetchAnswer) -> String {
    let mut shown = Vec::new();
    for (topic, offsets) in &fetch.0 {
        for o in offsets {
            let metadata = match o.metadata.is_empty() {
                true => String::new(),
                false => format!("/{}", o.metadata),
            };
            shown.push(format!("{topic}:{}={}{metadata}", o.partition, o.offset));
        }
    }
    format!("offsets {}", shown.join(" "))
}

fn show_group(group: &DescribedGroup) -> String {
    let members = group.members.iter().map(|m| {
        let instance = m.instance.as_ref().map(|i| format!("({i})"));
        let instance = instance.unwrap_or_default();
        let (metadata, assignment) = (text(&m.metadata), text(&m.assignment));
        format!("{}{instance}:{metadata}:{assignment}", m.member)
    });
    let members: Vec<_> = members.collect();
    format!(
        "{} {:?} {:?} [{}]",
        group.state.name(),
        group.protocol_type,
        group.protocol,
        members.join(" ")
    )
}

fn show_record(record: &GroupRecord) -> String {
    match record {
        GroupRecord::Offset {
            group,
            topic,
            partition,
            offset,
        } => match offset {
            Some(offset) => format!("{group} {topic}:{partition}={}", offset.offset),
            None => format!("{group} {topic}:{partition} is forgotten"),
        },
        GroupRecord::Group { group, stored } => match stored {
            None => format!("{group} is deleted"),
            Some(stored) => {
                let members = stored.members.iter();
                let members = members.map(|m| format!("{}:{}", m.member, text(&m.assignment)));
                let members: Vec<_> = members.collect();
                format!(
                    "{group} generation {} [{}]",
                    stored.generation,
                    members.join(" ")
                )
            }
        },
    }
}
