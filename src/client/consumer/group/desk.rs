//! Where the application and its member's task meet: the application when it polls, the task at any time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::membership::{Event, Identity};
use super::TopicPartition;
use crate::client::ClientError;
use crate::model::Offset;

#[derive(Debug)]
pub(super) struct Desk {
    state: Mutex<State>,
    /// Wakes the task.
    pub called: Notify,
}

#[derive(Debug)]
struct State {
    /// What the application hasn't taken notice of yet.
    events: VecDeque<Event>,
    given_up: Option<GivenUp>,
    standing: Standing,
    polling: Polling,
    is_suspect: bool,
    /// Why it can't be a member.
    refusal: Option<ClientError>,
    ends: bool,
}

/// What the application has given up, as a [revocation](Event::Revoked) of this number has told it to.
#[derive(Debug)]
pub(super) struct GivenUp {
    pub turn: u64,
    /// What it had done of that, and hadn't committed.
    pub offsets: BTreeMap<TopicPartition, Offset>,
}

/// What the member is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub identity: Option<Identity>,
    /// It is about to be somebody else.
    pub is_joining: bool,
}

/// Whether the application waits in a poll, or since when it doesn't.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Polling {
    Now,
    Since(Instant),
}

/// The application polls as long as this is there.
pub(in crate::client::consumer) struct Poll(Arc<Desk>);

impl Drop for Poll {
    fn drop(&mut self) {
        self.0.state().polling = Polling::Since(Instant::now());
    }
}

impl Desk {
    pub fn new() -> Desk {
        Desk {
            state: Mutex::new(State {
                events: VecDeque::new(),
                given_up: None,
                standing: Standing::default(),
                polling: Polling::Since(Instant::now()),
                is_suspect: false,
                refusal: None,
                ends: false,
            }),
            called: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The task need not know of each poll, only of the first after it has become idle.
    pub fn poll(self: &Arc<Self>) -> Poll {
        let mut state = self.state();
        state.polling = Polling::Now;
        if state.standing.identity.is_none() {
            self.called.notify_one();
        }
        Poll(self.clone())
    }

    pub fn polling(&self) -> Polling {
        self.state().polling
    }

    pub fn tell(&self, event: Event) {
        let mut state = self.state();
        if matches!(event, Event::Lost(_)) {
            // What it hasn't heard of isn't its any more either, and nothing of it can be committed.
            let stays = |it: &Event| matches!(it, Event::Lost(_) | Event::Failed(_));
            state.events.retain(stays);
        }
        // The group may rebalance ever so often until the application polls.
        let is_joined = |event: &Event| matches!(event, Event::Joined(_));
        if is_joined(&event) && state.events.back().is_some_and(is_joined) {
            state.events.pop_back();
        }
        state.events.push_back(event);
    }

    pub fn next_event(&self) -> Option<Event> {
        self.state().events.pop_front()
    }

    pub fn refuse(&self, error: ClientError) {
        self.state().refusal = Some(error);
    }

    pub fn refusal(&self) -> Option<ClientError> {
        self.state().refusal.clone()
    }

    pub fn give_up(&self, given_up: GivenUp) {
        self.state().given_up = Some(given_up);
        self.called.notify_one();
    }

    pub fn take_given_up(&self) -> Option<GivenUp> {
        self.state().given_up.take()
    }

    pub fn show(&self, standing: Standing) {
        self.state().standing = standing;
    }

    pub fn standing(&self) -> Standing {
        self.state().standing.clone()
    }

    /// A commit was refused, as if by one who isn't a member: the task is to find out.
    pub fn suspect(&self) {
        self.state().is_suspect = true;
        self.called.notify_one();
    }

    pub fn take_suspicion(&self) -> bool {
        std::mem::take(&mut self.state().is_suspect)
    }

    /// The member is to leave, and its task to end.
    pub fn end(&self) {
        self.state().ends = true;
        self.called.notify_one();
    }

    pub fn ends(&self) -> bool {
        self.state().ends
    }
}
