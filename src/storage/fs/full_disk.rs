//! A disk that is full when it is told to be, in a build for chaos tests.
//!
//! Only root can make a small disk, and only a small one is soon full. So the machine's file system is told
//! how many more bytes fit. Of a write beyond what a file has, as many bytes are written as fit, and then it
//! fails as the kernel's would; so does reserving space, and making a file or a directory when nothing fits any
//! more. What is written over what is there goes on. Nothing that is removed makes room: there is room again
//! when that is said. The metadata's store writes past it, through sled.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use rustix::io::Errno;

const NO_LIMIT: u64 = u64::MAX;

/// How many more bytes fit: a process has one disk.
static ROOM: AtomicU64 = AtomicU64::new(NO_LIMIT);

/// From now on only so many more bytes fit.
pub fn fill(room_bytes: u64) {
    ROOM.store(room_bytes, SeqCst);
}

/// There is room again.
pub fn free() {
    ROOM.store(NO_LIMIT, SeqCst);
}

/// Takes room for so many bytes, or as much as there is; returns how much that is.
pub(super) fn take(bytes: u64) -> u64 {
    let mut taken = bytes;
    let _ = ROOM.fetch_update(SeqCst, SeqCst, |room| {
        taken = bytes.min(room);
        (room != NO_LIMIT).then(|| room - taken)
    });
    taken
}

/// Whether this name is there, or can be made.
pub(super) fn check(path: &Path) -> io::Result<()> {
    match ROOM.load(SeqCst) {
        0 if !path.exists() => Err(is_full()),
        _ => Ok(()),
    }
}

pub(super) fn is_full() -> io::Error {
    Errno::NOSPC.into()
}
