//! Throws bytes at everything that decodes a request: frames, both encodings, record batches.
//!
//! The first bytes choose what the rest is taken for, so that each API and version is reached.

#![no_main]

use bytes::{Bytes, BytesMut};
use klamm::protocol::{split_frame, ApiKey, Encoding, FRAME_BYTES_MAX};
use klamm::record::{validate, Limits, TimestampRule};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(([choice, version], rest)) = data.split_first_chunk::<2>() else {
        return;
    };
    match choice {
        0 => {
            let mut stream = BytesMut::from(rest);
            while let Ok(Some(frame)) = split_frame(&mut stream, FRAME_BYTES_MAX) {
                let _ = Encoding::Kafka.decode(&frame);
                let _ = Encoding::MessagePack.decode(&frame);
            }
        }
        1 => drop(Encoding::MessagePack.decode(&Bytes::copy_from_slice(rest))),
        2 => {
            let limits = Limits {
                batch_bytes_max: 1 << 20,
                records_bytes_max: 16 << 20,
                timestamps: TimestampRule::Any,
            };
            let _ = validate(Bytes::copy_from_slice(rest), &limits);
        }
        _ => drop(Encoding::Kafka.decode(&kafka_request(*choice, *version, rest))),
    }
});

/// A frame of one of the APIs and versions that the Kafka listener has, with this body.
fn kafka_request(choice: u8, version: u8, body: &[u8]) -> Bytes {
    let offered: Vec<(ApiKey, i16)> = ApiKey::ALL
        .iter()
        .flat_map(|api| api.kafka_versions().into_iter().flatten().map(|v| (*api, v)))
        .collect();
    let number = usize::from(choice) << 8 | usize::from(version);
    let (api, version) = offered[number % offered.len()];
    let mut bytes = [api as i16, version, 0, 7, -1].map(i16::to_be_bytes).concat();
    if api.is_flexible(version) {
        bytes.push(0);
    }
    bytes.extend_from_slice(body);
    bytes.into()
}
