//! What a link tells of itself, in `klamm actors`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;

use super::session::{Session, Traffic};
use super::state::LinkState;
use crate::actors::vitals::Gauges;

/// What the link tells of itself.
pub struct LinkGauges {
    state: watch::Receiver<LinkState>,
    pub traffic: Arc<Traffic>,
    connects: AtomicU64,
    session: Mutex<Weak<Session>>,
    last_error: Mutex<String>,
}

impl LinkGauges {
    pub fn new(state: watch::Receiver<LinkState>) -> LinkGauges {
        LinkGauges {
            state,
            traffic: Arc::default(),
            connects: AtomicU64::new(0),
            session: Mutex::default(),
            last_error: Mutex::default(),
        }
    }

    pub fn connected(&self, session: &Arc<Session>) {
        self.connects.fetch_add(1, Relaxed);
        let mut there = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        *there = Arc::downgrade(session);
    }

    /// Whether it is another error than the last one.
    pub fn failed(&self, reason: &str) -> bool {
        let last = self.last_error.lock();
        let mut last = last.unwrap_or_else(PoisonError::into_inner);
        let is_news = *last != reason;
        if is_news {
            *last = reason.to_owned();
        }
        is_news
    }
}

impl Gauges for LinkGauges {
    fn detail(&self) -> String {
        let state = match *self.state.borrow() {
            LinkState::Up {
                incarnation, since, ..
            } => {
                format!(
                    "up {} ms, incarnation {incarnation}",
                    since.elapsed().as_millis()
                )
            }
            LinkState::Down { why, since, .. } => {
                format!("down {} ms, {why}", since.elapsed().as_millis())
            }
        };
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let session = session.upgrade();
        let (in_flight, calls) = session.map_or((0, 0), |session| {
            (session.in_flight_bytes(), session.calls())
        });
        let error = self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let error = match error.is_empty() {
            true => String::new(),
            false => format!(", last error: {error}"),
        };
        format!(
            "{state}, in flight {in_flight} bytes {calls} calls, {}, connects {}{error}",
            self.traffic,
            self.connects.load(Relaxed),
        )
    }
}
