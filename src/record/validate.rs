//! The leader's check of a batch that a client sent: after it, every reader can rely on what the
//! header says.
//!
//! The checksum says that the bytes came as they were sent, not that they were sent right. So the
//! records are walked: their lengths, positions and timestamps, never their content. An
//! uncompressed batch is walked in place, at a few nanoseconds a record; a compressed one is
//! decompressed a chunk at a time and thrown away.
//!
//! A few bytes can decompress to very many. Whoever may not be held up gives a budget to
//! [`validate_within`], and gets back what is over it, to be checked elsewhere.

use bytes::Bytes;

use super::compression::{with_reader, Chunks};
use super::{varint, Batch, BatchHeader, Codec, RecordError, TimestampType};
use crate::model::Timestamp;

/// What a topic allows in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest batch as it is sent: `max.message.bytes`.
    pub batch_bytes_max: usize,
    /// The most that its records may become when they are decompressed.
    pub records_bytes_max: usize,
    pub timestamps: TimestampRule,
    pub keys: KeyRule,
}

/// Whether a topic accepts records without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRule {
    Optional,
    /// It is compacted: what has no key could never be superseded.
    Required,
}

/// Which of a client's timestamps a topic accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampRule {
    /// With `LogAppendTime` the broker's clock replaces them anyway.
    Any,
    /// `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms`, as points in time.
    Within {
        earliest: Timestamp,
        latest: Timestamp,
    },
}

impl TimestampRule {
    /// The rule of a `CreateTime` topic at this moment.
    pub fn around(now: Timestamp, before_ms_max: i64, after_ms_max: i64) -> TimestampRule {
        TimestampRule::Within {
            earliest: Timestamp(now.0.saturating_sub(before_ms_max)),
            latest: Timestamp(now.0.saturating_add(after_ms_max)),
        }
    }

    /// A record without a timestamp (-1) is always allowed, as Kafka does.
    fn check(self, timestamp: Timestamp) -> Result<(), RecordError> {
        let allowed = match self {
            TimestampRule::Any => true,
            TimestampRule::Within { earliest, latest } => {
                earliest <= timestamp && timestamp <= latest
            }
        };
        match timestamp == Timestamp::NONE || (allowed && timestamp.0 >= 0) {
            true => Ok(()),
            false => Err(RecordError::Timestamp(timestamp)),
        }
    }
}

/// Checks that `bytes` is exactly one batch that a client may append.
///
/// Its base offset and leader epoch may be anything: the leader stamps them. Whether the
/// producer's sequence fits is up to the partition's producer state.
pub fn validate(bytes: Bytes, limits: &Limits) -> Result<Batch, RecordError> {
    Unread::new(bytes, limits)?.check()
}

/// What [`validate_within`] has come to.
#[derive(Clone, Debug)]
pub enum Checked {
    Valid(Batch),
    /// Its header is right. Its records are too many for the budget, or wrong.
    Unread(Unread),
}

/// [`validate`], without decompressing more than `budget` bytes. What is decompressed is taken off
/// the budget, and all of it once something was too much.
///
/// What is wrong with compressed records is found when the rest is checked.
pub fn validate_within(
    bytes: Bytes,
    limits: &Limits,
    budget: &mut usize,
) -> Result<Checked, RecordError> {
    let unread = Unread::new(bytes, limits)?;
    if unread.codec()? == Codec::None {
        return unread.check().map(Checked::Valid);
    }
    if unread.payload().len() > *budget {
        *budget = 0;
        return Ok(Checked::Unread(unread));
    }
    let bytes_max = limits.records_bytes_max.min(*budget);
    match unread.walk_compressed(bytes_max) {
        Ok((span, taken)) => {
            *budget -= taken;
            unread.finish(span).map(Checked::Valid)
        }
        Err(_) => {
            *budget = 0;
            Ok(Checked::Unread(unread))
        }
    }
}

/// A batch whose header is right, and whose records nobody has looked at.
#[derive(Clone, Debug)]
pub struct Unread {
    batch: Batch,
    limits: Limits,
}

impl Unread {
    fn new(bytes: Bytes, limits: &Limits) -> Result<Unread, RecordError> {
        if bytes.len() > limits.batch_bytes_max {
            return Err(RecordError::TooLarge {
                size: bytes.len(),
                size_max: limits.batch_bytes_max,
            });
        }
        let batch = Batch::parse(bytes)?;
        check_header(batch.header())?;
        Ok(Unread {
            batch,
            limits: *limits,
        })
    }

    /// Looks at the records, all of them.
    pub fn check(self) -> Result<Batch, RecordError> {
        let span = match self.codec()? {
            Codec::None => self.walk_uncompressed()?,
            _ => self.walk_compressed(self.limits.records_bytes_max)?.0,
        };
        self.finish(span)
    }

    fn codec(&self) -> Result<Codec, RecordError> {
        self.batch.header().attributes.codec()
    }

    fn payload(&self) -> &[u8] {
        &self.batch.bytes()[BatchHeader::LEN..]
    }

    fn walk_uncompressed(&self) -> Result<DeltaSpan, RecordError> {
        let (count, keys) = (self.batch.header().record_count, self.limits.keys);
        match walk_in_place(self.payload(), count, keys) {
            Some(span) => Ok(span),
            // Once more, to say what is wrong.
            None => {
                let rest = self.payload();
                walk(&mut InPlace { rest }, count, keys)
            }
        }
    }

    /// Also says how many bytes came out.
    fn walk_compressed(&self, bytes_max: usize) -> Result<(DeltaSpan, usize), RecordError> {
        let count = self.batch.header().record_count;
        with_reader(self.codec()?, self.payload(), bytes_max, |reader| {
            let chunks = Chunks::new(reader, bytes_max);
            let mut records = Streamed { chunks };
            let span = walk(&mut records, count, self.limits.keys)?;
            Ok((span, records.position()))
        })
    }

    fn finish(self, span: DeltaSpan) -> Result<Batch, RecordError> {
        check_timestamps(self.batch.header(), span, self.limits.timestamps)?;
        Ok(self.batch)
    }
}

fn invalid<T>(what: String) -> Result<T, RecordError> {
    Err(RecordError::Invalid(what))
}

/// What the header alone shows.
fn check_header(header: &BatchHeader) -> Result<(), RecordError> {
    let attributes = header.attributes;
    if attributes.is_control() {
        return invalid("a client may not send control batches".into());
    }
    if attributes.is_transactional() {
        return Err(RecordError::Transactional);
    }
    if attributes.timestamp_type() == TimestampType::LogAppendTime {
        return invalid("only the broker may set LogAppendTime".into());
    }
    if attributes.has_delete_horizon() {
        return invalid("only the broker may set a delete horizon".into());
    }
    if header.record_count < 1 {
        return invalid(format!("it says it has {} records", header.record_count));
    }
    if header.last_offset_delta != header.record_count - 1 {
        return invalid(format!(
            "it says it has {} records, the last of them at {}",
            header.record_count, header.last_offset_delta
        ));
    }
    let idempotent = header.producer_id >= 0 && header.producer_epoch >= 0;
    if idempotent != (header.base_sequence >= 0) {
        return invalid(format!(
            "producer id {}, epoch {} and sequence {} don't go together",
            header.producer_id, header.producer_epoch, header.base_sequence
        ));
    }
    Ok(())
}

/// The smallest and largest timestamp delta of a batch's records.
#[derive(Clone, Copy)]
struct DeltaSpan {
    min: i64,
    max: i64,
}

impl DeltaSpan {
    const EMPTY: DeltaSpan = DeltaSpan {
        min: i64::MAX,
        max: i64::MIN,
    };

    #[inline]
    fn include(&mut self, delta: i64) {
        self.min = self.min.min(delta);
        self.max = self.max.max(delta);
    }
}

fn check_timestamps(
    header: &BatchHeader,
    span: DeltaSpan,
    rule: TimestampRule,
) -> Result<(), RecordError> {
    let at = |delta: i64| match header.base_timestamp.0.checked_add(delta) {
        Some(timestamp) => Ok(Timestamp(timestamp)),
        None => Err(RecordError::Timestamp(header.base_timestamp)),
    };
    rule.check(at(span.min)?)?;
    rule.check(at(span.max)?)?;
    if at(span.max)? != header.max_timestamp {
        return invalid(format!(
            "its largest timestamp is {}, and it says {}",
            at(span.max)?,
            header.max_timestamp
        ));
    }
    Ok(())
}

/// Walks exactly `count` uncompressed records: the hot path, which knows only right and wrong.
/// [`walk`] checks the same, and says what is wrong.
fn walk_in_place(mut rest: &[u8], count: i32, keys: KeyRule) -> Option<DeltaSpan> {
    let mut span = DeltaSpan::EMPTY;
    for expected in 0..count {
        let length = usize::try_from(varint::try_read(&mut rest)?).ok()?;
        let (record, after) = rest.split_at_checked(length)?;
        rest = after;
        let (_attributes, mut fields) = record.split_first()?;
        span.include(varint::try_read(&mut fields)?);
        if varint::try_read(&mut fields)? != expected as i64 {
            return None;
        }
        let key = skip_in_place(&mut fields)?;
        if key == Field::None && keys == KeyRule::Required {
            return None;
        }
        skip_in_place(&mut fields)?;
        let headers = varint::try_read(&mut fields)?;
        if headers < 0 || headers > i32::MAX as i64 {
            return None;
        }
        for _ in 0..headers {
            let key = usize::try_from(varint::try_read(&mut fields)?).ok()?;
            fields = fields.get(key..)?;
            skip_in_place(&mut fields)?;
        }
        if !fields.is_empty() {
            return None;
        }
    }
    rest.is_empty().then_some(span)
}

/// Skips bytes with their length in front, where -1 says that there are none.
#[inline(always)]
fn skip_in_place(rest: &mut &[u8]) -> Option<Field> {
    let length = varint::try_read(rest)?;
    if length == -1 {
        return Some(Field::None);
    }
    *rest = rest.get(usize::try_from(length).ok()?..)?;
    Some(Field::Bytes)
}

/// What was skipped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    None,
    Bytes,
}

/// The bytes of records, wherever they come from.
trait Source {
    fn varint(&mut self) -> Result<i64, RecordError>;
    fn skip(&mut self, bytes: usize) -> Result<(), RecordError>;
    /// Grows with every byte that is read or skipped, by one.
    fn position(&self) -> usize;
    /// Refuses what follows the last record.
    fn end(&mut self) -> Result<(), RecordError>;
}

struct InPlace<'a> {
    rest: &'a [u8],
}

impl Source for InPlace<'_> {
    #[inline]
    fn varint(&mut self) -> Result<i64, RecordError> {
        varint::read_i64(&mut self.rest)
    }

    #[inline]
    fn skip(&mut self, bytes: usize) -> Result<(), RecordError> {
        self.rest = self.rest.get(bytes..).ok_or_else(varint::cut)?;
        Ok(())
    }

    #[inline]
    fn position(&self) -> usize {
        // Counted from the end, so that only differences mean something.
        usize::MAX - self.rest.len()
    }

    fn end(&mut self) -> Result<(), RecordError> {
        match self.rest.len() {
            0 => Ok(()),
            more => invalid(format!("{more} bytes follow its last record")),
        }
    }
}

struct Streamed<'a> {
    chunks: Chunks<'a>,
}

impl Source for Streamed<'_> {
    fn varint(&mut self) -> Result<i64, RecordError> {
        varint::read_with(|| {
            let byte = *self.chunks.fill()?.first().ok_or_else(varint::cut)?;
            self.chunks.take(1);
            Ok(byte)
        })
    }

    fn skip(&mut self, mut bytes: usize) -> Result<(), RecordError> {
        while bytes > 0 {
            let there = self.chunks.fill()?.len();
            if there == 0 {
                return Err(varint::cut());
            }
            let taken = there.min(bytes);
            self.chunks.take(taken);
            bytes -= taken;
        }
        Ok(())
    }

    fn position(&self) -> usize {
        self.chunks.taken()
    }

    fn end(&mut self) -> Result<(), RecordError> {
        match self.chunks.fill()?.len() {
            0 => Ok(()),
            _ => invalid("bytes follow its last record".into()),
        }
    }
}

/// Walks exactly `count` records.
#[inline]
fn walk<S: Source>(source: &mut S, count: i32, keys: KeyRule) -> Result<DeltaSpan, RecordError> {
    let mut span = DeltaSpan::EMPTY;
    for expected in 0..count {
        let length = length_at(source, "a record")?;
        let start = source.position();
        // The attributes, of which none is in use.
        source.skip(1)?;
        span.include(source.varint()?);
        let offset_delta = source.varint()?;
        if offset_delta != expected as i64 {
            return invalid(format!("record {expected} says it is at {offset_delta}"));
        }
        let key = skip_optional(source, "a key")?;
        if key == Field::None && keys == KeyRule::Required {
            return Err(RecordError::Keyless(expected));
        }
        skip_optional(source, "a value")?;
        let headers = length_at(source, "a list of headers")?;
        for _ in 0..headers {
            let key = length_at(source, "a header's key")?;
            source.skip(key)?;
            skip_optional(source, "a header's value")?;
        }
        if source.position() - start != length {
            return invalid(format!(
                "record {expected} says it has {length} bytes, and has {}",
                source.position() - start
            ));
        }
    }
    source.end()?;
    Ok(span)
}

#[inline]
fn length_at<S: Source>(source: &mut S, what: &str) -> Result<usize, RecordError> {
    let length = source.varint()?;
    match i32::try_from(length) {
        Ok(length) if length >= 0 => Ok(length as usize),
        _ => invalid(format!("{what} has length {length}")),
    }
}

/// Skips bytes with their length in front, where -1 says that there are none.
#[inline]
fn skip_optional<S: Source>(source: &mut S, what: &str) -> Result<Field, RecordError> {
    let length = source.varint()?;
    match i32::try_from(length) {
        Ok(-1) => Ok(Field::None),
        Ok(length) if length >= 0 => source.skip(length as usize).map(|()| Field::Bytes),
        _ => invalid(format!("{what} has length {length}")),
    }
}

/// What both walks think of these records.
#[cfg(test)]
pub(super) fn both_walks(records: &[u8], count: i32) -> (bool, bool) {
    let keys = KeyRule::Optional;
    let explained = walk(&mut InPlace { rest: records }, count, keys);
    let in_place = walk_in_place(records, count, keys);
    (in_place.is_some(), explained.is_ok())
}
