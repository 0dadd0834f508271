//! One client connection.
//!
//! The `reader` hands over all whole requests of one read; the actor gives each partition one
//! message with all the appends that they hold, and collects the answers into one write of the
//! `writer`. Requests that wait for others (a fetch at the end of a log, the creation of a topic)
//! run beside the mailbox and come back to it as a message. A connection that panics is closed: its
//! client connects again.
//!
//! Both encodings are served alike; what differs is in which order requests begin and answers leave
//! (`turns`).
//!
//! What a peer can make us hold is bounded: it is charged for each request until the answer is
//! written, and is not read from while it has used up its share. So is what all peers together make
//! us hold ([`Budget`]).

mod budget;
mod listener;
mod reader;
mod turns;
mod writer;

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

use actix::prelude::*;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use crate::actors::partition_leader::{AppendKey, AppendReplies, AppendResult};
use crate::actors::vitals::{Gauges, Kind, Registration, Vitals};
use crate::api::produce::{Appends, PendingProduce};
use crate::api::{self, ApiContext, Peer};
use crate::protocol::{produce, Decoded, Encoding, Envelope, Refused, Request, Response};

pub use budget::Budget;
pub use listener::{Listener, ListenerLimits};
pub use reader::ConnectionLimits;

use budget::Account;
use listener::Place;
use reader::{arrivals, Arrival, Charge, Ended, Received};
use turns::{Due, Turns};
use writer::{Outbox, Outgoing};

/// A request that is not answered yet.
struct InFlight {
    ticket: Ticket,
    work: Work,
}

/// A request that begins when its turn comes.
struct Parked {
    ticket: Ticket,
    request: Request,
}

/// What goes with a request until it is answered.
#[derive(Clone, Copy)]
struct Ticket {
    /// Counts the connection's requests.
    number: u64,
    envelope: Envelope,
    charge: Charge,
}

enum Work {
    Produce(PendingProduce),
    /// Aborted with the connection.
    Task(AbortHandle),
}

/// The actor.
pub struct Connection {
    context: Arc<ApiContext>,
    encoding: Encoding,
    address: SocketAddr,
    outbox: Outbox,
    /// How much more may be in flight.
    in_flight: Arc<Semaphore>,
    /// What of it is held out of the budget for all.
    account: Rc<Account>,
    /// What its requests share.
    peer: Peer,
    requests: HashMap<u64, InFlight>,
    turns: Turns<Parked, Outgoing>,
    greeted: Rc<Cell<bool>>,
    replies: Arc<dyn AppendReplies>,
    vitals: Arc<Vitals>,
    gauges: Arc<ConnectionGauges>,
    reading: Reading,
    _registration: Registration,
}

#[derive(Clone, Copy, PartialEq)]
enum Reading {
    Requests,
    /// The broker stops, or what comes can't be read: what is in flight is answered, and nothing
    /// more is taken.
    Nothing,
}

impl Connection {
    /// Starts the actor on the present arbiter. `place` is its place among all connections, and
    /// `budget` what the requests of all of them may take.
    fn start(
        socket: TcpStream,
        address: SocketAddr,
        limits: ConnectionLimits,
        context: Arc<ApiContext>,
        budget: Arc<Budget>,
        place: Place,
    ) {
        let encoding = context.listener.encoding;
        let in_flight = Arc::new(Semaphore::new(limits.in_flight_bytes_max));
        let account = Rc::new(Account::new(budget));
        let peer = Peer::new(&context, address.ip(), limits.in_flight_bytes_max);
        let greeted = Rc::new(Cell::new(false));
        let gauges = Arc::new(ConnectionGauges::default());
        let vitals = Vitals::new(Kind::Connection, address.to_string(), gauges.clone());
        let registration = context.registry.register(vitals.clone());
        let (outbox, to_write) = mpsc::unbounded_channel();
        let (read_half, write_half) = socket.into_split();
        let read_half = Rc::new(read_half);
        let patience = limits.idle_timeout;
        let arrivals = arrivals(
            read_half.clone(),
            limits,
            greeted.clone(),
            in_flight.clone(),
            account.clone(),
        );
        actix_rt::spawn(writer::write_and_close(
            write_half,
            read_half,
            to_write,
            in_flight.clone(),
            patience,
            place,
        ));
        Connection::create(|actor| {
            actor.add_stream(arrivals);
            vitals.started();
            #[cfg(feature = "chaos")]
            vitals.fault_line.connect(actor.address().recipient());
            Connection {
                encoding,
                turns: Turns::of(encoding),
                context,
                address,
                outbox,
                in_flight,
                account,
                peer,
                requests: HashMap::new(),
                greeted,
                replies: Arc::new(Replies {
                    connection: actor.address(),
                    vitals: vitals.clone(),
                }),
                vitals,
                gauges,
                reading: Reading::Requests,
                _registration: registration,
            }
        });
    }

    fn take(&mut self, received: Received, appends: &mut Appends, actor: &mut Context<Self>) {
        let Received { frame, charge } = received;
        self.gauges.requests.fetch_add(1, Relaxed);
        let Decoded {
            envelope,
            client_id,
            request,
        } = match self.encoding.decode(&frame) {
            Ok(decoded) => decoded,
            Err(refused) => return self.refuse(refused, charge, actor),
        };
        self.peer.is_called(client_id);
        self.greet(&request);
        let ticket = |number| Ticket {
            number,
            envelope,
            charge,
        };
        match request {
            Request::Produce(request) => {
                let ticket = ticket(self.turns.begin());
                self.begin_produce(ticket, request, appends, actor);
            }
            request => {
                let due = self.turns.enter(|number| Parked {
                    ticket: ticket(number),
                    request,
                });
                self.carry_out(due, actor);
            }
        }
    }

    fn refuse(&mut self, refused: Refused, charge: Charge, actor: &mut Context<Self>) {
        log::debug!(
            "{}: a request was refused: {}",
            self.address,
            refused.reason
        );
        self.account.release(charge.share);
        let Some(segments) = refused.answer else {
            self.reading = Reading::Nothing;
            return;
        };
        let number = self.turns.begin();
        let outgoing = Outgoing {
            segments,
            charge: charge.in_flight,
            room: None,
        };
        let due = self.turns.done(number, Some(outgoing));
        self.carry_out(due, actor);
    }

    /// Strangers may not send much. Whoever speaks MessagePack greets first; a Kafka client need
    /// not, so any request will do.
    fn greet(&self, request: &Request) {
        if self.encoding == Encoding::Kafka || matches!(request, Request::ApiVersions(_)) {
            self.greeted.set(true);
        }
    }

    fn begin_produce(
        &mut self,
        ticket: Ticket,
        request: produce::Request,
        appends: &mut Appends,
        actor: &mut Context<Self>,
    ) {
        let (context, replies) = (&self.context, &self.replies);
        let pending = api::produce::begin(context, request, ticket.number, replies, appends);
        if pending.is_complete() {
            return self.finish_produce(ticket, pending, actor);
        }
        let work = Work::Produce(pending);
        self.requests
            .insert(ticket.number, InFlight { ticket, work });
    }

    /// Does what is due: answers leave, and requests begin whose turn it is.
    fn carry_out(&mut self, mut due: Option<Due<Parked, Outgoing>>, actor: &mut Context<Self>) {
        while let Some(now) = due {
            match now {
                // A writer that is gone means a peer that is gone: the reader notices too, and
                // ends the actor.
                Due::Leave(outgoing) => drop(self.outbox.send(outgoing)),
                Due::Begin(Parked { ticket, request }) => {
                    let work = Work::Task(self.spawn(ticket.number, request, actor));
                    self.requests
                        .insert(ticket.number, InFlight { ticket, work });
                }
            }
            due = self.turns.next();
        }
    }

    /// Sends what is checked. The rest is checked off the arbiter, and nothing else of this
    /// connection is taken meanwhile, so that no batch overtakes another.
    fn append(&self, appends: Appends, actor: &mut Context<Self>) {
        if appends.are_checked() {
            return appends.send();
        }
        let context = self.context.clone();
        // A task of its own: it goes on if the connection ends.
        let sent = actix_rt::spawn(async move { appends.check_and_send(&context.checkers).await });
        actor.wait(sent.into_actor(self).map(|_, _, _| ()));
    }

    /// Runs a request that may wait beside the mailbox.
    fn spawn(&self, id: u64, request: Request, actor: &mut Context<Self>) -> AbortHandle {
        let context = self.context.clone();
        let peer = self.peer.clone();
        let connection = actor.address();
        let vitals = self.vitals.clone();
        let task = actix_rt::spawn(async move {
            let (response, room) = api::answer(&context, request, &peer).await;
            vitals.message_sent();
            connection.do_send(Answered { id, response, room });
        });
        task.abort_handle()
    }

    /// Requests were answered: gives back what they held, and closes the connection if it has
    /// nothing to read and nothing to answer.
    fn settle(&self, actor: &mut Context<Self>) {
        self.account.settle();
        if self.reading == Reading::Nothing && self.requests.is_empty() {
            actor.stop();
        }
    }

    fn finish_produce(
        &mut self,
        ticket: Ticket,
        pending: PendingProduce,
        actor: &mut Context<Self>,
    ) {
        match pending.finish(&self.context) {
            api::produce::Answer::Response(response) => {
                self.respond(ticket, response.into(), None, actor);
            }
            api::produce::Answer::Nothing => {
                self.account.release(ticket.charge.share);
                self.in_flight.add_permits(ticket.charge.in_flight as usize);
                let due = self.turns.done(ticket.number, None);
                self.carry_out(due, actor);
            }
            api::produce::Answer::Disconnect => actor.stop(),
        }
    }

    fn respond(
        &mut self,
        ticket: Ticket,
        response: Response,
        room: Option<OwnedSemaphorePermit>,
        actor: &mut Context<Self>,
    ) {
        let segments = match self.encoding.encode(ticket.envelope, &response) {
            Ok(segments) => segments,
            Err(error) => {
                log::error!("{}: the connection is closed: {error}", self.address);
                return actor.stop();
            }
        };
        self.account.release(ticket.charge.share);
        let outgoing = Outgoing {
            segments,
            charge: ticket.charge.in_flight,
            room,
        };
        let due = self.turns.done(ticket.number, Some(outgoing));
        self.carry_out(due, actor);
    }
}

impl Actor for Connection {
    type Context = Context<Self>;

    fn started(&mut self, actor: &mut Self::Context) {
        let stopping = self.context.stopping.clone().cancelled_owned();
        actor.spawn(stopping.into_actor(self).map(|(), connection, actor| {
            connection.reading = Reading::Nothing;
            connection.settle(actor);
        }));
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.vitals.stopped();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.in_flight.close();
        self.peer.room.close();
        for request in self.requests.values() {
            if let Work::Task(task) = &request.work {
                task.abort();
            }
        }
    }
}

impl StreamHandler<Arrival> for Connection {
    fn handle(&mut self, arrival: Arrival, actor: &mut Self::Context) {
        self.vitals.message_sent();
        self.vitals.message_handled();
        match arrival {
            Ok(_) if self.reading == Reading::Nothing => {}
            Ok(received) => {
                let mut appends = Appends::default();
                for request in received {
                    self.take(request, &mut appends, actor);
                    if self.reading == Reading::Nothing {
                        break;
                    }
                }
                self.append(appends, actor);
                self.settle(actor);
            }
            Err(Ended::ByPeer) => actor.stop(),
            Err(Ended::Frame(error)) => {
                log::debug!("{}: the connection ends: {error}", self.address);
                self.reading = Reading::Nothing;
                self.settle(actor);
            }
            Err(ended) => {
                log::debug!("{}: the connection ends: {ended}", self.address);
                actor.stop();
            }
        }
    }

    /// The end of the stream is told by its last item.
    fn finished(&mut self, _: &mut Self::Context) {}
}

/// Partitions tell what became of batches.
#[derive(Message)]
#[rtype(result = "()")]
struct Appended {
    results: Vec<(AppendKey, AppendResult)>,
}

impl Handler<Appended> for Connection {
    type Result = ();

    fn handle(&mut self, Appended { results }: Appended, actor: &mut Self::Context) {
        self.vitals.message_handled();
        for (key, result) in results {
            let Some(request) = self.requests.get_mut(&key.request) else {
                continue;
            };
            let Work::Produce(pending) = &mut request.work else {
                continue;
            };
            pending.settle(key.batch, result);
            if !pending.is_complete() {
                continue;
            }
            if let Some(InFlight {
                ticket,
                work: Work::Produce(pending),
            }) = self.requests.remove(&key.request)
            {
                self.finish_produce(ticket, pending, actor);
            }
        }
        self.settle(actor);
    }
}

/// How partitions reach this connection. They can't flood it: each delivery answers something that
/// the connection has asked for.
struct Replies {
    connection: Addr<Connection>,
    vitals: Arc<Vitals>,
}

impl AppendReplies for Replies {
    fn deliver(&self, results: Vec<(AppendKey, AppendResult)>) {
        self.vitals.message_sent();
        self.connection.do_send(Appended { results });
    }
}

/// A request that ran beside the mailbox has its answer.
#[derive(Message)]
#[rtype(result = "()")]
struct Answered {
    id: u64,
    response: Response,
    room: Option<OwnedSemaphorePermit>,
}

impl Handler<Answered> for Connection {
    type Result = ();

    fn handle(&mut self, answered: Answered, actor: &mut Self::Context) {
        self.vitals.message_handled();
        if let Some(request) = self.requests.remove(&answered.id) {
            self.respond(request.ticket, answered.response, answered.room, actor);
        }
        self.settle(actor);
    }
}

#[cfg(feature = "chaos")]
impl Handler<crate::actors::chaos::Fault> for Connection {
    type Result = ();

    fn handle(&mut self, fault: crate::actors::chaos::Fault, context: &mut Self::Context) {
        crate::actors::chaos::suffer(fault, self, context);
    }
}

/// What a connection shows of itself.
#[derive(Default)]
struct ConnectionGauges {
    requests: AtomicU64,
}

impl Gauges for ConnectionGauges {
    fn detail(&self) -> String {
        format!("requests {}", self.requests.load(Relaxed))
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {}", self.address)
    }
}
