//! Lines of a file as slices of large blocks.
//!
//! A file of a million lines is read by the MiB, and each line is a slice of what was read. So a
//! line costs no copy and no allocation of its own, unless it runs over the end of a block.

use std::io::{self, Read};

use bytes::{Bytes, BytesMut};

/// What is read at once: more as long as so much comes.
const BLOCK_BYTES_MIN: usize = 16 * 1024;
const BLOCK_BYTES_MAX: usize = 1024 * 1024;

/// Reads lines: the bytes between newlines (`\n`), whatever they are. A last line without a
/// newline counts; nothing after the last newline does not.
pub struct Lines<R> {
    from: R,
    /// Whole lines that were read and not yet given, and their newlines.
    block: Bytes,
    /// The beginning of a line whose end isn't read yet.
    begun: BytesMut,
    is_at_end: bool,
    block_bytes: usize,
    line_bytes_max: usize,
    /// How many lines were given.
    given: u64,
}

impl<R: Read> Lines<R> {
    /// A line of more than `line_bytes_max` is an error, so that a file without newlines doesn't
    /// fill the memory.
    pub fn new(from: R, line_bytes_max: usize) -> Lines<R> {
        Lines {
            from,
            block: Bytes::new(),
            begun: BytesMut::new(),
            is_at_end: false,
            block_bytes: BLOCK_BYTES_MIN,
            line_bytes_max,
            given: 0,
        }
    }

    /// The next line without its newline, or `None` after the last.
    pub fn next_line(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.block) {
                let mut line = self.block.split_to(end + 1);
                line.truncate(end);
                return self.give(line).map(Some);
            }
            if self.is_at_end {
                let last = std::mem::take(&mut self.begun).freeze();
                return match last.is_empty() {
                    true => Ok(None),
                    false => self.give(last).map(Some),
                };
            }
            // It only becomes longer.
            self.check(self.begun.len())?;
            self.read_block()?;
        }
    }

    fn give(&mut self, line: Bytes) -> io::Result<Bytes> {
        self.check(line.len())?;
        self.given += 1;
        Ok(line)
    }

    /// Whether the next line may be so long.
    fn check(&self, length: usize) -> io::Result<()> {
        if length <= self.line_bytes_max {
            return Ok(());
        }
        let line = self.given + 1;
        let most = self.line_bytes_max;
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("line {line} has more than {most} bytes"),
        ))
    }

    /// Whether the next line is there without reading.
    pub fn has_next(&self) -> bool {
        memchr::memchr(b'\n', &self.block).is_some()
    }

    /// Reads on until at least one line is whole, or the end is reached.
    fn read_block(&mut self) -> io::Result<()> {
        let begun = self.begun.len();
        self.begun.resize(begun + self.block_bytes, 0);
        let read = read_some(&mut self.from, &mut self.begun[begun..]);
        self.begun
            .truncate(begun + read.as_ref().copied().unwrap_or(0));
        let read = read?;
        self.is_at_end = read == 0;
        if read == self.block_bytes {
            self.block_bytes = (self.block_bytes * 2).min(BLOCK_BYTES_MAX);
        }
        if let Some(last) = memchr::memrchr(b'\n', &self.begun[begun..]) {
            self.block = self.begun.split_to(begun + last + 1).freeze();
        }
        Ok(())
    }
}

fn read_some(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Splits a line at the first separator into key and value. A line without it has no key.
pub fn key_and_value(line: Bytes, separator: &[u8]) -> (Option<Bytes>, Bytes) {
    match memchr::memmem::find(&line, separator) {
        Some(at) => (Some(line.slice(..at)), line.slice(at + separator.len()..)),
        None => (None, line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE_BYTES_MAX: usize = 4 * BLOCK_BYTES_MAX;

    /// Gives at most `step` bytes at a time, as a pipe does.
    struct Pipe<'a> {
        bytes: &'a [u8],
        step: usize,
    }

    impl Read for Pipe<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let length = self.step.min(self.bytes.len()).min(into.len());
            into[..length].copy_from_slice(&self.bytes[..length]);
            self.bytes = &self.bytes[length..];
            Ok(length)
        }
    }

    fn all(bytes: &[u8], step: usize) -> Vec<Bytes> {
        let mut lines = Lines::new(Pipe { bytes, step }, LINE_BYTES_MAX);
        std::iter::from_fn(|| lines.next_line().unwrap()).collect()
    }

    #[test]
    fn lines_are_the_bytes_between_newlines_however_they_come() {
        let long = vec![b'x'; 2 * BLOCK_BYTES_MIN + 7];
        let mut text = b"first\n\n\xff\x00\r\n".to_vec();
        text.extend_from_slice(&long);
        text.extend_from_slice(b"\nlast");
        let expected: Vec<&[u8]> = vec![b"first", b"", b"\xff\x00\r", &long, b"last"];
        for step in [7, 4096, usize::MAX] {
            assert_eq!(all(&text, step), expected, "by {step}");
        }
    }

    #[test]
    fn nothing_follows_the_last_newline() {
        assert_eq!(all(b"", 10).len(), 0);
        assert_eq!(all(b"\n", 10), [""]);
        assert_eq!(all(b"a\nb\n", 1), ["a", "b"]);
    }

    #[test]
    fn a_file_without_newlines_does_not_fill_the_memory() {
        let endless = b"first\n".chain(io::repeat(b'x'));
        let mut lines = Lines::new(endless, LINE_BYTES_MAX);
        assert_eq!(lines.next_line().unwrap().unwrap(), "first");
        let error = lines.next_line().unwrap_err().to_string();
        assert!(error.contains("line 2 has more than"), "{error}");
    }

    #[test]
    fn a_line_is_too_long_by_one_byte() {
        let lines = |text: &'static [u8]| Lines::new(text, 3).next_line();
        assert_eq!(lines(b"abc\n").unwrap().unwrap(), "abc");
        assert_eq!(lines(b"abc").unwrap().unwrap(), "abc");
        assert!(lines(b"abcd\n").is_err());
        assert!(lines(b"abcd").is_err());
    }

    #[test]
    fn a_key_ends_at_the_first_separator() {
        let split = |line: &'static str| key_and_value(Bytes::from(line), b"::");
        assert_eq!(split("k::v::w"), (Some("k".into()), "v::w".into()));
        assert_eq!(split("::v"), (Some("".into()), "v".into()));
        assert_eq!(split("no:key"), (None, "no:key".into()));
    }
}
