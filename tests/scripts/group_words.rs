//! How scripts write what a group answers, and what it writes.

use klamm::engine::group::*;
use klamm::model::ErrorCode;

use crate::consumer_words::{show_assignment, show_subscription, Topics};

pub fn show(answer: &Answer, topics: &Topics) -> String {
    match answer {
        Answer::Join(join) if !join.error.is_ok() => format!("{} {}", join.error, join.member),
        Answer::Join(join) => show_join(join),
        Answer::Sync(sync) if !sync.error.is_ok() => sync.error.to_string(),
        Answer::Sync(sync) => format!("assigned {:?}", show_assignment(&sync.assignment)),
        Answer::Leave(leave) if !leave.error.is_ok() => leave.error.to_string(),
        Answer::Leave(leave) => format!("left {}", codes(&leave.members)),
        Answer::Commit(commit) => format!("offsets {}", codes(&commit.0)),
        Answer::Fetch(fetch) => show_fetched(fetch),
        Answer::Code(code) => code.to_string(),
        Answer::Described(Err(code)) => code.to_string(),
        Answer::Described(Ok(group)) => show_group(group),
        Answer::ConsumerHeartbeat(Err(refusal)) => refusal.to_string(),
        Answer::ConsumerHeartbeat(Ok(beat)) => match &beat.assignment {
            None => format!("epoch {}", beat.epoch),
            Some(assigned) => format!("epoch {} [{}]", beat.epoch, topics.show(assigned)),
        },
        Answer::ConsumersDescribed(Err(code)) => code.to_string(),
        Answer::ConsumersDescribed(Ok(group)) => topics.show_described(group),
        Answer::Topics(topics) => {
            let names: Vec<&str> = topics.iter().map(|(name, _)| &**name).collect();
            names.join(" ")
        }
        Answer::Listed(groups) => {
            let shown = groups.iter().map(|g| {
                let protocol = match g.protocol {
                    GroupProtocol::Classic => "",
                    GroupProtocol::Consumer => " of consumers",
                };
                format!("{} {:?} {}{protocol}", g.group, g.protocol_type, g.state)
            });
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
        let said = show_subscription(&member.metadata);
        format!("{}{instance}:{said}", member.member)
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
        let metadata = show_subscription(&m.metadata);
        let assignment = show_assignment(&m.assignment);
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

pub fn show_record(record: &GroupRecord, topics: &Topics) -> String {
    match record {
        GroupRecord::Consumer { group, record } => {
            format!("{group} {}", topics.show_record(record))
        }
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
                let members =
                    members.map(|m| format!("{}:{}", m.member, show_assignment(&m.assignment)));
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
