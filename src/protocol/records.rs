//! The bytes of record batches inside a message, which serde neither copies in nor out.
//!
//! serde's data model knows `&[u8]` and not [`Bytes`], so the two are connected beside it, by two
//! thread-local slots: while a frame is decoded, the slot [`FRAME`] holds it, and a borrowed
//! payload is turned back into a slice of that frame. While a message is encoded, the slot
//! [`PAYLOAD`] announces the payload that is about to be written, and the sink takes it as a
//! piece of its own instead of copying it. Neither is relied on: with an empty slot the bytes are
//! copied.

use std::cell::{Cell, RefCell};

use bytes::Bytes;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Payloads of at least this size are pieces of their own in a vectored write. Below it, copying
/// costs less than one more piece.
pub(super) const OWN_PIECE_BYTES_MIN: usize = 1024;

/// Record batches, one after the other, as they came or as they lie on disk: MessagePack `bin`.
///
/// They are never copied between socket and file: decoding a frame takes a slice of it, and
/// encoding one hands the slice to a vectored write.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Records(pub Bytes);

thread_local! {
    /// The frame that this thread decodes.
    static FRAME: RefCell<Option<Bytes>> = const { RefCell::new(None) };
    /// The payload that the next write brings.
    static PAYLOAD: Cell<Option<Bytes>> = const { Cell::new(None) };
}

/// Empties the slot again, also when decoding panics.
struct FrameGuard;

impl Drop for FrameGuard {
    fn drop(&mut self) {
        FRAME.with(|slot| slot.borrow_mut().take());
    }
}

/// Runs `decode`, during which borrowed payloads become slices of `frame`.
pub(super) fn with_frame<T>(frame: &Bytes, decode: impl FnOnce() -> T) -> T {
    FRAME.with(|slot| slot.replace(Some(frame.clone())));
    let _guard = FrameGuard;
    decode()
}

/// The announced payload, if it is what `written` points to.
pub(super) fn take_announced(written: &[u8]) -> Option<Bytes> {
    if written.len() < OWN_PIECE_BYTES_MIN {
        return None;
    }
    let payload = PAYLOAD.take()?;
    if std::ptr::eq(payload.as_ref(), written) {
        return Some(payload);
    }
    PAYLOAD.set(Some(payload));
    None
}

/// The slice of the frame that `bytes` is, or a copy if it isn't one.
fn share(bytes: &[u8]) -> Bytes {
    FRAME.with(|slot| match &*slot.borrow() {
        Some(frame) if frame.as_ptr_range().contains(&bytes.as_ptr()) => frame.slice_ref(bytes),
        _ => Bytes::copy_from_slice(bytes),
    })
}

impl Serialize for Records {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.len() >= OWN_PIECE_BYTES_MIN {
            PAYLOAD.set(Some(self.0.clone()));
        }
        let result = serializer.serialize_bytes(&self.0);
        PAYLOAD.take();
        result
    }
}

impl<'de> Deserialize<'de> for Records {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(RecordsVisitor)
    }
}

struct RecordsVisitor;

impl<'de> Visitor<'de> for RecordsVisitor {
    type Value = Records;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("record batches as bin")
    }

    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Records, E> {
        Ok(Records(share(bytes)))
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Records, E> {
        Ok(Records(Bytes::copy_from_slice(bytes)))
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes of records", self.0.len())
    }
}
