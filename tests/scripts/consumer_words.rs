//! How scripts write what the consumer protocol is about: topics, partitions, heartbeats, records.
//!
//! `t:0,1` are partitions; several topics stand side by side with a `+`: `t:0,1+u:2`. What classic members
//! say in Kafka's consumer protocol begins with `@`: `@t+u` is a subscription, `@t+u!t:0` one of a member that
//! owns a partition, and `@t:0,1` an assignment.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use klamm::engine::group::*;
use klamm::engine::metadata::{BrokerState, MetadataCommand, MetadataImage};
use klamm::model::{BrokerId, Incarnation, TopicId};
use uuid::Uuid;

/// Brokers of a script, each in a rack of its own.
const RACKS: [&str; 3] = ["a", "b", "c"];

/// The topics of a script.
pub struct Topics {
    pub image: Arc<MetadataImage>,
    created: u128,
    /// Those that are gone, too.
    names: BTreeMap<TopicId, String>,
}

impl Default for Topics {
    fn default() -> Topics {
        let mut image = MetadataImage::default();
        for (number, rack) in (1..).zip(RACKS) {
            image.replay(&MetadataCommand::RegisterBroker {
                id: BrokerId(number),
                incarnation: Incarnation(Uuid::from_u128(number as u128)),
                endpoints: Vec::new(),
                rack: Some(rack.into()),
                state: BrokerState::Unfenced,
                metadata_version_max: None,
            });
        }
        Topics {
            image: Arc::new(image),
            created: 0,
            names: BTreeMap::new(),
        }
    }
}

impl Topics {
    /// `t=3`: so many partitions; if the topic is there, so many more. `t=0` deletes it. In the racks that are
    /// given, one after the other.
    pub fn set(&mut self, name: &str, count: usize, racks: Option<&str>) {
        let known = self.image.topic_by_name(name).cloned();
        let first = known.as_ref().map_or(0, |topic| topic.partitions.len());
        let racks: Vec<&str> = racks.unwrap_or(RACKS[0]).split(',').collect();
        let broker = |number: usize| {
            let rack = racks[number % racks.len()];
            BrokerId(RACKS.iter().position(|r| *r == rack).unwrap() as i32 + 1)
        };
        let partitions = (first..first + count).map(|number| vec![broker(number)]);
        let partitions = partitions.collect();
        let command = match known {
            Some(topic) if count == 0 => MetadataCommand::DeleteTopic { id: topic.id },
            Some(topic) => MetadataCommand::AddPartitions {
                id: topic.id,
                first: first as i32,
                partitions,
            },
            None => {
                self.created += 1;
                let id = TopicId(Uuid::from_u128(self.created));
                self.names.insert(id, name.to_owned());
                MetadataCommand::CreateTopic {
                    name: name.parse().unwrap(),
                    id,
                    partitions,
                    configs: BTreeMap::new(),
                }
            }
        };
        Arc::make_mut(&mut self.image).replay(&command);
    }

    /// Of a topic that isn't there: an id that nobody knows.
    fn id(&self, name: &str) -> TopicId {
        let unknown = TopicId(Uuid::from_u128(u128::MAX));
        let topic = self.image.topic_by_name(name);
        topic.map_or(unknown, |topic| topic.id)
    }

    /// Those that had this name and are gone. Of a name that no topic has had: one without an id.
    pub fn former(&self, name: &str) -> Vec<NamedTopic> {
        let had_it = self.names.iter().filter(|(_, known)| *known == name);
        let ids: Vec<TopicId> = had_it.map(|(id, _)| *id).collect();
        let ids = match ids.is_empty() {
            true => vec![TopicId::NONE],
            false => ids,
        };
        let gone = ids.into_iter().filter(|id| self.image.topic(*id).is_none());
        gone.map(|id| (name.into(), id)).collect()
    }

    pub fn partitions(&self, text: &str) -> Partitions {
        let named = named(text);
        let all = named.iter().flat_map(|(name, numbers)| {
            let id = self.id(name);
            numbers.iter().map(move |number| (id, *number))
        });
        all.collect()
    }

    pub fn show(&self, partitions: &Partitions) -> String {
        let topics = partitions.by_topic().map(|(id, numbers)| {
            let numbers: Vec<i32> = numbers.iter().copied().collect();
            (self.names[&id].clone(), numbers)
        });
        show_named(topics)
    }

    pub fn show_record(&self, record: &ConsumerRecord) -> String {
        match record {
            ConsumerRecord::Group(None) => "has no epoch any more".into(),
            ConsumerRecord::Group(Some(group)) => format!("epoch {}", group.epoch),
            ConsumerRecord::TargetEpoch(None) => "has no target any more".into(),
            ConsumerRecord::TargetEpoch(Some(target)) => format!("target of {}", target.epoch),
            ConsumerRecord::Member(id, None) => format!("{id} is gone"),
            ConsumerRecord::Member(id, Some(said)) => format!("{id} says {}", show_member(said)),
            ConsumerRecord::Target(id, None) => format!("{id} has no target any more"),
            ConsumerRecord::Target(id, Some(target)) => {
                format!("{id} shall have [{}]", self.show(target))
            }
            ConsumerRecord::Current(id, None) => format!("{id} has nothing any more"),
            ConsumerRecord::Current(id, Some(current)) => {
                format!("{id} is {}", self.show_current(current))
            }
            ConsumerRecord::Regex(regex, None) => format!("/{regex}/ is forgotten"),
            ConsumerRecord::Regex(regex, Some(resolved)) => {
                let topics: Vec<&str> = resolved.topics.iter().map(|name| &**name).collect();
                format!("/{regex}/ means [{}]", topics.join(" "))
            }
        }
    }

    fn show_current(&self, current: &CurrentAssignment) -> String {
        let mut shown = format!("at {} {:?}", current.epoch, current.state);
        write!(shown, " with [{}]", self.show(&current.assigned)).unwrap();
        if !current.revoking.is_empty() {
            write!(shown, " giving up [{}]", self.show(&current.revoking)).unwrap();
        }
        shown
    }

    pub fn show_described(&self, group: &DescribedConsumerGroup) -> String {
        let members = group.members.iter().map(|member| {
            let current = self.show_current(&member.current);
            let target = self.show(&member.target);
            let said = show_member(&member.metadata);
            format!("; {} {said}, {current} of [{target}]", member.member)
        });
        format!(
            "{} epoch {} target {} by {}{}",
            group.state.name(),
            group.epoch,
            group.target_epoch,
            group.assignor,
            members.collect::<String>()
        )
    }
}

fn show_member(said: &MemberMetadata) -> String {
    let names: Vec<&str> = said.topic_names.iter().map(|name| &**name).collect();
    let mut shown = format!("[{}]", names.join(" "));
    let mut also = |what: &str, value: &Option<Arc<str>>| {
        if let Some(value) = value {
            write!(shown, " {what}={value}").unwrap();
        }
    };
    also("regex", &said.topic_regex);
    also("instance", &said.instance);
    also("rack", &said.rack);
    also("assignor", &said.assignor);
    if let Some(classic) = &said.classic {
        let names: Vec<&str> = classic.protocols.iter().map(|(name, _)| &**name).collect();
        write!(shown, " classic={}", names.join(",")).unwrap();
    }
    shown
}

/// `t:0,1+u:2`
fn named(text: &str) -> Vec<(&str, Vec<i32>)> {
    let topics = text.split('+').filter(|topic| !topic.is_empty());
    let topics = topics.map(|topic| {
        let (name, numbers) = topic.split_once(':').unwrap();
        let numbers = numbers.split(',').map(|number| number.parse().unwrap());
        (name, numbers.collect())
    });
    topics.collect()
}

fn show_named(topics: impl Iterator<Item = (String, Vec<i32>)>) -> String {
    let shown = topics.map(|(name, numbers)| {
        let numbers: Vec<String> = numbers.iter().map(i32::to_string).collect();
        format!("{name}:{}", numbers.join(","))
    });
    shown.collect::<Vec<_>>().join("+")
}

/// What a classic member says, if it begins with `@`; else the text itself.
pub fn subscription(text: &str) -> Bytes {
    let Some(text) = text.strip_prefix('@') else {
        return Bytes::copy_from_slice(text.as_bytes());
    };
    let (topics, owned) = text.split_once('!').unwrap_or((text, ""));
    let topics: Vec<&str> = topics.split('+').collect();
    let mut out = Vec::new();
    out.put_i16(1);
    out.put_i32(topics.len() as i32);
    topics.iter().for_each(|name| put_string(&mut out, name));
    out.put_i32(-1);
    put_named(&mut out, &named(owned));
    out.into()
}

/// What the leader assigns, if it begins with `@`; else the text itself.
pub fn assignment(text: &str) -> Bytes {
    let Some(text) = text.strip_prefix('@') else {
        return Bytes::copy_from_slice(text.as_bytes());
    };
    let mut out = Vec::new();
    out.put_i16(1);
    put_named(&mut out, &named(text));
    out.put_i32(-1);
    out.into()
}

fn put_named(out: &mut Vec<u8>, topics: &[(&str, Vec<i32>)]) {
    out.put_i32(topics.len() as i32);
    for (name, numbers) in topics {
        put_string(out, name);
        out.put_i32(numbers.len() as i32);
        numbers.iter().for_each(|number| out.put_i32(*number));
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

fn take_string(bytes: &mut &[u8]) -> String {
    let length = bytes.get_i16() as usize;
    let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
    bytes.advance(length);
    text
}

/// Bytes that begin with a version aren't text.
fn is_versioned(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn show_subscription(bytes: &[u8]) -> String {
    if !is_versioned(bytes) {
        return text(bytes);
    }
    let mut bytes = &bytes[2..];
    let topics: Vec<String> = (0..bytes.get_i32())
        .map(|_| take_string(&mut bytes))
        .collect();
    format!("@{}", topics.join("+"))
}

pub fn show_assignment(bytes: &[u8]) -> String {
    if !is_versioned(bytes) {
        return text(bytes);
    }
    let mut bytes = &bytes[2..];
    let topics: Vec<(String, Vec<i32>)> = (0..bytes.get_i32())
        .map(|_| {
            let name = take_string(&mut bytes);
            let numbers = (0..bytes.get_i32()).map(|_| bytes.get_i32()).collect();
            (name, numbers)
        })
        .collect();
    format!("@{}", show_named(topics.into_iter()))
}
