//! Zigzag varints, as records use them: seven bits a byte, the lowest first; small numbers of
//! either sign are short. Kafka calls them varint (32 bits, at most 5 bytes) and varlong (64 bits,
//! at most 10).

use super::RecordError;

/// The longest varint, in bytes.
pub(super) const VARINT_BYTES_MAX: usize = 5;
/// The longest varlong, in bytes.
pub(super) const VARLONG_BYTES_MAX: usize = 10;

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// How many bytes `value` takes.
pub(super) fn len(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Writes `value` at the start of `out`, and returns how many bytes it took. Panics if `out` is
/// shorter than that.
pub(super) fn write(out: &mut [u8], value: i64) -> usize {
    let mut rest = zigzag(value);
    let mut at = 0;
    while rest >= 0x80 {
        out[at] = rest as u8 | 0x80;
        rest >>= 7;
        at += 1;
    }
    out[at] = rest as u8;
    at + 1
}

pub(super) fn overlong() -> RecordError {
    RecordError::Invalid("a varint is longer than its type can be".into())
}

pub(super) fn cut() -> RecordError {
    RecordError::Invalid("the records end in the midst of one".into())
}

/// Reads a varlong from the front of `bytes`, for those who don't want to know what is wrong: an
/// error of one bit stays in a register.
#[inline(always)]
pub(super) fn try_read(bytes: &mut &[u8]) -> Option<i64> {
    match **bytes {
        [first, ref rest @ ..] if first < 0x80 => {
            *bytes = rest;
            Some(unzigzag(first as u64))
        }
        [first, second, ref rest @ ..] if second < 0x80 => {
            *bytes = rest;
            Some(unzigzag((first & 0x7f) as u64 | (second as u64) << 7))
        }
        _ => read_long(bytes).ok(),
    }
}

/// Reads a varlong from the front of `bytes`.
#[inline]
pub(super) fn read_i64(bytes: &mut &[u8]) -> Result<i64, RecordError> {
    match **bytes {
        [first, ref rest @ ..] if first < 0x80 => {
            *bytes = rest;
            Ok(unzigzag(first as u64))
        }
        [first, second, ref rest @ ..] if second < 0x80 => {
            *bytes = rest;
            Ok(unzigzag((first & 0x7f) as u64 | (second as u64) << 7))
        }
        _ => read_long(bytes),
    }
}

/// Reads a varint from the front of `bytes`.
#[inline]
pub(super) fn read_i32(bytes: &mut &[u8]) -> Result<i32, RecordError> {
    i32::try_from(read_i64(bytes)?).map_err(|_| overlong())
}

#[inline(never)]
fn read_long(bytes: &mut &[u8]) -> Result<i64, RecordError> {
    read_with(|| {
        let (first, rest) = bytes.split_first().ok_or_else(cut)?;
        *bytes = rest;
        Ok(*first)
    })
}

/// Reads a varlong of which `next` gives the bytes.
pub(super) fn read_with(
    mut next: impl FnMut() -> Result<u8, RecordError>,
) -> Result<i64, RecordError> {
    let mut value = 0;
    for at in 0..VARLONG_BYTES_MAX {
        let byte = next()?;
        value |= ((byte & 0x7f) as u64) << (7 * at);
        if byte < 0x80 {
            // The tenth byte has room for one bit only.
            return match at == VARLONG_BYTES_MAX - 1 && byte > 1 {
                true => Err(overlong()),
                false => Ok(unzigzag(value)),
            };
        }
    }
    Err(overlong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_have_the_bytes_of_the_specification() {
        for (value, bytes) in [
            (0i64, &[0x00u8][..]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (8191, &[0xfe, 0x7f]),
            (-8193, &[0x81, 0x80, 0x01]),
            (i32::MAX as i64, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i32::MIN as i64, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            (
                i64::MIN,
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            ),
        ] {
            let mut out = [0; VARLONG_BYTES_MAX];
            let written = write(&mut out, value);
            assert_eq!(&out[..written], bytes, "{value}");
            assert_eq!(len(value), written);
        }
    }

    #[test]
    fn overlong_and_cut_numbers_are_refused() {
        for bytes in [
            &[0x80u8; 11][..],
            &[0xff; 10],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
            &[0x80],
            &[],
        ] {
            assert!(read_i64(&mut &bytes[..]).is_err(), "{bytes:?}");
        }
        let mut beyond = [0; VARLONG_BYTES_MAX];
        let written = write(&mut beyond, i32::MAX as i64 + 1);
        assert!(read_i32(&mut &beyond[..written]).is_err());
    }

    proptest! {
        #[test]
        fn every_number_reads_back(value: i64, shift in 0..64) {
            let value = value >> shift;
            let mut out = [0xaa; VARLONG_BYTES_MAX];
            let written = write(&mut out, value);
            let mut rest = &out[..];
            prop_assert_eq!(read_i64(&mut rest).unwrap(), value);
            prop_assert_eq!(rest.len(), out.len() - written);
        }
    }
}
