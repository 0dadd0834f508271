//! A proxy between two nodes that does to their connections what networks do: nothing passes in one
//! direction or both, and what was held comes late; all takes its time; connections are reset, or
//! refused; bytes are flipped, lost or repeated.
//!
//! It has a thread of its own, so a test that blocks doesn't stop it, and each command has taken effect
//! when it returns.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{channel, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// What is read at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks of one connection and direction that are delayed. More aren't read.
const DELAYED_MAX: usize = 256;

/// From the one who connects to the proxy, or from the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    There,
    Back,
}

pub const BOTH: [Way; 2] = [Way::There, Way::Back];

/// What becomes of the next bytes that pass, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mischief {
    /// One bit of one byte is another one.
    Flip,
    /// The last bytes of a chunk don't arrive.
    Lose,
    /// A chunk arrives twice.
    Repeat,
}

/// What happens in one direction.
#[derive(Clone, Copy, Debug, Default)]
struct Conditions {
    is_cut: bool,
    delay: Duration,
    /// Counts what was ordered, with the latest.
    mischief: Option<(u64, Mischief)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    there: Conditions,
    back: Conditions,
    /// Counts.
    resets: u64,
}

impl Weather {
    fn of(&mut self, way: Way) -> &mut Conditions {
        match way {
            Way::There => &mut self.there,
            Way::Back => &mut self.back,
        }
    }
}

enum Command {
    Listen,
    Refuse,
    End,
}

/// A running proxy. It ends with its connections when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    commands: mpsc::UnboundedSender<(Command, Sender<()>)>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on a free port of its own.
    pub fn start(target: SocketAddr) -> Proxy {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let (weather, forecast) = watch::channel(Weather::default());
        let (commands, ordered) = mpsc::unbounded_channel();
        let thread = std::thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                run(listener, address, target, forecast, ordered).await;
            });
        });
        Proxy {
            address,
            weather,
            commands,
            thread: Some(thread),
        }
    }

    /// Where to connect instead of to the target.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nothing passes this way any more: neither bytes nor the end of a connection. New connections
    /// are opened, and nothing comes out of them.
    pub fn cut(&self, way: Way) {
        self.change(|weather| weather.of(way).is_cut = true);
    }

    pub fn cut_both(&self) {
        for way in BOTH {
            self.cut(way);
        }
    }

    /// All passes again, without delay. What was held since the cut arrives now, late.
    pub fn heal(&self) {
        self.change(|weather| {
            for way in BOTH {
                weather.of(way).is_cut = false;
                weather.of(way).delay = Duration::ZERO;
            }
        });
    }

    /// What comes from now on takes so much longer.
    pub fn delay(&self, way: Way, delay: Duration) {
        self.change(|weather| weather.of(way).delay = delay);
    }

    /// Resets all connections, at both ends.
    pub fn reset(&self) {
        self.change(|weather| weather.resets += 1);
    }

    /// Nobody listens any more; open connections stay.
    pub fn refuse(&self) {
        self.order(Command::Refuse);
    }

    /// Listens again, on the same port.
    pub fn listen(&self) {
        self.order(Command::Listen);
    }

    /// As if the target's process had ended.
    pub fn kill(&self) {
        self.refuse();
        self.reset();
    }

    /// Does it to the next bytes that pass this way, on each connection that is open.
    pub fn mischief(&self, way: Way, mischief: Mischief) {
        self.change(|weather| {
            let there = &mut weather.of(way).mischief;
            let number = there.map_or(0, |(number, _)| number);
            *there = Some((number + 1, mischief));
        });
    }

    fn change(&self, change: impl FnOnce(&mut Weather)) {
        self.weather.send_modify(change);
    }

    fn order(&self, command: Command) {
        let (done, is_done) = channel();
        if self.commands.send((command, done)).is_ok() {
            // An error means that the proxy has ended, which is as good.
            let _ = is_done.recv();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.order(Command::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn run(
    listener: TcpListener,
    address: SocketAddr,
    target: SocketAddr,
    weather: watch::Receiver<Weather>,
    mut commands: mpsc::UnboundedReceiver<(Command, Sender<()>)>,
) {
    let mut listener = Some(listener);
    loop {
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Ok((socket, _)) = accepted => {
                tokio::spawn(connection(socket, target, weather.clone()));
            }
            command = commands.recv() => {
                let Some((command, done)) = command else { return };
                match command {
                    Command::Listen if listener.is_none() => {
                        listener = Some(TcpListener::bind(address).await.unwrap());
                    }
                    Command::Listen => {}
                    Command::Refuse => listener = None,
                    Command::End => return drop(done),
                }
                drop(done);
            }
        }
    }
}

async fn connection(socket: TcpStream, target: SocketAddr, mut weather: watch::Receiver<Weather>) {
    let resets = weather.borrow_and_update().resets;
    let Ok(onward) = TcpStream::connect(target).await else {
        return reset(&socket);
    };
    for socket in [&socket, &onward] {
        let _ = socket.set_nodelay(true);
    }
    let (from_client, mut to_client) = socket.into_split();
    let (from_target, mut to_target) = onward.into_split();
    let mut until_reset = weather.clone();
    let ended = {
        let there = pump(&from_client, &mut to_target, Way::There, weather.clone());
        let back = pump(&from_target, &mut to_client, Way::Back, weather.clone());
        tokio::select! {
            // Both ways have come to their ends in good order, or one is broken.
            ended = async { tokio::try_join!(there, back) } => ended.map(|_| ()),
            _ = until_reset.wait_for(|weather| weather.resets != resets) => Err(reset_by_us()),
        }
    };
    if ended.is_err() {
        reset(from_client.as_ref());
        reset(from_target.as_ref());
        // Dropped, they would end in good order.
        to_client.forget();
        to_target.forget();
    }
}

fn reset_by_us() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

/// The socket is reset when it is closed.
#[allow(deprecated, reason = "it blocks nobody with a time of zero")]
fn reset(socket: &TcpStream) {
    let _ = socket.set_linger(Some(Duration::ZERO));
}

/// Passes bytes on in one direction until its end has passed too.
async fn pump(
    from: &OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    way: Way,
    mut weather: watch::Receiver<Weather>,
) -> io::Result<()> {
    let (delayed, due) = mpsc::channel(DELAYED_MAX);
    let taking = take(from, way, weather.clone(), delayed);
    let giving = give(to, way, &mut weather, due);
    tokio::try_join!(taking, giving).map(|_| ())
}

/// Reads, and says when each chunk is due. An empty one is the end.
async fn take(
    from: &OwnedReadHalf,
    way: Way,
    weather: watch::Receiver<Weather>,
    delayed: mpsc::Sender<(Instant, Vec<u8>)>,
) -> io::Result<()> {
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        from.readable().await?;
        let read = match from.try_read(&mut chunk) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return held(way, weather, error).await,
        };
        chunk.truncate(read);
        let delay = weather.borrow().clone().of(way).delay;
        if delayed.send((Instant::now() + delay, chunk)).await.is_err() || read == 0 {
            return Ok(());
        }
    }
}

/// A reset doesn't pass a cut either.
async fn held(way: Way, mut weather: watch::Receiver<Weather>, error: io::Error) -> io::Result<()> {
    pass(way, &mut weather).await;
    Err(error)
}

async fn pass(way: Way, weather: &mut watch::Receiver<Weather>) {
    // An error means that the proxy ends.
    let _ = weather
        .wait_for(|weather| !weather.clone().of(way).is_cut)
        .await;
}

async fn give(
    to: &mut OwnedWriteHalf,
    way: Way,
    weather: &mut watch::Receiver<Weather>,
    mut due: mpsc::Receiver<(Instant, Vec<u8>)>,
) -> io::Result<()> {
    let ordered = |weather: &watch::Receiver<Weather>| weather.borrow().clone().of(way).mischief;
    let mut done = ordered(weather);
    while let Some((when, mut chunk)) = due.recv().await {
        tokio::time::sleep_until(when).await;
        pass(way, weather).await;
        if chunk.is_empty() {
            return to.shutdown().await;
        }
        let mischief = ordered(weather);
        if mischief != done {
            done = mischief;
            match mischief {
                Some((_, Mischief::Flip)) => {
                    let middle = chunk.len() / 2;
                    chunk[middle] ^= 0x10;
                }
                Some((_, Mischief::Lose)) => chunk.truncate(chunk.len() - chunk.len().min(7)),
                Some((_, Mischief::Repeat)) => chunk.extend_from_within(..),
                None => {}
            }
        }
        to.write_all(&chunk).await?;
    }
    Ok(())
}

mod tests {
    use super::*;

    /// A target that sends back what it gets, in capitals.
    async fn shouter() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut buffer = [0; 1024];
                    while let Ok(read @ 1..) = socket.read(&mut buffer).await {
                        buffer[..read].make_ascii_uppercase();
                        if socket.write_all(&buffer[..read]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    async fn connected() -> (Proxy, TcpStream) {
        let proxy = Proxy::start(shouter().await);
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        socket.write_all(b"a").await.unwrap();
        hears(&mut socket, b"A").await;
        (proxy, socket)
    }

    async fn hears(socket: &mut TcpStream, expected: &[u8]) {
        let mut heard = vec![0; expected.len()];
        socket.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, expected);
    }

    async fn is_silent(socket: &mut TcpStream) {
        let read = tokio::time::timeout(Duration::from_millis(50), socket.read_u8()).await;
        assert!(read.is_err(), "{read:?}");
    }

    #[tokio::test]
    async fn what_passes_is_what_was_said_up_to_the_end() {
        let (_proxy, mut socket) = connected().await;
        socket.write_all(b"abc").await.unwrap();
        hears(&mut socket, b"ABC").await;
        socket.shutdown().await.unwrap();
        assert_eq!(socket.read(&mut [0; 1]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_cut_holds_one_way_and_what_was_held_comes_late() {
        for way in BOTH {
            let (proxy, mut socket) = connected().await;
            proxy.cut(way);
            socket.write_all(b"held").await.unwrap();
            is_silent(&mut socket).await;
            proxy.heal();
            hears(&mut socket, b"HELD").await;
        }
    }

    #[tokio::test]
    async fn a_cut_hides_the_end_of_a_connection() {
        let (proxy, mut socket) = connected().await;
        proxy.cut(Way::Back);
        socket.shutdown().await.unwrap();
        is_silent(&mut socket).await;
        proxy.heal();
        assert_eq!(socket.read(&mut [0; 1]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_delay_is_that_of_one_way_and_keeps_the_order() {
        let (proxy, mut socket) = connected().await;
        proxy.delay(Way::Back, Duration::from_millis(80));
        let begun = Instant::now();
        for letter in [b"a", b"b", b"c"] {
            socket.write_all(letter).await.unwrap();
            tokio::task::yield_now().await;
        }
        hears(&mut socket, b"ABC").await;
        assert!(begun.elapsed() >= Duration::from_millis(80));
    }

    #[tokio::test]
    async fn a_reset_reaches_both_ends_and_a_refusal_those_who_come() {
        let (proxy, mut socket) = connected().await;
        proxy.kill();
        let error = socket.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        proxy.listen();
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        socket.write_all(b"again").await.unwrap();
        hears(&mut socket, b"AGAIN").await;
    }

    #[tokio::test]
    async fn mischief_is_done_once() {
        let (proxy, mut socket) = connected().await;
        for (mischief, expected) in [
            (Mischief::Flip, &b"ABCDUFGHI"[..]),
            (Mischief::Lose, b"AB"),
            (Mischief::Repeat, b"ABCDEFGHIABCDEFGHI"),
        ] {
            proxy.mischief(Way::Back, mischief);
            socket.write_all(b"abcdefghi").await.unwrap();
            hears(&mut socket, expected).await;
            socket.write_all(b"abcdefghi").await.unwrap();
            hears(&mut socket, b"ABCDEFGHI").await;
        }
    }
}
