//! A broker as a process of its own, for tests that need one: started on free ports with an empty
//! data directory, killed when the test ends, and in between as often as the test likes. `KLAMM_BINARY`, in the
//! environment or among a broker's settings, names another binary than the one that was built with the test.

// Each target of tests compiles this module for itself, and uses a part of it.
#![allow(dead_code)]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use klamm::model::PartitionId;

/// Names another binary.
pub const BINARY: &str = "KLAMM_BINARY";

/// How long a start may take on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);

pub struct Broker {
    /// Where Klamm's own clients connect to.
    pub address: String,
    /// Where Kafka's clients connect to.
    pub kafka: String,
    directory: tempfile::TempDir,
    settings: Vec<(String, String)>,
    process: Child,
}

impl Broker {
    pub fn start() -> Broker {
        Broker::start_with(&[])
    }

    /// Starts with these variables of the environment, `KLAMM__…`.
    pub fn start_with(settings: &[(&str, &str)]) -> Broker {
        let mut broker = Broker::begin_with(settings);
        broker.wait();
        broker
    }

    /// The same without waiting until it listens, which it may do only together with others.
    pub fn begin_with(settings: &[(&str, &str)]) -> Broker {
        let (address, kafka) = (free_address(), free_address());
        let own = [
            ("RUST_LOG", "warn"),
            ("KLAMM__LISTENERS__NATIVE__BIND", &address),
            ("KLAMM__LISTENERS__KAFKA__BIND", &kafka),
        ];
        let settings = own.iter().chain(settings);
        let settings = settings.map(|(key, value)| (key.to_string(), value.to_string()));
        let settings: Vec<_> = settings.collect();
        let directory = tempfile::tempdir().expect("a directory can be made");
        let process = spawn(&directory, &settings);
        Broker {
            address,
            kafka,
            directory,
            settings,
            process,
        }
    }

    /// From its next start on these settings have these values.
    pub fn configure(&mut self, settings: &[(&str, &str)]) {
        let names = |key: &str| settings.iter().any(|(name, _)| *name == key);
        self.settings.retain(|(key, _)| !names(key));
        let added = settings.iter();
        let added = added.map(|(key, value)| (key.to_string(), value.to_string()));
        self.settings.extend(added);
    }

    /// `kill -9`, and a new start on the same data and addresses.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.restart();
        self.wait();
    }

    /// A new start on the same data and addresses; see [`Broker::wait`].
    pub fn restart(&mut self) {
        self.process = spawn(&self.directory, &self.settings);
    }

    /// The same, with what it says in this file.
    pub fn restart_logging(&mut self) -> PathBuf {
        let path = self.directory.path().join("log");
        let log = std::fs::File::create(&path).expect("a file can be made");
        let mut command = command(&self.directory, &self.settings);
        self.process = command.stderr(log).spawn().expect("the broker starts");
        path
    }

    /// Takes away all its data, while it doesn't run.
    pub fn wipe(&mut self) {
        std::fs::remove_dir_all(self.data_dir()).expect("it has data");
    }

    /// Ends it in good order, and returns when it has ended.
    pub fn terminate(&mut self) {
        self.signal("TERM");
        self.await_end();
    }

    /// Returns when it has ended, as it was told to.
    pub fn await_end(&mut self) {
        self.process.wait().expect("it is a child");
    }

    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal by its name, as `STOP` or `CONT`.
    pub fn signal(&self, name: &str) {
        let pid = self.process_id().to_string();
        let told = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(told.expect("there is a command kill").success());
    }

    /// Whether it runs, or at least hasn't ended by itself.
    pub fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Whether it has ended in good order, and says so on its disk.
    pub fn has_clean_mark(&self) -> bool {
        self.data_dir().join("clean-shutdown").exists()
    }

    /// Leaves its data where they are when the test ends, to be looked at.
    pub fn keep_data(&mut self) -> PathBuf {
        self.directory.disable_cleanup(true);
        self.data_dir()
    }

    /// Where it keeps its data.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// How long all files of all logs are together.
    pub fn logs_bytes(&self) -> u64 {
        bytes_in(&self.data_dir().join("logs"))
    }

    /// Where it keeps the log of a partition.
    pub fn log_dir(&self, partition: PartitionId) -> PathBuf {
        self.data_dir().join("logs").join(partition.to_string())
    }

    /// The directories of the partitions with this number, one for each topic.
    pub fn partition_dirs(&self, partition: i32) -> Vec<PathBuf> {
        let logs = self.data_dir().join("logs");
        let entries = std::fs::read_dir(logs).expect("the broker has made it");
        let paths = entries.map(|entry| entry.expect("it can be listed").path());
        let suffix = format!("-{partition}");
        let is_wanted = |path: &PathBuf| path.to_string_lossy().ends_with(&suffix);
        paths.filter(is_wanted).collect()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        // It may have ended by itself, which the test will notice in other ways.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Returns when it listens.
    pub fn wait(&mut self) {
        let deadline = Instant::now() + START_TIMEOUT;
        for address in [&self.address, &self.kafka] {
            while TcpStream::connect(address).is_err() {
                let ended = self.process.try_wait().expect("it is a child");
                assert_eq!(ended, None, "the broker has ended");
                assert!(Instant::now() < deadline, "the broker doesn't listen");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An address that stays free while the broker that had it is gone: its port lies below those that
/// the system deals out, above those that `tests/broker` takes, and is given to one test only.
pub fn free_address() -> String {
    const PORTS: u16 = 8_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = (std::process::id() % u32::from(PORTS)) as u16;
    for _ in 0..PORTS {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 24_000 + first.wrapping_add(number) % PORTS;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address.to_string();
        }
    }
    panic!("no port is free");
}

/// The batches of a log, without the zeros that a broker writes ahead of them. Where its segments part is each
/// replica's own affair.
pub fn log_bytes(dir: &Path) -> Vec<u8> {
    let entries = std::fs::read_dir(dir).expect("there is a log");
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|end| end == "log");
    let mut segments: Vec<PathBuf> = paths.filter(is_segment).collect();
    segments.sort();
    let mut log = Vec::new();
    for path in segments {
        let bytes = std::fs::read(path).expect("it can be read");
        log.extend_from_slice(&bytes[..batches_len(&bytes)]);
    }
    log
}

/// Where the last batch ends: each says after its base offset how long it is, and none is empty.
fn batches_len(segment: &[u8]) -> usize {
    let mut end = 0;
    while let Some(length) = segment.get(end + 8..end + 12) {
        match u32::from_be_bytes(length.try_into().expect("four bytes")) {
            0 => break,
            length => end += 12 + length as usize,
        }
    }
    end.min(segment.len())
}

fn spawn(directory: &tempfile::TempDir, settings: &[(String, String)]) -> Child {
    let mut command = command(directory, settings);
    command.spawn().expect("the broker starts")
}

fn command(directory: &tempfile::TempDir, settings: &[(String, String)]) -> Command {
    let mut own = settings.iter().filter(|(key, _)| key == BINARY);
    let own = own.next().map(|(_, path)| path.into());
    let built = || env!("CARGO_BIN_EXE_klamm").into();
    let binary = own.or_else(|| std::env::var_os(BINARY));
    let mut command = Command::new(binary.unwrap_or_else(built));
    command
        .arg("server")
        .current_dir(directory.path())
        .envs(settings.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::null());
    command
}

fn bytes_in(dir: &Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        bytes += match path.is_dir() {
            true => bytes_in(&path),
            // It may have been removed meanwhile.
            false => entry.metadata().map_or(0, |metadata| metadata.len()),
        };
    }
    bytes
}
