//! The records of a consumer group in Kafka's formats: `ConsumerGroupMetadata` (3),
//! `ConsumerGroupMemberMetadata` (5), `ConsumerGroupTargetAssignmentMetadata` (6) and `…Member` (7),
//! `ConsumerGroupCurrentMemberAssignment` (8) and `ConsumerGroupRegularExpression` (16). A key says the group,
//! and for all but 3 and 6 the member or the expression.

use std::sync::Arc;

use bytes::BufMut;

use super::super::flexible::{
    put_array, put_compact, put_compact_bytes, put_compact_nullable, put_partitions,
    put_partitions_since, put_tagged,
};
use super::super::record_bytes::{put_string, Reader};
use super::super::MemberId;
use super::stored::{
    AssignmentEpochs, ClassicMember, ConsumerRecord, CurrentAssignment, GroupEpoch, MemberMetadata,
    MemberState, ResolvedRegex, TargetEpoch,
};
use super::Partitions;
use crate::model::Timestamp;

/// Which kind a key is. Kafka 4.0 and older kept more of the topics in a kind 4; it is passed over.
const GROUP_KEY: i16 = 3;
const MEMBER_KEY: i16 = 5;
const TARGET_EPOCH_KEY: i16 = 6;
const TARGET_KEY: i16 = 7;
const CURRENT_KEY: i16 = 8;
const REGEX_KEY: i16 = 16;

/// All values have this version.
const VALUE_VERSION: i16 = 0;

/// Tags of fields that came later than their structs.
const METADATA_HASH_TAG: u32 = 0;
const ASSIGNMENT_TIMESTAMP_TAG: u32 = 0;
const CLASSIC_MEMBER_TAG: u32 = 0;

impl ConsumerRecord {
    pub(in super::super) fn key(&self, group: &str) -> Vec<u8> {
        let (kind, name): (i16, Option<&str>) = match self {
            ConsumerRecord::Group(_) => (GROUP_KEY, None),
            ConsumerRecord::Member(member, _) => (MEMBER_KEY, Some(member.as_str())),
            ConsumerRecord::TargetEpoch(_) => (TARGET_EPOCH_KEY, None),
            ConsumerRecord::Target(member, _) => (TARGET_KEY, Some(member.as_str())),
            ConsumerRecord::Current(member, _) => (CURRENT_KEY, Some(member.as_str())),
            ConsumerRecord::Regex(regex, _) => (REGEX_KEY, Some(regex)),
        };
        let mut out = Vec::new();
        out.put_i16(kind);
        put_string(&mut out, group);
        if let Some(name) = name {
            put_string(&mut out, name);
        }
        out
    }

    pub(in super::super) fn value(&self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        out.put_i16(VALUE_VERSION);
        match self {
            ConsumerRecord::Group(group) => put_group(&mut out, group.as_ref()?),
            ConsumerRecord::Member(_, member) => put_member(&mut out, member.as_ref()?),
            ConsumerRecord::TargetEpoch(target) => put_target_epoch(&mut out, target.as_ref()?),
            ConsumerRecord::Target(_, target) => {
                put_partitions(&mut out, target.as_ref()?);
                put_tagged(&mut out, &[]);
            }
            ConsumerRecord::Current(_, current) => put_current(&mut out, current.as_ref()?),
            ConsumerRecord::Regex(_, resolved) => put_regex(&mut out, resolved.as_ref()?),
        }
        Some(out)
    }

    /// What follows the key's kind: the group, and what of it. `None` for a kind that isn't one of these.
    pub(in super::super) fn decode(
        kind: i16,
        key: &mut Reader<'_>,
        value: Option<&[u8]>,
    ) -> Result<Option<(Arc<str>, ConsumerRecord)>, String> {
        if !matches!(kind, GROUP_KEY | MEMBER_KEY..=CURRENT_KEY | REGEX_KEY) {
            return Ok(None);
        }
        let group = key.string("group")?;
        let mut member = || key.string("member").map(MemberId);
        let record = match kind {
            GROUP_KEY => ConsumerRecord::Group(decode_value(value, group_epoch)?),
            MEMBER_KEY => ConsumerRecord::Member(member()?, decode_value(value, member_metadata)?),
            TARGET_EPOCH_KEY => ConsumerRecord::TargetEpoch(decode_value(value, target_epoch)?),
            TARGET_KEY => {
                let target = decode_value(value, target)?;
                ConsumerRecord::Target(member()?, target)
            }
            CURRENT_KEY => ConsumerRecord::Current(member()?, decode_value(value, current)?),
            _ => {
                let regex = key.string("regular_expression")?;
                ConsumerRecord::Regex(regex, decode_value(value, resolved_regex)?)
            }
        };
        Ok(Some((group, record)))
    }
}

fn decode_value<V>(
    value: Option<&[u8]>,
    decode: impl FnOnce(&mut Reader<'_>) -> Result<V, String>,
) -> Result<Option<V>, String> {
    let Some(value) = value else {
        return Ok(None);
    };
    let mut value = Reader(value);
    match value.i16("the value's version")? {
        VALUE_VERSION => decode(&mut value).map(Some),
        version => Err(format!("version {version} of the value isn't known")),
    }
}

fn put_group(out: &mut Vec<u8>, group: &GroupEpoch) {
    out.put_i32(group.epoch);
    match group.metadata_hash {
        0 => put_tagged(out, &[]),
        hash => put_tagged(out, &[(METADATA_HASH_TAG, hash.to_be_bytes().to_vec())]),
    }
}

fn group_epoch(value: &mut Reader<'_>) -> Result<GroupEpoch, String> {
    let epoch = value.i32("epoch")?;
    let mut metadata_hash = 0;
    value.tagged(|tag, value| {
        if tag == METADATA_HASH_TAG {
            metadata_hash = value.i64("metadata_hash")?;
        }
        Ok(())
    })?;
    Ok(GroupEpoch {
        epoch,
        metadata_hash,
    })
}

fn put_member(out: &mut Vec<u8>, member: &MemberMetadata) {
    put_compact_nullable(out, member.instance.as_deref());
    put_compact_nullable(out, member.rack.as_deref());
    put_compact(out, &member.client_id);
    put_compact(out, &member.client_host);
    put_array(out, member.topic_names.iter(), |out, name| {
        put_compact(out, name);
    });
    put_compact_nullable(out, member.topic_regex.as_deref());
    out.put_i32(member.rebalance_timeout_ms);
    put_compact_nullable(out, member.assignor.as_deref());
    match &member.classic {
        None => put_tagged(out, &[]),
        Some(classic) => put_tagged(out, &[(CLASSIC_MEMBER_TAG, classic_bytes(classic))]),
    }
}

/// A struct that may be null begins with a byte that says whether it is.
fn classic_bytes(classic: &ClassicMember) -> Vec<u8> {
    let mut out = vec![1];
    out.put_i32(classic.session_timeout_ms);
    put_array(
        &mut out,
        classic.protocols.iter(),
        |out, (name, metadata)| {
            put_compact(out, name);
            put_compact_bytes(out, metadata);
            put_tagged(out, &[]);
        },
    );
    put_tagged(&mut out, &[]);
    out
}

fn member_metadata(value: &mut Reader<'_>) -> Result<MemberMetadata, String> {
    let mut member = MemberMetadata {
        instance: value.compact_nullable("instance_id")?,
        rack: value.compact_nullable("rack_id")?,
        client_id: value.compact("client_id")?,
        client_host: value.compact("client_host")?,
        topic_names: {
            let names = value.array("subscribed_topic_names", |value| {
                value.compact("a subscribed topic's name")
            })?;
            names.into_iter().collect()
        },
        topic_regex: value.compact_nullable("subscribed_topic_regex")?,
        rebalance_timeout_ms: value.i32("rebalance_timeout_ms")?,
        assignor: value.compact_nullable("server_assignor")?,
        classic: None,
    };
    value.tagged(|tag, value| {
        if tag == CLASSIC_MEMBER_TAG {
            member.classic = classic_member(value)?;
        }
        Ok(())
    })?;
    Ok(member)
}

fn classic_member(value: &mut Reader<'_>) -> Result<Option<ClassicMember>, String> {
    if value.i8("classic_member_metadata")? < 0 {
        return Ok(None);
    }
    Ok(Some(ClassicMember {
        session_timeout_ms: value.i32("session_timeout_ms")?,
        protocols: value.array("supported_protocols", |value| {
            let name = value.compact("a protocol's name")?;
            let metadata = value.compact_bytes("a protocol's metadata")?;
            value.tagged(|_, _| Ok(()))?;
            Ok((name, metadata))
        })?,
    }))
}

fn put_target_epoch(out: &mut Vec<u8>, target: &TargetEpoch) {
    out.put_i32(target.epoch);
    let timestamp = target.timestamp.0.to_be_bytes().to_vec();
    put_tagged(out, &[(ASSIGNMENT_TIMESTAMP_TAG, timestamp)]);
}

fn target_epoch(value: &mut Reader<'_>) -> Result<TargetEpoch, String> {
    let epoch = value.i32("assignment_epoch")?;
    let mut timestamp = Timestamp(0);
    value.tagged(|tag, value| {
        if tag == ASSIGNMENT_TIMESTAMP_TAG {
            timestamp = Timestamp(value.i64("assignment_timestamp")?);
        }
        Ok(())
    })?;
    Ok(TargetEpoch { epoch, timestamp })
}

fn target(value: &mut Reader<'_>) -> Result<Partitions, String> {
    let target = value.partitions("topic_partitions")?;
    value.tagged(|_, _| Ok(()))?;
    Ok(target)
}

fn put_current(out: &mut Vec<u8>, current: &CurrentAssignment) {
    out.put_i32(current.epoch);
    out.put_i32(current.previous_epoch);
    out.put_i8(match current.state {
        MemberState::Stable => 0,
        MemberState::UnrevokedPartitions => 1,
        MemberState::UnreleasedPartitions => 2,
    });
    put_partitions_since(out, &current.assigned, &current.since);
    put_partitions_since(out, &current.revoking, &current.since);
    put_tagged(out, &[]);
}

fn current(value: &mut Reader<'_>) -> Result<CurrentAssignment, String> {
    let epoch = value.i32("member_epoch")?;
    let mut since = AssignmentEpochs::new();
    let current = CurrentAssignment {
        epoch,
        previous_epoch: value.i32("previous_member_epoch")?,
        state: match value.i8("state")? {
            0 => MemberState::Stable,
            1 => MemberState::UnrevokedPartitions,
            2 => MemberState::UnreleasedPartitions,
            other => return Err(format!("state {other} isn't known")),
        },
        assigned: value.partitions_since("assigned_partitions", epoch, &mut since)?,
        revoking: value.partitions_since("partitions_pending_revocation", epoch, &mut since)?,
        since,
    };
    value.tagged(|_, _| Ok(()))?;
    Ok(current)
}

fn put_regex(out: &mut Vec<u8>, resolved: &ResolvedRegex) {
    put_array(out, resolved.topics.iter(), |out, name| {
        put_compact(out, name);
    });
    out.put_i64(resolved.version);
    out.put_i64(resolved.timestamp.0);
    put_tagged(out, &[]);
}

fn resolved_regex(value: &mut Reader<'_>) -> Result<ResolvedRegex, String> {
    let topics = value.array("topics", |value| value.compact("a topic's name"))?;
    let resolved = ResolvedRegex {
        topics: topics.into_iter().collect(),
        version: value.i64("version")?,
        timestamp: Timestamp(value.i64("timestamp")?),
    };
    value.tagged(|_, _| Ok(()))?;
    Ok(resolved)
}
