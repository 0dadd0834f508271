//! A connection that speaks Kafka's protocol, one request after the other.

use bytes::BytesMut;
use klamm::protocol::frame::{split_frame, FRAME_BYTES_MAX};
use klamm::protocol::kafka::{Decoder, Encoder, Field, Tag};
use klamm::protocol::Api;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub struct Wire {
    stream: TcpStream,
    received: BytesMut,
    last_id: i32,
}

impl Wire {
    pub async fn connect(address: &str) -> Wire {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Wire {
            stream,
            received: BytesMut::new(),
            last_id: 0,
        }
    }

    /// Asks in the API's last version, and waits for the answer.
    pub async fn ask<A: Api>(&mut self, request: &A::Request) -> A::Response {
        let version = *A::KEY.kafka_versions().unwrap().end();
        self.last_id += 1;
        let mut out = Encoder::new();
        (A::KEY as i16).encode(&mut out);
        version.encode(&mut out);
        self.last_id.encode(&mut out);
        Some("groups".to_owned()).encode(&mut out);
        out.set_version(version, A::KEY.is_flexible(version));
        out.tagged_count(0);
        request.encode(&mut out);
        let frame = out.finish().unwrap().to_bytes();
        self.stream.write_all(&frame).await.unwrap();

        let frame = loop {
            match split_frame(&mut self.received, FRAME_BYTES_MAX).unwrap() {
                Some(frame) => break frame,
                None => {
                    let read = self.stream.read_buf(&mut self.received).await.unwrap();
                    assert!(read > 0, "{}: closed", A::KEY.name());
                }
            }
        };
        let mut input = Decoder::new(&frame);
        assert_eq!(i32::decode(&mut input).unwrap(), self.last_id);
        input.set_version(version, A::KEY.is_flexible(version));
        input.tagged_fields(|_, _| Ok(Tag::Unknown)).unwrap();
        A::Response::decode(&mut input).unwrap()
    }
}
