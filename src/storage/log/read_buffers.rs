//! Buffers for reads, used again: fresh memory costs more than the copy from the page cache (the
//! kernel zeroes and maps each page), and clearing it costs as much again.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// The smallest and the largest buffer that is kept; sizes are powers of two.
const BUFFER_BYTES_MIN: usize = 4 << 10;
const BUFFER_BYTES_MAX: usize = 4 << 20;
const CLASSES: usize = (BUFFER_BYTES_MAX / BUFFER_BYTES_MIN).ilog2() as usize + 1;

/// How much is kept of each size, in bytes: 22 MiB at most in all.
const CLASS_BYTES_MAX: usize = 2 << 20;

static FREE: [Mutex<Vec<Vec<u8>>>; CLASSES] = [const { Mutex::new(Vec::new()) }; CLASSES];

/// A buffer that goes back when it is dropped.
pub(super) struct Buffer(Vec<u8>);

/// Which size holds `bytes`; `None` where it is too large to be kept.
fn class_of(bytes: usize) -> Option<usize> {
    let size = bytes.max(BUFFER_BYTES_MIN).next_power_of_two();
    (size <= BUFFER_BYTES_MAX).then(|| (size / BUFFER_BYTES_MIN).ilog2() as usize)
}

impl Buffer {
    /// A buffer of at least `bytes`, with anything in it.
    pub fn take(bytes: usize) -> Buffer {
        let Some(class) = class_of(bytes) else {
            return Buffer(vec![0; bytes]);
        };
        let free = FREE[class]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        Buffer(free.unwrap_or_else(|| vec![0; BUFFER_BYTES_MIN << class]))
    }

    pub fn bytes_mut(&mut self, len: usize) -> &mut [u8] {
        &mut self.0[..len]
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The whole buffer, shared; it goes back when the last slice is dropped.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.0);
        let Some(class) = class_of(bytes.len()).filter(|c| BUFFER_BYTES_MIN << c == bytes.len())
        else {
            return;
        };
        let mut free = FREE[class].lock().unwrap_or_else(PoisonError::into_inner);
        if (free.len() + 1) * bytes.len() <= CLASS_BYTES_MAX.max(bytes.len()) {
            free.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_large_enough_and_comes_back() {
        for bytes in [
            1,
            4096,
            4097,
            1 << 20,
            BUFFER_BYTES_MAX,
            BUFFER_BYTES_MAX + 1,
        ] {
            assert!(Buffer::take(bytes).bytes().len() >= bytes);
        }
        assert_eq!(class_of(BUFFER_BYTES_MAX), Some(CLASSES - 1));
        assert_eq!(class_of(BUFFER_BYTES_MAX + 1), None);
        let shared = Buffer::take(100_000).into_bytes();
        let slice = shared.slice(5..10);
        drop(shared);
        assert_eq!(slice.len(), 5);
    }
}
