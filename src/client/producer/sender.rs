//! The sender of one partition: keeps a window of batches in flight, and settles them in order.
//!
//! Order and exactly-once rest on the broker refusing gaps: each batch of an idempotent producer
//! carries its records' sequence numbers, and the partition appends nothing out of sequence. So
//! when a batch fails in a way that a retry can help, the sender waits until the answers to all
//! that it sent behind it are known (mostly OUT_OF_ORDER_SEQUENCE_NUMBER, or UNKNOWN_PRODUCER_ID if
//! it was the producer's first), and then sends all that are not delivered again, the same bytes in the same order. A batch that had been appended after
//! all is recognised and answered with its offset.
//!
//! A leader that hangs doesn't answer and keeps its connections. So when an answer is late, the sender looks
//! whether another broker leads by now, and if so, sends to that one what wasn't answered.
//!
//! A batch that is given up leaves a gap behind which the broker would refuse everything. The
//! partition then goes on under a new identity: at once, if the broker has certainly appended
//! neither it nor what was sent behind it; else those behind fail with it, since whether they were
//! appended isn't known.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::error::Elapsed;
use tokio::time::{sleep, sleep_until, timeout_at, Instant};

use super::attempt::{outcome, superseded, transmit, Failure, Metadata, Sent};
use super::buffer::{Batch, Partition, Take};
use super::record::{Appended, BatchOutcome};
use super::{Acks, Identity, Shared};
use crate::client::{ClientError, ProduceError};
use crate::model::{BrokerId, ErrorCode};
use crate::protocol::produce;
use crate::record::{restamp, ProducerStamp};

pub(super) struct Sender {
    shared: Arc<Shared>,
    partition: Arc<Partition>,
    /// Oldest first. Only the first is settled.
    sent: VecDeque<Sent>,
    identity: Option<Identity>,
    next_sequence: i32,
    /// Whether the shared identity may still be used here.
    identity_source: IdentitySource,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum IdentitySource {
    Shared,
    /// A batch was given up: the sequence under the shared identity has a gap.
    Own,
}

/// What a broker answered, if it did.
type Answer = Result<produce::Response, ClientError>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transmitted {
    Yes,
    No,
}

impl Sender {
    pub(super) fn new(shared: Arc<Shared>, partition: Arc<Partition>) -> Sender {
        Sender {
            shared,
            partition,
            sent: VecDeque::new(),
            identity: None,
            next_sequence: 0,
            identity_source: IdentitySource::Shared,
        }
    }

    /// Sends until the producer is closed and everything is settled.
    pub(super) async fn run(mut self) {
        let window = self.shared.config.window();
        loop {
            let mut ripe_at = None;
            while self.sent.len() < window {
                match self.partition.take(self.linger()) {
                    Take::Batch(batch) => self.start(batch).await,
                    Take::Later(at) => {
                        ripe_at = Some(at);
                        break;
                    }
                    Take::Nothing => break,
                    Take::Ended if self.sent.is_empty() => return,
                    Take::Ended => break,
                }
            }
            let has_room = self.sent.len() < window;
            let partition = self.partition.clone();
            let ripe = maybe(ripe_at.map(sleep_until));
            let asked = self.sent.front().and_then(|first| first.asked);
            let overtaken = overtaken(self.shared.clone(), self.partition.clone(), asked);
            tokio::select! {
                answer = self.first_answer() => self.settle(answer).await,
                () = overtaken => self.abandon().await,
                () = ripe => {}
                () = partition.changed.notified(), if has_room => {}
            }
        }
    }

    /// The answer to the first batch, or that its time is over; never, if none is in flight. Can
    /// be dropped and called again.
    async fn first_answer(&mut self) -> Result<Answer, Elapsed> {
        let timeout = self.shared.config.delivery_timeout;
        let first = self.sent.front_mut();
        let answer = first.and_then(|first| {
            let deadline = first.opened_at + timeout;
            let call = first.call.as_mut()?;
            Some(timeout_at(deadline, call.answer()))
        });
        maybe(answer).await
    }

    /// Waits for the outcome of all that was sent.
    async fn settle_all(&mut self) {
        while self.sent.front().is_some_and(|first| first.call.is_some()) {
            let answer = self.first_answer().await;
            self.settle(answer).await;
        }
    }

    /// No record has to wait for company while nothing is in flight; and without answers, nothing
    /// ever is.
    fn linger(&self) -> Option<Duration> {
        let config = &self.shared.config;
        let waits = !self.sent.is_empty() || config.acks == Acks::None;
        waits.then_some(config.linger)
    }

    fn deadline(&self, opened_at: Instant) -> Instant {
        opened_at + self.shared.config.delivery_timeout
    }

    /// Builds a batch and sends it behind the others.
    async fn start(&mut self, mut batch: Batch) {
        let mut sent = Sent::new(&batch);
        let first_sequence = self.next_sequence;
        let stamp = match self.next_stamp(sent.records, sent.opened_at).await {
            Ok(stamp) => stamp,
            Err(error) => return self.resolve_unsent(sent, error).await,
        };
        match batch.builder.build(self.shared.config.codec, stamp) {
            Ok(bytes) => sent.bytes = bytes,
            Err(error) => {
                self.next_sequence = first_sequence;
                let error = ClientError::Invalid(format!("a batch can't be built: {error}"));
                return self.resolve_unsent(sent, error.into()).await;
            }
        }
        self.sent.push_back(sent);
        match self.transmit(self.sent.len() - 1).await {
            Transmitted::Yes => self.resolve_appended(),
            Transmitted::No => self.recover().await,
        }
    }

    /// The end of a batch that can't be sent: after those before it, since who flushes relies on
    /// the order of the outcomes.
    async fn resolve_unsent(&mut self, unsent: Sent, error: ProduceError) {
        self.settle_all().await;
        self.resolve(unsent, Err(error));
    }

    /// The next sequence numbers, under an identity that is asked for until the deadline.
    async fn next_stamp(
        &mut self,
        records: i32,
        opened_at: Instant,
    ) -> Result<ProducerStamp, ProduceError> {
        if Instant::now() >= self.deadline(opened_at) {
            return Err(self.timed_out("its turn never came".into()));
        }
        if !self.shared.config.is_idempotent() {
            return Ok(ProducerStamp::NONE);
        }
        let identity = match self.identity {
            Some(identity) => identity,
            None => self.ask_for_identity(opened_at).await?,
        };
        self.identity = Some(identity);
        Ok(self.stamp(identity, records))
    }

    fn stamp(&mut self, identity: Identity, records: i32) -> ProducerStamp {
        let base_sequence = self.next_sequence;
        // After the largest i32 comes 0.
        self.next_sequence = base_sequence.wrapping_add(records) & i32::MAX;
        ProducerStamp {
            producer_id: identity.producer_id,
            producer_epoch: identity.producer_epoch,
            base_sequence,
        }
    }

    async fn ask_for_identity(&self, opened_at: Instant) -> Result<Identity, ProduceError> {
        let mut failures = 0;
        loop {
            let asked = async {
                match self.identity_source {
                    IdentitySource::Shared => self.shared.identity().await,
                    IdentitySource::Own => self.shared.new_identity().await,
                }
            };
            let Ok(answer) = timeout_at(self.deadline(opened_at), asked).await else {
                return Err(self.timed_out("no broker gives an identity".into()));
            };
            match answer {
                Ok(identity) => return Ok(identity),
                Err(error) if !error.is_retriable() => return Err(error.into()),
                Err(error) if Instant::now() >= self.deadline(opened_at) => {
                    return Err(self.timed_out(error.to_string()));
                }
                Err(_) => {
                    failures += 1;
                    sleep(self.shared.client.config().backoff(failures)).await;
                }
            }
        }
    }

    /// The numbers that were given out are not used: begins anew under another identity.
    fn restart_sequence(&mut self) {
        self.identity = None;
        self.identity_source = IdentitySource::Own;
        self.next_sequence = 0;
    }

    /// Sends one of the batches to the partition's leader, or notes why that failed.
    async fn transmit(&mut self, at: usize) -> Transmitted {
        let timeout = self.shared.config.delivery_timeout;
        let Some(sent) = self.sent.get_mut(at) else {
            return Transmitted::Yes;
        };
        let transmitted = transmit(&self.shared, &self.partition, &sent.bytes);
        match timeout_at(sent.opened_at + timeout, transmitted).await {
            Ok(Ok((leader, call))) => {
                sent.failure = None;
                sent.asked = Some((leader, Instant::now()));
                if call.is_none() {
                    sent.appended = Some(Appended::UNKNOWN);
                }
                sent.call = call;
                Transmitted::Yes
            }
            Ok(Err(error)) => {
                sent.failure = Some(Failure::from(error));
                Transmitted::No
            }
            Err(_) => {
                sent.failure = Some(Failure::NOT_SENT);
                Transmitted::No
            }
        }
    }

    /// Sends all batches that aren't appended again, up to the first that can't be sent.
    async fn transmit_all(&mut self) -> Transmitted {
        for at in 0..self.sent.len() {
            if self.sent[at].appended.is_some() {
                continue;
            }
            self.shared.counters.retries.fetch_add(1, Ordering::Relaxed);
            if self.transmit(at).await == Transmitted::No {
                return Transmitted::No;
            }
        }
        self.resolve_appended();
        Transmitted::Yes
    }

    /// Takes note of the answer to the first batch.
    async fn settle(&mut self, answer: Result<Answer, Elapsed>) {
        let Some(first) = self.sent.front_mut() else {
            return;
        };
        let Ok(answer) = answer else {
            return self.give_up_all("no answer has come".into());
        };
        first.note(outcome(answer));
        match first.appended {
            Some(_) => self.resolve_appended(),
            None => self.recover().await,
        }
    }

    /// Whoever was asked doesn't lead any more and doesn't answer: asks the one who does.
    async fn abandon(&mut self) {
        for sent in self.sent.iter_mut().filter(|sent| sent.call.is_some()) {
            sent.note(Err(Failure::overtaken()));
        }
        self.recover().await;
    }

    /// After a batch has failed: waits for what becomes of the others, and sends all that are not
    /// delivered again, until something works or time is up.
    async fn recover(&mut self) {
        let mut failures = 0;
        loop {
            if self.collect_answers().await.is_err() {
                return self.give_up_all("no answer has come".into());
            }
            self.resolve_appended();
            let Some(first) = self.sent.front_mut() else {
                return;
            };
            let opened_at = first.opened_at;
            // Those behind the first that can't be sent have no failure of their own.
            match first.failure.take().unwrap_or(Failure::NOT_SENT) {
                Failure::Fatal(code, message) => return self.end(code, message),
                // If an earlier attempt was appended, then the partition has lost it.
                Failure::Forgotten(message) if first.in_doubt || first.begins_sequence() => {
                    return self.end(ErrorCode::UnknownProducerId, message);
                }
                Failure::Forgotten(_) => {
                    self.restart_sequence();
                    self.take_new_identity().await;
                }
                Failure::Refused(code, message) => {
                    failures = 0;
                    let refused = ProduceError::Refused {
                        topic: self.partition.topic.to_string(),
                        partition: self.partition.index,
                        code,
                        message,
                    };
                    self.refuse_first(refused).await;
                }
                Failure::Unsendable(error) if first.in_doubt => {
                    return self.give_up_all(error.to_string());
                }
                Failure::Unsendable(error) => self.refuse_first(error.into()).await,
                Failure::Retry { error, metadata } => {
                    failures += 1;
                    let again_at = Instant::now() + self.shared.client.config().backoff(failures);
                    if again_at >= self.deadline(opened_at) {
                        return self.give_up_all(error);
                    }
                    sleep_until(again_at).await;
                    if metadata == Metadata::Stale {
                        // If this fails, so will the next attempt, which then says why.
                        let client = &self.shared.client;
                        let asked = client.topic_since(&self.partition.topic, again_at);
                        let _ = timeout_at(self.deadline(opened_at), asked).await;
                    }
                }
            }
            if self.transmit_all().await == Transmitted::Yes {
                return;
            }
        }
    }

    /// Takes note of what became of all that were sent, unless the time of the first that isn't
    /// appended is over before. Who doesn't lead any more isn't waited for.
    async fn collect_answers(&mut self) -> Result<(), Elapsed> {
        for at in 0..self.sent.len() {
            let Some(mut call) = self.sent[at].call.take() else {
                continue;
            };
            let mut sent = self.sent.iter();
            let first = sent.find(|sent| sent.appended.is_none());
            let opened_at = first.map_or_else(Instant::now, |first| first.opened_at);
            let asked = self.sent[at].asked;
            let outcome = tokio::select! {
                answer = timeout_at(self.deadline(opened_at), call.answer()) => outcome(answer?),
                () = overtaken(self.shared.clone(), self.partition.clone(), asked) => {
                    Err(Failure::overtaken())
                }
            };
            self.sent[at].note(outcome);
        }
        Ok(())
    }

    /// The first batch is refused for what it is: makes the others ready to go on.
    async fn refuse_first(&mut self, refused: ProduceError) {
        let Some(first) = self.sent.pop_front() else {
            return;
        };
        // An earlier attempt may have appended it, and then the others behind it.
        let in_doubt = first.in_doubt;
        let error = refused.to_string();
        self.resolve(first, Err(refused));
        if !self.shared.config.is_idempotent() {
            return;
        }
        self.restart_sequence();
        match in_doubt {
            false => self.take_new_identity().await,
            true => self.give_up_all(error),
        }
    }

    /// Gives all batches that aren't appended sequence numbers under another identity. They
    /// certainly were not appended under the old one.
    async fn take_new_identity(&mut self) {
        let Some(first) = self.sent.front() else {
            return;
        };
        let identity = match self.ask_for_identity(first.opened_at).await {
            Ok(identity) => identity,
            Err(error) => return self.give_up_all(error.to_string()),
        };
        self.identity = Some(identity);
        for at in 0..self.sent.len() {
            if self.sent[at].appended.is_some() {
                continue;
            }
            let stamp = self.stamp(identity, self.sent[at].records);
            let sent = &mut self.sent[at];
            sent.in_doubt = false;
            sent.failure = None;
            match restamp(&sent.bytes, stamp) {
                Ok(bytes) => sent.bytes = bytes,
                Err(error) => return self.end(ErrorCode::InvalidRecord, error.to_string()),
            }
        }
    }

    /// Time is up for the first batch: whether it and those behind it were appended isn't known.
    fn give_up_all(&mut self, last_error: String) {
        self.restart_sequence();
        while let Some(sent) = self.sent.pop_front() {
            let outcome = match sent.appended {
                Some(appended) => Ok(appended),
                None => Err(self.timed_out(last_error.clone())),
            };
            self.resolve(sent, outcome);
        }
    }

    /// Nothing more can be sent to this partition.
    fn end(&mut self, code: ErrorCode, message: String) {
        let fatal = ProduceError::Fatal {
            topic: self.partition.topic.to_string(),
            partition: self.partition.index,
            code,
            message,
        };
        self.partition.end(fatal.clone());
        while let Some(sent) = self.sent.pop_front() {
            let outcome = sent.appended.ok_or_else(|| fatal.clone());
            self.resolve(sent, outcome);
        }
        while let Take::Batch(batch) = self.partition.take(None) {
            let unsent = Sent::new(&batch);
            self.resolve(unsent, Err(fatal.clone()));
        }
    }

    fn timed_out(&self, last_error: String) -> ProduceError {
        ProduceError::DeliveryTimeout {
            topic: self.partition.topic.to_string(),
            partition: self.partition.index,
            after: self.shared.config.delivery_timeout,
            last_error,
        }
    }

    /// Resolves the batches at the front that are known to be appended.
    fn resolve_appended(&mut self) {
        while let Some(appended) = self.sent.front().and_then(|first| first.appended) {
            if let Some(sent) = self.sent.pop_front() {
                self.resolve(sent, Ok(appended));
            }
        }
    }

    /// The end of a batch: tells everyone, and gives its room back.
    fn resolve(&self, sent: Sent, outcome: Result<Appended, ProduceError>) {
        let counters = &self.shared.counters;
        match &outcome {
            Ok(_) => {
                counters
                    .acknowledged
                    .fetch_add(sent.records as u64, Ordering::Relaxed);
                counters.batches.fetch_add(1, Ordering::Relaxed);
                counters
                    .bytes
                    .fetch_add(sent.bytes.len() as u64, Ordering::Relaxed);
            }
            Err(error) => {
                counters
                    .failed
                    .fetch_add(sent.records as u64, Ordering::Relaxed);
                let mut first = self
                    .shared
                    .first_error
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert_with(|| error.clone());
            }
        }
        if let Some(listener) = &self.shared.config.delivery_listener {
            listener(&BatchOutcome {
                topic: self.partition.topic.clone(),
                partition: self.partition.index,
                records: sent.records as usize,
                bytes: sent.bytes.len(),
                took: sent.opened_at.elapsed(),
                result: outcome.clone().map(|appended| appended.base_offset),
            });
        }
        sent.receipt.resolve(outcome);
        self.shared.room.add_permits(sent.reserved);
    }
}

/// Returns when an answer is late, and another broker leads the partition than the one that was asked for it;
/// never, if nobody was asked. What is asked again has to be recognised as such, so no batch without a
/// sequence is.
async fn overtaken(
    shared: Arc<Shared>,
    partition: Arc<Partition>,
    asked: Option<(BrokerId, Instant)>,
) {
    match asked.filter(|_| shared.config.is_idempotent()) {
        Some((asked, since)) => superseded(&shared, &partition, asked, since).await,
        None => std::future::pending().await,
    }
}

/// The future's output, or never.
async fn maybe<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
