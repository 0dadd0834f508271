//! Records as Kafka's message files have them, field by field.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::super::*;
use crate::engine::coordinator::Record;
use crate::engine::group::{GroupRecord, MemberId};
use crate::model::{Timestamp, TopicId};

fn record(record: ConsumerRecord) -> GroupRecord {
    GroupRecord::Consumer {
        group: "g".into(),
        record,
    }
}

fn topic() -> TopicId {
    TopicId(Uuid::from_bytes(*b"0123456789abcdef"))
}

fn partitions() -> Partitions {
    [(topic(), 1), (topic(), 2)].into_iter().collect()
}

fn metadata() -> MemberMetadata {
    MemberMetadata {
        instance: Some("i".into()),
        rack: None,
        client_id: "c".into(),
        client_host: "h".into(),
        topic_names: [Arc::from("t")].into(),
        topic_regex: Some("r".into()),
        rebalance_timeout_ms: 7,
        assignor: None,
        classic: None,
    }
}

/// One of each kind, with its key and its value.
fn all() -> Vec<(ConsumerRecord, &'static [u8], Vec<u8>)> {
    let member = MemberId::from("m");
    let classic = MemberMetadata {
        classic: Some(ClassicMember {
            session_timeout_ms: 9,
            protocols: vec![("p".into(), Bytes::from_static(b"xy"))],
        }),
        ..metadata()
    };
    let said = b"\0\0\x02i\0\x02c\x02h\x02\x02t\x02r\0\0\0\x07\0";
    let named = b"\x020123456789abcdef\x03\0\0\0\x01\0\0\0\x02\0";
    let since = b"\x020123456789abcdef\x03\0\0\0\x01\0\0\0\x02\x01\0\x09\x03\0\0\0\x03\0\0\0\x05";
    vec![
        (
            ConsumerRecord::Group(Some(GroupEpoch {
                epoch: 5,
                metadata_hash: 6,
            })),
            b"\0\x03\0\x01g",
            b"\0\0\0\0\0\x05\x01\0\x08\0\0\0\0\0\0\0\x06".to_vec(),
        ),
        (
            ConsumerRecord::Member(member.clone(), Some(metadata())),
            b"\0\x05\0\x01g\0\x01m",
            [&said[..], b"\0"].concat(),
        ),
        (
            ConsumerRecord::Member(member.clone(), Some(classic)),
            b"\0\x05\0\x01g\0\x01m",
            [&said[..], b"\x01\0\x0d\x01\0\0\0\x09\x02\x02p\x03xy\0\0"].concat(),
        ),
        (
            ConsumerRecord::TargetEpoch(Some(TargetEpoch {
                epoch: 5,
                timestamp: Timestamp(6),
            })),
            b"\0\x06\0\x01g",
            b"\0\0\0\0\0\x05\x01\0\x08\0\0\0\0\0\0\0\x06".to_vec(),
        ),
        (
            ConsumerRecord::Target(member.clone(), Some(partitions())),
            b"\0\x07\0\x01g\0\x01m",
            [&b"\0\0"[..], named, b"\0"].concat(),
        ),
        (
            ConsumerRecord::Current(
                member,
                Some(CurrentAssignment {
                    epoch: 5,
                    previous_epoch: 4,
                    state: MemberState::UnrevokedPartitions,
                    assigned: Partitions::default(),
                    revoking: partitions(),
                    since: [((topic(), 1), 3), ((topic(), 2), 5)].into(),
                }),
            ),
            b"\0\x08\0\x01g\0\x01m",
            [&b"\0\0\0\0\0\x05\0\0\0\x04\x01\x01"[..], since, b"\0"].concat(),
        ),
        (
            ConsumerRecord::Regex(
                "r".into(),
                Some(ResolvedRegex {
                    topics: [Arc::from("t")].into(),
                    version: 3,
                    timestamp: Timestamp(4),
                }),
            ),
            b"\0\x10\0\x01g\0\x01r",
            b"\0\0\x02\x02t\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0".to_vec(),
        ),
    ]
}

#[test]
fn keys_and_values_are_these_bytes() {
    for (content, key, value) in all() {
        let record = record(content);
        assert_eq!(record.key(), key, "{record:?}");
        assert_eq!(record.value().as_deref(), Some(&value[..]), "{record:?}");
        let read = GroupRecord::decode(key, Some(&value));
        assert_eq!(read, Ok(Some(record.clone())));
        let tombstone = GroupRecord::decode(key, None).unwrap().unwrap();
        assert_eq!((tombstone.key(), tombstone.value()), (key.to_vec(), None));
    }
}

/// Kafka before 4.3 wrote it so: a commit of a former epoch doesn't count then.
#[test]
fn a_partition_without_an_epoch_has_that_of_its_member() {
    let named = b"\x020123456789abcdef\x03\0\0\0\x01\0\0\0\x02\0";
    let value = [&b"\0\0\0\0\0\x05\0\0\0\x04\0"[..], named, b"\x01\0"].concat();
    let read = GroupRecord::decode(b"\0\x08\0\x01g\0\x01m", Some(&value));
    let current = CurrentAssignment {
        epoch: 5,
        previous_epoch: 4,
        state: MemberState::Stable,
        assigned: partitions(),
        revoking: Partitions::default(),
        since: [((topic(), 1), 5), ((topic(), 2), 5)].into(),
    };
    let expected = ConsumerRecord::Current("m".into(), Some(current));
    assert_eq!(read, Ok(Some(record(expected))));
}

#[test]
fn fields_of_later_versions_are_passed_over_and_broken_records_are_errors() {
    // An epoch with a tag that isn't known.
    let value = b"\0\0\0\0\0\x05\x01\x07\x02ab";
    let read = GroupRecord::decode(b"\0\x03\0\x01g", Some(value)).unwrap();
    let epoch = ConsumerRecord::Group(Some(GroupEpoch {
        epoch: 5,
        metadata_hash: 0,
    }));
    assert_eq!(read, Some(record(epoch)));
    // What Kafka 4.0 kept of the topics.
    let old = GroupRecord::decode(b"\0\x04\0\x01g", Some(b"\0\0\x01\0"));
    assert_eq!(old, Ok(None));
    for (value, what) in [
        (&b"\0\x01"[..], "isn't known"),
        (b"\0\0\0\0", "epoch is cut off"),
    ] {
        let error = GroupRecord::decode(b"\0\x03\0\x01g", Some(value)).unwrap_err();
        assert!(error.contains(what), "{error}");
    }
    for (_, key, value) in all() {
        for length in 0..value.len() {
            let cut = GroupRecord::decode(key, Some(&value[..length]));
            assert!(cut.is_err(), "{key:?} cut at {length}");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(
        kind in prop_oneof![3u8..9, Just(16u8)],
        key in proptest::collection::vec(any::<u8>(), 0..40),
        value in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let key = [&[0, kind, 0, 1, b'g', 0, 1, b'm'][..], &key].concat();
        let _ = GroupRecord::decode(&key, Some(&[&[0, 0][..], &value].concat()));
    }
}
