//! The controller: the one who changes metadata.
//!
//! Each node has one, and that of the node which leads the quorum is *active*: what is asked of another
//! one's handle goes over to it.
//!
//! It takes one change at a time: decides it on the newest image, proposes what was decided to the
//! quorum, and answers once that is applied. So no decision is overtaken by another one. It holds
//! no state of its own, and a rebuilt one goes on where the quorum is: a change that its predecessor
//! has proposed may still be on its way, so it waits for a barrier before its first decision.

mod handle;
mod quorum;
mod remote;
mod sessions;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;

use super::guardian::LifeLine;
#[cfg(feature = "chaos")]
use super::vitals::Vitals;
use crate::engine::metadata::change::{Change, ChangeSettings, Decided, Intent};
use crate::model::{ErrorCode, Refusal};
use crate::raft::{Leadership, ProposeError, Raft};

/// What is told of the voters.
pub use crate::raft::{Quorum, Voter};
pub use handle::ControllerHandle;
pub use quorum::QuorumService;
pub use remote::ChangeService;
pub use sessions::keep_sessions;

/// Changes that wait. Each may hold a whole request, of bounded size.
const MAILBOX_CAPACITY: usize = 256;

/// The actor.
pub struct Controller {
    raft: Raft,
    settings: Arc<ChangeSettings>,
    /// Whether the image holds everything that was proposed before this life.
    caught_up: Rc<Cell<bool>>,
    #[cfg(feature = "chaos")]
    vitals: Arc<Vitals>,
    life_line: LifeLine,
}

/// A change of the metadata that somebody asks for.
#[derive(Message)]
#[rtype(result = "Result<Vec<Decided>, Refusal>")]
struct Ask {
    change: Change,
    intent: Intent,
}

impl Handler<Ask> for Controller {
    type Result = AtomicResponse<Self, Result<Vec<Decided>, Refusal>>;

    fn handle(&mut self, Ask { change, intent }: Ask, _: &mut Self::Context) -> Self::Result {
        let raft = self.raft.clone();
        let settings = self.settings.clone();
        let caught_up = self.caught_up.clone();
        let decided = async move {
            // Whoever leads has an image that holds all that earlier leaders have committed.
            if let Leadership::Follower { leader } = *raft.leadership().borrow() {
                return Err(refusal(&ProposeError::NotLeader { leader }));
            }
            if !caught_up.get() {
                raft.barrier().await.map_err(|error| refusal(&error))?;
                caught_up.set(true);
            }
            let image = raft.image().borrow().clone();
            let decided = change.decide(&image, &settings);
            let commands: Vec<_> = decided.iter().flatten().flatten().cloned().collect();
            if commands.is_empty() || intent == Intent::ValidateOnly {
                return Ok(decided);
            }
            match raft.propose(commands).await {
                Ok(_) => Ok(decided),
                Err(error) => {
                    // It may still be committed, and then the next decision has to know it.
                    caught_up.set(error != ProposeError::Unknown);
                    Err(refusal(&error))
                }
            }
        };
        AtomicResponse::new(Box::pin(decided.into_actor(self)))
    }
}

fn refusal(error: &ProposeError) -> Refusal {
    let code = match error {
        ProposeError::NotLeader { .. } => ErrorCode::NotController,
        ProposeError::Unknown => ErrorCode::RequestTimedOut,
        _ => ErrorCode::BrokerNotAvailable,
    };
    Refusal::new(code, error.to_string())
}

impl Actor for Controller {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX_CAPACITY);
        #[cfg(feature = "chaos")]
        self.vitals
            .fault_line
            .connect(context.address().recipient());
    }
}

/// Ends the controller in good order.
#[derive(Message)]
#[rtype(result = "()")]
struct Close;

impl Handler<Close> for Controller {
    type Result = ();

    fn handle(&mut self, _: Close, context: &mut Self::Context) {
        self.life_line.release();
        context.stop();
    }
}

#[cfg(feature = "chaos")]
impl Handler<super::chaos::Fault> for Controller {
    type Result = ();

    fn handle(&mut self, fault: super::chaos::Fault, context: &mut Self::Context) {
        super::chaos::suffer(fault, self, context);
    }
}
