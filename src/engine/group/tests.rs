//! The records' bytes are Kafka's, no bytes make the decoder panic, and memory is bounded. What groups do
//! is told by `tests/scripts`.

use proptest::prelude::*;

use super::settings::{ALL_METADATA_BYTES_MAX, METADATA_BYTES_MAX};
use crate::engine::coordinator::{Core, Effect, EffectOf, Record};
use crate::engine::group::*;
use crate::model::{ErrorCode, LeaderEpoch, Offset, Timestamp, TopicId};

/// A member with so much to say, in a group of its own.
fn large(name: &str, bytes: usize) -> Request {
    Request::Join(JoinRequest {
        group: name.into(),
        client_id: name.into(),
        session_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), vec![0; bytes].into())],
        nonce: "1".into(),
        ..JoinRequest::default()
    })
}

#[test]
fn what_members_say_is_bounded_and_room_comes_back_when_they_leave() {
    let mut shard: GroupShard<u32> = GroupShard::new(GroupSettings {
        min_session_timeout_ms: 1,
        max_session_timeout_ms: 100_000,
        max_size: 10,
        initial_rebalance_delay_ms: 0,
        offset_metadata_max_bytes: 10,
        offsets_retention_ms: 1,
        offsets_retention_check_interval_ms: 1_000,
        consumer: ConsumerSettings::default(),
    });
    let size = METADATA_BYTES_MAX;
    let fit = ALL_METADATA_BYTES_MAX / (size + "range".len());
    for number in 0..fit {
        let effects = shard.handle(Timestamp(0), large(&format!("g{number}"), size), 0);
        assert!(effects.is_empty(), "it waits for its first generation");
    }
    let refused = |effects: &[EffectOf<GroupShard<u32>>]| match effects {
        [Effect::Answer {
            answer: Answer::Join(answer),
            ..
        }] => answer.error,
        [] => ErrorCode::None,
        _ => panic!("something else"),
    };
    let effects = shard.handle(Timestamp(0), large("more", size), 0);
    assert_eq!(refused(&effects), ErrorCode::GroupMaxSizeReached);
    let leave = Request::Leave(LeaveRequest {
        group: "g0".into(),
        members: vec![LeavingMember {
            member: "g0-1".into(),
            instance: None,
        }],
    });
    shard.handle(Timestamp(0), leave, 0);
    let effects = shard.handle(Timestamp(0), large("more", size), 0);
    assert_eq!(refused(&effects), ErrorCode::None);
}

fn offset() -> GroupRecord {
    GroupRecord::Offset {
        group: "g".into(),
        topic: "t".into(),
        partition: 3,
        offset: Some(CommittedOffset {
            topic_id: TopicId(uuid::Uuid::from_bytes(*b"0123456789abcdef")),
            offset: Offset(5),
            leader_epoch: LeaderEpoch(2),
            metadata: "m".into(),
            commit_timestamp: Timestamp(7),
        }),
    }
}

fn group() -> GroupRecord {
    GroupRecord::Group {
        group: "g".into(),
        stored: Some(StoredGroup {
            protocol_type: "consumer".into(),
            generation: 4,
            protocol: Some("range".into()),
            leader: Some("a".into()),
            state_timestamp: Timestamp(7),
            members: vec![StoredMember {
                member: "a".into(),
                instance: None,
                client_id: "c".into(),
                client_host: "h".into(),
                rebalance_timeout_ms: 1,
                session_timeout_ms: 2,
                subscription: bytes::Bytes::from_static(b"s"),
                assignment: bytes::Bytes::from_static(b"x"),
            }],
        }),
    }
}

#[test]
fn keys_and_values_are_these_bytes() {
    let record = offset();
    assert_eq!(record.key(), b"\0\x01\0\x01g\0\x01t\0\0\0\x03");
    let value = [
        &b"\0\x04\0\0\0\0\0\0\0\x05\0\0\0\x02\x02m\0\0\0\0\0\0\0\x07"[..],
        b"\x01\0\x100123456789abcdef",
    ];
    assert_eq!(record.value().unwrap(), value.concat());

    let record = group();
    assert_eq!(record.key(), b"\0\x02\0\x01g");
    let value = [
        &b"\0\x03\0\x08consumer\0\0\0\x04\0\x05range\0\x01a\0\0\0\0\0\0\0\x07"[..],
        b"\0\0\0\x01\0\x01a\xff\xff\0\x01c\0\x01h\0\0\0\x01\0\0\0\x02",
        b"\0\0\0\x01s\0\0\0\x01x",
    ];
    assert_eq!(record.value().unwrap(), value.concat());
}

#[test]
fn records_read_back_as_they_were_written() {
    for record in [offset(), group()] {
        let value = record.value();
        let read = GroupRecord::decode(&record.key(), value.as_deref());
        assert_eq!(read, Ok(Some(record.clone())));
        let tombstone = GroupRecord::decode(&record.key(), None).unwrap().unwrap();
        assert_eq!((tombstone.key(), tombstone.value()), (record.key(), None));
    }
}

/// Former builds wrote them so, and a topic had no id there.
#[test]
fn an_offset_of_version_3_is_read_too() {
    let value = b"\0\x03\0\0\0\0\0\0\0\x05\0\0\0\x02\0\x01m\0\0\0\0\0\0\0\x07";
    let read = GroupRecord::decode(&offset().key(), Some(value)).unwrap();
    let Some(GroupRecord::Offset { offset, .. }) = read else {
        panic!("{read:?}");
    };
    let expected = CommittedOffset {
        topic_id: TopicId::NONE,
        offset: Offset(5),
        leader_epoch: LeaderEpoch(2),
        metadata: "m".into(),
        commit_timestamp: Timestamp(7),
    };
    assert_eq!(offset, Some(expected));
}

#[test]
fn a_kind_that_is_not_known_is_passed_over_and_a_broken_record_is_an_error() {
    assert_eq!(GroupRecord::decode(b"\0\x09whatever", Some(b"")), Ok(None));
    let key = offset().key();
    let error = GroupRecord::decode(&key, Some(b"\0\x03\0\0")).unwrap_err();
    assert!(error.contains("offset"), "{error}");
    let error = GroupRecord::decode(&key, Some(b"\0\x09\0\0")).unwrap_err();
    assert!(error.contains("isn't known"), "{error}");
}

/// As Kafka's tools compute it; the last one's hash is the smallest number.
#[test]
fn a_group_lies_where_kafka_looks_for_it() {
    for (group, partition) in [
        ("", 0),
        ("g", 3),
        ("my-group", 12),
        ("polygenelubricants", 0),
    ] {
        assert_eq!(partition_of(group, 50), partition, "{group}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(
        kind in 0u8..4,
        version in 3u8..5,
        key in proptest::collection::vec(any::<u8>(), 0..40),
        value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..80)),
    ) {
        let key = [&[0, kind][..], &key].concat();
        let value = value.map(|value| [&[0, version][..], &value].concat());
        let _ = GroupRecord::decode(&key, value.as_deref());
    }
}
