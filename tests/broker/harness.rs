//! Real brokers: start them, stop them, kill them, and read what they log.

use std::fmt::Display;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{kill_process, Pid, Signal};
use tempfile::TempDir;

use klamm::protocol::Encoding;

use crate::wire::Wire;

/// How long a test waits for anything before it fails. Never reached when all is well.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// A data directory and a config: where one broker lives, life after life.
pub struct Home {
    dir: Arc<TempDir>,
    data: PathBuf,
    bind: String,
    settings: Vec<String>,
}

impl Home {
    pub fn new() -> Home {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let data = dir.path().join("data");
        let home = Home {
            dir,
            data,
            bind: "127.0.0.1:0".into(),
            settings: Vec::new(),
        };
        home.with("actors.arbiters", 2)
    }

    /// Adds a line to the config; `key` is its whole path.
    pub fn with(mut self, key: &str, value: impl Display) -> Home {
        self.settings.push(format!("{key} = {value}"));
        self
    }

    /// Keeps the data elsewhere than in a directory of its own.
    pub fn with_data_in(mut self, data: &Path) -> Home {
        self.data = data.to_owned();
        self
    }

    /// Listens at the same port in all its lives. It lies below those that the system deals out, so
    /// that nobody is given it while the broker is gone.
    pub fn with_its_own_port(self) -> Home {
        let first = std::process::id() as u16 % 4_000;
        let ports = (0..4_000).map(|n| 20_000 + (first + n) % 4_000);
        let mut free = ports
            .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
            .filter(|address| TcpListener::bind(address).is_ok());
        let address = free.next().expect("a free port");
        self.bound_to(address)
    }

    /// Listens there, instead of at a free port.
    pub fn bound_to(mut self, address: SocketAddr) -> Home {
        self.bind = address.to_string();
        self
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Starts a broker and waits until it listens.
    pub fn start(&self) -> Broker {
        let mut process = self.launch();
        let line = process.wait_for_log(" listens on ");
        // "… listens on ADDRESS for Klamm's own clients, on ADDRESS for Kafka's clients, data in …"
        let mut addresses = line.split(" on ").skip(1);
        let mut address = || addresses.next()?.split(' ').next()?.parse().ok();
        Broker {
            address: address().unwrap(),
            kafka: address().unwrap(),
            process,
            _dir: self.dir.clone(),
        }
    }

    /// Starts a broker that is expected not to get as far as listening.
    pub fn start_in_vain(&self) -> (ExitStatus, String) {
        let mut process = self.launch();
        let status = process.wait();
        (status, process.log.text())
    }

    fn launch(&self) -> Process {
        let config = self.dir.path().join("klamm.toml");
        let mut lines = vec![
            format!("node.data_dir = {:?}", self.data),
            format!("listeners.native.bind = {:?}", self.bind),
            "listeners.kafka.bind = \"127.0.0.1:0\"".to_owned(),
        ];
        lines.extend(self.settings.iter().cloned());
        std::fs::write(&config, lines.join("\n")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_klamm"));
        command.arg("server").arg("--config").arg(&config);
        command.current_dir(self.dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::piped()).env_remove("RUST_LOG");
        let mut child = command.spawn().unwrap();
        let log = Log::follow(child.stderr.take().unwrap());
        Process { child, log }
    }
}

/// What holds on one listener holds on the other.
pub const BOTH: [Encoding; 2] = [Encoding::MessagePack, Encoding::Kafka];

/// A broker that listens. It is killed when it is dropped.
pub struct Broker {
    process: Process,
    pub address: SocketAddr,
    /// Of the Kafka listener.
    pub kafka: SocketAddr,
    /// What it keeps is there as long as it is.
    _dir: Arc<TempDir>,
}

impl Broker {
    /// A connection that has greeted.
    pub fn connect(&self) -> Wire {
        Wire::connect(self.address).unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    /// A connection that speaks this encoding, ready for any request.
    pub fn connect_as(&self, encoding: Encoding) -> Wire {
        match encoding {
            Encoding::MessagePack => self.connect(),
            Encoding::Kafka => self.connect_kafka(),
        }
    }

    /// A connection to the Kafka listener.
    pub fn connect_kafka(&self) -> Wire {
        Wire::kafka(self.kafka).unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    /// kill -9, and returns when the process is gone.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        self.process.wait();
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.process.child);
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end of the process, which somebody has asked for.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }

    /// SIGTERM, and waits for an orderly end.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert!(status.success(), "{status}\n{}", self.log());
    }

    /// Waits for a line of the log that contains `text`, and returns it.
    pub fn wait_for_log(&mut self, text: &str) -> String {
        self.process.wait_for_log(text)
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        self.process.log.text()
    }

    /// The memory that it holds now, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most that it ever had of it.
    pub fn resident_bytes_at_most(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, what: &str) -> u64 {
        let path = format!("/proc/{}/status", self.process.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with(what));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.unwrap().parse::<u64>().unwrap() * 1024
    }
}

struct Process {
    child: Child,
    log: Arc<Log>,
}

impl Process {
    fn wait_for_log(&mut self, text: &str) -> String {
        match self.log.wait_for(text) {
            Some(line) => line,
            None => panic!("the broker never logged {text:?}, but\n{}", self.log.text()),
        }
    }

    fn wait(&mut self) -> ExitStatus {
        assert!(
            self.log.wait_for_end(),
            "the broker does not end\n{}",
            self.log.text()
        );
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a broker has written to stderr.
struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Default)]
struct LogState {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    fn follow(stderr: ChildStderr) -> Arc<Log> {
        let log = Arc::new(Log {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let writer = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                writer.state.lock().unwrap().lines.push(line);
                writer.changed.notify_all();
            }
            // stderr is closed by the end of the process.
            writer.state.lock().unwrap().ended = true;
            writer.changed.notify_all();
        });
        log
    }

    fn text(&self) -> String {
        self.state.lock().unwrap().lines.join("\n")
    }

    fn wait_for(&self, text: &str) -> Option<String> {
        let found = |state: &LogState| state.lines.iter().find(|line| line.contains(text)).cloned();
        let deadline = Instant::now() + WAIT_MAX;
        let mut state = self.state.lock().unwrap();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match found(&state) {
                Some(line) => return Some(line),
                None if state.ended || left.is_zero() => return None,
                None => state = self.changed.wait_timeout(state, left).unwrap().0,
            }
        }
    }

    fn wait_for_end(&self) -> bool {
        let state = self.state.lock().unwrap();
        let waited = self
            .changed
            .wait_timeout_while(state, WAIT_MAX, |state| !state.ended);
        waited.unwrap().0.ended
    }
}
