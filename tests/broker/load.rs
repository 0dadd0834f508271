//! Writers who go on whatever happens to the broker, and remember what they were told.
//!
//! Each writes to one partition over raw frames, with acks=all, and sends again what it has no
//! answer to. With several batches in flight it drops the connection on any error, so that no
//! later batch overtakes one that failed; the broker's error codes are left to those with one.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use klamm::model::ErrorCode;
use klamm::protocol::produce;

use crate::batches::batch;
use crate::calls::{only_result, produce_request, ACKS_ALL};
use crate::harness::WAIT_MAX;
use crate::history::{Outcome, Sent};
use crate::wire::Wire;

/// Records of one batch.
const BATCH_RECORDS: usize = 3;
const VALUE_BYTES: usize = 200;

/// Who writes, and how.
#[derive(Clone, Copy)]
pub struct Plan {
    pub topic: &'static str,
    pub partitions: i32,
    pub writers: usize,
    /// Batches of a writer in flight.
    pub window: usize,
}

/// Writers at work.
pub struct Load {
    shared: Arc<Shared>,
    plan: Plan,
    threads: Vec<JoinHandle<()>>,
}

/// Counts what is acknowledged, for whoever waits for more.
#[derive(Default)]
pub struct Progress {
    acknowledged: Mutex<usize>,
    more: Condvar,
}

impl Progress {
    /// One batch more.
    pub fn advance(&self) {
        *self.acknowledged.lock().unwrap() += 1;
        self.more.notify_all();
    }

    /// Waits until so many more batches are acknowledged.
    pub fn wait_for(&self, more: usize) {
        let acknowledged = self.acknowledged.lock().unwrap();
        let enough = *acknowledged + more;
        let waited = self
            .more
            .wait_timeout_while(acknowledged, WAIT_MAX, |now| *now < enough);
        assert!(!waited.unwrap().1.timed_out(), "nobody gets on");
    }
}

struct Shared {
    /// Where the broker is; none while there is none.
    place: Mutex<Option<SocketAddr>>,
    moved: Condvar,
    progress: Progress,
    stopping: AtomicBool,
    /// By writer.
    histories: Vec<Mutex<Vec<Sent>>>,
    /// Error codes that writers were answered with.
    codes: Mutex<BTreeMap<i16, ErrorCode>>,
    disconnects: AtomicUsize,
}

impl Load {
    /// Starts the writers, who wait until they are told where the broker is.
    pub fn start(plan: Plan) -> Load {
        let shared = Arc::new(Shared {
            place: Mutex::new(None),
            moved: Condvar::new(),
            progress: Progress::default(),
            stopping: AtomicBool::new(false),
            histories: (0..plan.writers).map(|_| Mutex::default()).collect(),
            codes: Mutex::default(),
            disconnects: AtomicUsize::new(0),
        });
        let spawn = |id| {
            let shared = shared.clone();
            std::thread::spawn(move || Writer { id, plan, shared }.run())
        };
        let threads = (0..plan.writers).map(spawn).collect();
        Load {
            shared,
            plan,
            threads,
        }
    }

    pub fn broker_is_at(&self, address: SocketAddr) {
        *self.shared.place.lock().unwrap() = Some(address);
        self.shared.moved.notify_all();
    }

    pub fn broker_is_gone(&self) {
        *self.shared.place.lock().unwrap() = None;
    }

    /// Waits until so many more batches are acknowledged.
    pub fn wait_for_acknowledged(&self, more: usize) {
        self.shared.progress.wait_for(more);
    }

    /// What was sent to a partition so far.
    pub fn history(&self, partition: i32) -> Vec<Sent> {
        let writers = (0..self.plan.writers).filter(|w| self.plan.partition(*w) == partition);
        writers
            .flat_map(|w| self.shared.histories[w].lock().unwrap().clone())
            .collect()
    }

    /// Other codes than NONE that writers were answered with.
    pub fn codes(&self) -> Vec<ErrorCode> {
        self.shared
            .codes
            .lock()
            .unwrap()
            .values()
            .copied()
            .collect()
    }

    /// How often a connection ended.
    pub fn disconnects(&self) -> usize {
        self.shared.disconnects.load(SeqCst)
    }

    /// Lets each writer bring its last batches to an end.
    pub fn finish(&mut self) {
        self.shared.stopping.store(true, SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().expect("a writer panicked");
        }
    }
}

impl Drop for Load {
    /// Also after a failed assertion nobody writes on.
    fn drop(&mut self) {
        self.shared.stopping.store(true, SeqCst);
        *self.shared.place.lock().unwrap() = None;
        self.shared.moved.notify_all();
    }
}

impl Plan {
    fn partition(&self, writer: usize) -> i32 {
        writer as i32 % self.partitions
    }
}

struct Writer {
    id: usize,
    plan: Plan,
    shared: Arc<Shared>,
}

impl Writer {
    fn run(self) {
        // The first record of each batch that isn't acknowledged.
        let mut open: Vec<usize> = Vec::new();
        while let Some(address) = self.place() {
            let ended = Wire::connect(address).and_then(|wire| self.write(wire, &mut open));
            match ended {
                Ok(()) => return,
                Err(_) => self.shared.disconnects.fetch_add(1, SeqCst),
            };
        }
    }

    /// Waits for the broker; none if the test is over.
    fn place(&self) -> Option<SocketAddr> {
        let gone =
            |place: &mut Option<SocketAddr>| place.is_none() && !self.shared.stopping.load(SeqCst);
        let place = self.shared.place.lock().unwrap();
        let waited = self.shared.moved.wait_timeout_while(place, WAIT_MAX, gone);
        *waited.unwrap().0
    }

    /// Until the connection ends, or everything is acknowledged and no more is wanted.
    fn write(&self, mut wire: Wire, open: &mut Vec<usize>) -> io::Result<()> {
        let mut in_flight = BTreeMap::new();
        for first in open.iter() {
            in_flight.insert(self.send(&mut wire, *first)?, *first);
        }
        loop {
            let more = !self.shared.stopping.load(SeqCst);
            while more && open.len() < self.plan.window {
                let first = self.invent();
                open.push(first);
                in_flight.insert(self.send(&mut wire, first)?, first);
            }
            if open.is_empty() {
                return Ok(());
            }
            let (id, answer) = wire.receive::<produce::Api>()?;
            let first = in_flight.remove(&id).expect("an answer to nothing");
            let result = only_result(answer.map_err(io::Error::other)?);
            if result.error_code == ErrorCode::None {
                open.retain(|other| *other != first);
                self.acknowledge(first, result.base_offset.0);
                continue;
            }
            let code = result.error_code;
            self.shared.codes.lock().unwrap().insert(code.code(), code);
            if self.plan.window > 1 {
                return Err(io::Error::other("a batch failed"));
            }
            in_flight.insert(self.send(&mut wire, first)?, first);
        }
    }

    /// The next batch's records, not yet sent; returns the number of the first.
    fn invent(&self) -> usize {
        let mut history = self.shared.histories[self.id].lock().unwrap();
        let first = history.len();
        history.extend((first..first + BATCH_RECORDS).map(|number| {
            let mut value = format!("writer {} record {number} ", self.id).into_bytes();
            value.resize(VALUE_BYTES, b'.');
            Sent {
                writer: self.id,
                value,
                sends: 0,
                outcome: Outcome::Unknown,
            }
        }));
        first
    }

    fn send(&self, wire: &mut Wire, first: usize) -> io::Result<i32> {
        let values = {
            let mut history = self.shared.histories[self.id].lock().unwrap();
            let records = &mut history[first..first + BATCH_RECORDS];
            records.iter_mut().for_each(|record| record.sends += 1);
            let values = records.iter().map(|record| record.value.clone());
            values.collect::<Vec<_>>()
        };
        let partition = self.plan.partition(self.id);
        let request = produce_request(self.plan.topic, partition, ACKS_ALL, batch(&values));
        wire.send::<produce::Api>(&request)
    }

    fn acknowledge(&self, first: usize, base_offset: i64) {
        let mut history = self.shared.histories[self.id].lock().unwrap();
        let records = &mut history[first..first + BATCH_RECORDS];
        for (record, offset) in records.iter_mut().zip(base_offset..) {
            record.outcome = Outcome::Acknowledged(offset);
        }
        drop(history);
        self.shared.progress.advance();
    }
}

/// A deadline of [`WAIT_MAX`] for what has to be asked again and again.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT_MAX;
    while !holds() {
        assert!(Instant::now() < deadline, "it never came to be that {what}");
    }
}
