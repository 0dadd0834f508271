//! Frames on their way out: however many there are, in few system calls and without a copy.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::Segments;

/// The most pieces that one system call takes (Linux's `UIO_MAXIOV` is 1024).
const PIECES_A_WRITE_MAX: usize = 256;

/// What waits to be written, first to last.
#[derive(Debug, Default)]
pub struct Pieces(VecDeque<Bytes>);

impl Pieces {
    /// Adds a frame.
    pub fn push(&mut self, frame: Segments) {
        self.0.extend(frame);
    }

    /// Adds bytes that go on where the last ones end.
    #[cfg(feature = "broker")]
    pub(super) fn push_bytes(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.0.push_back(bytes);
        }
    }

    /// Takes all of them, copied together: for tests and tools that don't mind.
    pub fn take_into(&mut self, bytes: &mut Vec<u8>) {
        for piece in self.0.drain(..) {
            bytes.extend_from_slice(&piece);
        }
    }

    #[cfg(all(test, feature = "broker"))]
    pub(super) fn bytes(&self) -> Vec<Bytes> {
        self.0.iter().cloned().collect()
    }

    /// Writes all of them. After an error, what is left is what was not written.
    pub async fn write_all<W: AsyncWrite + Unpin>(&mut self, socket: &mut W) -> io::Result<()> {
        while !self.0.is_empty() {
            let mut slices = [IoSlice::new(&[]); PIECES_A_WRITE_MAX];
            for (slice, piece) in slices.iter_mut().zip(&self.0) {
                *slice = IoSlice::new(piece);
            }
            let filled = self.0.len().min(PIECES_A_WRITE_MAX);
            let written = socket.write_vectored(&slices[..filled]).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.advance(written);
        }
        Ok(())
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(piece) = self.0.front_mut() {
            if written < piece.len() {
                piece.advance(written);
                return;
            }
            written -= piece.len();
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::*;

    /// Takes so many bytes at once, across pieces.
    struct Narrow {
        width: usize,
        taken: Vec<u8>,
        calls: usize,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(context, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all = slices.iter().flat_map(|slice| slice.iter());
            let taken: Vec<u8> = all.take(self.width).copied().collect();
            self.taken.extend(&taken);
            self.calls += 1;
            Poll::Ready(Ok(taken.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// 600 pieces of 0 to 6 bytes, and what they are together.
    fn pieces() -> (Pieces, Vec<u8>) {
        let pieces = (0..600u32).map(|n| Bytes::from(vec![n as u8; n as usize % 7]));
        let pieces: VecDeque<Bytes> = pieces.collect();
        let together = pieces.iter().flatten().copied().collect();
        (Pieces(pieces), together)
    }

    #[tokio::test]
    async fn all_is_written_in_order_however_little_is_taken_at_once() {
        for width in [1, 2, 5, 6, 7, 100, usize::MAX] {
            let (mut pieces, together) = pieces();
            let mut socket = Narrow {
                width,
                taken: Vec::new(),
                calls: 0,
            };
            pieces.write_all(&mut socket).await.unwrap();
            assert_eq!(socket.taken, together, "{width} at once");
            assert!(pieces.0.is_empty());
            assert!(width < usize::MAX || socket.calls == 3, "{}", socket.calls);
        }
    }

    #[tokio::test]
    async fn a_socket_that_takes_nothing_is_an_error() {
        let (mut pieces, _) = pieces();
        let mut socket = Narrow {
            width: 0,
            taken: Vec::new(),
            calls: 0,
        };
        let error = pieces.write_all(&mut socket).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }
}
