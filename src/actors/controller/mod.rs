//! The controller: the one who changes metadata.
//!
//! Each node has one, and that of the node which leads the quorum is *active*: what is asked of another
//! one's handle goes over to it.
//!
//! It takes one batch of changes at a time: decides them on the newest image, each on what those before it
//! come to, proposes what was decided to the quorum, and answers once that is applied. What is asked meanwhile
//! is the next batch, so however many ask, they wait for a write or two. It holds no state of its own but what
//! it was asked, and a rebuilt one goes on where the quorum is: a change that its predecessor has proposed may
//! still be on its way, so it waits for a barrier before its first decision.

mod handle;
mod quorum;
mod remote;
mod sessions;

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::guardian::LifeLine;
#[cfg(feature = "chaos")]
use super::vitals::Vitals;
use crate::engine::metadata::change::{Change, ChangeSettings, Decided, Intent};
use crate::engine::metadata::change_batch::ChangeBatch;
use crate::model::{ErrorCode, Refusal};
use crate::raft::{Leadership, ProposeError, Raft};
use handle::Failed;

/// What is told of the voters, and of those who follow them.
pub use crate::raft::{Quorum, QuorumReplica};
pub use handle::ControllerHandle;
pub use quorum::QuorumService;
pub use remote::ChangeService;
pub use sessions::keep_sessions;

/// Changes that wait or are being written. Each may hold a whole request, of bounded size.
const MAILBOX_CAPACITY: usize = 1_024;
/// How many changes are decided together at most.
const BATCH_LEN_MAX: usize = 512;
/// How often one change is decided on until nothing of it is left: more often than any cluster has partitions for.
const STEPS_MAX: usize = 1_000;

/// The actor.
pub struct Controller {
    raft: Raft,
    settings: Arc<ChangeSettings>,
    /// Whether the image holds everything that was proposed before this life.
    caught_up: Rc<Cell<bool>>,
    /// What was asked while a batch was being written.
    waiting: VecDeque<Waiting>,
    work: Work,
    #[cfg(feature = "chaos")]
    vitals: Arc<Vitals>,
    life_line: LifeLine,
}

/// A change of the metadata that somebody asks for.
#[derive(Message)]
#[rtype(result = "Answer")]
struct Ask {
    change: Change,
    intent: Intent,
}

/// A change whose answer somebody waits for.
struct Waiting {
    ask: Ask,
    answer: oneshot::Sender<Answer>,
    /// How often it was decided on already.
    steps: usize,
}

impl Waiting {
    /// Answers, unless there is more to be decided of the change.
    fn settle(mut self, decided: Vec<Decided>) -> Option<Waiting> {
        self.steps += 1;
        let Ask { change, intent } = &self.ask;
        let goes_on = *intent == Intent::Apply && change.is_unfinished(&decided);
        if goes_on && self.steps < STEPS_MAX {
            return Some(self);
        }
        // Who asked may have gone.
        let _ = self.answer.send(Ok(decided));
        None
    }

    fn refuse(self, error: &ProposeError) {
        let _ = self.answer.send(Err(failed(error)));
    }
}

type Answer = Result<Vec<Decided>, Failed>;

/// Whether a batch is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Idle,
    Writing,
}

impl Handler<Ask> for Controller {
    type Result = ResponseFuture<Answer>;

    fn handle(&mut self, ask: Ask, context: &mut Self::Context) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.waiting.push_back(Waiting {
            ask,
            answer,
            steps: 0,
        });
        if self.work == Work::Idle {
            self.write_next(context);
        }
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(Failed::ended())) })
    }
}

impl Controller {
    /// Decides what waits, and does so again when that is written.
    fn write_next(&mut self, context: &mut Context<Self>) {
        let count = self.waiting.len().min(BATCH_LEN_MAX);
        let batch: Vec<Waiting> = self.waiting.drain(..count).collect();
        self.work = match batch.is_empty() {
            true => return self.work = Work::Idle,
            false => Work::Writing,
        };
        let deciding = Deciding {
            raft: self.raft.clone(),
            settings: self.settings.clone(),
            caught_up: self.caught_up.clone(),
        };
        let written = async move { deciding.answer(batch).await }.into_actor(self);
        context.spawn(written.map(|unfinished, controller, context| {
            for waiting in unfinished.into_iter().rev() {
                controller.waiting.push_front(waiting);
            }
            controller.write_next(context);
        }));
    }
}

/// What a batch is decided with.
struct Deciding {
    raft: Raft,
    settings: Arc<ChangeSettings>,
    caught_up: Rc<Cell<bool>>,
}

impl Deciding {
    /// Answers whoever has asked, but for those of whose change there is more to be decided.
    async fn answer(&self, batch: Vec<Waiting>) -> Vec<Waiting> {
        let mut unfinished = Vec::new();
        let changes = batch.iter().map(|waiting| &waiting.ask);
        match self.decide(changes).await {
            Ok(decided) => {
                let settled = batch.into_iter().zip(decided);
                unfinished.extend(settled.filter_map(|(waiting, decided)| waiting.settle(decided)));
            }
            // One of them is too large, and the others shall not suffer.
            Err(ProposeError::TooLarge { .. }) if batch.len() > 1 => {
                for waiting in batch {
                    match self.decide([&waiting.ask]).await {
                        Ok(mut decided) => {
                            let decided = decided.pop().unwrap_or_default();
                            unfinished.extend(waiting.settle(decided));
                        }
                        Err(error) => waiting.refuse(&error),
                    }
                }
            }
            Err(error) => {
                for waiting in batch {
                    waiting.refuse(&error);
                }
            }
        }
        unfinished
    }

    /// Decides changes, and returns once they are applied.
    async fn decide(
        &self,
        asked: impl IntoIterator<Item = &Ask, IntoIter: Clone>,
    ) -> Result<Vec<Vec<Decided>>, ProposeError> {
        // Whoever leads has an image that holds all that earlier leaders have committed.
        if let Leadership::Follower { leader } = *self.raft.leadership().borrow() {
            return Err(ProposeError::NotLeader { leader });
        }
        if !self.caught_up.get() {
            self.raft.barrier().await?;
            self.caught_up.set(true);
        }
        let image = self.raft.image().borrow().clone();
        let asked = asked.into_iter();
        let changes = asked.clone().map(|ask| (&ask.change, ask.intent));
        let ChangeBatch { decided, commands } =
            ChangeBatch::decide(changes, &image, &self.settings);
        if commands.is_empty() {
            // A leader that asks for the ISR that it has wants to be sure that it leads. Without anything to write
            // nobody has confirmed that this is the active controller still.
            let mut asked = asked;
            if asked.any(|ask| matches!(ask.change, Change::AlterPartition { .. })) {
                self.raft.barrier().await?;
            }
            return Ok(decided);
        }
        match self.raft.propose(commands).await {
            Ok(now) => {
                if now.metadata_version() > image.metadata_version() {
                    log::info!(
                        "the cluster speaks metadata version {} from now on: nodes of builds that don't know it stop",
                        now.metadata_version()
                    );
                }
                Ok(decided)
            }
            Err(error) => {
                // It may still be committed, and then the next decision has to know it.
                self.caught_up.set(error != ProposeError::Unknown);
                Err(error)
            }
        }
    }
}

fn failed(error: &ProposeError) -> Failed {
    let code = match error {
        ProposeError::NotLeader { .. } => return Failed::NotActive,
        ProposeError::Unknown => ErrorCode::RequestTimedOut,
        _ => ErrorCode::BrokerNotAvailable,
    };
    Failed::Refused(Refusal::new(code, error.to_string()))
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
