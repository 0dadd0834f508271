//! The way to the active controller, whichever node it is on.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::watch;
use tokio::time::{sleep, timeout_at, Instant};

use super::remote::change_there;
use super::{Ask, Close, Controller, Work, MAILBOX_CAPACITY};
use crate::actors::guardian::LifeLine;
use crate::actors::handle::{Handle, Unavailable};
use crate::actors::peer::{PeerHandle, Peers};
use crate::actors::vitals::{Gauges, Kind, Registration, Registry, Vitals};
use crate::engine::metadata::change::{Change, ChangeSettings, Decided, Intent};
use crate::engine::metadata::MetadataImage;
use crate::model::{BrokerId, ErrorCode, Refusal};
use crate::raft::{Leadership, Raft};

/// How long a change may take, the search for an active controller included.
const PATIENCE: Duration = Duration::from_secs(15);
/// After which a controller that could not be reached is asked again.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// How long to wait until this node's own image has what another node has decided.
const CATCH_UP: Duration = Duration::from_secs(2);

/// The way to the controller.
#[derive(Clone)]
pub struct ControllerHandle {
    node: BrokerId,
    raft: Raft,
    controller: Handle<Controller>,
    leadership: watch::Receiver<Leadership>,
    images: watch::Receiver<Arc<MetadataImage>>,
    peers: Option<Peers>,
    _registration: Arc<Registration>,
}

/// Why a controller did not decide.
pub enum Failed {
    /// It isn't the active one, or can't be reached: nothing has happened.
    NotActive,
    Refused(Refusal),
}

impl Failed {
    /// With changes that it was asked for.
    pub fn ended() -> Failed {
        Failed::Refused(Refusal::new(
            ErrorCode::NotController,
            "the controller ended before it could answer; the change may have been made",
        ))
    }
}

impl ControllerHandle {
    /// A node that has no peers is its own controller.
    pub fn new(node: BrokerId, raft: &Raft, peers: Option<Peers>, registry: &Registry) -> Self {
        let gauges = Arc::new(ControllerGauges {
            leadership: raft.leadership(),
            images: raft.image(),
        });
        let vitals = Vitals::new(Kind::Controller, "controller".into(), gauges);
        ControllerHandle {
            node,
            raft: raft.clone(),
            _registration: Arc::new(registry.register(vitals.clone())),
            controller: Handle::new(vitals, MAILBOX_CAPACITY),
            leadership: raft.leadership(),
            images: raft.image(),
            peers,
        }
    }

    /// The guardian's: starts a controller on the present arbiter.
    pub fn start(&self, raft: Raft, settings: Arc<ChangeSettings>, life_line: LifeLine) {
        let controller = Controller {
            raft,
            settings,
            caught_up: Rc::default(),
            waiting: VecDeque::new(),
            work: Work::Idle,
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

    /// Has each part of a change decided by the active controller, wherever it is, and answers once
    /// what was decided is committed and applied here.
    pub async fn change(&self, change: Change, intent: Intent) -> Result<Vec<Decided>, Refusal> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let attempt = match self.active(deadline).await? {
                Active::Here => self.change_here(change.clone(), intent).await,
                Active::There(broker) => self.change_at(broker, &change, intent, deadline).await,
            };
            match attempt {
                Ok(decided) => return Ok(decided),
                Err(Failed::Refused(refusal)) => return Err(refusal),
                Err(Failed::NotActive) => self.look_again(deadline).await?,
            }
        }
    }

    /// The broker whose controller is the active one, as far as is known here.
    pub fn active_broker(&self) -> BrokerId {
        match *self.leadership.borrow() {
            Leadership::Leader { .. } => self.node,
            Leadership::Follower { leader } => leader.unwrap_or(BrokerId::NONE),
        }
    }

    /// The latest image that this node knows.
    pub fn latest_image(&self) -> Arc<MetadataImage> {
        self.images.borrow().clone()
    }

    /// Makes a change of one part.
    pub async fn change_one(&self, change: Change) -> Decided {
        let decided = self.change(change, Intent::Apply).await?.pop();
        decided.unwrap_or_else(|| Err(ErrorCode::UnknownServerError.into()))
    }

    /// Has it decided by this node's controller, if it is the active one.
    pub async fn change_here(
        &self,
        change: Change,
        intent: Intent,
    ) -> Result<Vec<Decided>, Failed> {
        match self.controller.ask(Ask { change, intent }).await {
            Ok(answer) => answer,
            Err(Unavailable::Absent) => Err(Failed::NotActive),
            Err(Unavailable::Overloaded) => Err(Failed::Refused(Refusal::new(
                ErrorCode::ThrottlingQuotaExceeded,
                "the controller is overloaded",
            ))),
            Err(Unavailable::Lost) => Err(Failed::ended()),
        }
    }

    async fn change_at(
        &self,
        broker: BrokerId,
        change: &Change,
        intent: Intent,
        deadline: Instant,
    ) -> Result<Vec<Decided>, Failed> {
        let peer = self.peer(broker).ok_or(Failed::NotActive)?;
        let patience = deadline.saturating_duration_since(Instant::now());
        let (decided, version) = change_there(&peer, change, intent, patience).await?;
        let mut images = self.images.clone();
        let caught_up = images.wait_for(|image| image.version() >= version);
        if timeout_at(Instant::now() + CATCH_UP, caught_up)
            .await
            .is_err()
        {
            log::warn!(
                "a change that broker {broker} has made is not known here after {CATCH_UP:?}"
            );
        }
        Ok(decided)
    }

    pub(super) fn raft(&self) -> &Raft {
        &self.raft
    }

    pub(super) fn peer(&self, broker: BrokerId) -> Option<PeerHandle> {
        self.peers.as_ref()?.peer(broker)
    }

    /// Who is the active controller, as soon as somebody is.
    pub(super) async fn active(&self, deadline: Instant) -> Result<Active, Refusal> {
        let mut leadership = self.leadership.clone();
        let known = leadership.wait_for(|now| *now != Leadership::Follower { leader: None });
        match timeout_at(deadline, known)
            .await
            .map(|now| now.map(|now| *now))
        {
            Ok(Ok(Leadership::Follower {
                leader: Some(broker),
            })) => Ok(Active::There(broker)),
            Ok(Ok(_)) => Ok(Active::Here),
            Ok(Err(_)) => Err(nobody("the metadata is stopped")),
            Err(_) => Err(nobody("there is no active controller")),
        }
    }

    /// Waits until there may be another active controller, or the present one can be reached.
    async fn look_again(&self, deadline: Instant) -> Result<(), Refusal> {
        let mut leadership = self.leadership.clone();
        leadership.mark_unchanged();
        tokio::select! {
            _ = leadership.changed() => {}
            () = sleep(RETRY_INTERVAL) => {}
        }
        match Instant::now() < deadline {
            true => Ok(()),
            false => Err(nobody("the active controller can't be reached")),
        }
    }

    /// The guardian's: ends it in good order.
    pub async fn close(&self) {
        // Nobody there is nothing to end.
        let _ = self.controller.command(Close).await;
        self.controller.disconnect();
    }
}

/// Where the active controller is.
pub(super) enum Active {
    Here,
    There(BrokerId),
}

fn nobody(why: &str) -> Refusal {
    Refusal::new(ErrorCode::NotController, why)
}

struct ControllerGauges {
    leadership: watch::Receiver<Leadership>,
    images: watch::Receiver<Arc<MetadataImage>>,
}

impl Gauges for ControllerGauges {
    fn detail(&self) -> String {
        let image = self.images.borrow().clone();
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
