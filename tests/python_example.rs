//! The Python example, which was written from `docs/PROTOCOL.md`, works against a real broker.
//!
//! It needs python3 and the PyPI package `msgpack`. Where Python has no such package, a virtual
//! environment with it is made under the target directory; where that isn't possible either (no
//! network), the test says so and passes.
#![cfg(feature = "cli")]

mod broker_process;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use broker_process::Broker;

fn has_msgpack(python: &Path) -> bool {
    let output = Command::new(python).args(["-c", "import msgpack"]).output();
    output.is_ok_and(|output| output.status.success())
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// A Python that has the package, or why there is none.
fn python() -> Result<PathBuf, &'static str> {
    let system = PathBuf::from("python3");
    if !succeeds(Command::new(&system).arg("--version")) {
        return Err("there is no python3");
    }
    if has_msgpack(&system) {
        return Ok(system);
    }
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-example");
    let python = environment.join("bin/python");
    if !has_msgpack(&python) {
        let made = succeeds(Command::new(&system).args(["-m", "venv"]).arg(&environment))
            && succeeds(Command::new(&python).args(["-m", "pip", "install", "--quiet", "msgpack"]));
        if !made {
            return Err("the package msgpack can't be installed");
        }
    }
    Ok(python)
}

fn run_example(python: &Path, broker: &Broker) -> Output {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python/klamm_example.py");
    let arguments = [broker.address.as_str(), "from-python", "500"];
    let run = Command::new(python).arg(example).args(arguments).output();
    run.expect("python runs")
}

#[test]
fn the_python_example_produces_and_consumes() {
    let python = match python() {
        Ok(python) => python,
        Err(reason) => {
            eprintln!("skipped: {reason}");
            return;
        }
    };
    let mut broker = Broker::start();
    // Twice: the second time the topic is there, and has survived the broker.
    for base_offset in [0, 500] {
        let output = run_example(&python, &broker);
        let said = String::from_utf8_lossy(&output.stdout);
        let failed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}{failed}");
        assert!(
            said.contains(&format!("at offset {base_offset}\n")),
            "{said}"
        );
        assert!(said.contains("consumed 500 records"), "{said}");
        broker.kill_and_restart();
    }
}
