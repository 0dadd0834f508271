//! The records of `__consumer_offsets`, in Kafka's formats, so that tools which read the topic know
//! them: `OffsetCommitKey` 1 and `OffsetCommitValue` 4, `GroupMetadataKey` 2 and `GroupMetadataValue` 3, and
//! those of the consumer protocol (see `consumer/records.rs`). Key and value begin with their version, an i16.

use std::sync::Arc;

use bytes::BufMut;

use super::consumer::ConsumerRecord;
use super::flexible::{put_compact, put_tagged};
use super::record_bytes::{put_bytes, put_nullable, put_string, Reader};
use super::stored::{CommittedOffset, StoredGroup, StoredMember};
use super::{GroupId, MemberId};
use crate::engine::coordinator::Record;
use crate::model::{LeaderEpoch, Offset, Timestamp, TopicId};

/// Which kind a key is; Kafka reads 0 and 1 alike.
const OFFSET_KEY: i16 = 1;
const OFFSET_KEY_OLD: i16 = 0;
const GROUP_KEY: i16 = 2;
const OFFSET_VALUE: i16 = 4;
const GROUP_VALUE: i16 = 3;
/// Of the tagged field with the topic's id, in an offset's value.
const TOPIC_ID_TAG: u32 = 0;

#[derive(Clone, Debug, PartialEq)]
pub enum GroupRecord {
    Offset {
        group: GroupId,
        topic: Arc<str>,
        partition: i32,
        /// `None`: it is forgotten.
        offset: Option<CommittedOffset>,
    },
    Group {
        group: GroupId,
        /// `None`: it is deleted.
        stored: Option<StoredGroup>,
    },
    Consumer {
        group: GroupId,
        record: ConsumerRecord,
    },
}

/// Which of so many partitions a group's records lie in: by Java's `String.hashCode`, as tools compute
/// it too.
pub fn partition_of(group: &str, partitions: i32) -> i32 {
    let hash = group.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // The smallest number has no positive counterpart.
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}

impl Record for GroupRecord {
    fn key(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            GroupRecord::Offset {
                group,
                topic,
                partition,
                ..
            } => {
                out.put_i16(OFFSET_KEY);
                put_string(&mut out, group.as_str());
                put_string(&mut out, topic);
                out.put_i32(*partition);
            }
            GroupRecord::Group { group, .. } => {
                out.put_i16(GROUP_KEY);
                put_string(&mut out, group.as_str());
            }
            GroupRecord::Consumer { group, record } => return record.key(group.as_str()),
        }
        out
    }

    fn value(&self) -> Option<Vec<u8>> {
        match self {
            GroupRecord::Offset { offset, .. } => offset.as_ref().map(encode_offset),
            GroupRecord::Group { stored, .. } => stored.as_ref().map(encode_group),
            GroupRecord::Consumer { record, .. } => record.value(),
        }
    }

    fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<GroupRecord>, String> {
        let mut key = Reader(key);
        match key.i16("the key's version")? {
            OFFSET_KEY | OFFSET_KEY_OLD => Ok(Some(GroupRecord::Offset {
                group: GroupId(key.string("group")?),
                topic: key.string("topic")?,
                partition: key.i32("partition")?,
                offset: value.map(decode_offset).transpose()?,
            })),
            GROUP_KEY => Ok(Some(GroupRecord::Group {
                group: GroupId(key.string("group")?),
                stored: value.map(decode_group).transpose()?,
            })),
            kind => {
                let read = ConsumerRecord::decode(kind, &mut key, value)?;
                Ok(read.map(|(group, record)| GroupRecord::Consumer {
                    group: GroupId(group),
                    record,
                }))
            }
        }
    }
}

fn encode_offset(offset: &CommittedOffset) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i16(OFFSET_VALUE);
    out.put_i64(offset.offset.0);
    out.put_i32(offset.leader_epoch.0);
    put_compact(&mut out, &offset.metadata);
    out.put_i64(offset.commit_timestamp.0);
    match offset.topic_id == TopicId::NONE {
        true => put_tagged(&mut out, &[]),
        false => put_tagged(
            &mut out,
            &[(TOPIC_ID_TAG, offset.topic_id.0.into_bytes().into())],
        ),
    }
    out
}

fn decode_offset(value: &[u8]) -> Result<CommittedOffset, String> {
    let mut value = Reader(value);
    let version = value.i16("the value's version")?;
    if !(0..=OFFSET_VALUE).contains(&version) {
        return Err(format!("OffsetCommitValue {version} isn't known"));
    }
    let mut committed = CommittedOffset {
        topic_id: TopicId::NONE,
        offset: Offset(value.i64("offset")?),
        leader_epoch: match version {
            3.. => LeaderEpoch(value.i32("leader_epoch")?),
            _ => LeaderEpoch::NONE,
        },
        metadata: match version {
            4.. => value.compact("metadata")?,
            _ => value.string("metadata")?,
        },
        commit_timestamp: Timestamp(value.i64("commit_timestamp")?),
    };
    if version >= 4 {
        value.tagged(|tag, value| {
            if tag == TOPIC_ID_TAG {
                committed.topic_id = value.topic_id("topic_id")?;
            }
            Ok(())
        })?;
    }
    Ok(committed)
}

fn encode_group(group: &StoredGroup) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i16(GROUP_VALUE);
    put_string(&mut out, &group.protocol_type);
    out.put_i32(group.generation);
    put_nullable(&mut out, group.protocol.as_deref());
    put_nullable(&mut out, group.leader.as_ref().map(MemberId::as_str));
    out.put_i64(group.state_timestamp.0);
    out.put_i32(group.members.len() as i32);
    for member in &group.members {
        put_string(&mut out, member.member.as_str());
        put_nullable(&mut out, member.instance.as_deref());
        put_string(&mut out, &member.client_id);
        put_string(&mut out, &member.client_host);
        out.put_i32(member.rebalance_timeout_ms);
        out.put_i32(member.session_timeout_ms);
        put_bytes(&mut out, &member.subscription);
        put_bytes(&mut out, &member.assignment);
    }
    out
}

fn decode_group(value: &[u8]) -> Result<StoredGroup, String> {
    let mut value = Reader(value);
    let version = value.i16("the value's version")?;
    if !(0..=GROUP_VALUE).contains(&version) {
        return Err(format!("GroupMetadataValue {version} isn't known"));
    }
    Ok(StoredGroup {
        protocol_type: value.string("protocol_type")?,
        generation: value.i32("generation")?,
        protocol: value.nullable("protocol")?,
        leader: value.nullable("leader")?.map(MemberId),
        state_timestamp: match version {
            2.. => Timestamp(value.i64("current_state_timestamp")?),
            _ => Timestamp::NONE,
        },
        members: {
            let count = value.i32("members")?;
            let members = (0..count).map(|_| decode_member(&mut value, version));
            members.collect::<Result<_, _>>()?
        },
    })
}

fn decode_member(value: &mut Reader<'_>, version: i16) -> Result<StoredMember, String> {
    let member = MemberId(value.string("member_id")?);
    let instance = match version {
        3.. => value.nullable("group_instance_id")?,
        _ => None,
    };
    let (client_id, client_host) = (value.string("client_id")?, value.string("client_host")?);
    let rebalance_timeout_ms = match version {
        1.. => Some(value.i32("rebalance_timeout")?),
        _ => None,
    };
    let session_timeout_ms = value.i32("session_timeout")?;
    Ok(StoredMember {
        member,
        instance,
        client_id,
        client_host,
        rebalance_timeout_ms: rebalance_timeout_ms.unwrap_or(session_timeout_ms),
        session_timeout_ms,
        subscription: value.bytes("subscription")?,
        assignment: value.bytes("assignment")?,
    })
}
