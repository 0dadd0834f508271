//! What the format and the protocol cost, in nanoseconds: `cargo bench --bench codec
//! --no-default-features`. Each figure is the smallest, median and largest of several rounds, on
//! memory that is warm.

use std::hint::black_box;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use klamm::model::Timestamp;
use klamm::protocol::{
    decode_request, encode_request, produce, split_frame, ApiKey, Records, RequestHeader,
    FRAME_BYTES_MAX,
};
use klamm::record::{
    validate, Batch, BatchBuilder, Codec, KeyRule, Limits, ProducerStamp, TimestampRule,
};

const ROUNDS: usize = 15;
const RECORDS: usize = 640;
const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// Runs `run` often, and prints the nanoseconds of one of its `units`.
fn measure(what: &str, units: usize, mut run: impl FnMut()) {
    let mut each: Vec<f64> = Vec::with_capacity(ROUNDS);
    // Enough repetitions for 20 ms a round.
    let started = Instant::now();
    run();
    let repetitions = (20_000_000 / started.elapsed().as_nanos().max(1)).clamp(1, 100_000) as usize;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        for _ in 0..repetitions {
            run();
        }
        each.push(started.elapsed().as_nanos() as f64 / (repetitions * units) as f64);
    }
    each.sort_by(f64::total_cmp);
    let (min, median, max) = (each[0], each[ROUNDS / 2], each[ROUNDS - 1]);
    println!("{what:<44} {min:>9.1} {median:>9.1} {max:>9.1}");
}

/// A line of text of 100 bytes, another one for each number.
fn value(number: usize) -> String {
    let line = format!(
        "{number} GET /api/v1/items/{number}?page=1 200 OK host-{} ",
        number % 7
    );
    line.chars().cycle().take(100).collect()
}

fn fill(builder: &mut BatchBuilder, values: &[String]) {
    for value in values {
        builder.append(NOW, None, Some(value.as_bytes()), &[]);
    }
}

fn built(codec: Codec, values: &[String]) -> Bytes {
    let mut builder = BatchBuilder::default();
    fill(&mut builder, values);
    builder
        .build(codec, ProducerStamp::NONE)
        .expect("it has records")
}

fn bench_records(values: &[String]) {
    let limits = Limits {
        batch_bytes_max: 1 << 20,
        records_bytes_max: 16 << 20,
        timestamps: TimestampRule::Any,
        keys: KeyRule::Optional,
    };
    measure("record: append to a batch", RECORDS, || {
        let mut builder = BatchBuilder::with_capacity(80_000);
        fill(&mut builder, values);
        black_box(builder.build(Codec::None, ProducerStamp::NONE).ok());
    });
    for codec in [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ] {
        let batch = built(codec, values);
        if codec != Codec::None {
            measure(&format!("record: build with {codec:?}"), RECORDS, || {
                black_box(built(codec, values));
            });
        }
        measure(
            &format!("record: validate, {codec:?}, {} bytes", batch.len()),
            RECORDS,
            || {
                black_box(validate(batch.clone(), &limits).is_ok());
            },
        );
        measure(&format!("record: read, {codec:?}"), RECORDS, || {
            let batch = Batch::parse(batch.clone()).expect("it is good");
            let records = batch.records(16 << 20).expect("it is good");
            let bytes: usize = records
                .iter()
                .flatten()
                .map(|r| r.value.map_or(0, <[u8]>::len))
                .sum();
            black_box(bytes);
        });
    }
}

fn bench_protocol(values: &[String]) {
    let request = produce::Request {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![produce::TopicProduceData {
            name: "a-topic".into(),
            partition_data: vec![produce::PartitionProduceData {
                index: 3,
                records: Records(built(Codec::None, values)),
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let header = RequestHeader {
        api_key: ApiKey::Produce as i16,
        api_version: 0,
        correlation_id: 7,
        client_id: Some("bench".into()),
    };
    measure("Produce of 64 KiB: encode", 1, || {
        black_box(encode_request::<produce::Api>(&header, &request).is_ok());
    });
    let segments = encode_request::<produce::Api>(&header, &request).expect("it can be encoded");
    let stream = segments.to_bytes();
    measure("Produce of 64 KiB: cut and decode, and copy", 1, || {
        let mut buffer = BytesMut::from(&stream[..]);
        let frame = split_frame(&mut buffer, FRAME_BYTES_MAX).expect("it is whole");
        black_box(decode_request(&frame.expect("it is whole")).is_ok());
    });
    let frame = stream.slice(4..);
    measure("Produce of 64 KiB: decode", 1, || {
        black_box(decode_request(&frame).is_ok());
    });
}

fn main() {
    let values: Vec<String> = (0..RECORDS).map(value).collect();
    println!("{:<44} {:>9} {:>9} {:>9}", "ns", "min", "median", "max");
    bench_records(&values);
    bench_protocol(&values);
}
