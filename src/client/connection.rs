//! One TCP connection to one broker: requests go out in the order in which they were begun, and
//! responses are matched by their correlation ids, in whatever order they come.
//!
//! A connection that fails is never repaired: everyone who waits on it gets the error, and the
//! pool opens another one. A request that isn't answered in time fails its whole connection,
//! since a broker that hangs answers nothing else either; also when the one who asked has gone.

use std::collections::HashMap;
use std::io;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout, timeout_at, Instant};

use super::{ClientConfig, ClientError};
use crate::protocol::{
    api_versions, decode_response, encode_request, response_correlation_id, split_frame, Api,
    ApiKey, Pieces, RequestHeader, Segments, FRAME_BYTES_MAX,
};

/// How many requests are taken from the queue at once.
const REQUESTS_AT_ONCE_MAX: usize = 64;
/// How often the connection looks for requests whose time is over, and how much later than the
/// one who waits it gives them up.
const OVERDUE_CHECK: Duration = Duration::from_secs(1);
/// The room that each read has at least.
const READ_BYTES_MIN: usize = 64 * 1024;
/// A large response is given its room at once, up to this.
const READ_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a connection is used for. Produce requests don't queue behind long polls, and neither
/// behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    Control,
    Produce,
    Fetch,
}

/// An open connection that has greeted.
#[derive(Debug)]
pub(super) struct Connection {
    address: Arc<str>,
    client_id: String,
    cluster_id: String,
    request_timeout: Duration,
    /// The version to speak of each API that both sides know.
    versions: HashMap<ApiKey, i16>,
    outgoing: mpsc::UnboundedSender<Outgoing>,
    in_flight: Arc<Semaphore>,
    link: Arc<Link>,
}

/// What a connection and its task share.
#[derive(Debug, Default)]
struct Link {
    waiting: Mutex<Waiting>,
    /// Ends the task, whatever it waits for.
    failed: Notify,
}

/// A request that goes out.
#[derive(Debug)]
struct Outgoing {
    segments: Segments,
    /// Is told when all of it is written.
    written: Option<oneshot::Sender<()>>,
}

/// Who waits for which response.
#[derive(Debug, Default)]
struct Waiting {
    replies: HashMap<i32, Waiter>,
    last_correlation_id: i32,
    /// Why the connection is no more.
    lost: Option<String>,
}

#[derive(Debug)]
struct Waiter {
    reply: oneshot::Sender<Result<Bytes, ClientError>>,
    api: ApiKey,
    deadline: Instant,
    _in_flight: OwnedSemaphorePermit,
}

/// A request that is on its way, and its response to come.
#[derive(Debug)]
pub(super) struct Call<A: Api> {
    connection: Arc<Connection>,
    reply: oneshot::Receiver<Result<Bytes, ClientError>>,
    deadline: Instant,
    after: Duration,
    api: PhantomData<fn() -> A>,
}

impl Connection {
    /// Connects and greets, each within the connect timeout.
    pub(super) async fn open(
        address: &str,
        config: &ClientConfig,
    ) -> Result<Arc<Connection>, ClientError> {
        let failed = |reason: String| ClientError::Connect {
            address: address.to_string(),
            reason,
        };
        let connecting = timeout(config.connect_timeout, TcpStream::connect(address)).await;
        let stream = match connecting {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => {
                let reason = format!("no answer within {:?}", config.connect_timeout);
                return Err(failed(reason));
            }
        };
        stream
            .set_nodelay(true)
            .map_err(|error| failed(error.to_string()))?;

        let (outgoing, requests) = mpsc::unbounded_channel();
        let link = Arc::new(Link::default());
        tokio::spawn(run(stream, requests, link.clone(), address.to_string()));
        let in_flight_max = config.in_flight_max.clamp(1, Semaphore::MAX_PERMITS);
        let mut connection = Connection {
            address: address.into(),
            client_id: config.client_id.clone(),
            cluster_id: String::new(),
            request_timeout: config.connect_timeout,
            versions: HashMap::from([(ApiKey::ApiVersions, *ApiKey::ApiVersions.versions().end())]),
            outgoing,
            in_flight: Arc::new(Semaphore::new(in_flight_max)),
            link,
        };
        let greeting = connection.greet().await?;
        connection.request_timeout = config.request_timeout;
        connection.versions = common_versions(&greeting);
        connection.cluster_id = greeting.cluster_id;
        Ok(Arc::new(connection))
    }

    async fn greet(&self) -> Result<api_versions::Response, ClientError> {
        let request = api_versions::Request {
            client_software_name: "klamm-rust".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
        };
        let permit = self.permit().await?;
        let deadline = Instant::now() + self.request_timeout;
        let reply = self.ask::<api_versions::Api>(&request, permit, deadline)?;
        let frame = match timeout_at(deadline, reply).await {
            Ok(Ok(frame)) => frame?,
            Ok(Err(_)) => return Err(self.lost()),
            Err(_) => return Err(self.timed_out("ApiVersions", self.request_timeout)),
        };
        self.decode::<api_versions::Api>(&frame)
    }

    pub(super) fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    pub(super) fn is_lost(&self) -> bool {
        self.waiting().lost.is_some()
    }

    /// Sends a request, after those that were begun before. Waits only while too many are in
    /// flight. `extra` is what the request itself lets the broker wait.
    pub(super) async fn begin<A: Api>(
        self: &Arc<Self>,
        request: &A::Request,
        extra: Duration,
    ) -> Result<Call<A>, ClientError> {
        let permit = self.permit().await?;
        let after = self.request_timeout + extra;
        let deadline = Instant::now() + after;
        Ok(Call {
            reply: self.ask::<A>(request, permit, deadline)?,
            connection: self.clone(),
            deadline,
            after,
            api: PhantomData,
        })
    }

    /// Sends a request to which no response comes, and waits until it is written.
    pub(super) async fn tell<A: Api>(&self, request: &A::Request) -> Result<(), ClientError> {
        let _in_flight = self.permit().await?;
        let (written, is_written) = oneshot::channel();
        self.send::<A>(request, None, Some(written))?;
        match timeout(self.request_timeout, is_written).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.lost()),
            Err(_) => Err(self.timed_out(A::KEY.name(), self.request_timeout)),
        }
    }

    /// Sends a request and waits for its response.
    pub(super) async fn call<A: Api>(
        self: &Arc<Self>,
        request: &A::Request,
        extra: Duration,
    ) -> Result<A::Response, ClientError> {
        self.begin::<A>(request, extra).await?.answer().await
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, ClientError> {
        let permit = self.in_flight.clone().acquire_owned().await;
        permit.map_err(|_| self.lost())
    }

    /// Queues a request whose response is waited for.
    fn ask<A: Api>(
        &self,
        request: &A::Request,
        permit: OwnedSemaphorePermit,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<Result<Bytes, ClientError>>, ClientError> {
        let (reply, receiver) = oneshot::channel();
        let waiter = Waiter {
            reply,
            api: A::KEY,
            deadline,
            _in_flight: permit,
        };
        self.send::<A>(request, Some(waiter), None)?;
        Ok(receiver)
    }

    /// Queues a request.
    fn send<A: Api>(
        &self,
        request: &A::Request,
        waiter: Option<Waiter>,
        written: Option<oneshot::Sender<()>>,
    ) -> Result<(), ClientError> {
        let unsupported = || ClientError::UnsupportedApi {
            address: self.address.to_string(),
            api: A::KEY.name(),
        };
        let version = *self.versions.get(&A::KEY).ok_or_else(unsupported)?;
        let mut waiting = self.waiting();
        if waiting.lost.is_some() {
            drop(waiting);
            return Err(self.lost());
        }
        let correlation_id = waiting.last_correlation_id.wrapping_add(1);
        let header = RequestHeader {
            api_key: A::KEY as i16,
            api_version: version,
            correlation_id,
            client_id: Some(self.client_id.clone()),
        };
        let segments = encode_request::<A>(&header, request)
            .map_err(|error| ClientError::Invalid(error.to_string()))?;
        waiting.last_correlation_id = correlation_id;
        if let Some(waiter) = waiter {
            waiting.replies.insert(correlation_id, waiter);
        }
        // Under the lock, so that requests go out in the order of their ids. If the other end of
        // the queue is gone, the connection's task fails all that wait.
        let _ = self.outgoing.send(Outgoing { segments, written });
        Ok(())
    }

    fn decode<A: Api>(&self, frame: &Bytes) -> Result<A::Response, ClientError> {
        let api = A::KEY.name();
        match decode_response::<A>(frame) {
            Ok((_, Ok(response))) => Ok(response),
            Ok((_, Err(refusal))) => Err(ClientError::Refused {
                address: self.address.to_string(),
                api,
                code: refusal.code,
                message: refusal.message,
            }),
            Err(error) => Err(ClientError::Garbled {
                address: self.address.to_string(),
                api,
                reason: error.to_string(),
            }),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.link.waiting()
    }

    fn lost(&self) -> ClientError {
        let reason = self.waiting().lost.clone();
        lost(&self.address, reason.as_deref().unwrap_or("it was closed"))
    }

    /// Gives the connection up: a broker that doesn't answer one request answers none.
    fn timed_out(&self, api: &'static str, after: Duration) -> ClientError {
        let reason = format!("{api} was not answered within {after:?}");
        self.link.fail(&self.address, &reason);
        ClientError::Timeout {
            address: self.address.to_string(),
            api,
            after,
        }
    }
}

impl<A: Api> Call<A> {
    /// Waits for the response. Can be dropped and called again.
    pub(super) async fn answer(&mut self) -> Result<A::Response, ClientError> {
        let frame = match timeout_at(self.deadline, &mut self.reply).await {
            Ok(Ok(frame)) => frame?,
            Ok(Err(_)) => return Err(self.connection.lost()),
            Err(_) => return Err(self.connection.timed_out(A::KEY.name(), self.after)),
        };
        self.connection.decode::<A>(&frame)
    }
}

/// The highest version of each API that both sides speak.
fn common_versions(greeting: &api_versions::Response) -> HashMap<ApiKey, i16> {
    let common = greeting.api_keys.iter().filter_map(|theirs| {
        let key = ApiKey::from_code(theirs.api_key)?;
        let ours = key.versions();
        let version = theirs.max_version.min(*ours.end());
        let spoken = version >= theirs.min_version && version >= *ours.start();
        spoken.then_some((key, version))
    });
    common.collect()
}

fn lost(address: &str, reason: &str) -> ClientError {
    ClientError::ConnectionLost {
        address: address.to_string(),
        reason: reason.to_string(),
    }
}

impl Link {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the connection, and tells everyone who waits. The first reason counts.
    fn fail(&self, address: &str, reason: &str) {
        let mut waiting = self.waiting();
        if waiting.lost.is_none() {
            waiting.lost = Some(reason.to_string());
        }
        let replies = std::mem::take(&mut waiting.replies);
        drop(waiting);
        self.failed.notify_one();
        for waiter in replies.into_values() {
            let _ = waiter.reply.send(Err(lost(address, reason)));
        }
    }

    /// Waits until a request is overdue whose response nobody waits for any more: those who wait
    /// notice it sooner.
    async fn overdue(&self) -> io::Error {
        loop {
            sleep(OVERDUE_CHECK).await;
            let limit = Instant::now() - OVERDUE_CHECK;
            let waiting = self.waiting();
            let overdue = waiting.replies.values().find(|it| it.deadline <= limit);
            if let Some(overdue) = overdue {
                let reason = format!("{} was not answered in time", overdue.api.name());
                return io::Error::new(io::ErrorKind::TimedOut, reason);
            }
        }
    }
}

/// The connection's task: reads and writes until one of them ends, or the connection is given up.
async fn run(
    mut stream: TcpStream,
    requests: mpsc::UnboundedReceiver<Outgoing>,
    link: Arc<Link>,
    address: String,
) {
    let (reading, writing) = stream.split();
    let ended = tokio::select! {
        read = read_responses(reading, &link) => read,
        written = write_requests(writing, requests) => written,
        overdue = link.overdue() => Err(overdue),
        () = link.failed.notified() => Ok(()),
    };
    let reason = match ended {
        Ok(()) => "it was closed".to_string(),
        Err(error) => error.to_string(),
    };
    log::debug!("connection to {address}: {reason}");
    link.fail(&address, &reason);
}

async fn write_requests(
    mut stream: WriteHalf<'_>,
    mut requests: mpsc::UnboundedReceiver<Outgoing>,
) -> io::Result<()> {
    let mut taken = Vec::new();
    let mut pieces = Pieces::default();
    let mut told = Vec::new();
    while requests.recv_many(&mut taken, REQUESTS_AT_ONCE_MAX).await > 0 {
        for request in taken.drain(..) {
            pieces.push(request.segments);
            told.extend(request.written);
        }
        pieces.write_all(&mut stream).await?;
        for written in told.drain(..) {
            let _ = written.send(());
        }
    }
    Ok(())
}

async fn read_responses(mut stream: ReadHalf<'_>, link: &Link) -> io::Result<()> {
    let invalid = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut buffer = BytesMut::new();
    loop {
        while let Some(frame) =
            split_frame(&mut buffer, FRAME_BYTES_MAX).map_err(|error| invalid(error.to_string()))?
        {
            let id = response_correlation_id(&frame).map_err(|error| invalid(error.to_string()))?;
            let waiter = link.waiting().replies.remove(&id);
            let waiter =
                waiter.ok_or_else(|| invalid(format!("nobody waits for response {id}")))?;
            let _ = waiter.reply.send(Ok(frame));
        }
        let missing = match buffer.first_chunk() {
            Some(length) => 4 + u32::from_be_bytes(*length) as usize - buffer.len(),
            None => READ_BYTES_MIN,
        };
        buffer.reserve(missing.clamp(READ_BYTES_MIN, READ_BYTES_MAX));
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake_broker::{FakeBroker, Fault, TOPIC};
    use crate::protocol::{produce, Records};

    /// A Produce request that takes so many bytes.
    fn produce(bytes: usize) -> produce::Request {
        produce::Request {
            acks: 1,
            timeout_ms: 0,
            topic_data: vec![produce::TopicProduceData {
                name: TOPIC.into(),
                partition_data: vec![produce::PartitionProduceData {
                    index: 0,
                    records: Records(vec![0; bytes].into()),
                }],
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    async fn open(broker: &FakeBroker) -> Arc<Connection> {
        let config = ClientConfig {
            request_timeout: Duration::from_millis(50),
            ..ClientConfig::from(broker.address.as_str())
        };
        Connection::open(&broker.address, &config).await.unwrap()
    }

    /// Waits until the connection's task has ended.
    async fn end(connection: &Connection) {
        tokio::time::timeout(Duration::from_secs(20), connection.outgoing.closed())
            .await
            .expect("the task ends");
        assert!(connection.is_lost());
    }

    #[tokio::test]
    async fn a_request_that_nobody_waits_for_times_out_too() {
        let broker = FakeBroker::start(1).await;
        broker.script(|_| Fault::Silence);
        let connection = open(&broker).await;
        let request = produce(1);
        let call = connection.begin::<produce::Api>(&request, Duration::ZERO);
        drop(call.await.unwrap());
        end(&connection).await;
        let in_flight_max = ClientConfig::default().in_flight_max;
        assert_eq!(connection.in_flight.available_permits(), in_flight_max);
    }

    #[tokio::test]
    async fn a_timeout_ends_a_connection_whose_peer_does_not_read() {
        let broker = FakeBroker::start(1).await;
        broker.state().held = true;
        let connection = open(&broker).await;
        let request = produce(64 << 20);
        let call = connection.call::<produce::Api>(&request, Duration::ZERO);
        let error = call.await.unwrap_err();
        assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
        end(&connection).await;
    }
}
