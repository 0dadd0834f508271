//! The format against its specification, and every lie that a batch can tell.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::model::{ErrorCode, Offset, Timestamp};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn limits() -> Limits {
    Limits {
        batch_bytes_max: 1 << 20,
        records_bytes_max: 8 << 20,
        timestamps: TimestampRule::around(NOW, 3_600_000, 3_600_000),
        keys: KeyRule::Optional,
    }
}

/// A batch of some records, to be broken.
fn batch(codec: Codec) -> Bytes {
    let mut builder = BatchBuilder::default();
    builder.append(NOW, Some(b"key"), Some(b"value"), &[]);
    let headers = [
        Header {
            key: "trace",
            value: Some(b"1"),
        },
        Header {
            key: "empty",
            value: None,
        },
    ];
    builder.append(Timestamp(NOW.0 + 5), None, Some(&[b'v'; 300]), &headers);
    builder.append(Timestamp(NOW.0 - 5), Some(b""), None, &[]);
    builder.build(codec, ProducerStamp::NONE).unwrap()
}

/// Changes bytes of a good batch, and makes the checksum right again.
fn changed(at: usize, bytes: &[u8]) -> Bytes {
    let mut batch = batch(Codec::None).to_vec();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    with_crc(batch)
}

fn with_crc(mut batch: Vec<u8>) -> Bytes {
    let crc = crc32c::crc32c(&batch[BatchHeader::CRC_FROM..]);
    batch[BatchHeader::CRC_AT..BatchHeader::CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

/// A batch whose records are these bytes.
fn with_records(records: &[u8], count: i32, codec: Codec) -> Bytes {
    let mut batch = batch(codec)[..BatchHeader::LEN].to_vec();
    batch.extend_from_slice(records);
    let length = (batch.len() - BatchHeader::LENGTH_END) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    batch[35..43].copy_from_slice(&NOW.0.to_be_bytes());
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    with_crc(batch)
}

fn refused(batch: Bytes) -> RecordError {
    validate(batch, &limits()).expect_err("the batch is bad")
}

#[test]
fn within_a_budget_only_so_much_is_decompressed() {
    let checked =
        |batch: &Bytes, budget: &mut usize| validate_within(batch.clone(), &limits(), budget);
    for codec in Codec::ALL.into_iter().filter(|codec| *codec != Codec::None) {
        let good = batch(codec);
        let mut budget = 1000;
        for _ in 0..2 {
            let valid = checked(&good, &mut budget);
            assert!(matches!(valid, Ok(Checked::Valid(_))), "{codec:?}");
        }
        assert!((1..400).contains(&budget), "{codec:?}: {budget}");
        let Ok(Checked::Unread(unread)) = checked(&good, &mut budget) else {
            panic!("{codec:?}: the budget had {budget} bytes left");
        };
        assert_eq!(budget, 0, "{codec:?}");
        assert!(unread.check().is_ok(), "{codec:?}");

        let rotten = with_records(b"rotten", 1, codec);
        let Ok(Checked::Unread(unread)) = checked(&rotten, &mut 1000) else {
            panic!("{codec:?}");
        };
        assert_eq!(unread.check().unwrap_err(), refused(rotten), "{codec:?}");
    }
    let uncompressed = checked(&batch(Codec::None), &mut 0);
    assert!(matches!(uncompressed, Ok(Checked::Valid(_))));
    let lying = changed(57, &2i32.to_be_bytes());
    assert!(
        checked(&lying, &mut 1000).is_err(),
        "the header is looked at"
    );
}

/// Written byte by byte from the specification of the format (KIP-98), not by our builder.
#[test]
fn the_bytes_are_those_of_the_specification() {
    #[rustfmt::skip]
    let specified: &[u8] = &[
        0, 0, 0, 0, 0, 0, 0, 0,                   // base offset
        0, 0, 0, 70,                              // length of what follows
        0xff, 0xff, 0xff, 0xff,                   // leader epoch -1
        2,                                        // magic
        0x25, 0xb6, 0x12, 0x19,                   // CRC-32C, computed bit by bit in Python
        0, 0,                                     // attributes
        0, 0, 0, 1,                               // last offset delta
        0, 0, 0, 0, 0, 0, 0x03, 0xe8,             // base timestamp 1000
        0, 0, 0, 0, 0, 0, 0x03, 0xe9,             // max timestamp 1001
        0, 0, 0, 0, 0, 0, 0, 5,                   // producer id
        0, 1,                                     // producer epoch
        0, 0, 0, 7,                               // base sequence
        0, 0, 0, 2,                               // records
        // 9 bytes: attributes, timestamp +0, offset +0, key, value, no headers.
        0x12, 0, 0, 0, 2, b'k', 4, b'v', b'w', 0,
        // 10 bytes: attributes, timestamp +1, offset +1, no key, no value, one header.
        0x14, 0, 2, 2, 1, 1, 2, 2, b'h', 2, b'x',
    ];

    let mut builder = BatchBuilder::default();
    builder.append(Timestamp(1000), Some(b"k"), Some(b"vw"), &[]);
    let header = Header {
        key: "h",
        value: Some(b"x"),
    };
    builder.append(Timestamp(1001), None, None, &[header]);
    let stamp = ProducerStamp {
        producer_id: 5,
        producer_epoch: 1,
        base_sequence: 7,
    };
    let built = builder.build(Codec::None, stamp).unwrap();
    assert_eq!(&built[..], specified);
}

#[test]
fn what_is_built_is_valid_and_reads_back() {
    for codec in Codec::ALL {
        let batch = validate(batch(codec), &limits()).unwrap();
        assert_eq!(batch.header().max_timestamp, Timestamp(NOW.0 + 5));
        let records = batch.records(1 << 20).unwrap();
        let read: Vec<_> = records.iter().map(Result::unwrap).collect();
        assert_eq!(read.len(), 3, "{codec:?}");
        assert_eq!(read[0].key, Some(&b"key"[..]));
        assert_eq!(read[1].value.unwrap().len(), 300);
        assert_eq!(read[2].value, None);
        let times: Vec<_> = read.iter().map(|record| record.timestamp - NOW).collect();
        assert_eq!(times, [0, 5, -5]);
        let headers: Vec<_> = read[1].headers.iter().collect();
        assert_eq!(
            headers[0],
            Header {
                key: "trace",
                value: Some(b"1")
            }
        );
        assert_eq!(headers[1].value, None);
    }
}

#[test]
fn uncompressed_records_are_read_in_place() {
    let bytes = batch(Codec::None);
    let batch = Batch::parse(bytes.clone()).unwrap();
    let records = batch.records(0).unwrap();
    let value = records.iter().next().unwrap().unwrap().value.unwrap();
    assert!(bytes.as_ptr_range().contains(&value.as_ptr()));
}

#[test]
fn a_builder_is_empty_and_usable_after_each_batch() {
    let mut builder = BatchBuilder::with_capacity(1000);
    for round in 0..3 {
        assert_eq!(builder.append(NOW, None, Some(&[round]), &[]), 0);
        let built = builder.build(Codec::None, ProducerStamp::NONE).unwrap();
        assert!(builder.is_empty() && builder.size() == 0);
        let batch = validate(built, &limits()).unwrap();
        let records = batch.records(0).unwrap();
        assert_eq!(
            records.iter().next().unwrap().unwrap().value,
            Some(&[round][..])
        );
    }
    assert!(builder.build(Codec::None, ProducerStamp::NONE).is_err());
}

#[test]
fn a_wrong_checksum_or_length_is_corruption() {
    let mut bad = batch(Codec::None).to_vec();
    bad[70] ^= 1;
    assert_eq!(refused(bad.into()).code(), ErrorCode::CorruptMessage);

    let good = batch(Codec::None);
    for bytes in [
        good.slice(..good.len() - 1),
        good.slice(..60),
        [&good[..], b"x"].concat().into(),
        [&good[..], &good[..]].concat().into(),
        changed(8, &i32::MAX.to_be_bytes()),
        changed(8, &(-1i32).to_be_bytes()),
        Bytes::new(),
    ] {
        assert_eq!(refused(bytes).code(), ErrorCode::CorruptMessage);
    }
}

#[test]
fn counts_that_lie_are_invalid() {
    for count in [0, -1, 1, 2, 4, i32::MAX, i32::MIN] {
        let mut bad = batch(Codec::None).to_vec();
        bad[57..61].copy_from_slice(&count.to_be_bytes());
        assert_eq!(
            refused(with_crc(bad.clone())).code(),
            ErrorCode::InvalidRecord
        );
        // And with a last offset delta that agrees with the lie.
        bad[23..27].copy_from_slice(&count.wrapping_sub(1).to_be_bytes());
        assert_eq!(
            refused(with_crc(bad)).code(),
            ErrorCode::InvalidRecord,
            "{count}"
        );
    }
    for delta in [1i32, 3, -1, i32::MAX] {
        let error = refused(changed(23, &delta.to_be_bytes()));
        assert_eq!(error.code(), ErrorCode::InvalidRecord);
    }
}

#[test]
fn records_that_lie_are_invalid() {
    let good = [0x0e, 0, 0, 0, 1, 2, b'v', 0];
    assert!(validate(with_records(&good, 1, Codec::None), &limits()).is_ok());
    for (records, what) in [
        (&[0x0c, 0, 0, 0, 1, 2, b'v', 0][..], "length too small"),
        (&[0x10, 0, 0, 0, 1, 2, b'v', 0], "length too large"),
        (&[0x0d, 0, 0, 0, 1, 2, b'v', 0], "length negative"),
        (
            &[0x0e, 0, 0, 2, 1, 2, b'v', 0],
            "offset delta 1 for the first",
        ),
        (&[0x0e, 0, 0, 0, 3, 2, b'v', 0], "key length -2"),
        (&[0x0e, 0, 0, 0, 1, 2, b'v', 2], "a header that isn't there"),
        (&[0x0e, 0, 0, 0, 1, 2, b'v', 1], "headers -1"),
        (&[0x0e, 0, 0, 0, 1, 2, b'v', 0, 0], "a byte behind"),
        (
            &[0x0e, 0, 0, 0, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f],
            "value of 2 GiB",
        ),
        (
            &[
                0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01,
            ],
            "overlong",
        ),
        (&[0x0e, 0], "cut"),
        (&[], "nothing"),
    ] {
        for codec in Codec::ALL {
            let mut payload = Vec::new();
            compression::compress(codec, records, &mut payload).unwrap();
            let error = refused(with_records(&payload, 1, codec));
            assert_eq!(
                error.code(),
                ErrorCode::InvalidRecord,
                "{what}, {codec:?}: {error}"
            );
        }
    }
}

#[test]
fn clients_may_not_send_what_only_brokers_write() {
    let attributes = |bits: i16| refused(changed(21, &bits.to_be_bytes())).code();
    assert_eq!(attributes(1 << 5), ErrorCode::InvalidRecord, "control");
    assert_eq!(
        attributes(1 << 4),
        ErrorCode::InvalidTxnState,
        "transactional"
    );
    assert_eq!(
        attributes(1 << 3),
        ErrorCode::InvalidRecord,
        "LogAppendTime"
    );
    assert_eq!(
        attributes(1 << 6),
        ErrorCode::InvalidRecord,
        "delete horizon"
    );
    assert_eq!(attributes(5), ErrorCode::UnsupportedCompressionType);
    let magic = refused(changed(16, &[1])).code();
    assert_eq!(magic, ErrorCode::UnsupportedForMessageFormat);
    assert_eq!(
        refused(changed(53, &[0, 0, 0, 1])).code(),
        ErrorCode::InvalidRecord
    );
}

#[test]
fn timestamps_are_held_to_the_topics_bounds() {
    for base in [i64::MIN, -2, 0, NOW.0 + 3_600_001, i64::MAX - 2, i64::MAX] {
        let error = refused(changed(27, &base.to_be_bytes()));
        assert_eq!(error.code(), ErrorCode::InvalidTimestamp, "{base}: {error}");
    }
    let untruthful = refused(changed(35, &(NOW.0 + 6).to_be_bytes()));
    assert_eq!(untruthful.code(), ErrorCode::InvalidRecord);

    let mut builder = BatchBuilder::default();
    builder.append(Timestamp(5), None, None, &[]);
    let old = builder.build(Codec::None, ProducerStamp::NONE).unwrap();
    assert_eq!(refused(old.clone()).code(), ErrorCode::InvalidTimestamp);
    let any = Limits {
        timestamps: TimestampRule::Any,
        ..limits()
    };
    assert!(validate(old, &any).is_ok());
}

#[test]
fn a_batch_that_is_too_large_or_a_bomb_is_refused() {
    let mut builder = BatchBuilder::default();
    builder.append(NOW, None, Some(&vec![0; 20 << 20]), &[]);
    let error = refused(builder.build(Codec::None, ProducerStamp::NONE).unwrap());
    assert_eq!(error.code(), ErrorCode::MessageTooLarge);
    for codec in &Codec::ALL[1..] {
        builder.append(NOW, None, Some(&vec![0; 20 << 20]), &[]);
        let bomb = builder.build(*codec, ProducerStamp::NONE).unwrap();
        assert!(bomb.len() < 1 << 20, "{codec:?}");
        assert_eq!(refused(bomb).code(), ErrorCode::InvalidRecord, "{codec:?}");
    }
}

/// When (after [`NOW`]), key, value, name of a header.
type AnyRecord = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Option<String>);

fn records() -> impl Strategy<Value = Vec<AnyRecord>> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200));
    let record = (
        -3_600_000i64..=3_600_000,
        bytes(),
        bytes(),
        proptest::option::of(".{0,20}"),
    );
    proptest::collection::vec(record, 1..50)
}

proptest! {
    #[test]
    fn any_records_read_back(records in records(), codec in 0..5usize) {
        let mut builder = BatchBuilder::default();
        for (after, key, value, header) in &records {
            let header = header.as_ref().map(|key| Header { key, value: key.get(..1).map(str::as_bytes) });
            let headers = header.as_slice();
            let timestamp = Timestamp(NOW.0 + after);
            let size = builder.size().max(BatchHeader::LEN);
            builder.append(timestamp, key.as_deref(), value.as_deref(), headers);
            let record = BatchBuilder::record_size_max(key.as_deref(), value.as_deref(), headers);
            prop_assert!(builder.size() - size <= record);
        }
        let built = builder.build(Codec::ALL[codec], ProducerStamp::NONE).unwrap();
        let batch = validate(built, &limits()).unwrap();
        let read = batch.records(1 << 20).unwrap();
        prop_assert_eq!(read.iter().count(), records.len());
        for (i, (record, (after, key, value, header))) in read.iter().zip(&records).enumerate() {
            let record = record.unwrap();
            prop_assert_eq!(record.offset, Offset(i as i64));
            prop_assert_eq!(record.timestamp - NOW, *after);
            prop_assert_eq!(record.key, key.as_deref());
            prop_assert_eq!(record.value, value.as_deref());
            prop_assert_eq!(record.headers.iter().map(|h| h.key).next(), header.as_deref());
        }
    }

    /// The hot path and the path that explains agree on what is right.
    #[test]
    fn both_walks_agree(
        changes in proptest::collection::vec((BatchHeader::LEN..400usize, any::<u8>()), 1..4),
    ) {
        let mut bytes = batch(Codec::None).to_vec();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at.max(BatchHeader::LEN)] = byte;
        }
        let (fast, explained) = validate::both_walks(&bytes[BatchHeader::LEN..], 3);
        prop_assert_eq!(fast, explained);
    }

    /// Whatever is changed under a checksum that is right: an error or a batch, never a panic, and
    /// what passes reads back whole.
    #[test]
    fn a_changed_batch_never_panics(
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6),
        codec in 0..5usize,
    ) {
        let mut bytes = batch(Codec::ALL[codec]).to_vec();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let any = Limits { timestamps: TimestampRule::Any, ..limits() };
        match validate(with_crc(bytes.clone()), &any) {
            Ok(batch) => {
                let records = batch.records(8 << 20).unwrap();
                let read = records.iter().filter(Result::is_ok).count();
                // Names of headers are the one thing that the leader doesn't look at.
                prop_assert!(read == 3 || records.iter().any(|record| record.is_err()));
            }
            Err(_) => {
                if let Ok(batch) = Batch::parse(with_crc(bytes)) {
                    let _ = batch.records(1 << 20).map(|records| records.iter().count());
                }
            }
        }
    }
}

#[test]
fn a_header_whose_offsets_go_beyond_the_last_is_no_overflow() {
    let mut batch = batch(Codec::None).to_vec();
    batch[..8].copy_from_slice(&i64::MAX.to_be_bytes());
    let header = BatchHeader::decode(&batch).unwrap();
    assert_eq!(header.last_offset(), Offset(i64::MAX));
    assert_eq!(header.next_offset(), Offset(i64::MAX));
}
