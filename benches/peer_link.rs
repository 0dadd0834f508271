//! What a link between two nodes carries, over loopback and in one process: `cargo bench --bench
//! peer_link`.
//!
//! 1. Pushes over the data link, as many as it takes: messages and bytes a second, and what both ends
//!    together spend of the CPU on a million of them. The receiver only drops them.
//! 2. One push at a time, acknowledged at once: microseconds until the acknowledgement is there.
//! 3. One request at a time over the control link, alone and beside a busy data link.
//!
//! Each figure is the smallest, median and largest of several rounds.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::{Arbiter, System};
use async_trait::async_trait;
use bytes::Bytes;
use klamm::actors::peer::{
    LinkState, PeerHandle, PeerIdentity, PeerReceiver, PeerService, PeerSettings, Peers, PushError,
    Received, Services, Session, Timing,
};
use klamm::actors::vitals::Registry;
use klamm::model::{BrokerId, Incarnation};
use klamm::protocol::peer::{CallError, Kind, PeerSecret, VERSIONS};
use klamm::protocol::Segments;
use rustix::time::{clock_gettime, ClockId};
use tokio::sync::mpsc;

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(500);
const SIZES: [usize; 3] = [100, 1024, 16 * 1024];
const ECHO: Kind = Kind(100);
/// A push that is to be acknowledged.
const ASKS: Kind = Kind(101);

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    System::new().block_on(async {
        let arrived = Arc::new(AtomicU64::new(0));
        let receiving = Services::default();
        receiving.receive(Arc::new(Follower(arrived.clone())));
        receiving.serve(ECHO, Arc::new(Echo));
        let (acks, mut acked) = mpsc::unbounded_channel();
        let sending = Services::default();
        sending.receive(Arc::new(Leader(Mutex::new(acks))));

        let (follower, address) = node(BrokerId(2), receiving)?;
        let (leader, own_address) = node(BrokerId(1), sending)?;
        follower.introduce(BrokerId(1), own_address);
        leader.introduce(BrokerId(2), address);
        let to = leader.peer(BrokerId(2)).ok_or("it was introduced")?;
        for mut state in [to.control(), to.data()] {
            let is_up = |state: &LinkState| matches!(state, LinkState::Up { .. });
            state.wait_for(is_up).await?;
        }

        println!("{:<44} {:>10} {:>10} {:>10}", "", "min", "median", "max");
        for size in SIZES {
            throughput(&to, size, &arrived).await?;
        }
        let body = Bytes::from(vec![7; 1024]);
        let mut micros = Vec::new();
        for _ in 0..ROUNDS {
            micros.push(
                median(2_000, async || {
                    to.push(ASKS, body.clone().into())?;
                    acked.recv().await.ok_or("the link has ended")?;
                    Ok(())
                })
                .await?,
            );
        }
        report("a push of 1 KiB and its ack, µs", &mut micros);
        calls("a request of 100 B, µs", &to).await?;
        let busy = {
            let to = to.clone();
            actix_rt::spawn(async move {
                let body = Bytes::from(vec![7; 16 * 1024]);
                loop {
                    if to.push(Kind::PUSH, body.clone().into()).is_err() {
                        to.room().await;
                    }
                }
            })
        };
        calls("the same beside a busy data link, µs", &to).await?;
        busy.abort();
        leader.close().await;
        Ok(())
    })
}

/// As many pushes of this size as the link takes.
async fn throughput(to: &PeerHandle, size: usize, arrived: &AtomicU64) -> Result<(), Failure> {
    let body = Bytes::from(vec![7; size]);
    let (mut messages, mut megabytes, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (begun, cpu_begun, before) = (Instant::now(), cpu_time(), arrived.load(Relaxed));
        let mut pushed = 0;
        while begun.elapsed() < ROUND {
            for _ in 0..64 {
                match to.push(Kind::PUSH, body.clone().into()) {
                    Ok(()) => pushed += 1,
                    Err(PushError::Full) => to.room().await,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        while arrived.load(Relaxed) < before + pushed {
            tokio::time::sleep(Duration::from_micros(50)).await;
        }
        let seconds = begun.elapsed().as_secs_f64();
        messages.push(pushed as f64 / seconds);
        megabytes.push((pushed as usize * size) as f64 / seconds / 1e6);
        cpu.push((cpu_time() - cpu_begun) / pushed as f64 * 1e6);
    }
    report(&format!("{size} B: messages/s"), &mut messages);
    report(&format!("{size} B: MB/s"), &mut megabytes);
    report(&format!("{size} B: CPU-s for a million"), &mut cpu);
    Ok(())
}

async fn calls(what: &str, to: &PeerHandle) -> Result<(), Failure> {
    let body = Bytes::from(vec![7; 100]);
    let mut micros = Vec::new();
    for _ in 0..ROUNDS {
        micros.push(
            median(1_000, async || {
                to.call(ECHO, body.clone().into(), Duration::from_secs(5))
                    .await?;
                Ok(())
            })
            .await?,
        );
    }
    report(what, &mut micros);
    Ok(())
}

/// The median of so many runs, in microseconds.
async fn median(
    runs: usize,
    mut run: impl AsyncFnMut() -> Result<(), Failure>,
) -> Result<f64, Failure> {
    let mut micros = Vec::with_capacity(runs);
    for _ in 0..runs {
        let begun = Instant::now();
        run().await?;
        micros.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    micros.sort_by(f64::total_cmp);
    Ok(micros[runs / 2])
}

fn report(what: &str, each: &mut [f64]) {
    each.sort_by(f64::total_cmp);
    let (min, median, max) = (each[0], each[each.len() / 2], each[each.len() - 1]);
    println!("{what:<44} {min:>10.1} {median:>10.1} {max:>10.1}");
}

/// Of this process, in seconds.
fn cpu_time() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// A node with threads of its own, and its address.
fn node(id: BrokerId, services: Services) -> Result<(Peers, String), Failure> {
    let socket = Peers::bind("127.0.0.1:0".parse()?)?;
    let address = socket.local_address()?.to_string();
    let settings = PeerSettings {
        node: id,
        incarnation: Incarnation::random(),
        cluster_id: None,
        secret: PeerSecret::new(b"both nodes of the benchmark know it"),
        versions: VERSIONS,
        timing: Timing {
            alive_interval: Duration::from_millis(100),
            silent_after: Duration::from_secs(1),
            data_silent_after: Duration::from_secs(5),
        },
        connections_max: 16,
        frame_bytes_max: 16 * 1024 * 1024,
        in_flight_bytes_max: 64 * 1024 * 1024,
        handshake_timeout: Duration::from_secs(2),
    };
    let (control, data) = (Arbiter::new().handle(), Arbiter::new().handle());
    let peers = Peers::start(
        settings,
        socket,
        services,
        &Registry::default(),
        control,
        &[data],
    );
    Ok((peers, address))
}

/// Counts what comes, and acknowledges what wants to be.
struct Follower(Arc<AtomicU64>);

impl PeerReceiver for Follower {
    fn receive(&self, from: &Arc<Session>, messages: Vec<Received>) {
        self.0.fetch_add(messages.len() as u64, Relaxed);
        for message in messages {
            if message.kind == ASKS {
                // A link that has ended is seen by the other end.
                let _ = from.push(Kind::ACK, Segments::default());
            }
        }
    }
}

/// Passes acknowledgements on.
struct Leader(Mutex<mpsc::UnboundedSender<()>>);

impl PeerReceiver for Leader {
    fn receive(&self, _: &Arc<Session>, messages: Vec<Received>) {
        if let Ok(acks) = self.0.lock() {
            for _ in messages {
                // Nobody waits any more at the end.
                let _ = acks.send(());
            }
        }
    }
}

struct Echo;

#[async_trait]
impl PeerService for Echo {
    async fn call(&self, _: PeerIdentity, body: Bytes) -> Result<Segments, CallError> {
        Ok(body.into())
    }
}
