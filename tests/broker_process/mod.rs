//! A broker as a process of its own, for tests that need one: started on a free port with an empty
//! data directory, killed when the test ends, and in between as often as the test likes.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a start may take on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);

pub struct Broker {
    pub address: String,
    directory: tempfile::TempDir,
    process: Child,
}

impl Broker {
    pub fn start() -> Broker {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = free.local_addr().expect("it is bound").to_string();
        drop(free);
        let directory = tempfile::tempdir().expect("a directory can be made");
        let process = spawn(directory.path(), &address);
        let broker = Broker {
            address,
            directory,
            process,
        };
        broker.wait();
        broker
    }

    /// `kill -9`, and a new start on the same data and address.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.process = spawn(self.directory.path(), &self.address);
        self.wait();
    }

    fn kill(&mut self) {
        // It may have ended by itself, which the test will notice in other ways.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    fn wait(&self) {
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(&self.address).is_err() {
            assert!(Instant::now() < deadline, "the broker doesn't listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(directory: &Path, address: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_klamm"))
        .arg("server")
        .current_dir(directory)
        .env("RUST_LOG", "warn")
        .env("KLAMM__LISTENERS__NATIVE__BIND", address)
        .env("KLAMM__LISTENERS__KAFKA__ENABLED", "false")
        .stdin(Stdio::null())
        .spawn()
        .expect("the broker starts")
}
