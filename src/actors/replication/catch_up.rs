//! The turns of followers that catch up, and the throttles of their copies, for all leaders of this node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix::prelude::*;
use actix::WeakRecipient;
use tokio::runtime::Handle;
use tokio::sync::{watch, Notify};
use tokio::time::sleep;

use crate::engine::metadata::throttles::throttle_rates;
use crate::engine::metadata::MetadataImage;
use crate::engine::replica::{
    rest_after, CatchUpTurns, Throttle, ThrottleRates, Throttled, Toll, CATCH_UP_PUSH_BYTES_MAX,
};
use crate::model::{BrokerId, Timestamp};

/// A push to a follower that catches up may be left, by the leader that has asked for it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct YourTurn(pub Turn);

/// The right to one push to a follower on this node that catches up. Dropped, it rests if that was a large one,
/// and goes to the next.
pub struct Turn {
    node: BrokerId,
    /// What was paid for the push, until it is known what that has carried.
    toll: Option<Toll>,
    /// How many bytes the push carries, and since when.
    sent: Option<(usize, Instant)>,
    catch_up: CatchUp,
}

impl Turn {
    pub fn node(&self) -> BrokerId {
        self.node
    }

    /// How much the push may carry, unless a single batch is larger.
    pub fn bytes_max(&self) -> usize {
        let paid = self.toll.map(|toll| toll.bytes());
        paid.unwrap_or(CATCH_UP_PUSH_BYTES_MAX)
    }

    /// The push is on its way.
    pub fn used(&mut self, bytes: usize) {
        self.sent = Some((bytes, Instant::now()));
        self.settle(bytes);
    }

    fn settle(&mut self, bytes: usize) {
        if let Some(toll) = self.toll.take() {
            self.catch_up.settle(toll, bytes);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.settle(0);
        let rest = self.sent.map_or(Duration::ZERO, |(bytes, since)| {
            rest_after(bytes, since.elapsed())
        });
        match Handle::try_current() {
            Ok(runtime) if !rest.is_zero() => {
                let (catch_up, node) = (self.catch_up.clone(), self.node);
                runtime.spawn(async move {
                    sleep(rest).await;
                    catch_up.give_back(node);
                });
            }
            _ => self.catch_up.give_back(self.node),
        }
    }
}

/// Who waits for a turn, and has paid.
struct Waiting {
    leader: WeakRecipient<YourTurn>,
    toll: Option<Toll>,
}

#[derive(Default)]
struct State {
    turns: HashMap<BrokerId, CatchUpTurns<Waiting>>,
    throttle: Throttle<(BrokerId, WeakRecipient<YourTurn>)>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Somebody waits for the throttle, or need wait no longer.
    changed: Notify,
}

/// Clones share it.
#[derive(Clone, Default)]
pub struct CatchUp(Arc<Shared>);

impl CatchUp {
    /// The right to a push to a follower that catches up; `None` if `leader` is told later. It must not ask
    /// again until then.
    pub fn turn(
        &self,
        node: BrokerId,
        throttled: Option<Throttled>,
        leader: &Recipient<YourTurn>,
    ) -> Option<Turn> {
        let now = Timestamp::now();
        let mut state = self.state();
        let mut toll = None;
        if let Some(throttled) = throttled {
            let waits = || (node, leader.downgrade());
            toll = state.throttle.pay(throttled, now, waits);
            if toll.is_none() {
                self.0.changed.notify_one();
                return None;
            }
        }
        let waits = || Waiting {
            leader: leader.downgrade(),
            toll,
        };
        let is_free = state.turns.entry(node).or_default().take(waits);
        is_free.then(|| self.granted(node, toll))
    }

    fn granted(&self, node: BrokerId, toll: Option<Toll>) -> Turn {
        Turn {
            node,
            toll,
            sent: None,
            catch_up: self.clone(),
        }
    }

    /// To the first who waits; if that one is gone, it comes back.
    fn give_back(&self, node: BrokerId) {
        let next = self.state().turns.entry(node).or_default().give_back();
        if let Some(Waiting { leader, toll }) = next {
            give(&leader, self.granted(node, toll));
        }
    }

    fn settle(&self, toll: Toll, carried: usize) {
        self.state().throttle.settle(toll, carried);
        if carried < toll.bytes() {
            self.0.changed.notify_one();
        }
    }

    /// Lets go on whoever has waited long enough for the throttle, and says when somebody else has.
    fn wake(&self) -> Option<Duration> {
        let now = Timestamp::now();
        let mut state = self.state();
        let mut granted = Vec::new();
        for ((node, leader), toll) in state.throttle.due(now) {
            let toll = Some(toll);
            let waits = || Waiting {
                leader: leader.clone(),
                toll,
            };
            if state.turns.entry(node).or_default().take(waits) {
                granted.push((leader, self.granted(node, toll)));
            }
        }
        let next_due = state.throttle.next_due(now);
        drop(state);
        for (leader, turn) in granted {
            give(&leader, turn);
        }
        let wait = next_due.map(|due| u64::try_from(due - now).unwrap_or(0));
        wait.map(Duration::from_millis)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// If the leader is gone, the turn is dropped, and goes to the next one.
fn give(leader: &WeakRecipient<YourTurn>, turn: Turn) {
    if let Some(leader) = leader.upgrade() {
        leader.do_send(YourTurn(turn));
    }
}

/// Has copies keep to the rates that the metadata say, until they end.
pub async fn keep_throttles(
    node: BrokerId,
    mut images: watch::Receiver<Arc<MetadataImage>>,
    catch_up: CatchUp,
) {
    let mut known = ThrottleRates::default();
    loop {
        let image = images.borrow_and_update().clone();
        let rates = throttle_rates(&image, node);
        if rates != known {
            log::info!("this node's copies are held to {rates:?}");
            catch_up
                .state()
                .throttle
                .set_rates(&rates, Timestamp::now());
            known = rates;
        }
        loop {
            let wait = catch_up.wake();
            let due = async {
                match wait {
                    Some(wait) => sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = images.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                () = catch_up.0.changed.notified() => {}
                () = due => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{unbounded_channel, UnboundedSender};
    use tokio::time::timeout;

    use super::*;
    use crate::engine::replica::CATCH_UP_PUSHES_MAX;

    const NODE: BrokerId = BrokerId(1);
    const FOLLOWER: BrokerId = BrokerId(2);
    const WAIT_MAX: Duration = Duration::from_secs(30);

    struct Leader(UnboundedSender<Turn>);

    impl Actor for Leader {
        type Context = Context<Self>;
    }

    impl Handler<YourTurn> for Leader {
        type Result = ();

        fn handle(&mut self, YourTurn(turn): YourTurn, _: &mut Self::Context) {
            let _ = self.0.send(turn);
        }
    }

    #[actix_rt::test]
    async fn a_turn_rests_after_a_large_push_and_then_goes_to_who_waits() {
        let catch_up = CatchUp::default();
        let (sender, mut given) = unbounded_channel();
        let leader = Leader(sender).start().recipient();
        let mut turns: Vec<Turn> = (0..CATCH_UP_PUSHES_MAX)
            .map(|_| catch_up.turn(FOLLOWER, None, &leader).unwrap())
            .collect();
        turns.pop().unwrap().used(100);
        turns.push(catch_up.turn(FOLLOWER, None, &leader).unwrap());
        turns.pop().unwrap().used(1 << 20);
        assert!(catch_up.turn(FOLLOWER, None, &leader).is_none());
        timeout(WAIT_MAX, given.recv()).await.unwrap().unwrap();
    }

    #[actix_rt::test]
    async fn who_waits_for_a_rate_keeps_nobody_from_a_turn_and_gets_what_others_leave() {
        let catch_up = CatchUp::default();
        let (_images, receiver) = watch::channel(Arc::new(MetadataImage::default()));
        actix_rt::spawn(keep_throttles(NODE, receiver, catch_up.clone()));
        tokio::task::yield_now().await;
        // So little that nobody waits for it in vain.
        let rates = ThrottleRates {
            given: Some(1),
            ..ThrottleRates::default()
        };
        let now = Timestamp::now();
        catch_up.state().throttle.set_rates(&rates, now);
        let (sender, mut turns) = unbounded_channel();
        let leader = Leader(sender).start().recipient();
        let throttled = Some(Throttled {
            to: FOLLOWER,
            by_leader: true,
            by_follower: false,
        });
        let first = catch_up.turn(FOLLOWER, throttled, &leader).unwrap();
        assert_eq!(first.bytes_max(), 16 << 10);
        for _ in 0..10 {
            assert!(catch_up.turn(FOLLOWER, throttled, &leader).is_none());
        }
        let free: Vec<Turn> = (0..3)
            .map(|_| catch_up.turn(FOLLOWER, None, &leader).unwrap())
            .collect();
        assert_eq!(free[0].bytes_max(), CATCH_UP_PUSH_BYTES_MAX);
        // It isn't used, and nothing was sent.
        drop(first);
        let mut next = timeout(WAIT_MAX, turns.recv()).await.unwrap().unwrap();
        next.used(10);
        drop(next);
        // 10 bytes are 10 seconds.
        assert!(timeout(Duration::from_millis(200), turns.recv())
            .await
            .is_err());
        catch_up
            .state()
            .throttle
            .set_rates(&ThrottleRates::default(), now);
        catch_up.0.changed.notify_one();
        for _ in 0..9 {
            timeout(WAIT_MAX, turns.recv()).await.unwrap().unwrap();
        }
    }
}
