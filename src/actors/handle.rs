//! What callers hold instead of an `Addr`: it stays the same through all lives of the actor.

use std::sync::Arc;

use actix::dev::ToEnvelope;
use actix::prelude::SendError;
use actix::{Actor, Addr, Handler, Message};
use arc_swap::ArcSwapOption;

use super::vitals::Vitals;

/// Why an actor did not take a message, or did not answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// Its mailbox is full: the message was not taken.
    Overloaded,
    /// There is no actor now: the message was not taken.
    Absent,
    /// The actor died with the message in its mailbox or at work on it: the outcome is unknown.
    Lost,
}

/// A typed way to an actor, or to its next life.
pub struct Handle<A: Actor> {
    shared: Arc<Shared<A>>,
}

struct Shared<A: Actor> {
    address: ArcSwapOption<Addr<A>>,
    vitals: Arc<Vitals>,
    mailbox_capacity: usize,
}

impl<A: Actor> Clone for Handle<A> {
    fn clone(&self) -> Self {
        Handle {
            shared: self.shared.clone(),
        }
    }
}

impl<A: Actor> Handle<A> {
    /// A handle behind which there is nobody yet.
    pub fn new(vitals: Arc<Vitals>, mailbox_capacity: usize) -> Self {
        Handle {
            shared: Arc::new(Shared {
                address: ArcSwapOption::empty(),
                vitals,
                mailbox_capacity,
            }),
        }
    }

    pub fn vitals(&self) -> &Arc<Vitals> {
        &self.shared.vitals
    }

    pub fn mailbox_capacity(&self) -> usize {
        self.shared.mailbox_capacity
    }

    /// From now on messages go to this life of the actor.
    pub fn connect(&self, address: Addr<A>) {
        self.shared.vitals.started();
        self.shared.address.store(Some(Arc::new(address)));
    }

    /// From now on there is nobody.
    pub fn disconnect(&self) {
        self.shared.address.store(None);
    }

    /// Whether a life is there that takes messages.
    pub fn is_alive(&self) -> bool {
        let address = self.shared.address.load();
        address.as_ref().is_some_and(|address| address.connected())
    }

    /// Leaves a message that must not be lost, whatever the mailbox holds. Only for what can't
    /// come more often than the actor has caused it.
    pub fn notify<M>(&self, message: M)
    where
        M: Message<Result = ()> + Send + 'static,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        if let Some(address) = &*self.shared.address.load() {
            self.shared.vitals.message_sent();
            address.do_send(message);
        }
    }

    /// Leaves a message, whose answer comes another way.
    ///
    /// Gives the message back if the mailbox is full or if there is nobody.
    pub fn post<M>(&self, message: M) -> Result<(), (M, Unavailable)>
    where
        M: Message<Result = ()> + Send + 'static,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        let Some(address) = &*self.shared.address.load() else {
            return Err((message, Unavailable::Absent));
        };
        self.shared.vitals.message_sent();
        address.try_send(message).map_err(|error| {
            self.shared.vitals.message_handled();
            match error {
                SendError::Full(message) => (message, Unavailable::Overloaded),
                SendError::Closed(message) => (message, Unavailable::Absent),
            }
        })
    }

    /// Sends a message and waits for its result.
    pub async fn ask<M>(&self, message: M) -> Result<M::Result, Unavailable>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        if self.shared.vitals.mailbox_depth() >= self.shared.mailbox_capacity as u64 {
            return Err(Unavailable::Overloaded);
        }
        let address = self.shared.address.load_full().ok_or(Unavailable::Absent)?;
        self.shared.vitals.message_sent();
        address.send(message).await.map_err(|_| Unavailable::Lost)
    }
}
