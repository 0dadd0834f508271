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

    /// Sends a message and waits for its result. An overloaded actor isn't asked.
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
        self.command(message).await
    }

    /// Sends a message and waits for its result, behind whatever the mailbox holds. For the few
    /// messages that must arrive: an overloaded actor is to be configured and closed as well.
    pub async fn command<M>(&self, message: M) -> Result<M::Result, Unavailable>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        let address = self.shared.address.load_full().ok_or(Unavailable::Absent)?;
        let _asked = Asked::count(&self.shared.vitals);
        address.send(message).await.map_err(|_| Unavailable::Lost)
    }
}

/// A message that somebody waits for. It is counted here, and not in its handler: actix passes over
/// a message whose asker has gone.
struct Asked(Arc<Vitals>);

impl Asked {
    fn count(vitals: &Arc<Vitals>) -> Asked {
        vitals.message_sent();
        Asked(vitals.clone())
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.message_handled();
    }
}

#[cfg(test)]
mod tests {
    use actix::prelude::*;

    use super::*;
    use crate::actors::vitals::{Gauges, Kind};

    const CAPACITY: usize = 4;

    struct Nothing;

    impl Gauges for Nothing {
        fn detail(&self) -> String {
            String::new()
        }
    }

    /// Answers one question after the other, each when it is told to.
    struct Slow;

    impl Actor for Slow {
        type Context = Context<Self>;
    }

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Question(tokio::sync::oneshot::Receiver<()>);

    impl Handler<Question> for Slow {
        type Result = AtomicResponse<Self, ()>;

        fn handle(&mut self, Question(told): Question, _: &mut Context<Self>) -> Self::Result {
            let told = async { told.await.unwrap_or(()) };
            AtomicResponse::new(Box::pin(told.into_actor(self)))
        }
    }

    fn handle() -> Handle<Slow> {
        let vitals = Vitals::new(Kind::Controller, "slow".into(), Arc::new(Nothing));
        Handle::new(vitals, CAPACITY)
    }

    #[test]
    fn askers_who_leave_do_not_fill_the_mailbox_for_good() {
        System::new().block_on(async {
            let slow = handle();
            slow.connect(Slow.start());
            let (tell, told) = tokio::sync::oneshot::channel();
            let first = actix_rt::spawn({
                let slow = slow.clone();
                async move { slow.ask(Question(told)).await }
            });
            for _ in 0..10 * CAPACITY {
                let (_tell, told) = tokio::sync::oneshot::channel();
                let asker = slow.clone();
                let asker = actix_rt::spawn(async move { asker.ask(Question(told)).await });
                tokio::task::yield_now().await;
                asker.abort();
                assert!(asker.await.is_err());
            }
            tell.send(()).unwrap();
            first.await.unwrap().unwrap();
            let (tell, told) = tokio::sync::oneshot::channel();
            tell.send(()).unwrap();
            assert_eq!(slow.ask(Question(told)).await, Ok(()));
            assert_eq!(slow.vitals().mailbox_depth(), 0);
        });
    }

    #[test]
    fn nobody_is_asked_where_nobody_is() {
        System::new().block_on(async {
            let (_tell, told) = tokio::sync::oneshot::channel();
            let answer = handle().ask(Question(told)).await;
            assert_eq!(answer, Err(Unavailable::Absent));
        });
    }
}
