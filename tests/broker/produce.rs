//! Produce: what is acknowledged is there, byte for byte, and what is refused is not.

use klamm::model::{ErrorCode, LeaderEpoch, Offset, Timestamp};
use klamm::protocol::produce as api;
use klamm::record::BatchHeader;

use crate::batches::{batch, noise, records, split, timed};
use crate::calls::{produce_request, ACKS_ALL};
use crate::harness::{Home, BOTH};

/// Base offset and leader epoch are stamped by the leader, the rest is the producer's.
fn as_stamped(sent: &[u8], base_offset: i64, leader_epoch: LeaderEpoch) -> Vec<u8> {
    let mut stamped = sent.to_vec();
    stamped[..8].copy_from_slice(&base_offset.to_be_bytes());
    stamped[12..16].copy_from_slice(&leader_epoch.0.to_be_bytes());
    stamped
}

#[test]
fn what_is_acknowledged_is_read_back_byte_for_byte() {
    for encoding in BOTH {
        let broker = Home::new().start();
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 2, &[]);
        let epoch = wire.topic("orders").partitions[1].leader_epoch;
        let mut expected = Vec::new();
        let mut next = 0;
        for (acks, values) in [
            (1, vec![b"a".to_vec(), b"b".to_vec()]),
            (ACKS_ALL, vec![noise(300_000)]),
            (ACKS_ALL, vec![Vec::new(); 100]),
        ] {
            let sent = batch(&values);
            let result = wire.produce("orders", 1, acks, sent.clone());
            assert_eq!(result.error_code, ErrorCode::None, "{result:?}");
            assert_eq!(result.base_offset, Offset(next));
            assert_eq!(result.log_append_time_ms, Timestamp::NONE);
            expected.extend(as_stamped(&sent, next, epoch));
            next += values.len() as i64;
        }
        let data = wire.fetch("orders", 1, 0);
        assert_eq!(data.high_watermark, Offset(next));
        assert_eq!(data.log_start_offset, Offset::ZERO);
        assert!(data.records.0[..] == expected, "other bytes than were sent");
        assert!(wire.fetch("orders", 0, 0).records.0.is_empty());
    }
}

#[test]
fn acks_0_is_not_answered_and_is_appended_in_order() {
    for encoding in BOTH {
        let broker = Home::new().start();
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 1, &[]);
        for value in ["a", "b"] {
            let request = produce_request("orders", 0, 0, batch(&[value]));
            wire.send::<api::Api>(&request).unwrap();
        }
        // The next answer on this connection is this one's, and not one of those before it.
        let result = wire.produce("orders", 0, ACKS_ALL, batch(&["c"]));
        assert_eq!(result.base_offset, Offset(2));
        let values: Vec<_> = wire.read_all("orders", 0);
        assert_eq!(
            values,
            [(0, b"a".to_vec()), (1, b"b".to_vec()), (2, b"c".to_vec())]
        );
    }
}

#[test]
fn acks_0_that_goes_wrong_closes_the_connection() {
    for encoding in BOTH {
        let broker = Home::new().start();
        let mut wire = broker.connect_as(encoding);
        let request = produce_request("nowhere", 0, 0, batch(&["a"]));
        wire.send::<api::Api>(&request).unwrap();
        wire.expect_close("acks=0 to an unknown topic");
    }
}

#[test]
fn pipelined_batches_of_one_connection_keep_their_order() {
    for encoding in BOTH {
        let broker = Home::new().start();
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 1, &[]);
        let sent: Vec<_> = (0..200)
            .map(|n| {
                let request = produce_request("orders", 0, ACKS_ALL, batch(&[n.to_string()]));
                wire.send::<api::Api>(&request).unwrap()
            })
            .collect();
        let mut answered = wire.correlation_ids(sent.len());
        answered.sort();
        assert_eq!(answered, sent);
        for (n, (offset, value)) in wire.read_all("orders", 0).into_iter().enumerate() {
            assert_eq!((offset, value), (n as i64, n.to_string().into_bytes()));
        }
    }
}

/// As Apache Kafka 4.3.1 does: a topic with one replica can be written to, whatever it asks for.
#[test]
fn no_more_replicas_must_be_in_sync_than_there_are() {
    for encoding in BOTH {
        let broker = Home::new().start();
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 1, &[("min.insync.replicas", "2")]);
        let taken = wire.produce("orders", 0, ACKS_ALL, batch(&["a"]));
        assert_eq!(
            (taken.error_code, taken.base_offset),
            (ErrorCode::None, Offset(0))
        );
    }
}

#[test]
fn log_append_time_is_the_brokers_and_the_checksum_still_fits() {
    for encoding in BOTH {
        let broker = Home::new().start();
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 1, &[("message.timestamp.type", "LogAppendTime")]);
        let before = Timestamp::now();
        let result = wire.produce("orders", 0, ACKS_ALL, timed(&[(1_000, "a"), (2_000, "b")]));
        let after = Timestamp::now();
        assert_eq!(result.error_code, ErrorCode::None);
        let appended = result.log_append_time_ms;
        assert!(before <= appended && appended <= after, "{appended}");
        let data = wire.fetch("orders", 0, 0);
        let read = split(&data.records.0);
        assert_eq!(read[0].header().max_timestamp, appended);
        assert_eq!(records(&data.records.0).len(), 2);
    }
}

#[test]
fn each_batch_of_a_request_has_its_own_result() {
    for encoding in BOTH {
        let broker = Home::new().start();
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 1, &[]);
        let mut request = produce_request("orders", 0, ACKS_ALL, batch(&["a"]));
        let mut broken = batch(&["b"]).to_vec();
        broken[BatchHeader::LEN] ^= 1;
        let partitions = &mut request.topic_data[0].partition_data;
        for (index, records) in [(0, broken.into()), (7, batch(&["c"])), (0, batch(&["d"]))] {
            partitions.push(api_data(index, records));
        }
        let response = wire.call::<api::Api>(&request);
        let results = &response.responses[0].partition_responses;
        let codes: Vec<_> = results.iter().map(|r| (r.index, r.error_code)).collect();
        assert_eq!(
            codes,
            [
                (0, ErrorCode::None),
                (0, ErrorCode::CorruptMessage),
                (7, ErrorCode::UnknownTopicOrPartition),
                (0, ErrorCode::None),
            ]
        );
        let read = wire.read_all("orders", 0);
        assert_eq!(read, [(0, b"a".to_vec()), (1, b"d".to_vec())]);
    }
}

fn api_data(index: i32, records: bytes::Bytes) -> api::PartitionProduceData {
    api::PartitionProduceData {
        index,
        records: klamm::protocol::Records(records),
    }
}

#[test]
fn acks_that_mean_nothing_are_refused() {
    for encoding in BOTH {
        let broker = Home::new().start();
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 1, &[]);
        let refused = wire.produce("orders", 0, 2, batch(&["a"]));
        assert_eq!(refused.error_code, ErrorCode::InvalidRequiredAcks);
        assert!(wire.read_all("orders", 0).is_empty());
    }
}
