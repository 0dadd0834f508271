//! The gate in front of serde: is this one well-formed MessagePack value of bearable size?
//!
//! serde decodes straight into our structs, and a hostile message could make those far larger
//! than itself, or the decoder's stack deep. So the markers are walked once before, without
//! recursion and without allocating: every length must be covered by bytes that are there,
//! nesting and the number of values are bounded, and what our messages never hold (maps,
//! extensions) is refused. The walk skips payloads, so a hot message costs some tens of
//! nanoseconds whatever its size.

use thiserror::Error;

/// How deep values nest at most; our deepest message has 8 levels.
pub const DEPTH_MAX: usize = 32;
/// How many values a request holds at most. An element of a list is at most some 40 times larger
/// in memory than on the wire (an empty string: 1 byte, and 24), so a request decodes to some
/// megabytes beside its own bytes. 40,000 partitions fit into one Produce.
pub const REQUEST_VALUES_MAX: usize = 256 * 1024;
/// How many values a response holds at most: a Metadata response of 500,000 partitions fits.
pub const RESPONSE_VALUES_MAX: usize = 16 * 1024 * 1024;
/// The longest `bin` of a message without a payload: a topic id.
const ID_BYTES: usize = 16;

/// Whether long `bin` values are expected. serde takes a `bin` for a list of small integers too,
/// so elsewhere a long one would be decoded into four times its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    Bytes,
    None,
}

/// What is wrong with a message before its fields are looked at. `at` is a byte of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ScanError {
    #[error("the message ends in the midst of a value")]
    Cut,
    #[error(
        "the value at byte {at} says it has {says} bytes or elements, and {left} bytes are left"
    )]
    Length { at: usize, says: usize, left: usize },
    #[error("the message nests deeper than {DEPTH_MAX} levels at byte {at}")]
    Depth { at: usize },
    #[error("the message holds more than {values_max} values")]
    Values { values_max: usize },
    #[error("byte {at} starts a map or extension, which no message holds")]
    Kind { at: usize },
    #[error("the value at byte {at} is longer than this API's messages hold")]
    UnexpectedPayload { at: usize },
    #[error("{0} bytes follow the message in its frame")]
    Trailing(usize),
}

/// Checks that `bytes` is exactly one value that keeps all limits.
pub fn scan(bytes: &[u8], values_max: usize, payload: Payload) -> Result<(), ScanError> {
    // How many elements each open array still waits for, innermost last.
    let mut open = [0usize; DEPTH_MAX];
    let mut depth = 0;
    let mut at = 0;
    let mut values = 0;
    loop {
        values += 1;
        if values > values_max {
            return Err(ScanError::Values { values_max });
        }
        let value = read_value(bytes, at)?;
        if payload == Payload::None && value.is_bin && value.skip > ID_BYTES {
            return Err(ScanError::UnexpectedPayload { at });
        }
        let left = bytes.len() - value.from;
        let says = value.skip.max(value.elements);
        if says > left {
            return Err(ScanError::Length { at, says, left });
        }
        if value.elements > 0 {
            if depth == DEPTH_MAX {
                return Err(ScanError::Depth { at });
            }
            open[depth] = value.elements;
            depth += 1;
            at = value.from;
            continue;
        }
        at = value.from + value.skip;
        while depth > 0 {
            open[depth - 1] -= 1;
            if open[depth - 1] > 0 {
                break;
            }
            depth -= 1;
        }
        if depth == 0 {
            return match bytes.len() - at {
                0 => Ok(()),
                trailing => Err(ScanError::Trailing(trailing)),
            };
        }
    }
}

/// One value's marker and length.
struct Value {
    /// Where its content starts.
    from: usize,
    /// Bytes of content to skip.
    skip: usize,
    /// Elements that follow instead, if it is an array.
    elements: usize,
    is_bin: bool,
}

fn read_value(bytes: &[u8], at: usize) -> Result<Value, ScanError> {
    let marker = *bytes.get(at).ok_or(ScanError::Cut)?;
    let length = |width: usize| -> Result<usize, ScanError> {
        let field = bytes.get(at + 1..at + 1 + width).ok_or(ScanError::Cut)?;
        Ok(field.iter().fold(0, |sum, byte| sum << 8 | *byte as usize))
    };
    let content = |width: usize, skip: usize| Value {
        from: at + 1 + width,
        skip,
        elements: 0,
        is_bin: false,
    };
    let bin = |width: usize, skip: usize| Value {
        is_bin: true,
        ..content(width, skip)
    };
    let array = |width: usize, elements: usize| Value {
        elements,
        ..content(width, 0)
    };
    Ok(match marker {
        // Small integers, nil, false, true.
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => content(0, 0),
        0x90..=0x9f => array(0, (marker & 0x0f) as usize),
        0xa0..=0xbf => content(0, (marker & 0x1f) as usize),
        0xc4 => bin(1, length(1)?),
        0xc5 => bin(2, length(2)?),
        0xc6 => bin(4, length(4)?),
        // Unsigned and signed integers and floats of 1, 2, 4 and 8 bytes.
        0xcc | 0xd0 => content(0, 1),
        0xcd | 0xd1 => content(0, 2),
        0xca | 0xce | 0xd2 => content(0, 4),
        0xcb | 0xcf | 0xd3 => content(0, 8),
        0xd9 => content(1, length(1)?),
        0xda => content(2, length(2)?),
        0xdb => content(4, length(4)?),
        0xdc => array(2, length(2)?),
        0xdd => array(4, length(4)?),
        0x80..=0x8f | 0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 | 0xde | 0xdf => {
            return Err(ScanError::Kind { at })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan_small(bytes: &[u8]) -> Result<(), ScanError> {
        scan(bytes, 1000, Payload::Bytes)
    }

    #[test]
    fn lengths_that_the_bytes_do_not_cover_are_refused() {
        for marker in [0xdbu8, 0xc6, 0xdd] {
            let bytes = [marker, 0x7f, 0xff, 0xff, 0xff, 0xc0];
            let error = scan_small(&bytes).unwrap_err();
            assert!(
                matches!(error, ScanError::Length { .. }),
                "{marker:#x}: {error}"
            );
        }
        assert_eq!(
            scan_small(&[0x92, 1]),
            Err(ScanError::Length {
                at: 0,
                says: 2,
                left: 1
            })
        );
        assert_eq!(scan_small(&[]), Err(ScanError::Cut));
        assert_eq!(
            scan_small(&[0xcd, 1]),
            Err(ScanError::Length {
                at: 0,
                says: 2,
                left: 1
            })
        );
        assert_eq!(scan_small(&[0xdc, 1]), Err(ScanError::Cut));
    }

    #[test]
    fn depth_values_kinds_and_trailing_bytes_are_bounded() {
        let mut deepest = vec![0x91; DEPTH_MAX];
        deepest.push(0xc0);
        assert_eq!(scan_small(&deepest), Ok(()));
        deepest.insert(0, 0x91);
        assert!(matches!(scan_small(&deepest), Err(ScanError::Depth { .. })));

        let mut many = vec![0xdc, 1000u16.to_be_bytes()[0], 1000u16.to_be_bytes()[1]];
        many.extend([0xc0; 1000]);
        assert_eq!(
            scan_small(&many),
            Err(ScanError::Values { values_max: 1000 })
        );

        for kind in [0x80u8, 0xc1, 0xc7, 0xd4, 0xde, 0xdf] {
            assert_eq!(scan_small(&[kind, 0, 0]), Err(ScanError::Kind { at: 0 }));
        }
        assert_eq!(scan_small(&[0x90, 0xc0]), Err(ScanError::Trailing(1)));
    }

    #[test]
    fn a_payload_is_only_let_in_where_one_is_expected() {
        let mut bytes = vec![0xc4, 17];
        bytes.extend([0; 17]);
        assert_eq!(scan(&bytes, 10, Payload::Bytes), Ok(()));
        let refused = scan(&bytes, 10, Payload::None);
        assert_eq!(refused, Err(ScanError::UnexpectedPayload { at: 0 }));
    }

    proptest! {
        /// What the scan lets through, an independent decoder finds well-formed too.
        #[test]
        fn what_passes_is_one_whole_value(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if scan_small(&bytes).is_ok() {
                let mut rest = &bytes[..];
                let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
                let skipped = serde::de::IgnoredAny::deserialize(&mut deserializer);
                // Invalid UTF-8 is the one thing that the scan leaves to serde.
                prop_assert!(skipped.is_ok());
                prop_assert!(rest.is_empty());
            }
        }
    }

    use serde::Deserialize;
}
