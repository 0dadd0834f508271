//! What the core of a coordinator is to the runtime that hosts it.
//!
//! A coordinator keeps its state in one partition of an internal topic, and leads it. Its core decides:
//! it is told what happened and returns [`Effect`]s. What it wants to remember it has written, and
//! changes what it remembers only when the record is committed, by [`Core::replay`], which is also how
//! the next leader of the partition learns it. An answer that depends on a record waits for it: the core
//! gives it away as the write's purpose, and gets that back when the record is committed, or can't be
//! written.
//!
//! The runtime (`actors::coordinator`) appends, waits for the commit, keeps the time and carries the
//! answers. Consumer groups ([`super::group`]) are the first core.

use std::fmt::Debug;

use crate::model::{ErrorCode, Timestamp};

/// What is to be done, in this order: whom to answer what, and which records to write for which purpose.
#[derive(Debug, PartialEq)]
pub enum Effect<T, A, R, P> {
    Answer {
        to: T,
        answer: A,
    },
    /// Append these as one batch. When it is committed, replay each record and report
    /// [`Core::written`]; if nothing was appended, report only that.
    Write {
        records: Vec<R>,
        purpose: P,
    },
}

/// The effects of one core.
pub type EffectOf<C> =
    Effect<<C as Core>::Ticket, <C as Core>::Answer, <C as Core>::Record, <C as Core>::Purpose>;

/// A coordinator's decisions.
pub trait Core: Sized {
    type Request: Send + 'static;
    type Answer: Send + 'static;
    /// Who is answered. Dropped unanswered, it says that the coordinator is gone.
    type Ticket: Send + 'static;
    type Record: Record + Unpin;
    /// What a write is for.
    type Purpose: Send + Unpin + 'static;

    /// A record is committed. The same record again changes nothing.
    fn replay(&mut self, record: &Self::Record);

    /// All records that were there have been replayed: from now on it decides.
    fn loaded(&mut self, now: Timestamp) -> Vec<EffectOf<Self>>;

    fn handle(
        &mut self,
        now: Timestamp,
        request: Self::Request,
        to: Self::Ticket,
    ) -> Vec<EffectOf<Self>>;

    /// The write's records are committed and replayed, or nothing was appended for this reason.
    fn written(
        &mut self,
        now: Timestamp,
        purpose: Self::Purpose,
        written: Result<(), ErrorCode>,
    ) -> Vec<EffectOf<Self>>;

    /// When [`Core::tick`] is due, if it is.
    fn next_tick(&self) -> Option<Timestamp>;

    fn tick(&mut self, now: Timestamp) -> Vec<EffectOf<Self>>;

    /// What it shows of itself, in one line.
    fn describe(&self) -> String;
}

/// A record of a coordinator's topic.
pub trait Record: Sized + Debug + Send + 'static {
    fn key(&self) -> Vec<u8>;

    /// `None`: a tombstone.
    fn value(&self) -> Option<Vec<u8>>;

    /// `None` for a kind that this build doesn't know, as a later one may have written it. The error
    /// says in one line what is wrong with a record of a known kind.
    fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Self>, String>;
}
