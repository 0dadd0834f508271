//! The controller: the one who changes metadata.
//!
//! It takes one change at a time: decides it on the newest image, proposes what was decided to the
//! quorum, and answers once that is applied. So no decision is overtaken by another one. It holds
//! no state of its own, and a rebuilt one goes on where the quorum is: a change that its predecessor
//! has proposed may still be on its way, so it waits for a barrier before its first decision.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::watch;

use super::guardian::LifeLine;
use super::handle::{Handle, Unavailable};
use super::vitals::{Gauges, Kind, Registration, Registry, Vitals};
use crate::engine::metadata::change::{Change, ChangeSettings, Decided, Intent};
use crate::engine::metadata::MetadataImage;
use crate::model::{ErrorCode, Refusal};
use crate::raft::{Leadership, ProposeError, Raft};

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

/// The way to the controller.
#[derive(Clone)]
pub struct ControllerHandle {
    controller: Handle<Controller>,
    _registration: Arc<Registration>,
}

impl ControllerHandle {
    pub fn new(raft: &Raft, registry: &Registry) -> Self {
        let gauges = Arc::new(ControllerGauges {
            leadership: raft.leadership(),
            image: raft.image(),
        });
        let vitals = Vitals::new(Kind::Controller, "controller".into(), gauges);
        ControllerHandle {
            _registration: Arc::new(registry.register(vitals.clone())),
            controller: Handle::new(vitals, MAILBOX_CAPACITY),
        }
    }

    /// The guardian's: starts a controller on the present arbiter.
    pub fn start(&self, raft: Raft, settings: Arc<ChangeSettings>, life_line: LifeLine) {
        let controller = Controller {
            raft,
            settings,
            caught_up: Rc::new(Cell::new(false)),
            #[cfg(feature = "chaos")]
            vitals: self.controller.vitals().clone(),
            life_line,
        };
        self.controller.connect(controller.start());
    }

    pub fn vitals(&self) -> &Arc<Vitals> {
        self.controller.vitals()
    }

    pub fn is_alive(&self) -> bool {
        self.controller.is_alive()
    }

    /// The guardian's: the controller is gone.
    pub fn disconnect(&self) {
        self.controller.disconnect();
    }

    /// Has each part of a change decided on the newest image, and answers once what was decided is
    /// committed and applied here.
    pub async fn change(&self, change: Change, intent: Intent) -> Result<Vec<Decided>, Refusal> {
        match self.controller.ask(Ask { change, intent }).await {
            Ok(result) => result,
            Err(Unavailable::Overloaded) => Err(Refusal::new(
                ErrorCode::ThrottlingQuotaExceeded,
                "the controller is overloaded",
            )),
            Err(Unavailable::Absent | Unavailable::Lost) => Err(Refusal::new(
                ErrorCode::NotController,
                "the controller ended before it could answer; the change may have been made",
            )),
        }
    }

    /// Makes a change of one part.
    pub async fn change_one(&self, change: Change) -> Decided {
        let decided = self.change(change, Intent::Apply).await?.pop();
        decided.unwrap_or_else(|| Err(ErrorCode::UnknownServerError.into()))
    }

    /// The guardian's: ends it in good order.
    pub async fn close(&self) {
        // Nobody there is nothing to end.
        let _ = self.controller.command(Close).await;
        self.controller.disconnect();
    }
}

struct ControllerGauges {
    leadership: watch::Receiver<Leadership>,
    image: watch::Receiver<Arc<MetadataImage>>,
}

impl Gauges for ControllerGauges {
    fn detail(&self) -> String {
        let image = self.image.borrow().clone();
        let role = match *self.leadership.borrow() {
            Leadership::Leader { term } => format!("active in term {term}"),
            Leadership::Follower {
                leader: Some(leader),
            } => format!("follows broker {leader}"),
            Leadership::Follower { leader: None } => "knows no active controller".to_owned(),
        };
        format!(
            "{role}, metadata version {} topics {} partitions {}",
            image.version(),
            image.topic_count(),
            image.partition_count(),
        )
    }
}
