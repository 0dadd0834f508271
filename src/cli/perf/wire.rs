//! A connection for load: blocking, pipelined, and as cheap as it can be.
//!
//! Requests are collected ([`Wire::queue`]) and go out together ([`Wire::flush`]); responses come
//! in the order of the requests, all at once that have arrived ([`Wire::receive`]).

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::super::error::CliError;
use crate::model::ErrorCode;
use crate::protocol::frame::FRAME_LENGTH_BYTES;
use crate::protocol::{
    api_versions, decode_response, encode_request, split_frame, Api, ApiKey, RequestHeader,
    Segments, FRAME_BYTES_MAX,
};

const CLIENT_ID: &str = "klamm-perf";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A broker that is silent for so long is gone.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);
/// Read at once: little on a connection that says little, more as long as it comes.
const READ_BYTES_MIN: usize = 4 * 1024;
const READ_BYTES_MAX: usize = 512 * 1024;
/// Pieces in one write; the kernel takes 1024.
const PIECES_MAX: usize = 64;
/// Larger requests are written as the pieces that they are; smaller ones are copied together.
const COPY_BYTES_MAX: usize = 16 * 1024;

pub struct Wire {
    stream: TcpStream,
    peer: SocketAddr,
    /// As the user named it, for error messages.
    address: String,
    received: BytesMut,
    read_bytes: usize,
    queued: VecDeque<Bytes>,
    /// The small requests at the end of what is queued.
    small: BytesMut,
    /// Of the next request.
    header: RequestHeader,
}

impl Wire {
    /// Connects to the first of the comma-separated addresses that answers, and greets.
    pub fn connect(addresses: &str) -> Result<Wire, CliError> {
        let mut last = CliError::Usage("no bootstrap address".into());
        for address in addresses.split(',').map(str::trim) {
            match Wire::connect_one(address) {
                Ok(wire) => return Ok(wire),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn connect_one(address: &str) -> Result<Wire, CliError> {
        let stream = dial(address)?;
        let failed = |error| CliError::io(address, error);
        stream.set_nodelay(true).map_err(failed)?;
        stream
            .set_read_timeout(Some(SILENCE_TIMEOUT))
            .map_err(failed)?;
        stream
            .set_write_timeout(Some(SILENCE_TIMEOUT))
            .map_err(failed)?;
        let peer = stream.peer_addr().map_err(failed)?;
        let mut wire = Wire {
            stream,
            peer,
            address: address.to_owned(),
            received: BytesMut::new(),
            read_bytes: READ_BYTES_MIN,
            queued: VecDeque::new(),
            small: BytesMut::new(),
            header: header(),
        };
        let greeting = wire.call::<api_versions::Api>(&api_versions::Request {
            client_software_name: CLIENT_ID.into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
        })?;
        wire.check("ApiVersions", greeting.error_code)?;
        Ok(wire)
    }

    /// One request and its response. Nothing else may be under way.
    pub fn call<A: Api>(&mut self, request: &A::Request) -> Result<A::Response, CliError> {
        self.queue::<A>(request)?;
        self.flush()?;
        let mut frames = Vec::new();
        while frames.is_empty() {
            self.receive(&mut frames)?;
        }
        self.decode::<A>(&frames[0]).map(|(_, response)| response)
    }

    /// Queues a request and returns its correlation id; these count up from 0.
    pub fn queue<A: Api>(&mut self, request: &A::Request) -> Result<i32, CliError> {
        self.header.api_key = A::KEY as i16;
        self.header.api_version = version(A::KEY);
        let segments = encode_request::<A>(&self.header, request)
            .map_err(|error| CliError::failed(error.to_string()))?;
        self.push(segments);
        let correlation_id = self.header.correlation_id;
        self.header.correlation_id = correlation_id.wrapping_add(1);
        Ok(correlation_id)
    }

    fn push(&mut self, segments: Segments) {
        if segments.len() <= COPY_BYTES_MAX {
            for piece in segments {
                self.small.extend_from_slice(&piece);
            }
        } else {
            self.close_small();
            self.queued.extend(segments);
        }
    }

    fn close_small(&mut self) {
        if !self.small.is_empty() {
            self.queued.push_back(self.small.split().freeze());
        }
    }

    /// Writes everything that is queued.
    pub fn flush(&mut self) -> Result<(), CliError> {
        self.close_small();
        while !self.queued.is_empty() {
            let slices: Vec<IoSlice> = self
                .queued
                .iter()
                .take(PIECES_MAX)
                .map(|piece| IoSlice::new(piece))
                .collect();
            let written = match self.stream.write_vectored(&slices) {
                Ok(0) => return Err(self.failed(io::ErrorKind::WriteZero.into())),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.failed(error)),
            };
            drop_front(&mut self.queued, written);
        }
        Ok(())
    }

    /// Waits for bytes, and appends each frame that is whole then. There may be none.
    pub fn receive(&mut self, frames: &mut Vec<Bytes>) -> Result<(), CliError> {
        let filled = self.received.len();
        let wanted = self.read_bytes.max(self.missing_bytes());
        self.received.resize(filled + wanted, 0);
        let read = loop {
            match self.stream.read(&mut self.received[filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        self.received
            .truncate(filled + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => return Err(self.failed(io::ErrorKind::UnexpectedEof.into())),
            Ok(read) if read == wanted => {
                self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
            }
            Ok(_) => {}
            Err(error) => return Err(self.failed(error)),
        }
        let foreign = |error| CliError::failed(format!("{}: {error}", self.address));
        while let Some(frame) = split_frame(&mut self.received, FRAME_BYTES_MAX).map_err(foreign)? {
            frames.push(frame);
        }
        Ok(())
    }

    /// What the frame that has begun still lacks, so that a large one is read in one piece.
    fn missing_bytes(&self) -> usize {
        let whole = self.received.first_chunk().map_or(0, |length| {
            FRAME_LENGTH_BYTES + u32::from_be_bytes(*length) as usize
        });
        whole
            .saturating_sub(self.received.len())
            .min(FRAME_BYTES_MAX)
    }

    /// The correlation id and response in a frame; an error of the request as a whole is an
    /// error here too.
    pub fn decode<A: Api>(&self, frame: &Bytes) -> Result<(i32, A::Response), CliError> {
        let (id, answer) = decode_response::<A>(frame)
            .map_err(|error| CliError::failed(format!("{}: {error}", self.address)))?;
        match answer {
            Ok(response) => Ok((id, response)),
            Err(error) => Err(CliError::failed(format!("{}: {error}", A::KEY.name()))),
        }
    }

    /// Turns an error code into an error.
    pub fn check(&self, what: &str, code: ErrorCode) -> Result<(), CliError> {
        match code {
            ErrorCode::None => Ok(()),
            code => Err(CliError::failed(format!("{what}: {code}"))),
        }
    }

    /// A second handle of the same connection that only receives.
    pub fn receiver(&self) -> Result<Wire, CliError> {
        Ok(Wire {
            stream: self.stream.try_clone().map_err(|e| self.failed(e))?,
            peer: self.peer,
            address: self.address.clone(),
            received: BytesMut::new(),
            read_bytes: READ_BYTES_MIN,
            queued: VecDeque::new(),
            small: BytesMut::new(),
            header: header(),
        })
    }

    /// Whether the other end is on this machine: the two ends have one address.
    pub fn is_local(&self) -> bool {
        let here = self.stream.local_addr().map(|address| address.ip());
        here.is_ok_and(|here| here == self.peer.ip())
    }

    pub fn port(&self) -> u16 {
        self.peer.port()
    }

    fn failed(&self, error: io::Error) -> CliError {
        let reason = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!("no answer for {} s", SILENCE_TIMEOUT.as_secs())
            }
            io::ErrorKind::UnexpectedEof => "the broker closed the connection".into(),
            _ => error.to_string(),
        };
        CliError::failed(format!("{}: {reason}", self.address))
    }
}

fn header() -> RequestHeader {
    RequestHeader {
        api_key: 0,
        api_version: 0,
        correlation_id: 0,
        client_id: Some(CLIENT_ID.into()),
    }
}

/// The version that this build speaks; both ends are usually one build.
fn version(api: ApiKey) -> i16 {
    *api.versions().end()
}

fn dial(address: &str) -> Result<TcpStream, CliError> {
    let failed = |error| CliError::io(address, error);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for candidate in address.to_socket_addrs().map_err(failed)? {
        match TcpStream::connect_timeout(&candidate, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

/// Takes `written` bytes from the front of the pieces.
fn drop_front(pieces: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(first) = pieces.front_mut() {
        if written < first.len() {
            let _written = first.split_to(written);
            return;
        }
        written -= first.len();
        pieces.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_dropped_across_pieces() {
        let mut pieces: VecDeque<Bytes> = ["abc", "de", "fgh"].map(Bytes::from).into();
        drop_front(&mut pieces, 4);
        assert_eq!(pieces, ["e", "fgh"]);
        drop_front(&mut pieces, 1);
        assert_eq!(pieces, ["fgh"]);
        drop_front(&mut pieces, 3);
        assert!(pieces.is_empty());
    }
}
