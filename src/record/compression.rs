//! The codecs of a batch's records, in the framings that Kafka's clients use.
//!
//! - gzip: one gzip stream.
//! - snappy: the framing of xerial's snappy-java (magic, version, then blocks with a length each);
//!   a bare snappy block is read too, since some clients send it.
//! - lz4: the LZ4 frame format, independent blocks of 64 KiB, without checksums of the content
//!   (the batch has its own).
//! - zstd: one zstd frame.
//!
//! Decompression is bounded: it stops with an error as soon as more comes out than the caller
//! allows, and a codec's own memory is bounded too. Contexts are kept a thread, since making a
//! zstd context costs more than compressing 16 KiB with it.

use std::cell::RefCell;
use std::io::{self, Read, Write};

use bytes::Bytes;
use zstd::zstd_safe::{DCtx, DParameter, ResetDirective};

use super::{Codec, RecordError};

const GZIP_LEVEL: u32 = 6;
/// Level 1 compresses lines of text nearly as well as Kafka's default of 3, in half the time.
const ZSTD_LEVEL: i32 = 1;
/// A zstd frame may make its reader allocate 2 to the power of this. 8 MiB covers all levels up to
/// 19 of the reference implementation.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Java's block size.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;
const XERIAL_MAGIC: &[u8] = &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Magic, version 1, compatible with 1.
const XERIAL_HEADER_BYTES: usize = 16;
/// No snappy element gives more bytes for each of its own: a copy of 64 bytes takes 3.
const SNAPPY_EXPANSION_MAX: usize = 22;
const LZ4_BLOCK_BYTES: usize = 64 * 1024;
/// Magic; version 1 with independent blocks and no checksums; blocks of 64 KiB; the header's
/// checksum.
const LZ4_HEADER: &[u8] = &[0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
/// Set in a block's length if the block isn't compressed.
const LZ4_STORED: u32 = 1 << 31;
/// How much is decompressed at once.
const CHUNK_BYTES: usize = 64 * 1024;

thread_local! {
    static ZSTD_COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> =
        const { RefCell::new(None) };
    static ZSTD_DECOMPRESSOR: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

fn failed(error: impl std::fmt::Display) -> RecordError {
    RecordError::Compression(error.to_string())
}

fn too_much(bytes_max: usize) -> RecordError {
    failed(format_args!("they are more than {bytes_max} bytes"))
}

/// Appends the compressed `records` to `out`.
pub(super) fn compress(codec: Codec, records: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
    match codec {
        Codec::None => out.extend_from_slice(records),
        Codec::Gzip => {
            let level = flate2::Compression::new(GZIP_LEVEL);
            let mut encoder = flate2::write::GzEncoder::new(out, level);
            encoder.write_all(records).map_err(failed)?;
            encoder.finish().map_err(failed)?;
        }
        Codec::Snappy => compress_xerial(records, out)?,
        Codec::Lz4 => compress_lz4(records, out)?,
        Codec::Zstd => ZSTD_COMPRESSOR.with(|slot| {
            let mut slot = slot.borrow_mut();
            let compressor = match &mut *slot {
                Some(compressor) => compressor,
                None => slot.insert(zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(failed)?),
            };
            let from = out.len();
            out.resize(from + zstd::zstd_safe::compress_bound(records.len()), 0);
            let written = compressor.compress_to_buffer(records, &mut out[from..]);
            out.truncate(from + written.map_err(failed)?);
            Ok::<_, RecordError>(())
        })?,
    }
    Ok(())
}

fn compress_xerial(records: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
    out.extend_from_slice(XERIAL_MAGIC);
    out.extend_from_slice(&1u32.to_be_bytes());
    out.extend_from_slice(&1u32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in records.chunks(XERIAL_BLOCK_BYTES) {
        let length_at = out.len();
        let from = length_at + 4;
        out.resize(from + snap::raw::max_compress_len(block.len()), 0);
        let written = encoder.compress(block, &mut out[from..]).map_err(failed)?;
        out.truncate(from + written);
        out[length_at..from].copy_from_slice(&(written as u32).to_be_bytes());
    }
    Ok(())
}

fn compress_lz4(records: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
    out.extend_from_slice(LZ4_HEADER);
    let mut table = lz4_flex::block::CompressTable::small();
    for block in records.chunks(LZ4_BLOCK_BYTES) {
        let length_at = out.len();
        let from = length_at + 4;
        let bound = lz4_flex::block::get_maximum_output_size(block.len());
        out.resize(from + bound, 0);
        let written =
            lz4_flex::block::compress_into_with_table(block, &mut out[from..], &mut table)
                .map_err(failed)?;
        let length = if written < block.len() {
            out.truncate(from + written);
            written as u32
        } else {
            out.truncate(from);
            out.extend_from_slice(block);
            block.len() as u32 | LZ4_STORED
        };
        out[length_at..from].copy_from_slice(&length.to_le_bytes());
    }
    // The end mark.
    out.extend_from_slice(&0u32.to_le_bytes());
    Ok(())
}

/// Decompresses everything, `records_bytes_max` at most.
pub(super) fn decompress(
    codec: Codec,
    payload: &Bytes,
    records_bytes_max: usize,
) -> Result<Bytes, RecordError> {
    if codec == Codec::None {
        return Ok(payload.clone());
    }
    let mut records = Vec::with_capacity((payload.len() * 4).min(records_bytes_max));
    with_reader(codec, payload, records_bytes_max, |reader| {
        let bytes_max = records_bytes_max as u64;
        reader
            .take(bytes_max + 1)
            .read_to_end(&mut records)
            .map_err(failed)
    })?;
    if records.len() > records_bytes_max {
        return Err(too_much(records_bytes_max));
    }
    // They may be kept for long, and the room for what didn't come with them.
    records.shrink_to_fit();
    Ok(records.into())
}

/// Runs `read` over the decompressed records without holding them all: at most a codec's window
/// and a chunk are in memory. `read` has to stop at `records_bytes_max` itself ([`Chunks`] does).
pub(super) fn with_reader<T>(
    codec: Codec,
    payload: &[u8],
    records_bytes_max: usize,
    read: impl FnOnce(&mut dyn Read) -> Result<T, RecordError>,
) -> Result<T, RecordError> {
    match codec {
        Codec::None => read(&mut &payload[..]),
        Codec::Gzip => read(&mut flate2::bufread::MultiGzDecoder::new(payload)),
        Codec::Snappy => read(&mut SnappyReader::new(payload, records_bytes_max)),
        Codec::Lz4 => read(&mut lz4_flex::frame::FrameDecoder::new(payload)),
        Codec::Zstd => ZSTD_DECOMPRESSOR.with(|context| {
            let mut context = context.borrow_mut();
            let reset = context.reset(ResetDirective::SessionOnly);
            let limit = DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX);
            reset
                .and_then(|_| context.set_parameter(limit))
                .map_err(|code| failed(zstd::zstd_safe::get_error_name(code)))?;
            let mut decoder = zstd::stream::read::Decoder::with_context(payload, &mut context);
            read(&mut decoder)
        }),
    }
}

/// Reads snappy blocks one after the other.
struct SnappyReader<'a> {
    rest: &'a [u8],
    framing: SnappyFraming,
    block: Vec<u8>,
    at: usize,
    block_bytes_max: usize,
}

enum SnappyFraming {
    Xerial,
    /// The whole payload is one block.
    Bare,
}

impl<'a> SnappyReader<'a> {
    fn new(payload: &'a [u8], block_bytes_max: usize) -> Self {
        let framed = payload.starts_with(XERIAL_MAGIC) && payload.len() >= XERIAL_HEADER_BYTES;
        let (framing, from) = match framed {
            true => (SnappyFraming::Xerial, XERIAL_HEADER_BYTES),
            false => (SnappyFraming::Bare, 0),
        };
        SnappyReader {
            rest: &payload[from..],
            framing,
            block: Vec::new(),
            at: 0,
            block_bytes_max,
        }
    }

    fn next_block(&mut self) -> io::Result<()> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let block = match self.framing {
            SnappyFraming::Bare => std::mem::take(&mut self.rest),
            SnappyFraming::Xerial => {
                let cut = || invalid("a snappy block is cut".into());
                let (length, rest) = self.rest.split_first_chunk::<4>().ok_or_else(cut)?;
                let length = u32::from_be_bytes(*length) as usize;
                let (block, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
                self.rest = rest;
                block
            }
        };
        // A block says how long its content is, and the decoder believes it.
        let length = snap::raw::decompress_len(block)?;
        if length
            > self
                .block_bytes_max
                .min(block.len() * SNAPPY_EXPANSION_MAX + 64)
        {
            return Err(invalid(format!(
                "a snappy block says it has {length} bytes"
            )));
        }
        self.block.resize(length, 0);
        snap::raw::Decoder::new().decompress(block, &mut self.block)?;
        self.at = 0;
        Ok(())
    }
}

impl Read for SnappyReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            if self.rest.is_empty() {
                return Ok(0);
            }
            self.next_block()?;
        }
        let read = (&self.block[self.at..]).read(out)?;
        self.at += read;
        Ok(read)
    }
}

/// Decompressed records, a chunk at a time, and no more of them than allowed.
pub(super) struct Chunks<'a> {
    reader: &'a mut dyn Read,
    chunk: Vec<u8>,
    at: usize,
    end: usize,
    /// How many bytes came before this chunk.
    before: usize,
    bytes_max: usize,
}

impl<'a> Chunks<'a> {
    pub(super) fn new(reader: &'a mut dyn Read, bytes_max: usize) -> Self {
        Chunks {
            reader,
            chunk: vec![0; CHUNK_BYTES],
            at: 0,
            end: 0,
            before: 0,
            bytes_max,
        }
    }

    /// How many bytes have been taken.
    pub(super) fn taken(&self) -> usize {
        self.before + self.at
    }

    /// The bytes that are at hand; empty at the end of the records.
    pub(super) fn fill(&mut self) -> Result<&[u8], RecordError> {
        if self.at == self.end {
            self.before += self.end;
            self.at = 0;
            self.end = 0;
            self.end = self.reader.read(&mut self.chunk).map_err(failed)?;
            if self.before + self.end > self.bytes_max {
                return Err(too_much(self.bytes_max));
            }
        }
        Ok(&self.chunk[self.at..self.end])
    }

    /// Takes bytes that [`Chunks::fill`] has shown.
    pub(super) fn take(&mut self, bytes: usize) {
        self.at = self.end.min(self.at + bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn compressed(codec: Codec, records: &[u8]) -> Bytes {
        let mut out = Vec::new();
        compress(codec, records, &mut out).unwrap();
        out.into()
    }

    #[test]
    fn every_codec_gives_back_what_it_took() {
        let text = "a line of a log, with a number: 12345\n".repeat(10_000);
        let noise: Vec<u8> = (0..300_000u64)
            .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
            .collect();
        for codec in Codec::ALL {
            for records in [
                text.as_bytes(),
                &noise,
                &noise[..LZ4_BLOCK_BYTES],
                b"x",
                b"",
            ] {
                let payload = compressed(codec, records);
                let back = decompress(codec, &payload, records.len()).unwrap();
                assert!(back == records, "{codec:?} of {} bytes", records.len());
            }
        }
    }

    #[test]
    fn other_implementations_read_our_frames_and_we_theirs() {
        let text = "the same line again and again\n".repeat(9_999);
        let mut back = String::new();
        let ours = compressed(Codec::Lz4, text.as_bytes());
        lz4_flex::frame::FrameDecoder::new(&ours[..])
            .read_to_string(&mut back)
            .unwrap();
        assert!(back == text);
        assert_eq!(
            zstd::decode_all(&compressed(Codec::Zstd, text.as_bytes())[..]).unwrap(),
            text.as_bytes()
        );

        let bare = snap::raw::Encoder::new().compress_vec(text.as_bytes());
        let theirs = Bytes::from(bare.unwrap());
        assert!(decompress(Codec::Snappy, &theirs, text.len()).unwrap() == text);
        let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
        encoder.write_all(text.as_bytes()).unwrap();
        let theirs = Bytes::from(encoder.finish().unwrap());
        assert!(decompress(Codec::Lz4, &theirs, text.len()).unwrap() == text);
        let theirs = Bytes::from(zstd::encode_all(text.as_bytes(), 19).unwrap());
        assert!(decompress(Codec::Zstd, &theirs, text.len()).unwrap() == text);
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let zeros = vec![0; 50_000_000];
        for codec in Codec::ALL {
            let bomb = compressed(codec, &zeros);
            let error = with_reader(codec, &bomb, 1_000_000, |reader| {
                let mut chunks = Chunks::new(reader, 1_000_000);
                loop {
                    match chunks.fill()?.len() {
                        0 => return Ok(()),
                        bytes => chunks.take(bytes),
                    }
                }
            });
            assert!(
                matches!(error, Err(RecordError::Compression(_))),
                "{codec:?}"
            );
            if codec != Codec::None {
                let error = decompress(codec, &bomb, 1_000_000).unwrap_err();
                assert!(matches!(error, RecordError::Compression(_)), "{codec:?}");
            }
        }
    }

    #[test]
    fn a_snappy_block_that_lies_about_its_length_allocates_nothing() {
        let lie = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0x00]);
        let error = decompress(Codec::Snappy, &lie, 1_000_000).unwrap_err();
        assert!(error.to_string().contains("4294967295"), "{error}");
    }

    #[test]
    fn a_snappy_block_cannot_claim_more_than_its_bytes_can_hold() {
        // 1 MB in 5 bytes: below the limit, and zeroed a thousand times over if it was believed.
        let lie = Bytes::from_static(&[0xc0, 0x84, 0x3d, 0x00, b'x']);
        let error = decompress(Codec::Snappy, &lie, 2_000_000).unwrap_err();
        assert!(error.to_string().contains("says it has 1000000"), "{error}");
        let zeros = vec![0; 3_000_000];
        let bare = snap::raw::Encoder::new().compress_vec(&zeros).unwrap();
        let back = decompress(Codec::Snappy, &bare.into(), zeros.len()).unwrap();
        assert!(back == zeros, "what compresses best is read");
    }

    proptest! {
        #[test]
        fn noise_never_panics(mut noise in proptest::collection::vec(any::<u8>(), 0..300)) {
            for codec in Codec::ALL {
                let _ = decompress(codec, &Bytes::from(noise.clone()), 100_000);
            }
            let mut framed = XERIAL_MAGIC.to_vec();
            framed.append(&mut noise);
            let _ = decompress(Codec::Snappy, &framed.into(), 100_000);
        }

        #[test]
        fn changed_payloads_never_panic(at: usize, byte: u8) {
            for codec in Codec::ALL {
                let mut payload = compressed(codec, "some text ".repeat(50).as_bytes()).to_vec();
                let at = at % payload.len();
                payload[at] = byte;
                let _ = decompress(codec, &payload.into(), 100_000);
            }
        }
    }
}
