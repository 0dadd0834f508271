//! Hostile messages and batches cost the sender, not the broker: what decoding them allocates is
//! counted, and held to a small multiple of their own size (hostile inputs 13 to 19 and 22 to 25 of
//! the project's list).

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::{Bytes, BytesMut};
use klamm::model::{ErrorCode, Timestamp};
use klamm::protocol::{
    decode_request, decode_response, fetch, metadata, split_frame, ApiKey, FRAME_BYTES_MAX,
};
use klamm::record::{
    validate, Batch, BatchBuilder, Codec, KeyRule, Limits, ProducerStamp, TimestampRule,
};

/// Counts what a thread has allocated and not freed, and the most that this ever was.
struct Counting;

thread_local! {
    static LIVE: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: i64) {
    // While a thread ends, its counters may be gone.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that `run` had allocated at a time.
fn peak_of<T>(run: impl FnOnce() -> T) -> (i64, T) {
    let before = LIVE.get();
    PEAK.set(before);
    let result = run();
    (PEAK.get() - before, result)
}

fn message(api: ApiKey, body: &[u8]) -> Bytes {
    let mut bytes = vec![0x95, api as u8, 0, 7, 0xc0];
    bytes.extend_from_slice(body);
    bytes.into()
}

/// An array of `count` elements that are all the same.
fn array(count: u32, element: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xdd];
    bytes.extend(count.to_be_bytes());
    bytes.extend(element.repeat(count as usize));
    bytes
}

/// What a small message may cost at most, whatever it says.
const SMALL_MAX: i64 = 16 * 1024;

#[test]
fn lengths_that_lie_allocate_nothing() {
    let two_gib = [0x7f, 0xff, 0xff, 0xff];
    for marker in [0xdd, 0xc6, 0xdb] {
        for api in [
            ApiKey::Produce,
            ApiKey::Metadata,
            ApiKey::CreateTopics,
            ApiKey::Fetch,
        ] {
            let body = [&[0x92, marker][..], &two_gib, &[0xc0]].concat();
            let frame = message(api, &body);
            let (peak, result) = peak_of(|| decode_request(&frame).map(drop));
            let error = result.unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidRequest);
            assert_eq!(error.correlation_id, Some(7), "the sender is answered");
            assert!(peak < SMALL_MAX, "{marker:#x}: {peak} bytes");
        }
    }
    let mut stream = BytesMut::from(&b"\x06\0\0\0only this"[..]);
    let (peak, frame) = peak_of(|| split_frame(&mut stream, FRAME_BYTES_MAX + 1));
    assert_eq!((peak, frame), (0, Ok(None)));
}

/// Hostile input 40: before and after a peer has proved who it is.
#[cfg(feature = "broker")]
#[test]
fn a_peer_that_lies_about_lengths_allocates_nothing() {
    use klamm::protocol::peer::{FrameReader, Hello, Proof};

    for bytes in [
        &[0x91; 4096][..],
        &[0xdd, 0x7f, 0xff, 0xff, 0xff],
        &[0x99, 0xdb, 0x7f, 0xff, 0xff, 0xff],
        &[0x99, 0xaa, b'k', 0xc6, 0x7f, 0xff, 0xff, 0xff],
    ] {
        let (peak, _) = peak_of(|| (Hello::decode(bytes).is_err(), Proof::decode(bytes).is_err()));
        assert!(peak < SMALL_MAX, "{peak} bytes");
        let mut framed = BytesMut::from(&(bytes.len() as u32).to_be_bytes()[..]);
        framed.extend_from_slice(bytes);
        let mut reader = FrameReader::new(0, 1 << 24);
        let (peak, message) = peak_of(|| reader.next(&mut framed).map(drop));
        assert!(message.is_err());
        assert!(peak < SMALL_MAX, "{peak} bytes");
    }
    let mut announced = BytesMut::from(&b"\0\xff\xff\xff\x94\xce"[..]);
    let mut reader = FrameReader::new(0, 1 << 24);
    let (peak, message) = peak_of(|| reader.next(&mut announced));
    assert_eq!((peak, message), (0, Ok(None)));
}

#[test]
fn small_elements_do_not_become_large_memory() {
    // Five million empty strings, arrays, nils: some as names of topics, some as structs.
    for (element, what) in [
        (0xa0, "strings"),
        (0x90, "arrays"),
        (0xc0, "nils"),
        (0x00, "zeros"),
    ] {
        for api in [
            ApiKey::Metadata,
            ApiKey::DeleteTopics,
            ApiKey::DescribeConfigs,
        ] {
            let body = [&[0x92][..], &array(5_000_000, &[element]), &[0xc2]].concat();
            let frame = message(api, &body);
            let (peak, result) = peak_of(|| decode_request(&frame).map(drop));
            assert!(result.is_err());
            assert!(peak < SMALL_MAX, "{} of {what}: {peak} bytes", api.name());
        }
    }
    // As many of the smallest elements as are allowed: the keys of one resource.
    let resource = [&[0x93, 2, 0xa0][..], &array(250_000, &[0xa0])].concat();
    let body = [&[0x93, 0x91][..], &resource, &[0xc2, 0xc2]].concat();
    let frame = message(ApiKey::DescribeConfigs, &body);
    let (peak, result) = peak_of(|| decode_request(&frame).map(drop));
    assert!(result.is_ok());
    assert!(peak < 64 << 20, "{peak} bytes of {}", frame.len());
}

#[test]
fn bytes_in_the_place_of_a_list_are_not_spread_out() {
    // A `bin` where a list of broker ids belongs: serde would read each byte as an id.
    let mut body = vec![0x93, 0x91, 0x93, 0xa1, b't', 3, 0x91, 0x91, 0xc6];
    body.extend(1_000_000u32.to_be_bytes());
    body.extend(vec![1; 1_000_000]);
    body.extend([0, 0xc2]);
    let frame = message(ApiKey::CreatePartitions, &body);
    let (peak, result) = peak_of(|| decode_request(&frame).map(drop));
    assert!(result.is_err());
    assert!(peak < SMALL_MAX, "{peak} bytes");
}

#[test]
fn depth_and_wrong_text_are_errors() {
    for element in [0x91, 0x81] {
        let mut body = vec![element; 100_000];
        body.push(0xc0);
        let frame = message(ApiKey::Metadata, &body);
        let (peak, result) = peak_of(|| decode_request(&frame).map(drop));
        assert_eq!(result.unwrap_err().code, ErrorCode::InvalidRequest);
        assert!(peak < SMALL_MAX, "{peak} bytes");
    }
    // [[[<16 bytes>, "\xff"]], false, false]
    let mut body = vec![0x93, 0x91, 0x92, 0xc4, 16];
    body.extend([0; 16]);
    body.extend([0xa1, 0xff, 0xc2, 0xc2]);
    let error = decode_request(&message(ApiKey::Metadata, &body)).unwrap_err();
    assert!(
        error.message.contains("topics[0].name"),
        "{}",
        error.message
    );
    // A whole request, and a byte more.
    let error =
        decode_request(&message(ApiKey::Metadata, &[0x93, 0xc0, 0xc2, 0xc2, 0])).unwrap_err();
    assert!(
        error.message.contains("1 bytes follow"),
        "{}",
        error.message
    );
}

#[test]
fn records_are_decoded_without_a_copy() {
    let payload = vec![7; 10_000_000];
    let topic = [&[0x93, 0xa1, b't', 0xc4, 16][..], &[0; 16]].concat();
    let mut body = [
        &[0x94, 0xc0, 0xff, 0, 0x91][..],
        &topic,
        &[0x91, 0x92, 0, 0xc6],
    ]
    .concat();
    body.extend((payload.len() as u32).to_be_bytes());
    body.extend(payload);
    let frame = message(ApiKey::Produce, &body);
    let (peak, result) = peak_of(|| decode_request(&frame).map(drop));
    assert!(result.is_ok());
    assert!(peak < SMALL_MAX, "{peak} bytes");
}

#[test]
fn a_client_is_not_fooled_either() {
    let body = array(1_000_000, &[0xc0]);
    let frame = Bytes::from([&[0x94, 7, 0, 0xc0][..], &body].concat());
    let (peak, result) = peak_of(|| decode_response::<metadata::Api>(&frame).map(drop));
    assert!(result.is_err());
    assert!(peak < SMALL_MAX, "{peak} bytes");
    let lie = Bytes::from_static(&[0x94, 7, 0, 0xc0, 0x92, 0, 0xdd, 0x7f, 0xff, 0xff, 0xff]);
    let (peak, result) = peak_of(|| decode_response::<fetch::Api>(&lie).map(drop));
    assert!(result.is_err());
    assert!(peak < SMALL_MAX, "{peak} bytes");
}

/// A frame of Kafka's encoding, without its length, that has this body.
fn kafka_message(api: ApiKey, version: i16, body: &[u8]) -> Bytes {
    let mut bytes = [api as i16, version, 0, 7, -1]
        .map(i16::to_be_bytes)
        .concat();
    if api.is_flexible(version) {
        bytes.push(0);
    }
    bytes.extend_from_slice(body);
    bytes.into()
}

#[test]
fn kafkas_encoding_of_each_version_allocates_a_small_multiple_of_its_bytes() {
    // Small and large counts and lengths at every place, as each version would read them.
    let fillings: [&[u8]; 6] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0, 0, 0x20, 0],
        &[0x80, 0x40],
        &[0x02],
        &[0, 0, 0, 1],
    ];
    for api in ApiKey::ALL {
        for version in api.kafka_versions().into_iter().flatten() {
            for first in fillings {
                for rest in fillings {
                    let body = [first, &rest.repeat(20_000)].concat();
                    let frame = kafka_message(*api, version, &body);
                    let decode = || klamm::protocol::kafka::decode_request(&frame).map(drop);
                    let (peak, _) = peak_of(decode);
                    // An element takes a byte of the frame at least, and no more than this in memory.
                    let most = SMALL_MAX + 80 * frame.len() as i64;
                    assert!(peak < most, "{} {version}: {peak} bytes", api.name());
                }
            }
        }
    }
}

#[test]
fn many_small_elements_of_kafkas_encoding_are_charged() {
    // Five million names of topics, each an empty string of two bytes.
    let mut body = 5_000_000u32.to_be_bytes().to_vec();
    body.extend(vec![0; 10_000_000]);
    let frame = kafka_message(ApiKey::Metadata, 1, &body);
    let (peak, result) = peak_of(|| klamm::protocol::kafka::decode_request(&frame).map(drop));
    assert!(result.unwrap_err().to_string().contains("when decoded"));
    assert!(peak < SMALL_MAX, "{peak} bytes");
}

fn limits() -> Limits {
    Limits {
        batch_bytes_max: 1 << 20,
        records_bytes_max: 16 << 20,
        timestamps: TimestampRule::Any,
        keys: KeyRule::Optional,
    }
}

/// A batch whose header says it has 2³¹-1 records, with a checksum that is right.
fn lying_batch() -> Bytes {
    let mut builder = BatchBuilder::default();
    builder.append(Timestamp(0), None, None, &[]);
    let batch = builder.build(Codec::None, ProducerStamp::NONE).unwrap();
    let mut bytes = batch.to_vec();
    bytes[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
    bytes[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

#[test]
fn a_record_count_that_lies_allocates_nothing() {
    let batch = lying_batch();
    let (peak, result) = peak_of(|| validate(batch.clone(), &limits()).map(drop));
    assert_eq!(result.unwrap_err().code(), ErrorCode::InvalidRecord);
    assert!(peak < SMALL_MAX, "{peak} bytes");
    let (peak, records) = peak_of(|| {
        let records = Batch::parse(batch).unwrap().records(1 << 20).unwrap();
        let read = records.iter().filter(Result::is_ok).count();
        read
    });
    assert_eq!(records, 1);
    assert!(peak < SMALL_MAX, "{peak} bytes");
}

#[test]
fn a_bomb_is_walked_without_unfolding_it() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut builder = BatchBuilder::default();
        builder.append(Timestamp(0), None, Some(&vec![0; 40 << 20]), &[]);
        let bomb = builder.build(codec, ProducerStamp::NONE).unwrap();
        drop(builder);
        let limits = Limits {
            batch_bytes_max: 16 << 20,
            ..limits()
        };
        let (peak, result) = peak_of(|| validate(bomb, &limits).map(drop));
        assert_eq!(
            result.unwrap_err().code(),
            ErrorCode::InvalidRecord,
            "{codec:?}"
        );
        assert!(peak < 16 << 20, "{codec:?}: {peak} bytes");
    }
}
