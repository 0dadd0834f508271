//! Faults by name, in builds for chaos tests only: stop, panic or stall an actor, fill the disk.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;

use crate::storage::fs::full_disk;

/// What to do to an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub enum Fault {
    /// End it, as actix ends an actor, without the orderly close of its state.
    Stop,
    Panic,
    /// Leave its messages in the mailbox for so long.
    Stall(Duration),
}

/// The way in which a fault reaches the present life of an actor.
#[derive(Default)]
pub struct FaultLine(Mutex<Option<Recipient<Fault>>>);

impl FaultLine {
    pub(super) fn connect(&self, recipient: Recipient<Fault>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(recipient);
    }

    /// Whether there was an actor to break.
    pub fn inject(&self, fault: Fault) -> bool {
        let line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        line.as_ref()
            .is_some_and(|recipient| recipient.try_send(fault).is_ok())
    }
}

/// Does to the actor what the fault says.
pub(super) fn suffer<A: Actor<Context = Context<A>>>(
    fault: Fault,
    actor: &mut A,
    context: &mut Context<A>,
) {
    match fault {
        Fault::Stop => context.stop(),
        Fault::Panic => panic!("an injected fault"),
        Fault::Stall(time) => {
            let stall = actix::clock::sleep(time).into_actor(actor);
            context.wait(stall);
        }
    }
}

/// What to do to the disk of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// So many more bytes fit, and none after them.
    Fill {
        room_bytes: u64,
    },
    Free,
}

impl DiskFault {
    pub fn inject(self) {
        match self {
            DiskFault::Fill { room_bytes } => full_disk::fill(room_bytes),
            DiskFault::Free => full_disk::free(),
        }
    }
}
