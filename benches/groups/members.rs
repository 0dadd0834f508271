//! Members that read a topic, and who of them has what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use klamm::client::{
    Client, Consumer, ConsumerConfig, GroupConfig, OffsetReset, RebalanceListener, TopicPartition,
};
use klamm::model::Offset;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::WAIT_MAX;

pub const TOPIC: &str = "shared";
pub const GROUP: &str = "sharers";
/// The argument of a process that is one member.
pub const ROLE: &str = "member";
/// The shortest that a broker allows by default.
pub const SESSION: Duration = Duration::from_secs(6);
const POLL: Duration = Duration::from_millis(500);

/// Who has which partitions, by the number of the member.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<BTreeMap<usize, BTreeSet<i32>>>>);

impl Board {
    /// How many partitions each of the members has, and all together.
    pub fn counts(&self) -> (Vec<usize>, usize) {
        let board = self.0.lock().unwrap();
        let counts: Vec<usize> = board.values().map(BTreeSet::len).collect();
        let all: BTreeSet<i32> = board.values().flatten().copied().collect();
        (counts, all.len())
    }

    pub async fn wait_until(&self, what: &str, is_so: impl Fn(&[usize], usize) -> bool) {
        let begun = Instant::now();
        loop {
            let (counts, all) = self.counts();
            if is_so(&counts, all) {
                return;
            }
            assert!(begun.elapsed() < WAIT_MAX, "{what}: {all} of {counts:?}");
            sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Notes on the board what a member is told.
struct Ear {
    number: usize,
    board: Board,
}

impl Ear {
    fn note(&self, note: impl FnOnce(&mut BTreeSet<i32>)) {
        let mut board = self.board.0.lock().unwrap();
        note(board.entry(self.number).or_default());
    }
}

impl RebalanceListener for Ear {
    fn on_assigned(&mut self, partitions: &[TopicPartition]) -> BTreeMap<TopicPartition, Offset> {
        self.note(|has| has.extend(partitions.iter().map(|(_, number)| *number)));
        BTreeMap::new()
    }

    fn on_revoked(&mut self, partitions: &[TopicPartition]) -> BTreeMap<TopicPartition, Offset> {
        self.on_lost(partitions);
        BTreeMap::new()
    }

    fn on_lost(&mut self, partitions: &[TopicPartition]) {
        self.note(|has| has.retain(|number| !partitions.iter().any(|(_, lost)| lost == number)));
    }
}

pub struct Member {
    number: usize,
    board: Board,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Consumer>,
}

fn group() -> GroupConfig {
    GroupConfig {
        session_timeout: SESSION,
        ..GroupConfig::from(GROUP)
    }
}

async fn consumer(bootstrap: &str) -> Consumer {
    let client = Client::connect(bootstrap).await.unwrap();
    client.consumer(ConsumerConfig {
        offset_reset: OffsetReset::Earliest,
        ..ConsumerConfig::default()
    })
}

impl Member {
    pub async fn start(bootstrap: &str, number: usize, board: &Board) -> Member {
        let mut consumer = consumer(bootstrap).await;
        let ear = Ear {
            number,
            board: board.clone(),
        };
        consumer.subscribe_with([TOPIC], group(), ear).unwrap();
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    _ = &mut stopped => return consumer,
                    polled = consumer.poll(POLL) => drop(polled.unwrap()),
                }
            }
        });
        Member {
            number,
            board: board.clone(),
            stop,
            task,
        }
    }

    /// It leaves; the answer is when it began to.
    pub async fn leave(self) -> Instant {
        self.stop.send(()).unwrap();
        let consumer = self.task.await.unwrap();
        let begun = Instant::now();
        consumer.close().await.unwrap();
        self.board.0.lock().unwrap().remove(&self.number);
        begun
    }
}

/// The whole life of a process that is a member. It says how many partitions it has when that changes.
pub async fn run_alone(bootstrap: &str) {
    let (mut consumer, board) = (consumer(bootstrap).await, Board::default());
    let ear = Ear { number: 0, board };
    consumer
        .subscribe_with([TOPIC], group(), Says(ear))
        .unwrap();
    loop {
        consumer.poll(POLL).await.unwrap();
    }
}

struct Says(Ear);

impl Says {
    fn say(&self) {
        println!("{}", self.0.board.counts().1);
    }
}

impl RebalanceListener for Says {
    fn on_assigned(&mut self, partitions: &[TopicPartition]) -> BTreeMap<TopicPartition, Offset> {
        let starts = self.0.on_assigned(partitions);
        self.say();
        starts
    }

    fn on_revoked(&mut self, partitions: &[TopicPartition]) -> BTreeMap<TopicPartition, Offset> {
        self.on_lost(partitions);
        BTreeMap::new()
    }

    fn on_lost(&mut self, partitions: &[TopicPartition]) {
        self.0.on_lost(partitions);
        self.say();
    }
}
