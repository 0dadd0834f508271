//! The client's end of a connection, down to the bytes.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};

use bytes::{Bytes, BytesMut};
use klamm::protocol::codec::{
    decode_response, encode_request, response_correlation_id, Answer, RequestHeader,
};
use klamm::protocol::frame::{split_frame, FRAME_BYTES_MAX};
use klamm::protocol::kafka::{Decoder, Encoder, Field, Tag};
use klamm::protocol::{api_versions, Api, ApiKey, Encoding, Request};
use tokio::net::TcpSocket;

use crate::harness::WAIT_MAX;

/// How a connection went on: a frame, or its end (in good order or by a reset).
#[derive(Debug)]
pub enum Heard {
    Frame(Bytes),
    Closed,
}

pub struct Wire {
    encoding: Encoding,
    stream: TcpStream,
    received: BytesMut,
    next_id: i32,
}

impl Wire {
    /// A connection on which nothing was said yet, to the native listener.
    pub fn silent(address: SocketAddr) -> io::Result<Wire> {
        Wire::over(TcpStream::connect(address)?, Encoding::MessagePack)
    }

    /// A connection to the Kafka listener.
    pub fn kafka(address: SocketAddr) -> io::Result<Wire> {
        Wire::over(TcpStream::connect(address)?, Encoding::Kafka)
    }

    fn over(stream: TcpStream, encoding: Encoding) -> io::Result<Wire> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(WAIT_MAX))?;
        stream.set_write_timeout(Some(WAIT_MAX))?;
        Ok(Wire {
            encoding,
            stream,
            received: BytesMut::new(),
            next_id: 1,
        })
    }

    /// A connection that has greeted.
    pub fn connect(address: SocketAddr) -> io::Result<Wire> {
        Wire::silent(address)?.greeted()
    }

    /// The same from one of this machine's other addresses.
    pub fn connect_from(from: IpAddr, address: SocketAddr) -> io::Result<Wire> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let stream = runtime.block_on(async {
            let socket = TcpSocket::new_v4()?;
            socket.bind((from, 0).into())?;
            socket.connect(address).await?.into_std()
        })?;
        stream.set_nonblocking(false)?;
        Wire::over(stream, Encoding::MessagePack)?.greeted()
    }

    fn greeted(mut self) -> io::Result<Wire> {
        self.ask::<api_versions::Api>(&greeting())?;
        Ok(self)
    }

    /// The address by which the broker knows this connection.
    pub fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends without waiting for the answer; returns the correlation id.
    pub fn send<A: Api>(&mut self, request: &A::Request) -> io::Result<i32> {
        let id = self.next_id;
        self.next_id += 1;
        self.send_bytes(&match self.encoding {
            Encoding::MessagePack => frame::<A>(id, request),
            Encoding::Kafka => kafka_frame::<A>(version::<A>(), id, request),
        })?;
        Ok(id)
    }

    pub fn hear(&mut self) -> io::Result<Heard> {
        loop {
            let frame = split_frame(&mut self.received, FRAME_BYTES_MAX);
            if let Some(frame) = frame.map_err(io::Error::other)? {
                return Ok(Heard::Frame(frame));
            }
            let mut chunk = [0; 64 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(Heard::Closed),
                Ok(read) => self.received.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(Heard::Closed)
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The next response, which must be there and be one of this API.
    pub fn receive<A: Api>(&mut self) -> io::Result<(i32, Answer<A::Response>)> {
        match self.hear()? {
            Heard::Frame(frame) if self.encoding == Encoding::Kafka => {
                let (id, body) = kafka_response::<A>(version::<A>(), &frame)?;
                Ok((id, Ok(body)))
            }
            Heard::Frame(frame) => decode_response::<A>(&frame).map_err(io::Error::other),
            Heard::Closed => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Sends, and returns the body of the answer to it; an error of the request as a whole too is
    /// an error here.
    pub fn ask<A: Api>(&mut self, request: &A::Request) -> io::Result<A::Response> {
        let id = self.send::<A>(request)?;
        let (answered, answer) = self.receive::<A>()?;
        assert_eq!(answered, id, "the answer is to another request");
        answer.map_err(io::Error::other)
    }

    /// [`Self::ask`], where nothing can go wrong.
    pub fn call<A: Api>(&mut self, request: &A::Request) -> A::Response {
        self.ask::<A>(request)
            .unwrap_or_else(|error| panic!("{}: {error}", A::KEY.name()))
    }

    /// The correlation ids of the next responses.
    pub fn correlation_ids(&mut self, count: usize) -> Vec<i32> {
        let next = |_| match self.hear().unwrap() {
            Heard::Frame(frame) if self.encoding == Encoding::Kafka => {
                i32::from_be_bytes(frame[..4].try_into().unwrap())
            }
            Heard::Frame(frame) => response_correlation_id(&frame).unwrap(),
            Heard::Closed => panic!("closed before all was answered"),
        };
        (0..count).map(next).collect()
    }

    /// The broker closes the connection without a word.
    pub fn expect_close(&mut self, after: &str) {
        match self.hear() {
            Ok(Heard::Closed) => {}
            heard => panic!("after {after}: {heard:?}"),
        }
    }

    /// Nothing more will be sent.
    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// A second hand on the same socket, to write from another thread.
    pub fn writer(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }
}

pub fn greeting() -> api_versions::Request {
    api_versions::Request {
        client_software_name: "tests".into(),
        client_software_version: "1".into(),
    }
}

/// A request as bytes, its length in front.
pub fn frame<A: Api>(correlation_id: i32, request: &A::Request) -> Bytes {
    let header = RequestHeader {
        api_key: A::KEY as i16,
        api_version: *A::KEY.versions().end(),
        correlation_id,
        client_id: Some("tests".into()),
    };
    encode_request::<A>(&header, request).unwrap().to_bytes()
}

/// The version in which an API is spoken on the Kafka listener: the last that has topics by name.
fn version<A: Api>() -> i16 {
    let versions = A::KEY
        .kafka_versions()
        .expect("the Kafka listener has the API");
    (*versions.end()).min(12)
}

/// A request in Kafka's encoding, its length in front.
pub fn kafka_frame<A: Api>(version: i16, correlation_id: i32, request: &A::Request) -> Bytes {
    let mut out = Encoder::new();
    (A::KEY as i16).encode(&mut out);
    version.encode(&mut out);
    correlation_id.encode(&mut out);
    Some("tests".to_owned()).encode(&mut out);
    out.set_version(version, A::KEY.is_flexible(version));
    if out.is_flexible() {
        out.tagged_count(0);
    }
    request.encode(&mut out);
    out.finish().unwrap().to_bytes()
}

/// The correlation id and the body of a response in Kafka's encoding.
pub fn kafka_response<A: Api>(version: i16, frame: &Bytes) -> io::Result<(i32, A::Response)> {
    let mut input = Decoder::new(frame);
    let correlation_id = i32::decode(&mut input).map_err(io::Error::other)?;
    input.set_version(version, A::KEY.is_flexible(version));
    if A::KEY != ApiKey::ApiVersions {
        let unknown = input.tagged_fields(|_, _| Ok(Tag::Unknown));
        unknown.map_err(io::Error::other)?;
    }
    let body = A::Response::decode(&mut input).map_err(io::Error::other)?;
    input.finish().map_err(io::Error::other)?;
    Ok((correlation_id, body))
}

/// Any bytes with their length in front.
pub fn framed(body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

/// Any version of a body.
pub fn of_version(request: &Request, version: i16) -> Vec<u8> {
    let message = (request.key() as i16, version, 7, None::<&str>, request);
    framed(&rmp_serde::to_vec(&message).unwrap())
}
