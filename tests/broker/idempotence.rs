//! An idempotent producer's batches are appended once and in order, also across the death of the
//! broker (KIP-98).

use std::io::Write;

use klamm::model::{ErrorCode, Offset};
use klamm::protocol::init_producer_id::{Api, Request};
use klamm::protocol::produce;
use klamm::record::{Codec, ProducerStamp};

use crate::batches::{compressed, noise, stamped};
use crate::calls::{only_result, produce_request, ACKS_ALL};
use crate::harness::{Home, BOTH};
use crate::wire::{frame, Wire};

fn producer_id(wire: &mut Wire) -> i64 {
    let response = wire.call::<Api>(&Request {
        transactional_id: None,
        transaction_timeout_ms: 0,
        ..Default::default()
    });
    assert_eq!(response.error_code, ErrorCode::None);
    response.producer_id
}

/// What comes of the batch with this sequence.
fn send(
    wire: &mut Wire,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
) -> (ErrorCode, Offset) {
    let stamp = ProducerStamp {
        producer_id,
        producer_epoch,
        base_sequence,
    };
    let batch = stamped(&[format!("{base_sequence}"), "second".into()], stamp);
    let result = wire.produce("orders", 0, ACKS_ALL, batch);
    (result.error_code, result.base_offset)
}

#[test]
fn producer_ids_are_unique_also_after_a_kill() {
    for encoding in BOTH {
        let home = Home::new();
        let broker = home.start();
        let mut seen = Vec::new();
        let mut wire = broker.connect_as(encoding);
        seen.extend((0..20).map(|_| producer_id(&mut wire)));
        broker.kill();
        let broker = home.start();
        let mut wire = broker.connect_as(encoding);
        seen.extend((0..20).map(|_| producer_id(&mut wire)));
        let count = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }
}

#[test]
fn a_batch_that_is_sent_again_is_answered_with_its_first_offset_and_appended_once() {
    for encoding in BOTH {
        let home = Home::new();
        let broker = home.start();
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 1, &[]);
        let id = producer_id(&mut wire);
        for (sequence, offset) in [(0, 0), (2, 2), (4, 4)] {
            assert_eq!(
                send(&mut wire, id, 0, sequence),
                (ErrorCode::None, Offset(offset))
            );
        }
        assert_eq!(send(&mut wire, id, 0, 2), (ErrorCode::None, Offset(2)));

        broker.kill();
        let broker = home.start();
        let mut wire = broker.connect_as(encoding);
        for (sequence, offset) in [(4, 4), (0, 0), (6, 6)] {
            assert_eq!(
                send(&mut wire, id, 0, sequence),
                (ErrorCode::None, Offset(offset))
            );
        }
        assert_eq!(wire.read_all("orders", 0).len(), 8);
    }
}

#[test]
fn a_gap_and_a_stale_epoch_are_refused_before_and_after_a_kill() {
    for encoding in BOTH {
        let home = Home::new();
        let broker = home.start();
        let mut wire = broker.connect_as(encoding);
        wire.create_topic("orders", 1, &[]);
        let id = producer_id(&mut wire);
        assert_eq!(send(&mut wire, id, 1, 0).0, ErrorCode::None);
        let refused = |wire: &mut Wire| {
            assert_eq!(send(wire, id, 1, 4).0, ErrorCode::OutOfOrderSequenceNumber);
            assert_eq!(send(wire, id, 0, 2).0, ErrorCode::InvalidProducerEpoch);
        };
        refused(&mut wire);
        broker.kill();
        let broker = home.start();
        let mut wire = broker.connect_as(encoding);
        refused(&mut wire);
        assert_eq!(send(&mut wire, id, 1, 2), (ErrorCode::None, Offset(2)));
        assert_eq!(wire.read_all("orders", 0).len(), 4);
    }
}

#[test]
fn batches_in_flight_keep_their_order_whether_they_are_dear_or_cheap_to_check() {
    let broker = Home::new().start();
    let mut wire = broker.connect();
    wire.create_topic("orders", 1, &[]);
    let id = producer_id(&mut wire);
    // Dear ones are checked off the arbiter. Together they are several reads of the broker's.
    let dear = noise(300_000);
    let kinds = [
        (&dear[..], Codec::Zstd),
        (b"cheap", Codec::None),
        (&dear, Codec::Gzip),
        (b"cheap", Codec::Lz4),
        (&dear, Codec::None),
    ];
    let mut requests = Vec::new();
    for (sequence, (value, codec)) in kinds.into_iter().cycle().take(40).enumerate() {
        let stamp = ProducerStamp {
            producer_id: id,
            producer_epoch: 0,
            base_sequence: sequence as i32,
        };
        let batch = compressed(&[value], codec, stamp);
        let request = produce_request("orders", 0, ACKS_ALL, batch);
        requests.extend(frame::<produce::Api>(sequence as i32, &request));
    }
    let mut socket = wire.writer();
    let pouring = std::thread::spawn(move || socket.write_all(&requests));
    for _ in 0..40 {
        let (sequence, answer) = wire.receive::<produce::Api>().unwrap();
        let result = only_result(answer.unwrap());
        let offset = Offset(sequence.into());
        assert_eq!(
            (result.error_code, result.base_offset),
            (ErrorCode::None, offset)
        );
    }
    pouring.join().unwrap().unwrap();
}
